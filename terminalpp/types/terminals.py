"""Terminals: what one is made from, and the words of the WebSocket protocol `tpp.term.v1`.

Each message of the protocol is binary. Its first byte is a channel (`Channel`); of INPUT, OUTPUT, SCREEN and
ACK the next eight are an offset (unsigned, big-endian), the rest is data; RESIZE, CONTROL and CLOSE carry
JSON. docs/terminals.md has all of it, with who sends what and when.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from terminalpp.types.commands import HOME, Command
from terminalpp.types.errors import InvalidInput

PROTOCOL = "tpp.term.v1"
SIDE_MAX = 1000  # rows and columns, as tppd takes them
COLS, ROWS = 80, 24
NAME_MAX = 100
INPUT_MAX = 64 * 1024   # bytes of one INPUT message
ACK_BYTES = 128 * 1024  # a viewer acknowledges output at least so often
WINDOW_BYTES = 512 * 1024  # output that may be under way to a viewer without an acknowledgement
# What the terminal is, for programs in it: what the emulator understands, and a terminfo entry that images
# have.
ENVIRONMENT = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}


class Channel(IntEnum):
    """The first byte of a message: 0 to 4 and 255 as in Kubernetes' `channel.k8s.io`."""

    INPUT = 0     # to the terminal: what was typed, at an offset of this viewer's own
    OUTPUT = 1    # to the viewer: bytes of the journal from that offset on
    SCREEN = 2    # to the viewer: reset, and show this; output goes on from that offset
    RESIZE = 4    # {"cols", "rows"}: the viewer's size, to the terminal; the terminal's, to the viewer
    ACK = 5       # to the viewer: input taken so far; to the terminal: output shown so far
    CONTROL = 6   # JSON with a `type`
    CLOSE = 255   # to the viewer: {"reason", "exit_code", "signal", …}: nothing follows


OFFSETS = frozenset({Channel.INPUT, Channel.OUTPUT, Channel.SCREEN, Channel.ACK})
_HEAD = struct.Struct(">BQ")


class Role(StrEnum):
    """What somebody wants of a terminal. Of all writers one at a time is in control, and types."""

    WRITER = "writer"
    VIEWER = "viewer"


class Policy(StrEnum):
    """Whose size the terminal has: that of who resized or typed last, the smallest of all, or a fixed one."""

    LATEST = "latest"
    SMALLEST = "smallest"
    FIXED = "fixed"


def message(channel: Channel, offset: int, data: bytes = b"") -> bytes:
    """A message with an offset."""
    return _HEAD.pack(channel, offset) + data


def json_message(channel: Channel, value: dict[str, Any]) -> bytes:
    """A message of JSON."""
    return bytes([channel]) + json.dumps(value, separators=(",", ":")).encode()


def parse(raw: bytes) -> tuple[Channel, int, Any]:
    """Channel, offset (0 where there is none) and data: bytes, or the JSON object. Raises InvalidInput."""
    try:
        channel = Channel(raw[0])
    except (IndexError, ValueError):
        raise InvalidInput("a message begins with its channel", "docs/terminals.md lists them.") from None
    if channel in OFFSETS:
        if len(raw) < _HEAD.size:
            raise InvalidInput(f"a message of channel {channel.name} has an offset of eight bytes")
        return channel, _HEAD.unpack_from(raw)[1], raw[_HEAD.size :]
    try:
        value = json.loads(raw[1:] or b"{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidInput(f"a message of channel {channel.name} is a JSON object")
    return channel, 0, value


def side(value: Any, name: str, otherwise: int) -> int:
    """A number of rows or columns. Raises InvalidInput naming it."""
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= SIDE_MAX:
        raise InvalidInput(f"{name}: a whole number from 1 to {SIDE_MAX}")
    return value


@dataclass(frozen=True, slots=True)
class Wanted:
    """A terminal as it is asked for. `command` None: the shell that the sandbox has."""

    name: str | None
    command: Command | None
    cwd: str
    env: dict[str, str]
    cols: int
    rows: int
    policy: Policy

    @classmethod
    def parse(cls, payload: dict[str, Any]) -> Wanted:
        """Of a payload with name, command or argv, cwd, env, cols, rows, policy: all may be left out.

        Raises InvalidInput naming the field.
        """
        name = payload.get("name")
        if name is not None and not (isinstance(name, str) and 0 < len(name.strip()) <= NAME_MAX):
            raise InvalidInput(f"name: 1 to {NAME_MAX} characters")
        given = {
            key: payload[key] for key in ("command", "argv", "cwd", "env") if payload.get(key) is not None
        }
        shell = "command" not in given and "argv" not in given
        parsed = Command.parse({**given, "argv": ["sh"]} if shell else given)
        try:
            policy = Policy(payload.get("policy") or Policy.LATEST)
        except ValueError:
            raise InvalidInput("policy: latest, smallest or fixed") from None
        return cls(
            name, None if shell else parsed, parsed.cwd or HOME, parsed.env,
            side(payload.get("cols"), "cols", COLS), side(payload.get("rows"), "rows", ROWS), policy,
        )  # fmt: skip

    def arguments(self, shell: str) -> list[str]:
        """What tppd executes. `shell`: the sandbox's."""
        return [shell] if self.command is None else self.command.arguments(shell)

    def environment(self, shell: str) -> dict[str, str]:
        """What its program finds beside the sandbox's own variables. A shell is no login shell: that would
        take the image's PATH away."""
        prompt = {"PS1": r"\u:\w\$ "} if self.command is None and shell.endswith("/bash") else {}
        return {**ENVIRONMENT, **prompt, **self.env}


# What keys send, in the modes that a program finds (cursor keys: those of the normal mode).
KEYS = {
    "Enter": b"\r", "Tab": b"\t", "Escape": b"\x1b", "Backspace": b"\x7f", "Space": b" ",
    "Delete": b"\x1b[3~",
    "Up": b"\x1b[A", "Down": b"\x1b[B", "Right": b"\x1b[C", "Left": b"\x1b[D", "Home": b"\x1b[H",
    "End": b"\x1b[F",
    "PageUp": b"\x1b[5~", "PageDown": b"\x1b[6~", "Insert": b"\x1b[2~", "BackTab": b"\x1b[Z",
    "F1": b"\x1bOP", "F2": b"\x1bOQ", "F3": b"\x1bOR", "F4": b"\x1bOS", "F5": b"\x1b[15~", "F6": b"\x1b[17~",
    "F7": b"\x1b[18~", "F8": b"\x1b[19~", "F9": b"\x1b[20~", "F10": b"\x1b[21~", "F11": b"\x1b[23~",
    "F12": b"\x1b[24~",
}  # fmt: skip


def keys(name: str) -> bytes:
    """What a key sends: one of KEYS, `C-` and a letter or one of `@[\\]^_?`, `M-` and a key. Raises
    InvalidInput."""
    if name in KEYS:
        return KEYS[name]
    prefix, rest = name[:2], name[2:]
    if prefix == "M-" and rest:
        return b"\x1b" + (rest.encode() if len(rest) == 1 else keys(rest))
    if prefix == "C-" and len(rest) == 1 and ((rest.isascii() and rest.isalpha()) or rest in "@[\\]^_?"):
        return b"\x7f" if rest == "?" else bytes([ord(rest.upper()) & 0x1F])
    raise InvalidInput(f"{name[:40]!r} is no key", f"Keys are C-c, M-x, {', '.join(list(KEYS)[:8])}, …")
