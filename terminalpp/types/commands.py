"""A command as a caller asks for it, as its row keeps it, as tppd is to run it; `Execution`: as it is told.

The first three hold the same, so that a command that was accepted and not started before a crash is started
afterwards exactly as it was meant. The row of the seed has a text, a directory and an environment; what
it has no column for (an argument list, merged streams, standard input) is kept under the key `=` of the
environment, a name that no environment variable can have.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import UUID

from terminalpp.types.errors import InvalidInput
from terminalpp.types.text import refuse

HOME = "/home/user"
EXTRA = "="  # see the head of this file
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_COMMAND_BYTES = 120_000  # Linux takes 128 KiB as one argument, and `-c` makes it one
MAX_ARGUMENTS = 4096
MAX_VARIABLE_BYTES = 131_071  # MAX_ARG_STRLEN of Linux, less its zero byte
MAX_ENVIRONMENT_BYTES = 1024 * 1024  # half of what Linux takes with the usual stack, arguments included
MAX_TIMEOUT_MS = 7 * 24 * 3600 * 1000
AGENT_CHARACTERS = 20  # the row's column
MODES = ("manual", "auto", "scheduled")
_OPTIONS = {"exec_id", "command", "argv", "cwd", "env", "merge", "stdin", "timeout_ms", "agent",
            "conversation_id", "mode", "wait_ms", "head_bytes", "user_id", "idempotency_key", "room"}


def as_typed(text: str | None, argv: Sequence[str] | None) -> str:
    """The command as a person would type it: its text, or its arguments quoted for a shell."""
    return text if text is not None else shlex.join(argv or ())


@dataclass(frozen=True, slots=True)
class Command:
    """`text` for a shell, or `argv` without one (then `text` is how a person would type it)."""

    text: str
    argv: tuple[str, ...] | None = None
    cwd: str = HOME
    env: dict[str, str] = field(default_factory=dict)
    merge: bool = False
    stdin: bool = False
    timeout_ms: int = 0  # 0: none

    @classmethod
    def parse(cls, payload: dict[str, Any]) -> Command:
        """The command in the payload of `run`, with everything beside it that its row keeps.

        Raises InvalidInput naming the field: for what Postgres cannot hold, what execve cannot take, and
        what is of another type. What passes is either run or ends as a command that could not be started.
        """
        if not isinstance(payload, dict):
            raise InvalidInput("a command is an object")
        if unknown := set(payload) - _OPTIONS:
            raise InvalidInput(f"unknown field: {', '.join(sorted(map(str, unknown)))}")
        refuse(payload, "")
        for name in ("merge", "stdin"):
            if not isinstance(payload.get(name, False), bool | None):
                raise InvalidInput(f"{name}: true or false")
        _check_record(payload)
        text, argv = payload.get("command"), payload.get("argv")
        if isinstance(text, list):
            text, argv = None, text
        if (text is None) == (argv is None):
            raise InvalidInput("give either `command` (a text for the shell) or `argv` (a list)")
        if argv is not None:
            text = as_typed(None, _arguments(argv))
        if not isinstance(text, str) or not text.strip():
            raise InvalidInput("command: the text is empty")
        if len(text.encode()) > MAX_COMMAND_BYTES:
            raise InvalidInput(f"command: more than {MAX_COMMAND_BYTES} bytes",
                               "Write a long script to a file and run that.")
        env, cwd = payload.get("env") or {}, payload.get("cwd") or HOME
        check_environment(env)
        if not isinstance(cwd, str) or len(cwd) > 512:
            raise InvalidInput("cwd: a path of at most 512 characters")
        return cls(text, tuple(argv) if argv is not None else None, cwd, dict(env),
                   bool(payload.get("merge")), bool(payload.get("stdin")),
                   whole(payload, "timeout_ms", 0, MAX_TIMEOUT_MS))

    @classmethod
    def from_row(cls, command: str, cwd: str | None, environment: dict[str, str] | None) -> Command:
        """The command that `row_environment` and `text` kept."""
        env = dict(environment or {})
        extra = json.loads(env.pop(EXTRA, "{}"))
        argv = extra.get("argv")
        return cls(command, tuple(argv) if argv is not None else None, cwd or HOME, env,
                   bool(extra.get("merge")), bool(extra.get("stdin")), int(extra.get("timeout_ms", 0)))

    def row_environment(self) -> dict[str, str]:
        """The environment as the row keeps it, with what has no column of its own."""
        extra: dict[str, Any] = {"argv": list(self.argv)} if self.argv is not None else {}
        extra |= {n: value for n in ("merge", "stdin", "timeout_ms") if (value := getattr(self, n))}
        return {**self.env, **({EXTRA: json.dumps(extra)} if extra else {})}

    def arguments(self, shell: str) -> list[str]:
        """What tppd executes: the argument list, or the text given to `shell`."""
        return list(self.argv) if self.argv is not None else [shell, "-c", self.text]

    def options(self, environment: dict[str, str]) -> dict[str, Any]:
        """How tppd executes it; `environment` is what every command of the sandbox finds."""
        return {"env": {**environment, **self.env}, "cwd": self.cwd, "merge": self.merge, "stdin": self.stdin,
                "timeout_ms": self.timeout_ms}


@dataclass(frozen=True, slots=True)
class Execution:
    """A command as everybody is told of it, by its sandbox and by the API: the fields are those of the JSON.

    `stdout` and `stderr` hold a part of each stream, what is no UTF-8 as U+FFFD; `…_bytes` count the whole
    streams and `truncated` says whether there is more. `reason` says why when the status does not (`lost`,
    `timeout`, …). Times as in `terminalpp.types.times`.
    """

    id: str
    sandbox_id: str
    command: str
    working_directory: str
    status: str  # of states.ExecutionState
    exit_code: int | None
    reason: str | None
    stdout: str
    stderr: str
    stdout_bytes: int
    stderr_bytes: int
    truncated: bool
    duration_ms: int | None
    agent: str | None
    conversation_id: str | None
    created_at: str
    started_at: str | None
    completed_at: str | None

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        return {name: getattr(self, name) for name in _TOLD}


_TOLD = tuple(one.name for one in fields(Execution))


def whole(payload: dict[str, Any], name: str, least: int, most: int, otherwise: int = 0) -> int:
    """The whole number `name`, or `otherwise` when it is not there. Raises InvalidInput naming it."""
    value = payload.get(name)
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(f"{name}: a whole number from {least} to {most}")
    return value


def _arguments(argv: Any) -> list[str]:
    if not isinstance(argv, list) or not argv or not all(isinstance(one, str) for one in argv):
        raise InvalidInput("argv: a list of texts with at least the program")
    if not argv[0]:
        raise InvalidInput("argv: the program's name is empty")
    if len(argv) > MAX_ARGUMENTS:
        raise InvalidInput(f"argv: more than {MAX_ARGUMENTS} arguments")
    return argv


def _check_record(payload: dict[str, Any]) -> None:
    """What the row keeps beside the command itself."""
    for name in ("conversation_id", "user_id"):
        if (value := payload.get(name)) is not None and not is_uuid(value):
            raise InvalidInput(f"{name}: {value!r} is no UUID")
    agent, mode, key = payload.get("agent"), payload.get("mode"), payload.get("idempotency_key")
    if agent is not None and not (isinstance(agent, str) and len(agent) <= AGENT_CHARACTERS):
        raise InvalidInput(f"agent: a text of at most {AGENT_CHARACTERS} characters")
    if mode and mode not in MODES:
        raise InvalidInput(f"mode: one of {', '.join(MODES)}")
    if key is not None and not (isinstance(key, str) and len(key) <= 255):
        raise InvalidInput("idempotency_key: a text of at most 255 characters")


def is_uuid(value: Any) -> bool:
    """Whether it is a text that Postgres takes for an id."""
    try:
        return isinstance(value, str) and len(str(UUID(value))) == len(value)
    except ValueError:
        return False


def check_environment(env: Any) -> None:
    """Raises InvalidInput unless it maps names of variables to texts that a process can be given."""
    if not isinstance(env, dict):
        raise InvalidInput("env: an object of variables")
    refuse(env, "env")
    size = 0
    for key, value in env.items():
        if not isinstance(key, str) or not key or "=" in key or not isinstance(value, str):
            raise InvalidInput(f"env: {key!r} is no variable with a text")
        length = len(f"{key}={value}".encode())
        size += length
        if length > MAX_VARIABLE_BYTES:
            raise InvalidInput(f"env: {key!r} has {length} bytes; the limit is {MAX_VARIABLE_BYTES}",
                               "Write long values to a file.")
    if size > MAX_ENVIRONMENT_BYTES:
        raise InvalidInput(f"env: {size} bytes in all; the limit is {MAX_ENVIRONMENT_BYTES}",
                           "Write long values to a file.")


def environment(image: dict[str, str], sandbox: dict[str, str], shell: str) -> dict[str, str]:
    """What every command finds: our defaults, over them the image's, over them the sandbox's own."""
    defaults = {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8", "TERM": "dumb", "SHELL": shell}
    fixed = {"HOME": HOME, "USER": "user", "LOGNAME": "user"}
    return {**defaults, **image, **fixed, **sandbox}
