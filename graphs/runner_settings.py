"""Finds what a change did to how the tests are run: the test script, the runner's configuration, hooks.

Pure. A line that was added and keeps tests from running, or their failures from counting, is a finding that
forbids `passed`. A test script that became another one is told in any case, because only a person knows
whether that was wanted.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class Finding(NamedTuple):
    """`blocks`: with this, green tests prove nothing."""

    kind: str
    file: str
    test: str
    claim: str
    blocks: bool


class Change(NamedTuple):
    """A file before and after; None: it was not there."""

    path: str
    old: str | None
    new: str | None


# A command that ends well whatever the tests say, or runs fewer of them.
_DEAF = re.compile(
    r"\|\|\s*(?:true|:|exit\s+0|echo\b|\()|;\s*(?:true|:|exit\s+0)\s*(?:$|[\"'])|--passWithNoTests\b|"
    r"--pass-with-no-tests\b|--if-present\b|--exit-zero\b|--suppress-no-test-exit-code|set\s+\+e\b|"
    r"continue-on-error:\s*true|allow_failure:\s*true|ignore_outcome\s*=\s*true|testFailureIgnore>\s*true|"
    r"ignoreFailures\s*=?\s*true|<skipTests>\s*true|maven\.test\.skip|-DskipTests",
    re.IGNORECASE,
)
_UNHEARD = re.compile(r"^[@+]*-", re.MULTILINE)  # a recipe line whose failure make does not mind
_NOTHING = re.compile(r"^\s*(?:true|:|exit(?:\s+0)?|echo\b[^|&;]*|node\s+-e\s+[\"']{2}|)\s*$")
_FEWER = re.compile(
    r"--ignore(?:-glob)?\b|--deselect\b|(?:^|[\s\"'])-k[\s=]|(?:^|[\s\"'])-m\s+[\"']?not\b|--collect-only\b|--co\b|"
    r"\bcollect_ignore|--last-failed\b|--lf\b|-p\s+no:(?!cacheprovider|warnings)|--noconftest|--listTests|"
    r"--testPathIgnorePatterns|\btestPathIgnorePatterns|\bmodulePathIgnorePatterns|--testNamePattern|"
    r"--test-name-pattern|(?:^|\s)-t\s+[\"']|--grep\b|--fgrep\b|--invert\b|(?:^|\s)--?skip[\s=]|(?:^|\s)-run[\s=]|"
    r"--exclude\b|\bnorecursedirs\b|--list(?:-tests)?\b|--dry-run\b|--no-run\b|--bail\b|--test-only\b|--tag\s+~|"
    r"\bWILL_FAIL\b|\bDISABLED\s+(?:TRUE|ON|1)|\bautotests\s*=\s*false|^\s*test\s*=\s*false|<excludeTests>|"
    r"\bexcludeTestsMatching|--filter-expr|(?:^|\s)-E\s+[\"']not",
    re.IGNORECASE,
)
# Words that mean tests only in a file, or a section, that is about nothing else.
_EXCLUDE = re.compile(r"\bexclude\w*[\"']?\s*[:=(]|<exclude|\benabled\s*=\s*false|\bonlyIf\b", re.IGNORECASE)
_WHERE = re.compile(
    r"^\s*[\"']?(testpaths|python_files|python_classes|python_functions|addopts|xfail_strict|testMatch|testRegex|"
    r"roots|include|spec|files|pattern|test-dir|source_dirs|retry|retries|reruns|timeout)[\"']?\s*[:=]"
)
_HOOK = re.compile(
    r"pytest\.(?:skip|xfail|exit)\(|mark\.(?:skip|xfail)|\.outcome\s*=|\bexitstatus\s*=|"
    r"pytest_deselected|items\s*\[:\]|items\.clear|items\.remove|\.deselect\b|force_result|wasxfail"
)
_TEST_CONFIG = re.compile(
    r"(^|/)(\.?pytest\.ini|\.mocharc\.\w+|jest\.\w+|\.rspec|phpunit\.xml(?:\.dist)?|nextest\.toml|test_helper\.exs|"
    r"(?:jest|vitest|karma|ava|playwright|cypress|wdio|jasmine)[\w.-]*\.(?:config|conf|workspace)\.\w+)$"
)
_SECTIONED = re.compile(r"(^|/)(pyproject\.toml|setup\.cfg|tox\.ini)$")
_TEST_SECTION = re.compile(r"^\[+\s*(?:tool[.:])?(?:pytest|tox|testenv|nox|nose|hatch\.envs|unittest)\b")
_BUILD_CONFIG = re.compile(
    r"(^|/)(noxfile\.py|Cargo\.toml|CMakeLists\.txt|pom\.xml|build\.gradle(?:\.kts)?|mix\.exs|Rakefile|"
    r"vite\.config\.\w+|deno\.jsonc?|bunfig\.toml|\.bazelrc|BUILD(?:\.bazel)?)$"
)
_TEST_RULES = ((_DEAF, True), (_FEWER, True), (_EXCLUDE, True), (_WHERE, False))
_CI = re.compile(
    r"(^|/)(\.github/workflows/[^/]+|\.gitlab-ci\.yml|\.travis\.yml|\.circleci/config\.yml|Jenkinsfile|"
    r"azure-pipelines\.yml|bitbucket-pipelines\.yml)$"
)
_MAKEFILE = re.compile(r"(^|/)(GNUmakefile|[Mm]akefile|[^/]+\.mk|justfile|Justfile|Taskfile\.ya?ml)$")
_SCRIPTS = ("pretest", "test", "posttest")


def find(changes: Sequence[Change], command: str | None) -> Iterator[Finding]:
    """What the changes did to the run. Files that the test command names count as its scripts."""
    for change in changes:
        name = posixpath.basename(change.path)
        if name == "package.json":
            yield from _package(change)
        elif _MAKEFILE.search(change.path):
            yield from _targets(change)
        elif name == "conftest.py":
            yield from _lines(change, "conftest", ((_HOOK, True),))
        elif _TEST_CONFIG.search(change.path):
            yield from _lines(change, "config", _TEST_RULES)
        elif _SECTIONED.search(change.path):
            sections = Change(change.path, _about_tests(change.old), _about_tests(change.new))
            yield from _lines(sections, "config", _TEST_RULES)
        elif _BUILD_CONFIG.search(change.path):
            yield from _lines(change, "config", ((_DEAF, True), (_FEWER, True)))
        elif _CI.search(change.path):
            yield from _lines(change, "ci", ((_DEAF, False),))
        elif command and _named(change.path, command):
            yield from _script(change)


def _about_tests(text: str | None) -> str | None:
    """The sections of a file that are about tests."""
    if text is None:
        return None
    inside, kept = False, []
    for line in text.split("\n"):
        if line.startswith("["):
            inside = bool(_TEST_SECTION.match(line))
        if inside:
            kept.append(line)
    return "\n".join(kept)


def _named(path: str, command: str) -> bool:
    """Whether the command names this file, from the root or from another folder."""
    words = [word.removeprefix("./") for word in re.split(r"[\s;|&()'\"=]+", command)]
    name = posixpath.basename(path)
    return path in words or ("." in name and name in {posixpath.basename(word) for word in words})


def _package(change: Change) -> Iterator[Finding]:
    old, new = _json(change.old), _json(change.new)
    if old is None or new is None:
        return
    before, after = _object(old, "scripts"), _object(new, "scripts")
    reached = {name for name in before if name in _SCRIPTS or _uses(before, name)}
    for name in sorted(reached):
        was, now = str(before.get(name, "")), str(after.get(name, ""))
        if was != now and was and "no test specified" not in was:
            yield _command(change.path, f"script `{name}`", was, now)
    for key in ("jest", "mocha", "ava", "vitest", "c8", "nyc", "tap"):
        if old.get(key) != new.get(key):
            texts = [json.dumps(value.get(key), indent=1) if key in value else None for value in (old, new)]
            yield from _lines(Change(change.path, *texts), "config", _TEST_RULES)


def _uses(scripts: dict[str, Any], name: str) -> bool:
    """Whether the test script runs this one."""
    called = (
        rf"(?:run(?:-s|-p)?|yarn|pnpm|--workspaces?)\s+(?:[\w:*-]+\s+)*{re.escape(name)}(?:\s|$|[\"'&;|])"
    )
    return any(re.search(called, str(scripts.get(script, ""))) for script in _SCRIPTS)


def _command(path: str, what: str, was: str, now: str) -> Finding:
    blocks = bool(_NOTHING.match(now)) or _new(_DEAF, was, now) or _new(_FEWER, was, now)
    shown = f"`{_short(now)}`" if now.strip() else "nothing"
    return Finding("command", path, "", f"{what} was `{_short(was)}` and is {shown}", blocks)


def _new(pattern: re.Pattern[str], was: str, now: str) -> bool:
    return len(pattern.findall(now)) > len(pattern.findall(was))


def _targets(change: Change) -> Iterator[Finding]:
    """Targets whose name says test or check, and what they need of the same file."""
    old, new = _recipes(change.old or ""), _recipes(change.new or "")
    for name, (needs, recipe) in old.items():
        tests = re.match(r"(?:.*[-_:])?(?:test|tests|check|spec|verify)(?:[-_:].*)?$", name)
        if not tests or not (needs or recipe):
            continue
        needs_now, recipe_now = new.get(name, ("", ""))
        if recipe != recipe_now and (recipe or not needs_now):
            found = _command(change.path, f"target `{name}`", recipe or needs, recipe_now)
            yield found._replace(blocks=found.blocks or _new(_UNHEARD, recipe, recipe_now))
        elif needs != needs_now:
            claim = f"target `{name}` needed `{_short(needs)}` and needs `{_short(needs_now)}`"
            yield Finding("command", change.path, "", claim, not needs_now and not recipe_now)
    if (
        change.new
        and re.search(r"^\.IGNORE\s*:", change.new, re.MULTILINE)
        and ".IGNORE" not in (change.old or "")
    ):
        yield Finding("command", change.path, "", "`.IGNORE` hides every failure", True)


def _recipes(text: str) -> dict[str, tuple[str, str]]:
    """Each target with what it needs and its recipe."""
    needs: dict[str, str] = {}
    recipes: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.split("\n"):
        head = re.match(r"^([\w.-][\w./ -]*?)\s*::?(?!=)\s*(.*)$", line)
        if head and not line.startswith((" ", "\t")):
            current = []
            for name in head.group(1).split():
                recipes[name], needs[name] = current, head.group(2).partition("#")[0].strip()
        elif line.startswith((" ", "\t")):
            current.append(line.strip())
        elif line.strip():
            current = []
    return {name: (needs[name], "\n".join(lines).strip()) for name, lines in recipes.items()}


def _script(change: Change) -> Iterator[Finding]:
    """A script that the test command runs. A program under test is named there as well, and may change."""
    added, removed = _difference(change)
    shell = posixpath.splitext(change.path)[1] in ("", ".sh", ".bash")
    deaf = [line for line in added if _DEAF.search(line) or (shell and re.match(r"exit\s*0?$", line))]
    fewer = [line for line in added if shell and _FEWER.search(line)]
    told = (deaf or fewer or (removed if shell else []) or ["it is gone"])[0]
    if deaf or fewer or change.new is None or (shell and removed):
        claim = f"the script that runs the tests was changed: `{_short(told)}`"
        yield Finding("command", change.path, "", claim, bool(deaf or fewer) or change.new is None)


def _lines(change: Change, kind: str, rules: Sequence[tuple[re.Pattern[str], bool]]) -> Iterator[Finding]:
    if change.old is None and kind == "ci":
        return
    added, _ = _difference(change)
    for line in added:
        for pattern, blocks in rules:
            if pattern.search(line) and not line.lstrip().startswith(("#", "//", "*")):
                claim = f"a setting that changes which tests count: `{_short(line)}`"
                yield Finding(kind, change.path, "", claim, blocks)
                break
    if change.new is None and kind == "config" and _WHERE.search(change.old or ""):
        yield Finding(kind, change.path, "", "the tests' configuration was removed", False)


def _difference(change: Change) -> tuple[list[str], list[str]]:
    """Lines that were added and lines that were removed, wherever they stand."""
    old = Counter(line.strip() for line in (change.old or "").split("\n"))
    new = Counter(line.strip() for line in (change.new or "").split("\n"))
    added, removed = (new - old).elements(), (old - new).elements()
    return [line for line in added if line], [line for line in removed if line]


def _json(text: str | None) -> dict[str, Any] | None:
    try:
        value = json.loads((text or "").lstrip("\ufeff"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _object(value: dict[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else f"{line[:119]}…"
