"""A command as a caller asks for it, as its row keeps it, and as tppd is to run it.

The three hold the same, so that a command that was accepted and not started before a crash is started
afterwards exactly as it was meant. The row of the seed has a text, a directory and an environment; what
it has no column for (an argument list, merged streams, standard input) is kept under the key `=` of the
environment, a name that no environment variable can have.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import Any

from terminalpp.types.errors import InvalidInput

HOME = "/home/user"
EXTRA = "="  # see the head of this file
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_COMMAND_BYTES = 120_000  # Linux takes 128 KiB as one argument, and `-c` makes it one
_OPTIONS = {"exec_id", "command", "argv", "cwd", "env", "merge", "stdin", "agent", "conversation_id", "mode",
            "wait_ms", "head_bytes", "user_id", "idempotency_key", "room"}


@dataclass(frozen=True, slots=True)
class Command:
    """`text` for a shell, or `argv` without one (then `text` is how a person would type it)."""

    text: str
    argv: tuple[str, ...] | None = None
    cwd: str = HOME
    env: dict[str, str] = field(default_factory=dict)
    merge: bool = False
    stdin: bool = False

    @classmethod
    def parse(cls, payload: dict[str, Any]) -> Command:
        """The command in the payload of `run`. Raises InvalidInput naming the field."""
        if unknown := set(payload) - _OPTIONS:
            raise InvalidInput(f"unknown field: {', '.join(sorted(unknown))}")
        text, argv = payload.get("command"), payload.get("argv")
        if isinstance(text, list):
            text, argv = None, text
        if (text is None) == (argv is None):
            raise InvalidInput("give either `command` (a text for the shell) or `argv` (a list)")
        if argv is not None:
            if not argv or not all(isinstance(one, str) for one in argv):
                raise InvalidInput("argv: a list of texts with at least the program")
            text = shlex.join(argv)
        if not isinstance(text, str) or not text.strip():
            raise InvalidInput("command: the text is empty")
        if "\0" in text or len(text.encode("utf-8", "surrogatepass")) > MAX_COMMAND_BYTES:
            raise InvalidInput(f"command: a zero byte, or more than {MAX_COMMAND_BYTES} bytes",
                               "Write a long script to a file and run that.")
        env = payload.get("env") or {}
        check_environment(env)
        cwd = payload.get("cwd") or HOME
        if not isinstance(cwd, str) or len(cwd) > 512 or "\0" in cwd:
            raise InvalidInput("cwd: a path of at most 512 characters")
        return cls(text, tuple(argv) if argv is not None else None, cwd, dict(env),
                   bool(payload.get("merge")), bool(payload.get("stdin")))

    @classmethod
    def from_row(cls, command: str, cwd: str | None, environment: dict[str, str] | None) -> Command:
        """The command that `row_environment` and `text` kept."""
        env = dict(environment or {})
        extra = json.loads(env.pop(EXTRA, "{}"))
        argv = extra.get("argv")
        return cls(command, tuple(argv) if argv is not None else None, cwd or HOME, env,
                   bool(extra.get("merge")), bool(extra.get("stdin")))

    def row_environment(self) -> dict[str, str]:
        """The environment as the row keeps it, with what has no column of its own."""
        extra: dict[str, Any] = {"argv": list(self.argv)} if self.argv is not None else {}
        extra |= {name: True for name in ("merge", "stdin") if getattr(self, name)}
        return {**self.env, **({EXTRA: json.dumps(extra)} if extra else {})}

    def arguments(self, shell: str) -> list[str]:
        """What tppd executes: the argument list, or the text given to `shell`."""
        return list(self.argv) if self.argv is not None else [shell, "-c", self.text]

    def options(self, environment: dict[str, str]) -> dict[str, Any]:
        """How tppd executes it; `environment` is what every command of the sandbox finds."""
        return {"env": {**environment, **self.env}, "cwd": self.cwd, "merge": self.merge, "stdin": self.stdin}


def check_environment(env: dict[str, str]) -> None:
    """Raises InvalidInput unless it maps names of variables to texts."""
    for key, value in env.items():
        if not key or "=" in key or not isinstance(value, str) or "\0" in f"{key}{value}":
            raise InvalidInput(f"env: {key!r} is no variable with a text")


def environment(image: dict[str, str], sandbox: dict[str, str], shell: str) -> dict[str, str]:
    """What every command finds: our defaults, over them the image's, over them the sandbox's own."""
    defaults = {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8", "TERM": "dumb", "SHELL": shell}
    fixed = {"HOME": HOME, "USER": "user", "LOGNAME": "user"}
    return {**defaults, **image, **fixed, **sandbox}
