"""What travels between callers and cells: JSON bytes. Ray passes `bytes` through without pickling.

A reply says which of three things happened: the method's value; an error it raised; or a refusal, which
is the cell's own word that the method was *not* started, so that the caller may ask elsewhere.
"""

from __future__ import annotations

import json
from typing import Any

from runtime.disk import full
from terminalpp.types import errors
from terminalpp.types.ids import Ref

NOT_HERE = "not-here"    # this cell does not host the entity
SUSPENDED = "suspended"  # this cell cannot prove that it still owns anything


class Refused(Exception):
    """The cell did not start the method. `args[0]` is the reason."""


def encode(value: Any) -> bytes:
    """Raises InvalidInput for what is not JSON."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.InvalidInput(f"payloads and results are JSON values: {error}") from error


def request(ref: Ref, *parts: Any) -> bytes:
    return encode([ref.kind, ref.id, *parts])


def parse(data: bytes) -> tuple[Ref, list[Any]]:
    kind, id, *parts = json.loads(data)
    return Ref(kind, id), parts


def value(result: Any) -> bytes:
    return encode({"ok": result})


def failure(error: Exception) -> bytes:
    return encode({"error": as_terminal(error).to_json()})


def refusal(reason: str) -> bytes:
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
    """`error` itself, DiskFull for a full disk, or an internal error with its type and words: nothing else
    leaves a cell."""
    if isinstance(error, errors.TerminalError):
        return error
    return full(error) or errors.TerminalError(f"{type(error).__name__}: {error}")
