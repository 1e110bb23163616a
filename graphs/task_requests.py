"""Whether the task itself asks for what was found about the tests: then it is no weakening.

Words only, sentence by sentence, and on the careful side: what forbids a thing does not ask for it, and a
feature that is to go takes along only the tests that bear its name.
"""

from __future__ import annotations

import re

from graphs.runner_settings import Finding

_SETTINGS = ("command", "config", "conftest", "ci")
_CONTENT = ("deleted", "rows", "assertions", "expectation", "gone")
_BETWEEN = r"\s+(?:[\w'/.,-]+\s+){0,6}?"
_TESTS = r"(?:\w+\s+)?(?:tests?|specs?|suites?|test\s?cases?|assertions?|test_\w+|\w+_test|\w+Tests?)"
_REMOVES = re.compile(
    rf"\b(?:remove|delete|drop|skip|disable|deactivate|mute|xfail|quarantine|prune|retire|eliminate|"
    rf"get\s+rid\s+of|clean\s*up|comment\s+out|ignore|exclude|mark){_BETWEEN}{_TESTS}\b|"
    rf"\b{_TESTS}\s+(?:[\w'/.,-]+\s+){{0,6}}?(?:removed|deleted|dropped|skipped|disabled|obsolete|retired|ignored|"
    rf"excluded|xfailed|commented\s+out)\b",
    re.IGNORECASE,
)
_REWORKS = re.compile(
    rf"\b(?:rewrite|replace|migrate|convert|port|refactor|restructure|consolidate|merge|rename|move|simplify|"
    rf"reorgani[sz]e|split|parametri[sz]e|deduplicate|rework|update|adapt|reduce|trim|tidy){_BETWEEN}{_TESTS}\b",
    re.IGNORECASE,
)
_BACK = re.compile(r"\b(?:revert|undo|roll\s*back|back\s*out)\b", re.IGNORECASE)
_NOT = re.compile(
    r"\b(?:not|never|no|don['’]?t|doesn['’]?t|without|nor|cannot|can['’]?t|instead\s+of|rather\s+than|avoid)\b",
    re.IGNORECASE,
)
_FEATURE = re.compile(
    r"\b(?:remove|delete|drop|retire|eliminate|get\s+rid\s+of|strip|deprecate)\s+(.{3,160})", re.IGNORECASE
)
_RUNNER = re.compile(
    r"\b(?:test\s+(?:script|command|runner|config\w*|setup|target)|npm\s+test|package\.json|jest|vitest|mocha|"
    r"pytest|unittest|tox|nox|makefile|make\s+test|continuous\s+integration|CI|workflow|pipeline|coverage|"
    r"nextest|phpunit|rspec|gradle|maven|pyproject|configur\w*|conftest)\b",
    re.IGNORECASE,
)
_CHANGES = re.compile(
    r"\b(?:switch|change|migrate|replace|add|use|set\s*up|configure|update|move|upgrade|rename|make)\b",
    re.IGNORECASE,
)
_PLAIN = frozenset(
    ("the", "and", "for", "with", "from", "test", "tests", "that", "this", "its", "code", "file", "function",
     "method", "class", "all", "old", "new", "bug", "module", "unit")
)  # fmt: skip


def asked(task: str, finding: Finding) -> bool:
    """Whether the task's own words ask for what was found."""
    for sentence in re.split(r"(?<=[.!?;:\n])\s+|\n+|,\s+(?:but|and)\s+", task):
        plain = re.sub(r"`[^`]*\(\)[^`]*`", " ", sentence).replace("`", "")
        if finding.kind in _SETTINGS:
            if _RUNNER.search(plain) and _says(_CHANGES, plain):
                return True
        elif _wants(plain, finding):
            return True
    return False


def _wants(sentence: str, finding: Finding) -> bool:
    if finding.kind not in ("switch", "focused") and _says(_REMOVES, sentence):
        return True
    if finding.kind in (*_CONTENT, "emptied") and (_says(_REWORKS, sentence) or _says(_BACK, sentence)):
        return True
    feature = _FEATURE.search(sentence)
    if finding.kind not in _CONTENT or feature is None or _NOT.search(sentence[: feature.start()]):
        return False
    return bool(_parts(feature.group(1)) & _parts(finding.test))


def _says(pattern: re.Pattern[str], sentence: str) -> bool:
    found = pattern.search(sentence)
    return found is not None and not _NOT.search(sentence[: found.end()])


def _parts(text: str) -> set[str]:
    """The words of a name or a phrase: camelCase and snake_case taken apart, plain words left out."""
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", text)
    words = re.findall(r"[a-z0-9]{3,}", apart.lower().replace("_", " "))
    return {word for word in words if word not in _PLAIN}
