"""Lists of patterns in the syntax of `.gitignore`, beside the ones that git reads by itself.

`.tppignore` takes files away, `.tppinclude` and `--include` bring ignored ones in. All are matched by git
(`check-ignore` in an empty work tree, so that no `.gitignore` has a say), never by a copy of its rules.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from terminalpp.cli import git
from terminalpp.types.errors import InvalidInput, TooLarge

COUNT_LIMIT = 200   # of the patterns that bring files in: what the server takes
LENGTH_LIMIT = 1000  # of one, in characters


def check(listed: list[str]) -> None:
    """Before anything is started. Raises TooLarge."""
    if len(listed) > COUNT_LIMIT or any(len(pattern) > LENGTH_LIMIT for pattern in listed):
        raise TooLarge(
            f"more than {COUNT_LIMIT} include patterns, or one of more than {LENGTH_LIMIT:,} characters",
            "Name folders, or use wildcards, in .tppinclude and --include.",
        )


def given(words: Iterable[str]) -> list[str]:
    """The patterns of `--include`; a leading `./` means the top. Raises InvalidInput."""
    found = []
    for word in words:
        if not word.strip() or any(char in word for char in "\r\n\0"):
            raise InvalidInput(f"not a pattern: {word!r}", "Name a file or a folder: --include .env")
        bang = "!" if word.startswith("!./") else ""
        body = word.removeprefix(bang)
        found.append(bang + (body[1:] if body.startswith("./") else body))
    return found


def of_file(path: Path) -> list[str]:
    """The patterns in a file; none when there is no such file. Raises InvalidInput (not readable)."""
    if not os.path.isfile(path):
        return []
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", f"chmod u+r {path.name}") from error
    texts = [os.fsdecode(line.removesuffix(b"\r")) for line in lines]
    return [text for text in texts if text.strip() and not text.startswith("#") and "\0" not in text]


class Matcher:
    """`ignoring` is a bare repository without rules, `scratch` a folder to write to."""

    def __init__(self, ignoring: Path, scratch: Path) -> None:
        self._ignoring = ignoring
        self._rules = scratch / "patterns"
        self._empty = scratch / "empty"
        self._empty.mkdir()

    def matched(self, patterns: list[str], names: Iterable[str]) -> set[str]:
        """Those of `names` that the patterns name; a later pattern with `!` takes away again."""
        return {name for name, pattern in self._decided(patterns, names) if not pattern.startswith("!")}

    def idle(self, patterns: list[str], names: Iterable[str]) -> list[str]:
        """The patterns that speak of none of `names`."""
        names = list(names)
        heard = {pattern for _, pattern in self._decided(patterns, names)}
        quiet = [pattern for pattern in patterns if pattern.rstrip() not in heard and pattern not in heard]
        return [pattern for pattern in quiet if not self._decided([pattern], names)]

    def _decided(self, patterns: list[str], names: Iterable[str]) -> list[tuple[str, str]]:
        """(name, the pattern that decides about it) for each name that any pattern speaks of."""
        asked = b"".join(os.fsencode(name) + b"\0" for name in names)
        if not asked or not patterns:
            return []
        self._rules.write_bytes(b"".join(os.fsencode(pattern) + b"\n" for pattern in patterns))
        raw = git.run(
            f"--git-dir={self._ignoring}", f"--work-tree={self._empty}", "-c", "core.bare=false",
            "-c", f"core.excludesFile={self._rules}", "check-ignore", "-v", "-z", "--stdin", "--no-index",
            cwd=self._empty, stdin=asked, ok=(0, 1),
        )
        parts = [os.fsdecode(part) for part in raw.split(b"\0")[:-1]]
        return list(zip(parts[3::4], parts[2::4], strict=True))
