"""Counts words in a text."""

from wordcount.counting import top_words, words

__all__ = ["top_words", "words"]
