"""The tool for programs that stay: a server, a debugger, a REPL, an installer that asks.

A terminal has a name that the model chooses. The first use opens it, with `command` or a shell; each use
types what it is told, waits until nothing more is printed, and shows the screen. It stays from call to call
and from turn to turn, people can watch it and take over, and what a call types is typed once, however often
it is carried out.
"""

from __future__ import annotations

from graphs import observation
from graphs.ports import Glimpse
from graphs.toolbox import Call, Prepared, Result, Tool
from terminalpp.types.errors import CommandFinished, InvalidInput, NotInControl
from terminalpp.types.terminals import keys

WAIT_SECONDS = 5.0
WAIT_MAX_SECONDS = 60.0
NAME_MAX = 40


def _string(about: str) -> dict[str, str]:
    return {"type": "string", "description": about}


async def _prepare(call: Call) -> Prepared | Result:
    name = call.arguments["name"].strip()
    if not 0 < len(name) <= NAME_MAX:
        return Result(False, f"name: 1 to {NAME_MAX} characters")
    try:
        _typed(call)
    except InvalidInput as error:
        return Result(False, f"{error.detail}. {error.hint}")
    id, is_open = await call.sandbox.find_terminal(name)
    if call.arguments.get("end") and not is_open:
        return Result(False, f"there is no open terminal {name}")
    if call.arguments.get("command") and is_open:
        return Result(False, f"terminal {name} is open already: type into it, end it, or use another name")
    return Prepared({"terminal_id": id, "opens": not is_open})


def _typed(call: Call) -> bytes:
    """Raises InvalidInput for a key that is none."""
    names = (call.arguments.get("keys") or "").split()
    return (call.arguments.get("text") or "").encode("utf-8", "replace") + b"".join(map(keys, names))


async def _perform(call: Call, prepared: Prepared) -> Result:
    arguments, name = call.arguments, call.arguments["name"].strip()
    wait_s = arguments.get("wait_seconds")
    wait_s = WAIT_SECONDS if wait_s is None else min(WAIT_MAX_SECONDS, max(0.0, float(wait_s)))
    try:
        seen = await call.sandbox.use_terminal(
            prepared.effect["terminal_id"], call.exec_id, name, command=arguments.get("command"),
            data=_typed(call), wait_s=wait_s, end=bool(arguments.get("end")),
        )  # fmt: skip
    except NotInControl as error:
        return Result(False, f"{error.detail}: a person has taken over. Ask for it, or go on without.")
    except CommandFinished:
        return Result(False, f"the program in terminal {name} has ended; the same name opens a new one")
    text = observation.cut_middle("\n".join(seen.lines).rstrip(), call.limit, "print less at once")
    return Result(seen.status != "failed", f"{text or '[nothing on the screen]'}\n[{_about(name, seen)}]")


def _about(name: str, seen: Glimpse) -> str:
    if seen.status == "running":
        column, row = seen.cursor
        return f"terminal {name} runs; cursor in line {row + 1}, column {column + 1}"
    how = f"with status {seen.exit_code}" if seen.exit_code is not None else seen.reason or seen.status
    return f"the program in terminal {name} has ended: {how}"


TERMINAL = Tool(
    "terminal",
    "Use a program that stays: a server, a debugger, a REPL, an installer that asks. Types `text`, then "
    "`keys`, into the terminal `name` (opened with `command`, else a shell, if it is not open), waits until "
    "it is quiet, and shows its screen.",
    {
        "type": "object",
        "properties": {
            "name": _string("its name, for instance server"),
            "command": _string("what to start in a new one"),
            "text": _string("what to type; does not press Enter"),
            "keys": _string("keys to press then, separated by blanks: Enter C-c Up Tab Escape …"),
            "wait_seconds": {"type": "integer", "description": "how long to wait for quiet, 0 to 60"},
            "end": {"type": "boolean", "description": "end its program"},
        },
        "required": ["name"],
        "additionalProperties": False,
    },
    _perform,
    _prepare,
)
