"""Reads the test list of libvterm (folder `t` of Debian's sources of it): scripts that push bytes into
a terminal of 25 rows and 80 columns and say where the cursor then is and what stands on the screen.

Taken are its statements about the cursor and the text, which any terminal must answer alike: `?cursor`,
`?screen_row`, `?screen_chars`, `?screen_text`. Its statements about that library's own callbacks, encoders of
keys and colours of cells are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROWS, COLS = 25, 80
_SIMPLE = {"e": b"\x1b", "n": b"\n", "r": b"\r", "t": b"\t", "b": b"\b", "a": b"\a", "f": b"\f", "0": b"\0"}
_ESCAPE = re.compile(r'\\x\{([0-9a-fA-F]+)\}|\\x([0-9a-fA-F]{1,2})|\\c(.)|\\(.)|(.)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Push:
    """Bytes that the program prints."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    """The terminal has this size now. `reset`: it is a new one."""

    rows: int
    cols: int
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """`what` is cursor, row, chars or text; `where` are its numbers; `wanted` the text or the place."""

    name: str
    what: str
    where: tuple[int, ...]
    wanted: str


Step = Push | Resize | Check


def steps(file: Path) -> Iterator[Step]:
    """The steps of a script, in order."""
    title, number = "", 0
    for line in (raw.strip() for raw in file.read_text("latin-1").splitlines()):
        if line == "__END__":
            return
        if line.startswith("!"):
            title, number = line[1:].strip(), 0
        for one in _unfolded(line):
            step = _step(one, f"{file.stem}: {title}")
            if isinstance(step, Check):
                number += 1
                step = Check(f"{step.name} #{number}", step.what, step.where, step.wanted)
            if step is not None:
                yield step


def _unfolded(line: str) -> Iterator[str]:
    if found := re.fullmatch(r"\$SEQ\s+(\d+)\s+(\d+):\s*(.*)", line):
        for value in range(int(found[1]), int(found[2]) + 1):
            yield found[3].replace("\\#", str(value))
    elif found := re.fullmatch(r"\$REP\s+(\d+):\s*(.*)", line):
        yield from [found[2]] * int(found[1])
    else:
        yield line


def _step(line: str, name: str) -> Step | None:
    if line in ("INIT", "RESET"):
        return Resize(ROWS, COLS, reset=True)
    if found := re.fullmatch(r"RESIZE (\d+),(\d+)", line):
        return Resize(int(found[1]), int(found[2]))
    if line.startswith("PUSH "):
        return Push(b"".join(map(_bytes, _strings(line[5:]))))
    if found := re.fullmatch(r"\?cursor = (\d+),(\d+)", line):
        return Check(name, "cursor", (), f"{found[1]},{found[2]}")
    if found := re.fullmatch(r"\?screen_row\s+(\d+)\s*= *(.*)", line):
        text = b"".join(map(_bytes, _strings(found[2]))).decode()
        return Check(name, "row", (int(found[1]),), text)
    if found := re.fullmatch(r"\?screen_(chars|text) ([\d,]+) = *(.*)", line):
        numbers = [int(word, 16) for word in found[3].split(",") if word]
        text = "".join(map(chr, numbers)) if found[1] == "chars" else bytes(numbers).decode()
        return Check(name, found[1], tuple(map(int, found[2].split(","))), text)
    return None


def _strings(expression: str) -> Iterator[str]:
    """The quoted strings of a Perl expression, each as often as its `x N` says."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"(?:\s*x\s*(\d+))?', expression)
    assert found, expression
    for text, times in found:
        yield text * int(times or 1)


def _bytes(text: str) -> bytes:
    out = b""
    for wide, byte, control, simple, plain in _ESCAPE.findall(text):
        if wide:
            out += chr(int(wide, 16)).encode()
        elif byte:
            out += bytes([int(byte, 16)])
        elif control:
            out += bytes([ord(control) ^ 64])
        else:
            out += _SIMPLE.get(simple, simple.encode("latin-1")) if simple else plain.encode("latin-1")
    return out
