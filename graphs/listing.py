"""The `list` tool's shell script, and what a model sees of its output."""

from __future__ import annotations

import json
import shlex

from graphs.search import SKIPPED

ENTRIES = 300

# Names end at a NUL until tr has put a line break in a name aside. What find complains of comes last.
_SCRIPT = r"""cd {where} || exit 2
export LC_ALL=C
exec 4>&1
said=$({{ find . -maxdepth 2 -mindepth 1 \( {skip} \) -prune -o -print0 |
sort -z | tr '\n\000' '\037\n' | awk 'NR <= {most} {{ print }}
END {{ printf "\036%d\036", (NR > {most} ? NR - {most} : 0) }}' >&4; }} 2>&1)
printf '%s\n' "$said" | awk 'NF && !told[$0]++ && ++n <= 20'
"""


def script(path: str) -> str:
    """The script that lists the folder `path` (absolute), for /bin/sh."""
    skip = " -o ".join(f"-name {name}" for name in SKIPPED)
    return _SCRIPT.format(where=shlex.quote(path), skip=skip, most=ENTRIES)


def read(output: str) -> tuple[str, str]:
    """The entries, one a line, and what find complained of."""
    names, _, rest = output.partition("\x1e")
    more, _, said = rest.partition("\x1e")
    found = [_shown(name) for name in names.removesuffix("\n").split("\n") if name]
    if more not in ("", "0"):
        found.append(f"[{more} more: list a folder]")
    return "\n".join(found), said.strip("\n")


def _shown(name: str) -> str:
    name = name.removeprefix("./").replace("\x1f", "\n")
    return name if name.isprintable() else json.dumps(name, ensure_ascii=False)
