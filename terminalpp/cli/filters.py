"""Stand-ins, inside the sandbox, for filter programs that only the person's machine has.

A filter attribute names a program that turns a file on disk into the blob that git stores (`clean`) and back
(`smudge`). In the sandbox that program is missing, and git would call each such file modified. So the copy's
`.git` gets a stand-in under the same name: a table from the bytes that were on disk (their hash as a blob) to
the blob that HEAD has for them, and back. What is not in the table passes unchanged: an edited file is an
edited file. A small script reads the tables; it needs `sh`, `cat`, `rm` and git.

The person's own commands are never copied, and `required` is off: no edit fails for want of a program. Where
the image brings a long-running driver under the same name (git-lfs does), git prefers that one.

Files without a filter that git at home takes for unmodified and git inside would not (their line-end settings
changed after git last looked) get a stand-in too, by a line of their own in `info/attributes`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from terminalpp.cli import git

LINES_LIMIT = 2_000      # of our own in info/attributes: git compares each path with each line
LINE_BYTES = 2_000       # git leaves out lines of 2048 and more
KEPT_BYTES = 4_000_000   # of one file, for smudge
TOTAL_BYTES = 64_000_000
OWN = "terminalpp-as-copied"
FOLDER = "terminalpp"

_SCRIPT = """\
# Terminal++: stands in for a filter program that this sandbox does not have.
# $1: clean or smudge. $2: the driver's number. $3: the path. $d: git's directory.
# What a table knows is exchanged for what it names; everything else passes unchanged.
base="$d/terminalpp"
copy="$base/input.$$"
trap 'rm -f "$copy"' 0
trap 'exit 1' 1 2 15
cat >"$copy" || exit 1
key=$(git hash-object --no-filters "$copy") || exit 1
to=
if [ -f "$base/$2/$1/$key" ]; then
  while read -r id name; do
    [ -n "$to" ] || to=$id
    if [ "$name" = "$3" ]; then to=$id; break; fi
  done <"$base/$2/$1/$key"
fi
if [ -z "$to" ]; then cat "$copy"
elif [ "$1" = clean ]; then git cat-file blob "$to"
else cat "$base/bytes/$to"
fi
"""
_COMMAND = (
    'd="${{GIT_DIR:-.git}}"; [ -f "$d/terminalpp/filter" ] || d=$(git rev-parse --git-common-dir); '
    '[ -f "$d/terminalpp/filter" ] || exec cat; set -- {direction} {number} %f; . "$d/terminalpp/filter"'
)


@dataclass(slots=True)
class _Driver:
    clean: dict[str, list[tuple[str, str]]] = field(default_factory=dict)   # hash on disk -> (blob, path)
    smudge: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # blob -> (hash on disk, path)


class Tables:
    """The stand-ins of the repository `made`, for files below `root`."""

    def __init__(self, made: Path, root: Path) -> None:
        self._made, self._root = made, root
        self._hash = git.line("rev-parse", "--show-object-format", cwd=made)
        self._drivers: dict[str, _Driver] = {}
        self._lines: list[bytes] = []
        self._kept: dict[str, bytes] = {}
        self._left = 0
        self._room = TOTAL_BYTES

    def add(self, path: str, blob: str, driver: str | None) -> None:
        """`path`, as it is on disk, is `blob`. `driver`: its filter attribute; None: it needs a line."""
        line = _line(path)
        if driver is None and (len(line) > LINE_BYTES or len(self._lines) >= LINES_LIMIT):
            self._left += 1
            return
        try:
            digest, size = self._digest(path)
            kept = digest in self._kept or (size <= min(KEPT_BYTES, self._room) and self._keep(path, digest))
        except OSError:  # removed since it was listed
            return
        if driver is None:
            self._lines.append(line)
        tables = self._drivers.setdefault(driver or OWN, _Driver())
        tables.clean.setdefault(digest, []).append((blob, path))
        if kept:
            tables.smudge.setdefault(blob, []).append((digest, path))

    def write(self) -> int:
        """Put everything into `made`. The number of files for which there was no room."""
        for number, (name, tables) in enumerate(sorted(self._drivers.items())):
            for direction, table in (("clean", tables.clean), ("smudge", tables.smudge)):
                self._write_table(number, direction, table)
                command = _COMMAND.format(direction=direction, number=number)
                git.run("config", f"filter.{name}.{direction}", command, cwd=self._made)
            git.run("config", f"filter.{name}.required", "false", cwd=self._made)
        if self._drivers:
            (self._made / FOLDER / "filter").write_text(_SCRIPT)
        if self._kept:
            (self._made / FOLDER / "bytes").mkdir()
        for digest, data in self._kept.items():
            (self._made / FOLDER / "bytes" / digest).write_bytes(data)
        if self._lines:
            with open(self._made / "info" / "attributes", "ab") as target:
                target.write(b"".join(self._lines))
        return self._left

    def _keep(self, path: str, digest: str) -> bool:
        data = (self._root / path).read_bytes()
        self._kept[digest] = data
        self._room -= len(data)
        return True

    def _write_table(self, number: int, direction: str, table: dict[str, list[tuple[str, str]]]) -> None:
        folder = self._made / FOLDER / str(number) / direction
        folder.mkdir(parents=True)
        for key, rows in table.items():
            # a name with a newline cannot stand in a row; the first row answers for it
            rows = [(value, path if "\n" not in path else "") for value, path in rows]
            rows = rows[:1] if len({value for value, _ in rows}) == 1 else rows
            (folder / key).write_bytes(b"".join(f"{value} ".encode() + os.fsencode(path) + b"\n"
                                                for value, path in rows))

    def _digest(self, path: str) -> tuple[str, int]:
        """The hash that git gives the bytes on disk as a blob, and their number."""
        with open(self._root / path, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            digest = hashlib.new(self._hash, f"blob {size}\0".encode(), usedforsecurity=False)
            while data := source.read(1 << 20):
                digest.update(data)
        return digest.hexdigest(), size


def _line(path: str) -> bytes:
    """The line for `info/attributes` that takes one path out of every conversion."""
    quoted = bytearray()
    for byte in os.fsencode(path):
        char = bytes([byte])
        if char in b"\\*?[":
            quoted += b"\\\\" + (b"\\\\" if char == b"\\" else char)
        elif char == b'"':
            quoted += b'\\"'
        elif byte < 32 or byte == 127:
            quoted += b"\\%03o" % byte
        else:
            quoted += char
    return b'"/' + bytes(quoted) + b'" filter=' + OWN.encode() + b" -text -ident !working-tree-encoding\n"
