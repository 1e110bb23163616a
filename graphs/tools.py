"""The agents' tools: what they are called, what they take, and how they act on a sandbox.

A call runs in two parts. `prepare` checks the arguments and works out the effect (for an edit: the
digests of the file before and after). The loop writes `tool.called` with that effect, then `perform`
acts. After a crash `perform` runs again with the recorded effect and can tell what was already done:
a command is joined by its exec id, an edit whose file already has the digest "after" is complete.

Whatever goes wrong inside a sandbox is an observation for the model, never an exception of the turn.
"""

from __future__ import annotations

import hashlib
import posixpath
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphs import edit, observation
from graphs.ports import Hands
from terminalpp.types.errors import FileProblem, NotFound

HOME = "/home/user"
READ_LINES = 400
MAX_FILE_BYTES = 10 * 1024 * 1024
MAX_COMMAND_BYTES = 100_000  # quoted; one argument of execve holds 128 KiB
OUTPUT_SCHEME = "output:"


def _tool(
    name: str, about: str, properties: dict[str, tuple[str, str]], required: list[str]
) -> dict[str, Any]:
    shaped = {key: {"type": kind, "description": text} for key, (kind, text) in properties.items()}
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": about,
            "parameters": {
                "type": "object",
                "properties": shaped,
                "required": required,
                "additionalProperties": False,
            },
        },
    }


TOOLS: dict[str, dict[str, Any]] = {
    tool["function"]["name"]: tool
    for tool in (
        _tool(
            "bash",
            "Run a shell command in the sandbox. Working directory and exported variables persist "
            "from call to call. A command that outlives its timeout goes on; you get its output so far.",
            {
                "command": ("string", "the command"),
                "timeout_seconds": ("integer", "how long to wait for it, 1 to 600"),
            },
            ["command"],
        ),
        _tool(
            "read",
            "Read a text file with line numbers, or the whole output of an earlier command with "
            "path `output:<exec id>` and a byte offset.",
            {
                "path": ("string", "file, relative to the workspace or absolute"),
                "offset": ("integer", "first line (or byte of an output), from 1 (or 0)"),
                "limit": ("integer", "how many lines (or bytes)"),
            },
            ["path"],
        ),
        _tool(
            "edit",
            "Replace text in a file. `old` must occur exactly once; copy it exactly, without the line "
            "numbers that read shows.",
            {
                "path": ("string", "the file"),
                "old": ("string", "the exact text to replace"),
                "new": ("string", "the text to put in its place"),
            },
            ["path", "old", "new"],
        ),
        _tool(
            "write",
            "Make a file, or replace all of it.",
            {"path": ("string", "the file"), "content": ("string", "its whole text")},
            ["path", "content"],
        ),
        _tool(
            "search",
            "Search the workspace's files for a regular expression.",
            {
                "pattern": ("string", "the regular expression"),
                "path": ("string", "folder or file to search; the workspace by default"),
                "glob": ("string", "only files whose name matches, for instance *.py"),
            },
            ["pattern"],
        ),
        _tool(
            "list",
            "List files below a folder, two levels deep.",
            {"path": ("string", "the folder; the workspace by default")},
            [],
        ),
    )
}

ROLE_TOOLS: dict[str, tuple[str, ...]] = {
    "planner": ("read", "search", "list"),
    "coder": ("bash", "read", "edit", "write", "search"),
    "critic": ("read", "search"),
    "executor": ("bash", "read"),
}

SCHEMAS = {name: tool["function"]["parameters"] for name, tool in TOOLS.items()}


