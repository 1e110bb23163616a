"""The tools in a real sandbox: texts of every kind, links, modes, and what a search passes over."""

from __future__ import annotations

import codecs
from typing import Any

from tests.agents.conftest import REPO

LE = codecs.BOM_UTF16_LE
CRLF = 'def greet(name):\r\n    return "hi " + name\r\n\r\ndef add(a, b):\r\n    return a - b\r\n'
FEEDS = '"""One."""\n\x0c\ndef one():\n    return "a\u2028b\x85c"\n\x0b\ndef three():\n    return 4\n'


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"id": "x", "name": tool, "arguments": arguments}]}


async def outputs(talk, script, calls, files, prepare=None) -> tuple[Any, list[tuple[bool, str]]]:
    """The conversation after its one turn of `calls`, and the tools' results."""
    scene = [{"replies": [*calls, {"content": "Done \u2028 \u0085 \x0c."}]}]
    chat = await talk(script({"coder": scene}), files, mode="single")
    if prepare is not None:
        access = chat.access()
        await prepare(access)
        await access.close()
    await chat.post("Do it")
    await chat.finished()
    return chat, [(e.payload["ok"], e.payload["output"]) for e in await chat.events("tool.finished")]


async def bytes_of(chat, *paths: str) -> list[bytes]:
    access = chat.access()
    try:
        return [await access.read_file(f"{REPO}/{path}") for path in paths]
    finally:
        await access.close()


async def test_line_ends_and_encodings(talk, script):
    calls = [
        call("edit", path="app.py", old="(a, b):\n    return a - b", new="(a, b):\n    return a + b"),
        call("edit", path="app.py", old="    return a + b", new="    total = a + b\n    return total"),
        call("read", path="wide.txt"),
        call("edit", path="wide.txt", old="wide", new="wïde\n𝄞"),
        call("edit", path="latin.txt", old="x = 1", new="x = 2"),
        call("write", path="whole.txt", content="x\ny\n"),
        call("bash", command="od -An -c app.py | tail -4"),
    ]

    async def prepare(access):
        await access.write_file(f"{REPO}/wide.txt", LE + "wide\r\nfoo\r\n".encode("utf-16-le"))
        await access.write_file(f"{REPO}/latin.txt", b"caf\xe9\nx = 1\n")

    chat, seen = await outputs(talk, script, calls, {"app.py": CRLF, "whole.txt": "a\r\nb\r\n"}, prepare)
    assert all(ok for ok, _ in seen), seen
    assert seen[2][1] == "     1\twide\n     2\tfoo\n[UTF-16 LE text; CRLF line ends]"
    assert "CRLF line ends" in seen[5][1]
    assert await bytes_of(chat, "app.py", "wide.txt", "latin.txt", "whole.txt") == [
        CRLF.replace("    return a - b", "    total = a + b\r\n    return total").encode(),
        LE + "wïde\r\n𝄞\r\nfoo\r\n".encode("utf-16-le"), b"caf\xe9\nx = 2\n", b"x\r\ny\r\n",
    ]  # fmt: skip


async def test_links_stay_links_and_modes_stay(talk, script):
    calls = [
        call("edit", path="CLAUDE.md", old="Rules", new="New rules"),
        call("write", path="run.sh", content="#!/bin/sh\necho two\n"),
        call("edit", path="ro.txt", old="r", new="rw"),
        call("bash", command="readlink CLAUDE.md; stat -c '%A %n' run.sh ro.txt AGENTS.md; cat AGENTS.md"),
        call("write", path="CLAUDE.md", content="Written rules\n"),
        call("bash", command="readlink CLAUDE.md; cat AGENTS.md"),
        call("edit", path="out.txt", old="root", new="x"),
    ]

    async def prepare(access):
        await access.symlink(f"{REPO}/CLAUDE.md", "AGENTS.md")
        await access.symlink(f"{REPO}/out.txt", "/etc/passwd")
        await access.write_file(f"{REPO}/run.sh", b"#!/bin/sh\necho one\n", 0o755)
        await access.write_file(f"{REPO}/ro.txt", b"r\n", 0o444)

    _, seen = await outputs(talk, script, calls, {"AGENTS.md": "Rules\n"}, prepare)
    assert [ok for ok, _ in seen] == [True] * 6 + [False]
    assert seen[3][1] == "AGENTS.md\n-rwxr-xr-x run.sh\n-r--r--r-- ro.txt\n-rw-r--r-- AGENTS.md\nNew rules"
    assert seen[5][1] == "AGENTS.md\nWritten rules"


async def test_all_tools_count_lines_alike(talk, script):
    calls = [
        call("search", pattern="def three"),
        call("read", path="app.py", offset=6, limit=2),
        call("edit", path="app.py", old="return 4", new="return 3"),
        call("bash", command="grep -n three app.py; sed -n 7p app.py; printf 'a\u2028b\u0085c\x0cd\n'"),
        call("bash", command="echo secret > locked.txt; chmod 000 locked.txt"),
        call("search", pattern="("),
        call("search", pattern="secret"),
        call("read", path="locked.txt"),
    ]

    chat, seen = await outputs(talk, script, calls, {"app.py": FEEDS})
    assert seen[0] == (True, "app.py:6:def three():")
    assert seen[1] == (True, "     6\tdef three():\n     7\t    return 4")
    assert seen[2][1].endswith("     5\t\x0b\n     6\tdef three():\n     7\t    return 3")
    assert seen[3] == (True, "6:def three():\n    return 3\na\u2028b\u0085c\x0cd")
    assert not seen[5][0]
    assert "parenthesis" in seen[5][1]
    assert not seen[6][0]
    assert "locked.txt: Permission denied" in seen[6][1]
    assert not seen[7][0]
    assert (await chat.events("turn.finished"))[0].payload["summary"] == "Done \u2028 \u0085 \x0c."


async def test_a_lost_directory_is_told(talk, script):
    calls = [
        call("bash", command="mkdir d; cd d"),
        call("bash", command="rmdir ../d"),
        call("bash", command="pwd"),
        call("bash", command="pwd"),
    ]
    _, seen = await outputs(talk, script, calls, {"a.txt": "a\n"})
    assert f"[the working directory of earlier calls is gone; this runs in {REPO}]\n{REPO}" in seen[2][1]
    assert seen[3][1] == REPO
