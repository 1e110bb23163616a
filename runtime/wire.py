"""Calls and replies between callers and cells as JSON bytes. Ray passes `bytes` through without pickling.

A reply says which of three things happened: the method's value; an error it raised; or a refusal, which
is the cell's own word that the method was *not* started, so that the caller may ask elsewhere.

`check` is the runtime's door: what is not an address, a method's name or a payload that every part behind
it can hold (Postgres takes no NUL, no encoder takes half a character) is refused there, before anything was
stored or an entity was woken for it.
"""

from __future__ import annotations

import errno
import json
import re
from typing import Any

from runtime.disk import full
from schema.connection import translate
from terminalpp.types import errors, text
from terminalpp.types.ids import Ref

NOT_HERE = "not-here"    # this cell does not host the entity
SUSPENDED = "suspended"  # this cell cannot prove that it still owns anything

PAYLOAD_BYTES = 8 * 1024 * 1024  # an archive goes past the entities; the largest that comes is a message
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,19}")              # as long as the column
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}")  # never a path: entities name files by it
_METHOD = re.compile(r"[a-z][a-z0-9_]{0,99}")
_MESSAGE_ID = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,300}")
_RESERVED = frozenset({"effect_failed"})  # the runtime's own messages
_SUSPECT = re.compile(rb"\\u(?:0000|d[89a-f])")

# Of an OSError: the machine has run out of something.
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS})


class Refused(Exception):
    """The cell did not start the method. `args[0]` is the reason."""


def encode(value: Any) -> bytes:
    """Raises InvalidInput for what is not JSON."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.InvalidInput(f"payloads and results are JSON values: {error}") from error


def check(ref: Ref, method: str, payload: Any, data: bytes, message_id: str = "-") -> None:
    """Raises InvalidInput and TooLarge, naming what is wrong with the address, the method or the payload.

    `data` is the payload as JSON, alone or within a request.
    """
    for name, value, pattern in (
        ("kind", ref.kind, _KIND), ("id", ref.id, _ID), ("method", method, _METHOD),
        ("message_id", message_id, _MESSAGE_ID),
    ):
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise errors.InvalidInput(f"{name}: {str(value)[:80]!a} is not allowed there")
    if method in _RESERVED:
        raise errors.InvalidInput(f"method: {method} is the runtime's own")
    if not isinstance(payload, dict):
        raise errors.InvalidInput("the payload must be a JSON object")
    if len(data) > PAYLOAD_BYTES:
        raise errors.TooLarge(f"the payload has {len(data)} bytes; the limit is {PAYLOAD_BYTES}")
    if _SUSPECT.search(data):
        text.refuse(payload, "payload")


def request(ref: Ref, *parts: Any) -> bytes:
    """A call as bytes: the address, then `parts`."""
    return encode([ref.kind, ref.id, *parts])


def parse(data: bytes) -> tuple[Ref, list[Any]]:
    """The address and the parts of what `request` wrote."""
    kind, id, *parts = json.loads(data)
    return Ref(kind, id), parts


def value(result: Any) -> bytes:
    """A result as bytes."""
    return encode({"ok": result})


def failure(error: Exception) -> bytes:
    """An error as bytes; one that is not ours is packed as an internal error."""
    return encode({"error": as_terminal(error).to_json()})


def refusal(reason: str) -> bytes:
    """The answer of a cell that did not begin the call, as bytes."""
    return encode({"refused": reason})


def refused(reply: bytes) -> bool:
    """Whether the reply is a refusal."""
    return reply.startswith(b'{"refused"')


def unpack(data: bytes) -> Any:
    """The value of a reply. Raises the error it carries, or Refused."""
    reply = json.loads(data)
    if "ok" in reply:
        return reply["ok"]
    if "refused" in reply:
        raise Refused(reply["refused"])
    raise errors.from_json(reply["error"])


def as_terminal(error: BaseException) -> errors.TerminalError:
    """`error` itself, or what it means in our words; an internal error with its type and words for what is a
    defect of ours. Nothing else leaves a cell."""
    words = f"{type(error).__name__}: {error}"
    if room := full(error):
        return room
    match error:
        case errors.TerminalError():
            return error
        case UnicodeError():
            return errors.InvalidInput(f"a text cannot be encoded: {error.reason}"
                                       if hasattr(error, "reason") else words)
        case TimeoutError():
            return errors.DeadlineExceeded(str(error) or "it took longer than it may")
        case ConnectionError():
            return errors.Unavailable(words)
        case OSError(errno=number) if number in _NO_ROOM:
            return errors.Overloaded(words)
        case OSError():
            return errors.TerminalError(words)
    return translate(error) or errors.TerminalError(words)
