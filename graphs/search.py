"""The `search` tool's shell script, and what a model sees of its output.

Which files are searched is decided by `find`, how by ripgrep where the sandbox has it, else by grep with
Perl's expressions, else by plain grep: so all see the same files in the same order and number lines alike.
Folders named in SKIPPED are left out unless the path names them. `$` also matches before a CRLF.

Nothing is passed over in silence: what the programs say on standard error is told after the matches, a
binary file is named when it matches, and matches beyond MATCHES are counted. UTF-16 is searched as text (by
grep with the help of iconv); where that cannot be had, it is said that the file was not searched.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from dataclasses import dataclass

MATCHES = 200
LINE_BYTES = 400
SAID_LINES = 20
SKIPPED = (".git", "node_modules", "__pycache__", ".venv", "venv", ".tox", ".mypy_cache", ".pytest_cache",
           ".ruff_cache")  # fmt: skip
# Control characters that part the output: the end of a name, a cut line, the next part.
_NAME, _CUT, _PART = "\x1f", "\x1d", "\x1e"
_BINARY = re.compile("[Bb]inary file .*matches")

# `command -v` and the trial runs of grep only ask what there is; every other word of a program is told.
_SCRIPT = r"""cd {workspace} || exit 2
export LC_ALL={locale} how pattern={pattern}
files() {{ find -H {where} {skip}-type f {names}-print0 | sort -z; }}
if command -v rg >/dev/null 2>&1; then
look() {{ files | xargs -0 -r rg --no-config -nH --no-heading --color=never --null --sort=path \
  --crlf --engine=auto -e "$pattern" --; }}
else
how=-EZ pattern={extended}
if echo a1 | grep -qPZ 'a\d' 2>/dev/null; then how=-PZ pattern={perl}
elif ! echo a | grep -qZ a 2>/dev/null; then how=-E; fi
look() {{
files | xargs -0 -r grep -nH $how -e "$pattern" --
files | xargs -0 -r sh -c 'marks="^($0|$1)"; shift; LC_ALL=C grep -lE "$marks" -- "$@" |
while IFS= read -r name; do case "$(head -c 2 "$name" | od -An -tx1 | tr -d " ")" in fffe|feff)
if ! command -v iconv >/dev/null 2>&1; then
echo "$name is UTF-16 text and was not searched: iconv is missing" >&2
else iconv -f UTF-16 -t UTF-8 "$name" | grep -nH --label="$name" $how -e "$pattern"; fi;; esac; done' \
"$(printf '\377\376')" "$(printf '\376\377')"
}}
fi
exec 4>&1
said=$({{ look | tr '\000' '\037' | awk 'NR > {most} {{ next }} {{ sub(/\r$/, "") }}
length($0) > {width} {{ $0 = substr($0, 1, {width}) "\035" }} {{ print }}
END {{ printf "\036%d", (NR > {most} ? NR - {most} : 0) }}' >&4; }} 2>&1)
printf '\036'
printf '%s\n' "$said" | awk 'NF && !told[$0]++ && ++n <= {words} {{ print substr($0, 1, {width}) }}'
"""


@dataclass(frozen=True, slots=True)
class Found:
    """Matches as `name:line:text`, how many there were beyond them, and what the programs complained of."""

    matches: str
    more: int
    said: str


def problem(pattern: str) -> str | None:
    """Why a pattern cannot be searched for."""
    if "\n" in pattern.removesuffix("\n"):
        return "search looks at one line at a time: the pattern must have no line break in it"
    return None


def script(workspace: str, path: str, pattern: str, glob: str | None) -> str:
    """The script that searches `path` (absolute) for `pattern`, for /bin/sh."""
    where = posixpath.relpath(path, workspace)
    pattern = pattern.removesuffix("\n").removesuffix("\r")
    skipped = [name for name in SKIPPED if name not in path.split("/")]
    return _SCRIPT.format(
        workspace=shlex.quote(workspace),
        where=shlex.quote(where if where.startswith((".", "/")) else f"./{where}"),
        skip=f"\\( {' -o '.join(f'-name {name}' for name in skipped)} \\) -prune -o " if skipped else "",
        names=_names(glob),
        # By bytes grep reads files of every encoding; only a class like [éà] needs characters.
        locale="C" if pattern.isascii() else "C.UTF-8",
        pattern=shlex.quote(pattern),
        extended=shlex.quote(_with_ends(pattern, "\r?$")),
        perl=shlex.quote(_with_ends(pattern, "(?<!\r)(?=\r?$)")),
        most=MATCHES,
        width=LINE_BYTES,
        words=SAID_LINES,
    )


def read(output: str) -> Found:
    """What the script printed; it may have been stopped anywhere."""
    matches, _, rest = output.partition(_PART)
    more, _, said = rest.partition(_PART)
    found, name = [], ""
    for line in matches.removesuffix("\n").split("\n") if matches else []:
        name, end, text = f"{name}{line}".partition(_NAME)
        if end or _NAME not in matches or _BINARY.search(line):
            found.append(f"{_shown(name)}:{_uncut(text)}" if end else _shown(line))
            name = ""
        else:
            name += "\n"  # a name with a line break in it
    words = said.strip("\n").split("\n")
    found += [line for line in words if _BINARY.search(line)]  # grep says it on standard error
    told = "\n".join(line for line in words if not _BINARY.search(line))
    return Found("\n".join(found), int(more) if more.isdigit() else 0, told)


def _shown(name: str) -> str:
    name = _uncut(name.removeprefix("./"))
    return name if name.isprintable() else json.dumps(name, ensure_ascii=False)


def _uncut(text: str) -> str:
    if not text.endswith(_CUT):
        return text
    whole = text[:-1].rstrip("\ufffd")  # the cut may have gone through a character
    return f"{whole} [… cut]"


def _names(glob: str | None) -> str:
    """`glob` for find: braces are spelled out; a slash in it means the path, else it is the name."""
    if not glob:
        return ""
    tests = []
    no, glob = ("! ", glob[1:]) if glob.startswith("!") else ("", glob)
    for one in _spelled(glob):
        flat = re.sub(r"\*\*/?", "*", one.removeprefix("./"))
        flat = flat.lstrip("/") if "/" in flat.strip("/") else flat.strip("/")
        tests.append(f"-path {shlex.quote('*/' + flat)}" if "/" in flat else f"-name {shlex.quote(flat)}")
    return f"{no}\\( {' -o '.join(tests)} \\) "


def _spelled(glob: str) -> list[str]:
    """`*.{ts,tsx}` as two globs; as many as 64."""
    braces = re.search(r"\{([^{}]*,[^{}]*)\}", glob)
    if braces is None:
        return [glob]
    out: list[str] = []
    for choice in braces[1].split(","):
        out += _spelled(glob[: braces.start()] + choice + glob[braces.end() :])
    return out[:64]


def _with_ends(pattern: str, end: str) -> str:
    """`pattern` with every `$` that means the end of a line replaced by `end`."""
    token = re.compile(r"\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]|\$|.", re.DOTALL)
    return token.sub(lambda part: end if part[0] == "$" else part[0], pattern)
