"""The built-in tools: how they act on a sandbox.

After a crash `perform` runs again with the recorded effect and can tell what was already done: a command is
joined by its exec id, an edit whose file already has the digest "after" is complete.

Texts are kept as they are: graphs/textfile.py reads a file's encoding and line ends, and read, edit, write,
search and list count lines alike, at line feeds.

Whatever goes wrong inside a sandbox is an observation for the model, never an exception of the turn.
"""

from __future__ import annotations

import codecs
import hashlib
import posixpath
import shlex
from typing import Any

from graphs import edit, listing, observation, search
from graphs.ports import Sandbox
from graphs.terminal_tool import TERMINAL
from graphs.textfile import NotText, Style, TextFile, lines, rewritten
from graphs.toolbox import Call, Prepared, Result, Tool, Toolbox, as_command, in_words
from terminalpp.types.errors import FileProblem, NotFound

HOME = "/home/user"
READ_LINES = 400
MAX_FILE_BYTES = 10 * 1024 * 1024
MAX_COMMAND_BYTES = 100_000  # quoted; one argument of execve holds 128 KiB
OUTPUT_SCHEME = "output:"
ROLE_TOOLS: dict[str, tuple[str, ...]] = {
    "planner": ("read", "search", "list"),
    "coder": ("bash", "read", "edit", "write", "search", "terminal"),
    "critic": ("read", "search"),
    "executor": ("bash", "read"),
}


def resolve(workspace: str, path: str) -> str:
    """An absolute path in the sandbox; `~` is the home, everything else starts at the workspace."""
    if path == "~" or path.startswith("~/"):
        path = HOME + path[1:]
    return posixpath.normpath(posixpath.join(workspace, path or "."))


async def _prepare_bash(call: Call) -> Prepared | Result:
    if len(shlex.quote(call.arguments["command"]).encode("utf-8", "replace")) > MAX_COMMAND_BYTES:
        return Result(False, "the command is too long: put the text into a file with `write`")
    return Prepared({}, call.exec_id)


async def _bash(call: Call, prepared: Prepared) -> Result:
    wait_s = float(min(600, max(1, call.arguments.get("timeout_seconds") or call.timeout_s)))
    exec_id = str(prepared.exec_id)
    seen = await call.sandbox.run(exec_id, call.arguments["command"], wait_s)
    text = shown(seen, exec_id, call.limit)
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
    why = f": {seen.reason}" if seen.reason in ("out-of-memory", "timeout") else ""
    note = "" if seen.exit_code == 0 else f"\n[exit code {seen.exit_code}{why}]"
    if note and "\r\n" in call.arguments["command"]:
        note += "\n[the command has CRLF line ends: the shell takes each CR as part of a word]"
    return Result(seen.exit_code == 0, (text or "[no output]") + note, seen.exit_code)


def shown(seen: Any, exec_id: str, limit: int) -> str:
    """A command's output as a model sees it: whole, or head and tail with a pointer between."""
    if not seen.tail:
        return observation.cut_middle(
            seen.output.rstrip("\r\n"), limit, f"read path={OUTPUT_SCHEME}{exec_id} offset=0"
        )
    half = limit // 2
    head, tail = seen.output[:half], seen.tail[-half:]
    # A U+FFFD may stand for one byte: rather show a few bytes twice than never.
    head_bytes = len(head.encode("utf-8", "replace")) - 2 * head.count("\ufffd")
    missing = max(0, seen.output_bytes - head_bytes - len(tail.encode("utf-8", "replace")))
    pointer = f"read path={OUTPUT_SCHEME}{exec_id} offset={head_bytes}"
    return observation.join(head, tail.rstrip("\r\n"), missing, "bytes", pointer)


async def _read(call: Call, prepared: Prepared) -> Result:
    arguments, path = call.arguments, call.arguments["path"]
    if path.startswith(OUTPUT_SCHEME):
        return await _read_output(call)
    file = TextFile.of(await call.sandbox.read_file(_place(call)))
    there = lines(file.shown)
    first = max(1, arguments.get("offset") or 1)
    count = max(1, arguments.get("limit") or READ_LINES)
    if not there:
        return Result(True, f"[{path} is empty]")
    if first > len(there):
        return Result(False, f"{path} has {len(there)} lines; there is no line {first}")
    part = there[first - 1 : first - 1 + count]
    body = observation.cut_middle(observation.numbered(part, first), call.limit, "read with offset and limit")
    more = len(there) - (first - 1 + len(part))
    notes = [f"[{more} more lines; go on with offset={first + len(part)}]"] if more else []
    notes += [f"[{about}]"] if (about := file.about()) else []
    return Result(True, "\n".join([body, *notes]))


