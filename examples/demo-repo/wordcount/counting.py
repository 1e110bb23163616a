"""Splitting a text into words and counting them."""

import re
from collections import Counter

WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")


def words(text):
    """The words of `text` in lower case, in the order in which they appear."""
    return WORD.findall(text.lower())


def top_words(text, limit):
    """The `limit` most frequent words with their counts; words that tie come in alphabetical order."""
    counts = Counter(words(text))
    ranked = sorted(counts.items(), key=lambda item: item[1], reverse=True)
    return ranked[:limit]
