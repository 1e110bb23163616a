"""Which command tests a repository, found from its files and from the programs that the sandbox has.

Pure: `PROBE` is a shell script that prints what is there; `detect` reads its output. The first fitting
rule wins, in the order of `_RULES`. A runner that is not installed is never chosen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

# Prints `tool NAME` per program, `file PATH` per file of interest, and heads of three manifests.
PROBE = r"""
for t in python3 python pytest node npm yarn pnpm go cargo make; do
  command -v "$t" >/dev/null 2>&1 && echo "tool $t"
done
p=python3; command -v python3 >/dev/null 2>&1 || p=python
[ -x .venv/bin/python ] && p=.venv/bin/python && echo "tool venv"
"$p" -c 'import pytest' >/dev/null 2>&1 && echo "tool python-pytest"
for f in pytest.ini tox.ini setup.cfg setup.py pyproject.toml conftest.py package.json yarn.lock \
  pnpm-lock.yaml go.mod Cargo.toml Makefile makefile GNUmakefile; do [ -f "$f" ] && echo "file $f"; done
find . -maxdepth 4 \( -name node_modules -o -name .git -o -name .venv -o -name venv \) -prune -o \
  \( -name 'test_*.py' -o -name '*_test.py' -o -name '*_test.go' \) -print 2>/dev/null \
  | head -n 50 | sed 's|^\./|file |'
for f in package.json pyproject.toml setup.cfg tox.ini Makefile makefile GNUmakefile; do
  [ -f "$f" ] && { echo "content $f"; head -c 20000 "$f"; echo; echo "end $f"; }
done
[ -d tests ] && grep -rlE 'import pytest|from pytest' --include='*.py' tests . 2>/dev/null \
  | head -n 1 | sed 's|^|uses-pytest |'
true
"""


@dataclass(frozen=True)
class Found:
    """What the probe saw at the root of the workspace."""

    tools: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    contents: Mapping[str, str] = field(default_factory=dict)
    uses_pytest: bool = False


def parse_probe(output: str) -> Found:
    """The probe's output; lines it does not know are skipped."""
    tools, files, contents, uses = set(), set(), {}, False
    lines = iter(output.splitlines())
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "tool":
            tools.add(rest)
        elif word == "file":
            files.add(rest)
        elif word == "uses-pytest":
            uses = True
        elif word == "content":
            body = []
            for inner in lines:
                if inner == f"end {rest}":
                    break
                body.append(inner)
            contents[rest] = "\n".join(body)
    return Found(frozenset(tools), frozenset(files), contents, uses)


def detect(found: Found) -> str | None:
    """The test command, or None when nothing runnable is there."""
    for rule in _RULES:
        command = rule(found)
        if command:
            return command
    return None


def _python(found: Found) -> str | None:
    return (
        ".venv/bin/python"
        if "venv" in found.tools
        else next((name for name in ("python3", "python") if name in found.tools), None)
    )


def _pytest(found: Found) -> str | None:
    if "python-pytest" not in found.tools:
        return None
    configured = {"pytest.ini", "conftest.py"} & found.files or any(
        mark in found.contents.get(name, "")
        for name, mark in (
            ("pyproject.toml", "[tool.pytest"),
            ("setup.cfg", "[tool:pytest]"),
            ("tox.ini", "[pytest]"),
        )
    )
    if configured or _python_tests(found):
        return f"{_python(found)} -m pytest -q"
    return None


def _unittest(found: Found) -> str | None:
    tests, python = _python_tests(found), _python(found)
    if not tests or python is None or found.uses_pytest:
        return None
    top = {path.split("/")[0] for path in tests if "/" in path}
    if any("/" not in path for path in tests):
        return f"{python} -m unittest discover -v"
    if len(top) == 1:  # `-t .` keeps `import package` working when the tests stand in their own folder
        folder = top.pop()
        return f"{python} -m unittest discover -v -s {folder}" + (
            " -t ." if f"{folder}/__init__.py" in found.files else ""
        )
    return f"{python} -m unittest discover -v"


def _python_tests(found: Found) -> list[str]:
    return sorted(
        path for path in found.files if path.endswith(".py") and re.search(r"(^|/)test_|_test\.py$", path)
    )


def _node(found: Found) -> str | None:
    try:
        script = json.loads(found.contents.get("package.json", "{}")).get("scripts", {}).get("test", "")
    except (ValueError, AttributeError):
        return None
    if not script or "no test specified" in script:
        return None
    for lock, runner in (("pnpm-lock.yaml", "pnpm"), ("yarn.lock", "yarn")):
        if lock in found.files and runner in found.tools:
            return f"CI=1 {runner} test"
    return "CI=1 npm test --silent" if "npm" in found.tools else None


def _go(found: Found) -> str | None:
    return "go test ./..." if "go.mod" in found.files and "go" in found.tools else None


def _cargo(found: Found) -> str | None:
    return "cargo test --quiet" if "Cargo.toml" in found.files and "cargo" in found.tools else None


def _make(found: Found) -> str | None:
    if "make" not in found.tools:
        return None
    for name in ("GNUmakefile", "makefile", "Makefile"):
        for target in ("test", "check"):
            if re.search(rf"^{target}\s*:(?!=)", found.contents.get(name, ""), re.MULTILINE):
                return f"make {target}"
    return None


_RULES: tuple[Callable[[Found], str | None], ...] = (_pytest, _node, _go, _cargo, _unittest, _make)