@dataclass(frozen=True, slots=True)
class Prepared:
    """An accepted call: its effect (JSON, recorded before it acts) and the exec id if it runs a command."""

    effect: dict[str, Any]
    exec_id: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What the model sees. `malformed` marks a call that could not be understood at all."""

    ok: bool
    output: str
    exit_code: int | None = None
    malformed: bool = False


def resolve(workspace: str, path: str) -> str:
    """An absolute path in the sandbox; `~` is the home, everything else starts at the workspace."""
    if path == "~" or path.startswith("~/"):
        path = HOME + path[1:]
    return posixpath.normpath(posixpath.join(workspace, path or "."))


async def prepare(name: str, arguments: Mapping[str, Any], exec_id: str, hands: Hands) -> Prepared | Result:
    """Work out a valid call's effect, reading but changing nothing; a Result when it cannot be done."""
    if name == "bash":
        if len(shlex.quote(arguments["command"]).encode("utf-8", "replace")) > MAX_COMMAND_BYTES:
            return Result(False, "the command is too long: put the text into a file with `write`")
        return Prepared({}, exec_id)
    if name in ("search", "list"):
        return Prepared({}, exec_id)
    if name == "edit":
        path = resolve(hands.workspace, arguments["path"])
        try:
            before = await _text(hands, path)
            done = edit.replace_once(before, arguments["old"], arguments["new"], arguments["path"])
        except (edit.EditRefused, NotFound, FileProblem, UnicodeDecodeError) as refusal:
            return Result(False, _words(refusal, arguments["path"]))
        return Prepared({"before": _digest(before), "after": _digest(done.text),
                         "first": done.first_line, "last": done.last_line})
    return Prepared({})


async def perform(
    name: str, arguments: Mapping[str, Any], prepared: Prepared, hands: Hands, *, timeout_s: float, limit: int
) -> Result:
    """Carry a prepared call out, or finish one that a crash interrupted. `limit`: characters shown."""
    try:
        match name:
            case "bash":
                return await _bash(arguments, prepared, hands, timeout_s, limit)
            case "read":
                return await _read(arguments, hands, limit)
            case "edit":
                return await _edit(arguments, prepared, hands)
            case "write":
                return await _write(arguments, hands)
            case "search":
                return await _search(arguments, prepared, hands, limit)
            case "list":
                return await _list(arguments, prepared, hands, limit)
    except (NotFound, FileProblem, UnicodeDecodeError) as refusal:
        return Result(False, _words(refusal, str(arguments.get("path", ""))))
    raise ValueError(f"no such tool: {name}")


async def _bash(
    arguments: Mapping[str, Any], prepared: Prepared, hands: Hands, timeout_s: float, limit: int
) -> Result:
    wait_s = float(min(600, max(1, arguments.get("timeout_seconds") or timeout_s)))
    exec_id = str(prepared.exec_id)
    seen = await hands.run(exec_id, arguments["command"], wait_s)
    text = shown(seen, exec_id, limit)
    if seen.running:
        note = (
            f"[still running after {wait_s:.0f} s; it goes on as exec id {exec_id}. Read what it prints: "
            f"read path={OUTPUT_SCHEME}{exec_id}]"
        )
        return Result(True, f"{text}\n{note}" if text else note)
    if seen.reason == "lost":
        return Result(False, f"{text}\n[the sandbox died under this command; it was not run again]".lstrip())
    if seen.exit_code is None:
        return Result(False, f"{text}\n[{seen.status}{': ' + seen.reason if seen.reason else ''}]".lstrip())
    note = "" if seen.exit_code == 0 else f"\n[exit code {seen.exit_code}]"
    return Result(seen.exit_code == 0, (text or "[no output]") + note, seen.exit_code)


def shown(seen: Any, exec_id: str, limit: int) -> str:
    """A command's output as a model sees it: whole, or head and tail with a pointer between."""
    if not seen.tail:
        return observation.cut_middle(
            seen.output.rstrip(), limit, f"read path={OUTPUT_SCHEME}{exec_id} offset=0"
        )
    half = limit // 2
    head, tail = seen.output[:half], seen.tail[-half:]
    missing = max(0, seen.output_bytes - len(head.encode()) - len(tail.encode()))
    pointer = f"read path={OUTPUT_SCHEME}{exec_id} offset={len(head.encode())}"
    return observation.join(head, tail.rstrip(), missing, "bytes", pointer)


async def _read(arguments: Mapping[str, Any], hands: Hands, limit: int) -> Result:
    path = arguments["path"]
    if path.startswith(OUTPUT_SCHEME):
        offset = max(0, arguments.get("offset") or 0)
        size = min(limit, max(1, arguments.get("limit") or limit))
        data, after = await hands.output(path.removeprefix(OUTPUT_SCHEME), offset, size)
        if not data:
            return Result(True, f"[nothing at offset {offset}: this is the end so far]")
        return Result(
            True, f"{data.decode('utf-8', 'replace')}\n[bytes {offset}–{after}; go on with offset={after}]"
        )
    data = await hands.read_file(resolve(hands.workspace, path))
    if b"\0" in data[:8192]:
        return Result(False, f"{path} is a binary file of {len(data)} bytes")
    lines = data.decode("utf-8", "replace").splitlines()
    first = max(1, arguments.get("offset") or 1)
    count = max(1, arguments.get("limit") or READ_LINES)
    if not lines:
        return Result(True, f"[{path} is empty]")
    if first > len(lines):
        return Result(False, f"{path} has {len(lines)} lines; there is no line {first}")
    part = lines[first - 1 : first - 1 + count]
    body = observation.cut_middle(observation.numbered(part, first), limit, "read with offset and limit")
    more = len(lines) - (first - 1 + len(part))
    return Result(
        True, body + (f"\n[{more} more lines; go on with offset={first + len(part)}]" if more else "")
    )


