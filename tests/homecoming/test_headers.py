"""Names in a patch are quoted only where git could not read them else, and every patch applies."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

from actors.conversation.workspace import GitWorkspace
from terminalpp.cli import patches
from tests.homecoming.place import LocalPlace

PLAIN = (b"a.py", b"my notes.txt", "größe/漢字.txt".encode(), b"x b/y", b"trail ", b" lead", b"it's", b"a  b",
         b"- dash", b"\xff\xfe.bin")  # fmt: skip
ODD = (b"new\nline", b"tab\there", b'quo"te', b"back\\slash", b"dir /x")


def test_only_odd_names_are_quoted_and_all_of_it_applies(tmp_path: Path) -> None:
    inside, home = tmp_path / "work", tmp_path / "home"
    for folder in (inside, home):
        folder.mkdir()
    work = GitWorkspace(LocalPlace(tmp_path), str(inside), "c", home=str(tmp_path))
    base = asyncio.run(work.snapshot("base"))
    for number, name in enumerate(PLAIN + ODD):
        for path in (name, b"empty/" + name):  # without content the first line alone names a file
            full = os.path.join(os.fsencode(inside), path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            Path(os.fsdecode(full)).write_text("" if path != name else f"{number}\n")
    made, _ = asyncio.run(work.now(base))
    headers = [line for line in made.patch.split(b"\n") if line.startswith(b"diff --git ")]
    for name in PLAIN:
        assert b"diff --git a/%s b/%s" % (name, name) in headers, name
    assert sum(b'"' in header for header in headers) == 2 * len(ODD)
    assert "größe/漢字.txt".encode() in made.patch
    subprocess.run(["git", "init", "-q", str(home)], check=True)
    patches.agreed(made.patch, patches.touches(made.patch), home)
    subprocess.run(["git", "apply", "-"], cwd=home, input=made.patch, check=True)
    for name in PLAIN + ODD:
        for path in (name, b"empty/" + name):
            one, other = (os.path.join(os.fsencode(root), path) for root in (inside, home))
            assert Path(os.fsdecode(one)).read_bytes() == Path(os.fsdecode(other)).read_bytes()
