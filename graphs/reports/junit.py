"""JUnit XML in its many dialects, TRX and NUnit's results: what each test came to.

The file may be anyone's: a document type is refused, and with it every entity; size, depth and the number of
tests are bounded; nothing is read from elsewhere. A file that ends early is not a report.
"""

from __future__ import annotations

from xml.parsers import expat

from graphs.reports.tally import LARGEST_BYTES, MOST_CASES, Tally

DEEPEST = 60
_BAD = {"failure": "failed", "error": "error", "skipped": "skipped", "disabled": "skipped"}
_TRX = {"Passed": "passed", "NotExecuted": "skipped", "Pending": "skipped", "Inconclusive": "skipped"}
_NUNIT = {
    "Passed": "passed",
    "Pass": "passed",
    "Skipped": "skipped",
    "Skip": "skipped",
    "Inconclusive": "skipped",
}
_WORSE = ("passed", "skipped", "error", "failed")


class _Refused(Exception):
    """Not a report that is read."""


class _Reader:
    """The parser's listener: one open test at most, and the suites around it with what they announce."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.depth = 0
        self.rooted = False
        self.name: str | None = None
        self.result = "passed"
        self.todo = False
        self.forgiven = 0
        self.suites: list[tuple[int, int]] = []

    def refuse(self, *_: object) -> None:
        raise _Refused

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        tag = tag.rsplit(":", 1)[-1]
        if self.depth == 1:
            if tag not in ("testsuites", "testsuite", "TestRun", "test-run", "test-results", "assemblies"):
                raise _Refused
            self.rooted = True
        if self.depth > DEEPEST or sum(self.tally.numbers.values()) > MOST_CASES * 5:
            raise _Refused
        if tag == "testsuite":
            self.suites.append((_number(attributes, "failures") + _number(attributes, "errors"), self._bad()))
        elif tag == "testcase":
            self.name = _joined(attributes.get("classname"), attributes.get("name"))
            self.result = _SPELLED.get(attributes.get("status", "").lower(), "passed")
            self.todo = False
        elif tag in _BAD and self.name is not None:
            self._say(_BAD[tag], attributes.get("type", ""))
        elif tag == "UnitTestResult":
            self.tally.add(
                attributes.get("testName") or "?", _TRX.get(attributes.get("outcome", ""), "failed")
            )
        elif tag in ("test-case", "test"):
            result = _NUNIT.get(attributes.get("result", ""), "failed")
            self.tally.add(attributes.get("fullname") or attributes.get("name") or "?", result)

    def end(self, tag: str) -> None:
        self.depth -= 1
        tag = tag.rsplit(":", 1)[-1]
        if tag == "testcase" and self.name is not None:
            self.forgiven += self.todo and self.result in ("failed", "error")
            self.tally.add(self.name, "skipped" if self.todo else self.result)
            self.name = None
        elif tag == "testsuite" and self.suites:
            announced, before = self.suites.pop()
            self.tally.beside("errors", announced - (self._bad() - before))

    def _bad(self) -> int:
        """What a suite counts as bad so far, forgiven ones among it."""
        return self.tally.numbers["failed"] + self.tally.numbers["errors"] + self.forgiven

    def _say(self, result: str, kind: str) -> None:
        """One mark of the open test. node marks a test that may fail, PHPUnit one without an assertion."""
        if kind == "todo":
            self.todo = True
        elif kind.endswith("RiskyTestError"):
            self.forgiven += 1
        elif _WORSE.index(result) > _WORSE.index(self.result):
            self.result = result


_SPELLED = {"failed": "failed", "fail": "failed", "error": "error", "skipped": "skipped", "notrun": "skipped",
            "disabled": "skipped", "ignored": "skipped"}  # fmt: skip


def _joined(owner: str | None, name: str | None) -> str:
    return "::".join(part for part in (owner, name) if part)[:1000] or "?"


def _number(attributes: dict[str, str], name: str) -> int:
    text = attributes.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def read(data: bytes) -> Tally | None:
    """The tally of an XML report; None for anything else, hostile or cut files among it."""
    if len(data) > LARGEST_BYTES or b"<" not in data[:4096]:
        return None
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    try:
        parser.Parse(data.strip(), True)
    except (expat.ExpatError, _Refused, ValueError, LookupError):
        return None
    return reader.tally if reader.rooted else None