async def _read_output(call: Call) -> Result:
    arguments, limit = call.arguments, call.limit
    offset = max(0, arguments.get("offset") or 0)
    size = min(limit, max(1, arguments.get("limit") or limit))
    data, after = await call.sandbox.output(arguments["path"].removeprefix(OUTPUT_SCHEME), offset, size)
    if not data:
        return Result(True, f"[nothing at offset {offset}: this is the end so far]")
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    cut = len(decoder.getstate()[0])  # bytes of a character whose rest comes next
    text, after = (text, after - cut) if text else (data.decode("utf-8", "replace"), after)
    return Result(True, f"{text}\n[bytes {offset}–{after}; go on with offset={after}]")


async def _prepare_edit(call: Call) -> Prepared | Result:
    shown_path = call.arguments["path"]
    try:
        before = await _data(call.sandbox, _place(call))
        done = edit.replace_once(before, call.arguments["old"], call.arguments["new"], shown_path)
    except (edit.EditRefused, NotFound, FileProblem) as refusal:
        return Result(False, in_words(refusal, shown_path))
    return Prepared(
        {
            "before": _digest(before),
            "after": _digest(done.data),
            "first": done.first_line,
            "last": done.last_line,
        }
    )


async def _edit(call: Call, prepared: Prepared) -> Result:
    arguments, path, effect = call.arguments, _place(call), prepared.effect
    data = await _data(call.sandbox, path)
    if _digest(data) == effect["before"]:
        data = edit.replace_once(data, arguments["old"], arguments["new"], arguments["path"]).data
        await call.sandbox.write_file(path, data)
    elif _digest(data) != effect["after"]:  # equal: a crash came between the edit and its record
        return Result(False, f"{arguments['path']} was changed meanwhile: read it again")
    view = observation.around(lines(TextFile.of(data).shown), effect["first"], effect["last"])
    view = observation.cut_middle(view, call.limit, "read with offset and limit")
    return Result(True, f"edited {arguments['path']}, now:\n{view}".removesuffix("\n"))


async def _prepare_write(call: Call) -> Prepared:
    style = await _style(call.sandbox, _place(call))
    return Prepared({} if style == Style() else {"style": style.to_json()})


async def _write(call: Call, prepared: Prepared) -> Result:
    style = prepared.effect.get("style")
    data, kept = rewritten(Style.from_json(style) if style else Style(), call.arguments["content"])
    await call.sandbox.write_file(_place(call), data)
    return Result(True, "; ".join([f"wrote {call.arguments['path']}, {len(data)} bytes", *kept]))


async def _prepare_search(call: Call) -> Prepared | Result:
    refusal = search.problem(call.arguments["pattern"])
    return Result(False, refusal) if refusal else Prepared({}, call.exec_id)


async def _search(call: Call, prepared: Prepared) -> Result:
    sandbox, arguments = call.sandbox, call.arguments
    script = search.script(sandbox.workspace, _place(call), arguments["pattern"], arguments.get("glob"))
    seen = await sandbox.run(str(prepared.exec_id), script, 60.0, quiet=True)
    found = search.read(seen.output + seen.tail)
    narrower = "search with a narrower pattern, path or glob"
    notes = [f"[{found.more} more matches: {narrower}]"] if found.more else []
    if seen.running:
        await sandbox.kill(str(prepared.exec_id))
        notes.append("[the search took longer than 60 s and was stopped: name a folder]")
    if found.said:
        notes.append(found.said if found.matches else f"[nothing found; the search said:]\n{found.said}")
    text = observation.cut_middle(found.matches, call.limit, narrower)
    ok = seen.exit_code == 0 and bool(found.matches or not found.said)
    return Result(ok, "\n".join(part for part in (text, *notes) if part) or "[no match]")


