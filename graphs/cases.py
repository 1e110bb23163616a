"""The tests that a file holds, as far as its text tells: which they are, whether they run, what they assert.

Python is parsed (`cases_python`); other languages are read by patterns (`cases_pattern`), which see the usual
forms and may miss an unusual one: what a run reports is compared as well (`weakening`). Nothing here runs
anything.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """One test. `assertions` counts what can fail, in a normal form; what is always true is not among them.

    `skipped` holds the words of a skip that stands in the code; `conditional`: it may run after all.
    """

    name: str  # Class.method, or the words of a description
    assertions: Counter[str] = field(default_factory=Counter)
    words: frozenset[str] = frozenset()  # names and constants of its body, to recognise it under another name
    skipped: str | None = None
    conditional: bool = False
    focused: bool = False  # `.only` and the like: other tests do not run
    empty: bool = False  # no statement that does anything
    rows: int | None = None  # how many sets of parameters it is run with, where that is written beside it

    @property
    def leaf(self) -> str:
        """The name without the classes or descriptions around it."""
        last = self.name.rsplit(" › ", 1)[-1]
        return last if " " in last else last.rsplit(".", 1)[-1]

    @property
    def strength(self) -> int:
        """How many assertions the test holds."""
        return sum(self.assertions.values())


@dataclass(frozen=True)
class Suite:
    """The tests of a file, and other places in it that keep tests from running: (line, what it does)."""

    cases: dict[str, Case] = field(default_factory=dict)
    switches: tuple[tuple[str, str], ...] = ()


_NAMED = re.compile(
    r"(^|/)((test_[^/]*|[^/]*_tests?|tests?|[^/]*[._-](test|spec|tests|specs)|Test[^/]*|"
    r"[^/]*(Test|Tests|Spec|IT|TestCase)|test[A-Z][^/]*)\.\w+|[^/]+\.(bats|t))$"
)
_FOLDER = re.compile(
    r"(^|/)(tests?|specs?|__tests__|testing|e2e|t|src/test|androidTest|unittests?)/", re.IGNORECASE
)
_CODE = re.compile(
    r"\.(py|[cm]?[jt]sx?|go|rs|java|kt|kts|groovy|scala|cs|fs|rb|php|exs?|swift|bats|t|cc|cpp|cxx|c|hpp|h|dart)$"
)


def is_test_file(path: str) -> bool:
    """Whether runners would look for tests in a file of this name."""
    return bool(_CODE.search(path)) and bool(_NAMED.search(path) or _FOLDER.search(path))


def by_name(path: str) -> bool:
    """Whether the file's own name, not its folder, makes it a test file."""
    return bool(_NAMED.search(path)) and bool(_CODE.search(path))


def may_hold_tests(path: str) -> bool:
    """Whether the file is worth reading: a test file, or code that may carry tests beside it."""
    return is_test_file(path) or posixpath.splitext(path)[1] in (".py", ".rs")


def holds_tests(path: str, text: str) -> bool:
    """Whether what looks like a test in this file is one: elsewhere functions may bear such names."""
    named = is_test_file(path) or path.endswith((".rs", "conftest.py"))
    return named or "TestCase" in text or "import pytest" in text


_PLAIN = re.compile(
    r"^\.?(?:self|cls|t|it|test|assert\w*|expect\w*|verify\w*|should\w*|to\w*|must\w*|is|ok)$", re.I
)


def same(old: Case, new: Case) -> bool:
    """Whether `new` still does what `old` did: it holds most names and values of the old one."""
    if not old.words:
        return old.empty and new.empty
    names = {word for word in old.words if re.match(r"\.?[A-Za-z_$]", word) and not _PLAIN.match(word)}
    return (
        len(names & new.words) >= 0.75 * len(names)
        and len(old.words & new.words) >= 0.6 * len(old.words)
        and (new.strength > 0 or old.strength == 0)
    )
