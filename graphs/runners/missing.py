"""Recognises what could not be started (a program, a module, a script) by the shell's or tool's words.

A test that fails on an import of its own is a failed test and is not told here: only what kept the runner
itself from running. Shells speak the language of the machine: with status 127 the place of the name in the
line (`./run.sh: Zeile 2: pytest: Kommando nicht gefunden.`) tells it, not the words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from graphs.runners import command as commands

NEAR_THE_END = 12  # lines; what is said earlier did not end the run


@dataclass(frozen=True, slots=True)
class Missing:
    """`name`: what has to be brought, None when it is there and cannot be executed. `words`: the reason."""

    name: str | None
    words: str


_NOT_FOUND = (
    "not found|command not found|Kommando nicht gefunden|Befehl nicht gefunden|commande introuvable|"
    "orden no encontrada|no se encontró la orden|comando non trovato|comando não encontrado|"
    "команда не найдена|nie znaleziono polecenia|kommandot finns inte|opdracht niet gevonden|"
    "未找到命令|コマンドが見つかりません"
)
_SHELL = re.compile(rf"^(?:[^:]+: )*?(?:[^:]+ )?(?:\d+: )?(?P<name>[^:\s]+): +(?:{_NOT_FOUND})\.?$")
_ZSH = re.compile(r"^(?:zsh|bundler|fish)(?::\d+)?: (?:command not found|Unknown command): (?P<name>\S+)$")
_LIBRARY = re.compile(r"error while loading shared libraries: (?P<name>[^:\s]+): ")
_BAD_INTERPRETER = re.compile(r": (?P<name>/[^:\s]+): bad interpreter: ")
_STATUS_127 = re.compile(
    r"^(?:\S*make(?:\[\d+\])?: \*\*\* \[.*\] \S+ 127|error Command failed with exit code 127\.|"
    r"npm (?:ERR!|error) code 127|.*\bELIFECYCLE\b.*\b127\b.*|task: .* exit status 127|"
    r"error: [Rr]ecipe .* exit code 127)$"
)
_NO_RULE = re.compile(r"^\S*make(?:\[\d+\])?: \*\*\* (?P<said>[^\[:]+)\. +\S+$")
_ELISION = re.compile(r"\b\w+'(?=\w)")  # dell'obiettivo
_QUOTED = re.compile(r"[‘'„«“\"`]\s*([^\s‘'„«“’»”\"`]+)\s*[’'“»”\"]")
_NO_MAKEFILE = re.compile(r"^\S*make(?:\[\d+\])?: \*\*\* No targets specified and no makefile found\.")
_PYTHON = re.compile(
    r"^\S*python[\d.]*(?:\.exe)?: (?:No module named |Error while finding module specification for )"
    r"'?(?P<name>[\w.]+?)(?:\.__main__)?'?(?:;.*| \(.*\))?$"
)
_PLUGIN = re.compile(r"^ImportError: Error importing plugin \"[^\"]+\": No module named '(?P<name>[^']+)'")
_PYTHON_FILE = re.compile(
    r"^\S*python[\d.]*(?:\.exe)?: can't open file '(?:[^']*/)?(?P<name>[^'/]+)': \[Errno 2\]"
)
_TRACEBACK = re.compile(r"^ModuleNotFoundError: No module named '(?P<name>[\w.]+)'$")
_SCRIPT = (
    re.compile(r"^npm (?:ERR!|error) Missing script: \"?(?P<name>[^\"]+)\"?$"),
    re.compile(r"^error Command \"(?P<name>[^\"]+)\" not found\.$"),
    re.compile(r"^Usage Error: Couldn't find a script named \"(?P<name>[^\"]+)\"\.$"),
    re.compile(r"^.*\bERR_PNPM_NO_SCRIPT\b.*Missing script: (?P<name>\S+)$"),
    re.compile(r"^error: Script not found \"(?P<name>[^\"]+)\"$"),
    re.compile(r"^note: a package\.json script \"(?P<name>[^\"]+)\" was not found$"),
)
_NPX = re.compile(r"^npm (?:ERR!|error) npx canceled due to missing packages.*\[\"(?P<name>[^\"]+)\"")
_NODE_FILE = re.compile(r"^Error: Cannot find module '(?P<name>[^']+)'$")
_NODE_MODULE = re.compile(
    r"Cannot find (?:module|package) '(?P<name>[^'./][^']*)' imported from (?P<by>\S+)$|"
    r"^(?:.* )?Error: Cannot find module '(?P<bare>[^'./][^']*)'$"
)
_PACKAGE_JSON = re.compile(r"^npm (?:ERR!|error) (?:enoent )?.*\b(?:open|Could not read) '?.*?package\.json")
_GEM = re.compile(
    r"^(?:Bundler::GemNotFound: )?Could not find (?:gem ')?(?P<name>[\w-]+?)(?:-\d[\w.]*)?\b.*"
    r" in (?:locally installed gems|any of the sources|rubygems)"
)
_OTHERS = (
    (re.compile(r"^error: no such (?:sub)?command: `(?P<name>[\w-]+)`$"), "cargo-{}"),
    (re.compile(r"^Could not open input file: (?P<name>\S+)$"), "{}"),
    (re.compile(r"^\S*ruby[\d.]*: No such file or directory -- (?P<name>\S+) \(LoadError\)$"), "{}"),
    (re.compile(r"^Can't open perl script \"(?P<name>[^\"]+)\": "), "{}"),
    (_GEM, "{}"),
    (re.compile(r"^Error: Unable to access jarfile (?P<name>\S+)$"), "{}"),
    (re.compile(r"^Error: Could not find or load main class (?P<name>\S+)$"), "{}"),
    (re.compile(r"^nox > Program (?P<name>\S+) not found\.$"), "{}"),
    (re.compile(r"^\S*sh: \d+: (?:cannot open|can't open) '?(?P<name>[^:']+)'?: "), "{}"),
)  # fmt: skip
_RUNNER_MODULES = frozenset(
    [
        "pytest",
        "nose",
        "nose2",
        "tox",
        "nox",
        "django",
        "behave",
        "robot",
        "hypothesis",
        "twisted",
        "zope",
        "ward",
        "green",
        "testtools",
        "stestr",
        "slash",
    ]
)
_RUNNER_GEMS = re.compile(
    r"cannot load such file -- (?P<name>minitest|rspec|test-unit|test/unit|bundler|rake)(?:/[\w/]*)?[ '(]"
)


def with_status(exit_code: int, said: list[str], command: str) -> Missing:
    """What 126 and 127 mean, from the last lines and the command."""
    last = [line for line in said if line.strip()][-NEAR_THE_END:]
    for line in reversed(last):
        if match := _LIBRARY.search(line) or _BAD_INTERPRETER.search(line):
            return _missing(match.group("name"))
    if exit_code == 126:
        name = next((found for line in reversed(last) if (found := _by_place(line))), _first(command))
        return Missing(None, f"cannot run: {name} cannot be executed")
    return _missing(_named(last) or _first(command))


def find(said: list[str], command: str) -> Missing | None:
    """What is missing by the last lines of a run that another status ended; None when nothing is."""
    near = [line.strip() for line in said if line.strip()][-NEAR_THE_END * 3 :]
    for line in reversed(near[-NEAR_THE_END:]):
        if found := _said(line):
            return found
        if _STATUS_127.match(line):
            return _missing(_named(near) or _first(command))
    return _of_node(near) or _of_traceback(near) or _of_shell(near)


def _said(line: str) -> Missing | None:
    for pattern in _SCRIPT:
        if match := pattern.match(line):
            return Missing(
                f'npm script "{match.group("name")}"',
                f'cannot run: there is no script "{match.group("name")}"',
            )
    if (match := _NO_RULE.match(line)) and (goal := _goal(match.group("said"))):
        return Missing(f'make target "{goal}"', f'cannot run: make has no target "{goal}"')
    if _NO_MAKEFILE.match(line):
        return _missing("Makefile")
    if _PACKAGE_JSON.match(line):
        return _missing("package.json")
    if match := _NPX.match(line):
        return _missing(re.sub(r"(?<=.)@.*", "", match.group("name")))
    for pattern in (_PYTHON, _PLUGIN, _PYTHON_FILE):
        if match := pattern.match(line):
            return _missing(match.group("name"))
    if match := _RUNNER_GEMS.search(f"{line} "):
        return _missing(match.group("name"))
    for pattern, name in _OTHERS:
        if match := pattern.match(line):
            return _missing(name.format(match.group("name")))
    return None


def _goal(words: str) -> str | None:
    """The target that make has no rule for, in any language; of two names the first is only a dependency."""
    names = _QUOTED.findall(_ELISION.sub("", words))
    return names[0] if len(names) == 1 else None


def _of_node(near: list[str]) -> Missing | None:
    """The script that node was told to run, or a package that the runner itself asked for."""
    for index, line in enumerate(near):
        rest = near[index : index + 12]
        if (match := _NODE_FILE.match(line)) and any("requireStack: []" in one for one in rest):
            name = match.group("name")
            package = re.search(r"node_modules/((?:@[^/]+/)?[^/.][^/]*)", name)
            return _missing(package.group(1) if package else name.rsplit("/", 1)[-1])
        if match := _NODE_MODULE.search(line):
            stack = [one[2:] for one in rest[1:] if one.startswith("- ")]
            by = [match.group("by")] if match.group("by") else stack
            if by and all("node_modules/" in one for one in by):
                return _missing(match.group("name") or match.group("bare"))
    return None


def _of_traceback(near: list[str]) -> Missing | None:
    """A script of the project that needs a runner which is not there."""
    if (
        near
        and (match := _TRACEBACK.match(near[-1]))
        and match.group("name").split(".")[0] in _RUNNER_MODULES
    ):
        return _missing(match.group("name").split(".")[0])
    return None


def _of_shell(near: list[str]) -> Missing | None:
    for line in reversed(near[-6:]):
        if match := _SHELL.match(line) or _ZSH.match(line):
            return _missing(match.group("name"))
    return None


def _named(lines: list[str]) -> str | None:
    for line in reversed(lines):
        if match := _SHELL.match(line) or _ZSH.match(line):
            return match.group("name")
    return next((name for line in reversed(lines) if (name := _by_place(line))), None)


def _by_place(line: str) -> str | None:
    """`make: pytest: No such file or directory`: the part before the last, when it may be a name."""
    parts = line.strip().split(": ")
    if len(parts) < 3 or "***" in line:
        return None
    name = parts[-2].strip("‘’'\"`„“«»")
    return name if name and not re.search(r"\s", name) and not name.isdigit() else None


def _first(command: str) -> str:
    return commands.started(command).first or "the test command"


def _missing(name: str) -> Missing:
    return Missing(name, f"cannot run: {name} is missing")