async def _list(call: Call, prepared: Prepared) -> Result:
    sandbox = call.sandbox
    seen = await sandbox.run(str(prepared.exec_id), listing.script(_place(call)), 30.0, quiet=True)
    names, said = listing.read(seen.output + seen.tail)
    if seen.running:
        await sandbox.kill(str(prepared.exec_id))
        said = f"{said}\n[the listing took longer than 30 s and was stopped]".strip("\n")
    text = observation.cut_middle(names, call.limit, "list a folder")
    ok = seen.exit_code == 0 and bool(names or not said)
    return Result(ok, "\n".join(part for part in (text, said) if part) or "[empty]")


def _place(call: Call) -> str:
    """The path that the call names, the workspace when it names none."""
    return resolve(call.sandbox.workspace, call.arguments.get("path") or ".")


async def _data(sandbox: Sandbox, path: str) -> bytes:
    data = await sandbox.read_file(path)
    if len(data) > MAX_FILE_BYTES:
        raise FileProblem(f"{path} is larger than {MAX_FILE_BYTES} bytes: use bash")
    return data


async def _style(sandbox: Sandbox, path: str) -> Style:
    """How a text that will be replaced is written; the plain style when there is none."""
    try:
        return TextFile.of(await sandbox.read_file(path)).style
    except (NotFound, FileProblem, NotText):
        return Style()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _object(properties: dict[str, tuple[str, str]], required: list[str]) -> dict[str, Any]:
    shaped = {key: {"type": kind, "description": text} for key, (kind, text) in properties.items()}
    return {"type": "object", "properties": shaped, "required": required, "additionalProperties": False}


BUILT_IN = Toolbox(
    TERMINAL,
    Tool(
        "bash",
        "Run a shell command in the sandbox. Working directory and exported variables persist "
        "from call to call. A command that outlives its timeout goes on; you get its output so far. "
        "The text runs as it is: its lines must end with LF alone.",
        _object(
            {
                "command": ("string", "the command"),
                "timeout_seconds": ("integer", "how long to wait for it, 1 to 600"),
            },
            ["command"],
        ),
        _bash,
        _prepare_bash,
    ),
    Tool(
        "read",
        "Read a text file with line numbers, or the whole output of an earlier command with "
        "path `output:<exec id>` and a byte offset. Line ends and an encoding other than UTF-8 are named "
        "at the end.",
        _object(
            {
                "path": ("string", "file, relative to the workspace or absolute"),
                "offset": ("integer", "first line (or byte of an output), from 1 (or 0)"),
                "limit": ("integer", "how many lines (or bytes)"),
            },
            ["path"],
        ),
        _read,
    ),
    Tool(
        "edit",
        "Replace text in a file. `old` must occur exactly once; copy it exactly, without the line "
        "numbers that read shows. Write line ends as LF: the file keeps its own (CRLF too) and its "
        "encoding.",
        _object(
            {
                "path": ("string", "the file"),
                "old": ("string", "the exact text to replace"),
                "new": ("string", "the text to put in its place"),
            },
            ["path", "old", "new"],
        ),
        _edit,
        _prepare_edit,
    ),
    Tool(
        "write",
        "Make a file, or replace all of it. The content is written as it is, in UTF-8; but a file that "
        "was there keeps its encoding and byte order mark, and its line ends if all were CRLF and the "
        "content has LF alone (the result says so; to change them use bash).",
        _object(
            {"path": ("string", "the file"), "content": ("string", "its whole text")},
            ["path", "content"],
        ),
        _write,
        _prepare_write,
    ),
    Tool(
        "search",
        "Search the workspace's files for a regular expression, line by line. Folders of dependencies, "
        "caches and git (node_modules, .venv, .git …) are left out unless the path names them.",
        _object(
            {
                "pattern": ("string", "the regular expression"),
                "path": ("string", "folder or file to search; the workspace by default"),
                "glob": (
                    "string",
                    "only files whose name matches, for instance *.py or src/**/*.{ts,tsx}",
                ),
            },
            ["pattern"],
        ),
        _search,
        _prepare_search,
    ),
    Tool(
        "list",
        "List files below a folder, two levels deep.",
        _object(
            {"path": ("string", "the folder; the workspace by default")},
            [],
        ),
        _list,
        as_command,
    ),
)
