"""Characters that no log, file or wire can carry: NUL and halves of surrogate pairs.

A model may send both (`"\\ud83d"` in JSON is legal and no text). They are replaced where its reply is
read, so that what the log shows, what runs in the sandbox and what goes back to the provider are one text.
"""

from __future__ import annotations

import re
from typing import Any

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNFIT = re.compile("[\0\ud800-\udfff]")


def clean(value: Any) -> Any:
    """`value` (a string, or JSON of any depth, keys included) with a U+FFFD for each unfit character.

    Two halves that stand side by side are the one character they mean.
    """
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        return _UNFIT.sub(REPLACEMENT, _joined(value)) if _UNFIT.search(value) else value
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value


def _joined(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
