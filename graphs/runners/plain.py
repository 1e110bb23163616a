"""Closing words of a runner that is not known: lines that hold nothing but numbers of tests.

Read only where no known runner closed. A line counts when every piece of it is a number with a word for
tests (`3 passed, 1 failed`, `PASS: 3`, `2 von 3 Tests bestanden`); `3 errors handled ok` is not one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from graphs.runners.summary import NO_TEST, Summary, tally

_KINDS = {
    "passed": "pass passed passes passing succeeded success successes successful ok okay green xpass "
    "bestanden erfolgreich réussi réussis réussie réussies aprobados superadas pasaron superati passati",
    "failed": "fail failed fails failing failure failures unsuccessful broken red xpassed fehlgeschlagen "
    "fehlgeschlagene fehlschläge échec échecs échoué échoués échoués fallidos fallaron fallito falliti",
    "errors": "error errors fehler erreur erreurs errores errori",
    "skipped": "skip skipped skips pending ignored todo disabled xfail xfailed excluded omitted canceled "
    "übersprungen ignoré ignorés omitidos saltati",
    "total": "test tests total spec specs example examples check checks case cases scenario scenarios "
    "ran run assertions gesamt",
}
_WORDS = {word: kind for kind, words in _KINDS.items() for word in words.split()}
_TELLING = {"passed", "failed", "total"}  # skipped ones and errors alone are not a closing line
_UNITS = (
    r"(?:(?:unit |integration )?"
    r"(?:tests?|specs?|examples?|checks?|test cases?|cases?|scenarios?|assertions?) )?"
)
_TIME = re.compile(
    r"[ ,;:(\[-]*(?:in|took|after|time:?|within)? ?\d+(?:[.,]\d+)? ?(?:ms|s|sec|secs|seconds?|m|min)[)\].]*$"
)
_SEPARATOR = re.compile(r"[,;|(]|\. +| / | and | und | et ")
_ROW = re.compile(r"(?<=[^\W\d_]) +(?=\d)")  # `3 Tests 1 Failures 0 Ignored`
_BAZEL = re.compile(r"^Executed \d+ out of \d+ tests?: (.*)$")
_HEAD = re.compile(r"^\[\w+\] +|^\d+%: +|^\*+ |^(?:[^\w\d]|_)+|^(?:[A-Za-z][A-Za-z ]{0,24}(?:: |:$| - ))+")
_BOOST = re.compile(r"^(\d+) failures? (?:is|are) detected in the test module\b.*$")
_NUMBER_WORD = re.compile(rf"^(?:all )?(\d+) {_UNITS}(?:were |was |have |are )?([^\W\d_]+)$", re.IGNORECASE)
_WORD_NUMBER = re.compile(r"^(?:tests? )?([^\W\d_]+)(?: tests?)? ?(?:[:=] *| )(\d+)$", re.IGNORECASE)
_SHARE = re.compile(
    r"^(\d+) ?(?:/|of|von|out of|sur) ?(\d+) (?:tests?|specs?|checks?|cases?)?(?: ([^\W\d_]+))?$", re.I
)
_NOTHING = re.compile(
    r"^(?:error: |warning: |info: )?(?:no|0|zero) (?:unit |matching )?(?:tests?|specs?|examples?|test files?|"
    r"test cases?|test suites?|spec files?)(?: (?:were|was|to be|to|have been|are|is))?"
    r"(?: (?:found|run|ran|executed|collected|discovered|matched|selected|available|specified|defined|"
    r"present))?(?:(?: in| for| matching|,|;|:) .{0,80})?[.!]*$|"
    r"^(?:keine tests? (?:gefunden|ausgeführt)|aucun test.{0,30}|"
    r"there (?:are|were) no tests?.{0,30}|nothing to test)[.!]*$",
    re.IGNORECASE,
)


def plain(said: list[str]) -> Iterator[Summary]:
    """The last block of such lines, as one summary that is not sure."""
    block: list[dict[str, int]] = []
    last, nothing = -1, -1
    for index, line in enumerate(said):
        bare = line.strip()
        if len(bare) > 200:
            continue
        if numbers := _numbers(bare):
            near = bool(block) and index - last <= 2
            if not near and not numbers.keys() & _TELLING:
                continue
            if not near:
                block = []
            block.append(numbers)
            last = index
        elif _NOTHING.match(_head(bare)):
            nothing = index
    if block and not any(numbers.keys() & {"passed", "total"} or any(numbers.values()) for numbers in block):
        block = []  # `0 failures` alone does not say that nothing ran
    if block and last >= nothing:
        counts = _counts(block)
        yield Summary("plain", last, counts, nothing=None if counts else NO_TEST, sure=False)
    elif nothing >= 0:
        yield Summary("plain", nothing, nothing=NO_TEST, sure=False)


def _head(line: str) -> str:
    return _HEAD.sub("", line, count=1).strip()


def _numbers(line: str) -> dict[str, int]:
    """What a line counts; {} when any piece of it is something else."""
    if not re.search(r"\d", line):
        return {}
    if match := _BAZEL.match(line):
        return _summed(re.findall(r"\d+ (?:tests? )?(?:pass|fail)(?:es|s)?\b", match.group(1)))
    once = _head(line)
    for text in dict.fromkeys((line, once, _head(once))):
        bare = _TIME.sub("", text.strip(" .!#*=-|>[]"))
        for separator in (_SEPARATOR, _ROW):
            if numbers := _summed(piece for piece in separator.split(bare) if piece.strip()):
                return numbers
    return {}


def _summed(pieces: Iterable[str]) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for piece in pieces:
        if not (read := _piece(piece.strip(" .!()="))):
            return {}
        for kind, number in read.items():
            numbers[kind] = numbers.get(kind, 0) + number
    return numbers


def _piece(piece: str) -> dict[str, int]:
    if match := _SHARE.match(piece):
        done, tests, word = int(match.group(1)), int(match.group(2)), (match.group(3) or "").lower()
        if _WORDS.get(word) == "passed" and done <= tests:
            return {"passed": done, "failed": tests - done}
        return {"failed": done} if _WORDS.get(word) == "failed" and done <= tests else {}
    if match := _BOOST.match(piece):
        return {"failed": int(match.group(1)[:9])}
    if match := _NUMBER_WORD.match(piece):
        number, word = match.groups()
    elif match := _WORD_NUMBER.match(piece):
        word, number = match.groups()
    else:
        return {}
    kind = _WORDS.get(word.lower())
    if kind == "total" and re.match(r"^(?!total)[^\W\d_]+ \d+$", piece, re.I):  # `test 3` names a step
        return {}
    return {kind: int(number)} if kind and len(number) < 10 else {}


def _counts(block: list[dict[str, int]]) -> dict[str, int]:
    summed: dict[str, int] = {}
    for numbers in block:
        for kind, number in numbers.items():
            summed[kind] = (
                summed.get(kind, 0) + number if kind != "total" else max(summed.get(kind, 0), number)
            )
    if "passed" not in summed:
        rest = summed.get("failed", 0) + summed.get("errors", 0) + summed.get("skipped", 0)
        summed["passed"] = max(0, summed.get("total", 0) - rest)
    summed.pop("total", None)
    return tally(**summed)