async def _edit(arguments: Mapping[str, Any], prepared: Prepared, hands: Hands) -> Result:
    path = resolve(hands.workspace, arguments["path"])
    text = await _text(hands, path)
    effect = prepared.effect
    if _digest(text) == effect["before"]:
        text = edit.replace_once(text, arguments["old"], arguments["new"], arguments["path"]).text
        await hands.write_file(path, text.encode())
    elif _digest(text) != effect["after"]:  # equal: a crash came between the edit and its record
        return Result(False, f"{arguments['path']} was changed meanwhile: read it again")
    lines = text.splitlines()
    around = range(max(1, effect["first"] - 2), min(len(lines), effect["last"] + 2) + 1)
    view = observation.numbered([lines[n - 1] for n in around], around.start) if len(around) <= 60 else ""
    return Result(True, f"edited {arguments['path']}, now:\n{view}".rstrip())


async def _write(arguments: Mapping[str, Any], hands: Hands) -> Result:
    data = arguments["content"].encode()
    await hands.write_file(resolve(hands.workspace, arguments["path"]), data)
    return Result(True, f"wrote {arguments['path']}, {len(data)} bytes")


async def _search(arguments: Mapping[str, Any], prepared: Prepared, hands: Hands, limit: int) -> Result:
    pattern, glob = shlex.quote(arguments["pattern"]), arguments.get("glob")
    where = shlex.quote(
        posixpath.relpath(resolve(hands.workspace, arguments.get("path") or "."), hands.workspace)
    )
    rg_glob = f"--glob {shlex.quote(glob)} " if glob else ""
    grep_glob = f"--include={shlex.quote(glob)} " if glob else ""
    script = (
        f"cd {shlex.quote(hands.workspace)} && if command -v rg >/dev/null 2>&1; then "
        "rg --line-number --no-heading --color never --max-columns 300 --sort path "
        f"{rg_glob}-e {pattern} -- {where}; else "
        f"grep -rnIE --exclude-dir=.git --exclude-dir=node_modules {grep_glob}-e {pattern} -- {where}; fi"
        " | head -n 200"
    )
    seen = await hands.run(str(prepared.exec_id), script, 60.0, quiet=True)
    text = shown(seen, str(prepared.exec_id), limit).strip()
    if seen.running:
        await hands.kill(str(prepared.exec_id))
        return Result(
            False, f"{text}\n[the search took longer than 60 s and was stopped: name a folder]".lstrip()
        )
    return Result(True, text or "[no match]")


async def _list(arguments: Mapping[str, Any], prepared: Prepared, hands: Hands, limit: int) -> Result:
    where = shlex.quote(resolve(hands.workspace, arguments.get("path") or "."))
    script = (
        f"cd {where} && find . -maxdepth 2 -mindepth 1 \\( -name .git -o -name node_modules -o "
        "-name __pycache__ \\) -prune -o -print | sed 's|^\\./||' | sort | head -n 300"
    )
    seen = await hands.run(str(prepared.exec_id), script, 30.0, quiet=True)
    ok = seen.exit_code == 0
    return Result(ok, shown(seen, str(prepared.exec_id), limit).strip() or "[empty]")


async def _text(hands: Hands, path: str) -> str:
    data = await hands.read_file(path)
    if len(data) > MAX_FILE_BYTES:
        raise FileProblem(f"{path} is larger than {MAX_FILE_BYTES} bytes: use bash")
    return data.decode("utf-8")


def _words(refusal: Exception, path: str) -> str:
    if isinstance(refusal, UnicodeDecodeError):
        return f"{path} is not UTF-8 text: use bash"
    if isinstance(refusal, NotFound):
        return f"there is no file {path}"
    return str(refusal)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
