"""Which runner a test command starts, and whether its exit status is that runner's.

`python3 -m pytest -q` starts pytest and nothing else: what other runners' words stand in the output were
printed by tests. `make test` may start anything, and more than one; what it starts it often writes down.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

FAMILIES = {
    "pytest": ("pytest",),
    "py.test": ("pytest",),
    "unittest": ("unittest",),
    "mocha": ("mocha", "tap"),
    "jest": ("jest",),
    "vitest": ("vitest",),
    "ava": ("ava", "tap"),
    "jasmine": ("jasmine",),
    "playwright": ("playwright",),
    "rspec": ("rspec",),
    "phpunit": ("phpunit",),
    "pest": ("phpunit",),
    "ctest": ("ctest",),
    "prove": ("prove",),
    "bats": ("tap", "bats"),
    "gotestsum": ("gotestsum", "go"),
    "mvn": ("maven",),
    "mvnw": ("maven",),
    "gradle": ("gradle",),
    "gradlew": ("gradle",),
}
_TWO_WORDS = {
    ("node", "--test"): ("tap", "node"),
    ("go", "test"): ("go",),
    ("cargo", "test"): ("cargo",),
    ("cargo", "t"): ("cargo",),
    ("cargo", "nextest"): ("nextest",),
    ("bun", "test"): ("bun",),
    ("deno", "test"): ("deno",),
    ("swift", "test"): ("swift",),
    ("dotnet", "test"): ("dotnet",),
    ("mix", "test"): ("mix",),
}
# These run module after module, and each closes on its own.
SUMMED = frozenset({"go", "cargo", "swift", "dotnet", "mix", "maven", "gradle"})
# With nothing to complain of, these may say nothing at all.
SILENT = frozenset({"maven", "gradle"})
_BEFORE = {"npx", "exec", "command", "time", "env", "nice", "sudo", "bunx", "xvfb-run", "stdbuf", "dotenv"}
_PAIRS = {
    ("uv", "run"), ("poetry", "run"), ("pipenv", "run"), ("pdm", "run"), ("hatch", "run"), ("rye", "run"),
    ("bundle", "exec"), ("pnpm", "exec"), ("npm", "exec"), ("yarn", "exec"), ("coverage", "run"),
}  # fmt: skip
_SILENT = {
    "cd",
    "export",
    "set",
    "source",
    ".",
    "true",
    ":",
    "unset",
    "umask",
    "ulimit",
    "mkdir",
    "rm",
    "echo",
}
_FILTERS = {"tee", "cat", "tail", "head", "grep", "sed", "less", "sort", "awk", "ts"}
_ECHO = re.compile(
    r"^(?:> |\$ |\+ |nox > |\S+: commands\[\d+\]> )?"
    r"((?:[A-Za-z_]\w*=\S* )*(?:\S*/)?(?:python[\d.]*|pytest|node|npx|mocha|jest|vitest|ava|jasmine|"
    r"playwright|rspec|bundle|phpunit|php|ctest|prove|bats|uv|poetry|coverage)(?: .*)?)$"
)
_OPERATORS = re.compile(r"^[;&|()<>\n]+$")
_ASSIGNMENT = re.compile(r"^[A-Za-z_]\w*=")


@dataclass(frozen=True, slots=True)
class Started:
    """`families`: how the one runner closes; () when it is not known or not alone. `status` is its own."""

    families: tuple[str, ...] = ()
    status: bool = False
    first: str = ""


def started(command: str) -> Started:
    """What the command starts; nothing is known of one that cannot be split."""
    pieces = _pieces(command)
    if len(pieces) == 1 and pieces[0][1][0] in ("sh", "bash", "dash", "zsh"):
        inner = _script(pieces[0][1])
        return started(inner) if inner is not None else Started(first=pieces[0][1][0])
    runs = [at for at, (_, words) in enumerate(pieces) if words[0] not in _SILENT | _FILTERS]
    if len(runs) != 1:
        return Started(first=pieces[runs[0]][1][0] if runs else "")
    _, words = pieces[runs[0]]
    later = [operator for operator, _ in pieces[runs[0] + 1 :]]
    piped = all(operator == "|" for operator in later) and "pipefail" in command
    status = (not later or piped) and not command.rstrip().endswith("&")
    return Started(_families(words), status, words[0])


def echoed(said: list[str]) -> list[Started]:
    """The runners whose start make, npm, tox or nox wrote down before they started them."""
    found = (started(match.group(1)) for line in said if len(line) < 500 and (match := _ECHO.match(line)))
    return [begun for begun in found if begun.families]


def _script(words: list[str]) -> str | None:
    """What `sh -c` is told to run."""
    for at, word in enumerate(words[1:-1], 1):
        if re.fullmatch(r"-[a-z]*c", word):
            return words[at + 1]
    return None


def _pieces(command: str) -> list[tuple[str, list[str]]]:
    """The simple commands of a line, each with the operator before it and without what only leads to it."""
    lexer = shlex.shlex(command.replace("\n", " ; "), posix=True, punctuation_chars=";&|()<>")
    lexer.whitespace_split = True
    lexer.commenters = ""
    pieces: list[tuple[str, list[str]]] = [("", [])]
    target = False
    try:
        for word in lexer:
            if target:
                target = False
            elif not _OPERATORS.match(word):
                pieces[-1][1].append(word)
            elif ">" in word or "<" in word:
                target = True
            else:
                pieces.append((word, []))
    except ValueError:
        return []
    bare = ((operator, _bare(words)) for operator, words in pieces)
    return [(operator, words) for operator, words in bare if words]


def _bare(words: list[str]) -> list[str]:
    """Without assignments and wrappers; the program's name without its folder."""
    while words:
        name = words[0].rsplit("/", 1)[-1]
        if _ASSIGNMENT.match(words[0]) or words[0] in ("!", "{", "}", "then", "do"):
            words = words[1:]
        elif name in _BEFORE:
            words = words[1:]
            while words and words[0].startswith("-"):
                words = words[1:]
        elif name == "timeout":
            words = words[1:]
            while words and (words[0].startswith("-") or words[0][:1].isdigit()):
                words = words[1:]
        elif name in ("yarn", "pnpm", "bun") and len(words) > 1 and words[1] in FAMILIES:
            words = words[1:]
        elif len(words) > 1 and (name, words[1]) in _PAIRS:
            words = words[2:]
            while words and words[0] in ("--",):
                words = words[1:]
            if words and words[0] == "-m":
                words = ["python", *words]
        elif re.fullmatch(r"python[\d.]*|py", name):
            return _of_python(words)
        else:
            return [name, *words[1:]]
    return []


def _of_python(words: list[str]) -> list[str]:
    for at, word in enumerate(words[1:], 1):
        if word == "-m" and at + 1 < len(words):
            return _bare(["/".join(("", words[at + 1])), *words[at + 2 :]])
        if not word.startswith("-") and words[at - 1] not in ("-W", "-X"):
            break
    return ["python", *words[1:]]


def _families(words: list[str]) -> tuple[str, ...]:
    name = words[0]
    if name == "node" and "--test" in words:
        return _TWO_WORDS["node", "--test"]
    if name == "python" and len(words) > 2 and words[1].endswith("manage.py") and words[2] == "test":
        return FAMILIES["unittest"]
    if name == "php" and len(words) > 1:
        name = words[1].rsplit("/", 1)[-1]
    if name in FAMILIES:
        return FAMILIES[name]
    for word in words[1:]:
        if (name, word) in _TWO_WORDS:
            return _TWO_WORDS[name, word]
        if not word.startswith(("-", "+")):
            break
    return ()
