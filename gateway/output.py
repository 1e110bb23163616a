"""A command's output as it comes, as server-sent events: `GET …/commands/{command_id}/output/stream`.

Both streams come in one, read from the journals on disk: byte-exact, whatever dies, from any offset. The `id`
of an event is `<stdout>-<stderr>`, the offsets behind it; with it as `Last-Event-ID` the next connection goes
on exactly there. Events: `stdout`, `stderr`, `gap` (bytes that the journal's bound dropped), `exited` (its
own process has ended, what it left may still print), `end` (nothing will follow; the last).

The order: within a stream that of its bytes, always. Between the streams that in which the bytes were found,
some milliseconds apart while they come; what was printed before the connection comes stdout first, a piece
of each in turn. The kernel has two pipes and keeps no order between them: `2>&1` is what makes one of both.

Bytes come as `text` where a piece is UTF-8, and as `base64` where it is not. A character that is not
yet whole waits for its rest, or for the end. Nothing is queued for a slow client: the journal is the queue.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from actors.sandbox.access import SandboxAccess
from actors.sandbox.tppd.journal import Chunk
from actors.sandbox.tppd.journal import Stream as StreamName
from gateway.commands import forgotten, life, row_of
from gateway.routes import Route
from gateway.sandboxes import owned
from gateway.sse import HEARTBEAT_S, Push, Stream
from gateway.state import AppState, app_state
from schema import executions
from terminalpp.types.errors import NotFound, SandboxNotRunning, Unavailable

PIECE_BYTES = 64 * 1024
LOOK_S = 5.0
POLL_S = (0.05, 1.0)  # while there is no tppd to wait at
STREAMS: tuple[StreamName, StreamName] = ("stdout", "stderr")
Encoding = Literal["utf-8", "base64"]
_ABOUT_END = ("status", "exit_code", "reason", "duration_ms", "completed_at")
_OFFSETS = r"^[0-9]{1,18}-[0-9]{1,18}$"

router = APIRouter(prefix="/v1/sandboxes/{sandbox_id}/commands", tags=["commands"], route_class=Route)
Offset = Annotated[int, Query(ge=0, le=10**18 - 1, description="Begin at this byte.")]


@router.get(
    "/{command_id}/output/stream",
    operation_id="followOutput",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events `stdout`, `stderr`, `gap`, `exited` and `end`.",
            "content": {
                "text/event-stream": {
                    "itemSchema": {
                        "type": "object",
                        "required": ["data"],
                        "properties": {
                            "id": {"type": "string", "pattern": _OFFSETS},
                            "event": {"enum": ["stdout", "stderr", "gap", "exited", "end"]},
                            "data": {
                                "type": "string",
                                "contentMediaType": "application/json",
                                "contentSchema": {"$ref": "#/components/schemas/OutputEvent"},
                            },
                        },
                    },
                }
            },
        }
    },
)
async def follow_output(
    request: Request,
    sandbox_id: UUID,
    command_id: UUID,
    stdout_offset: Offset = 0,
    stderr_offset: Offset = 0,
    encoding: Annotated[Encoding, Query(description="`base64`: all of it.")] = "utf-8",
    follow: Annotated[bool, Query(description="Go on with what comes; false: what is there now.")] = True,
    last_event_id: Annotated[
        str | None, Header(description="The `id` of the last event; it wins.", pattern=_OFFSETS)
    ] = None,
) -> Response:
    """Both streams of a command as they come, then its end. Connect again with `Last-Event-ID` and no byte is
    missed or repeated. A comment every 15 s shows that the line is alive."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    if last_event_id is not None:
        stdout_offset, stderr_offset = (int(part) for part in last_event_id.split("-"))
    watched = _Command(gateway, sandbox, str(command_id))
    await watched.row()  # NotFound before the stream begins
    return OutputStream(watched, {"stdout": stdout_offset, "stderr": stderr_offset}, encoding, follow)


def whole(data: bytes) -> int:
    """How many bytes of `data` stand before a character that is cut off at its end."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        needs = 2 if 0xC2 <= byte <= 0xDF else 3 if 0xE0 <= byte <= 0xEF else 4 if 0xF0 <= byte <= 0xF4 else 1
        return len(data) - back if needs > back else len(data)
    return len(data)


def body(data: bytes, encoding: Encoding) -> dict[str, str]:
    """`text` or `base64`: exactly these bytes."""
    if encoding == "utf-8":
        try:
            return {"text": data.decode()}
        except UnicodeDecodeError:
            pass
    return {"base64": base64.b64encode(data).decode()}


class _Command:
    """A command as its sandbox and its row know it. `access` is there while it is followed."""

    access: SandboxAccess

    def __init__(self, gateway: AppState, sandbox: str, command: str) -> None:
        self.gateway, self.sandbox, self.id = gateway, sandbox, command

    async def row(self) -> executions.ExecutionRow:
        """Raises NotFound."""
        return await row_of(self.gateway, self.sandbox, self.id)

    async def standing(self) -> tuple[bool, bool]:
        """Whether its own process has ended, and whether nothing more will be printed."""
        return await life(self.gateway, self.access, self.sandbox, self.id)

    async def read(self, stream: StreamName, offset: int) -> Chunk:
        """From one segment, or from two where a character lies across their border."""
        try:
            chunk = await self.access.output(self.id, stream, offset, PIECE_BYTES)
            if chunk.data and not whole(chunk.data):
                more = await self.access.output(self.id, stream, chunk.next_offset, PIECE_BYTES)
                if more.data and not more.gap_bytes:
                    data = chunk.data + more.data
                    return Chunk(chunk.offset, data, chunk.gap_bytes, more.next_offset)
            return chunk
        except NotFound:  # no journal (any more): the row knows how much there was
            return await forgotten(self.gateway, self.sandbox, self.id, stream, offset)


class OutputStream(Stream):
    """The answer: both streams of a command as events."""

    def __init__(
        self, command: _Command, at: dict[StreamName, int], encoding: Encoding, follow: bool
    ) -> None:
        super().__init__(command.gateway)
        self._command = command
        self._encoding: Encoding = encoding
        self._follow = follow
        self._at = at               # what was sent
        self._seen = dict(at)       # and, of a character that is not whole, what is known
        self._told_exit = False
        self._sent_at = 0.0
        self._pause_s = POLL_S[0]
        self._exit: asyncio.Task[Any] | None = None

    async def run(self, push: Push) -> None:
        """Send what there is and what comes, to the end."""
        try:
            async with self._gateway.connections.to(self._command.sandbox) as self._command.access:
                await self._run(push)
        finally:
            if self._exit is not None:
                self._exit.cancel()

    async def _run(self, push: Push) -> None:
        await push(b"retry: 1000\n\n")
        self._sent_at = time.monotonic()
        while not self._gateway.draining.is_set():
            # The end is looked for before the bytes are read: what is printed between the two is not missed.
            exited, closed = await self._command.standing()
            found = False
            for stream in STREAMS:
                found |= await self._pass_on(push, stream, closed)
            if found:
                continue
            if exited and not self._told_exit:
                self._told_exit = True
                await self._tell(push, "exited", await self._end())
            if closed:
                await self._tell(push, "end", await self._end())
                return
            if not self._follow:
                await push(b": end\n\n")
                return
            await self._wait(exited)
            if time.monotonic() - self._sent_at >= HEARTBEAT_S:
                await push(b": alive\n\n")
                self._sent_at = time.monotonic()

    async def _pass_on(self, push: Push, stream: StreamName, closed: bool) -> bool:
        """Send the next piece of a stream; whether there was one."""
        at = self._at[stream]
        chunk = await self._command.read(stream, at)
        if chunk.gap_bytes:
            self._at[stream] = chunk.offset
            await self._tell(push, "gap", {"stream": stream, "offset": at, "bytes": chunk.gap_bytes})
        last = closed or self._encoding == "base64"
        data = chunk.data if last else chunk.data[: whole(chunk.data)]
        self._seen[stream] = chunk.offset + len(chunk.data)
        if data:
            self._at[stream] = chunk.offset + len(data)
            told = {"stream": stream, "offset": chunk.offset, **body(data, self._encoding)}
            await self._tell(push, stream, told)
        return bool(data or chunk.gap_bytes)

    async def _tell(self, push: Push, event: str, data: dict[str, Any]) -> None:
        id = f"{self._at['stdout']}-{self._at['stderr']}"
        line = json.dumps(data, separators=(",", ":"))
        await push(f"id: {id}\nevent: {event}\ndata: {line}\n\n".encode())
        self._sent_at = time.monotonic()

    async def _end(self) -> dict[str, Any]:
        record = (await self._command.row()).told().to_json()
        sizes = {f"{stream}_bytes": self._at[stream] for stream in STREAMS}
        return {name: record[name] for name in _ABOUT_END} | sizes

    async def _wait(self, exited: bool) -> None:
        """Returns when there may be something new; at the latest after LOOK_S."""
        access, id = self._command.access, self._command.id
        if not exited and self._exit is None:
            self._exit = asyncio.create_task(access.end(id, LOOK_S))
        more = asyncio.create_task(access.more(id, LOOK_S, self._seen["stdout"], self._seen["stderr"]))
        draining = asyncio.create_task(self._gateway.draining.wait())
        others = [draining] if self._exit is None else [draining, self._exit]
        try:
            await asyncio.wait([more, *others], return_when=asyncio.FIRST_COMPLETED)
        finally:
            draining.cancel()
            more.cancel()
            result = (await asyncio.gather(more, return_exceptions=True))[0]
            if self._exit is not None and self._exit.done():
                self._exit.exception()  # whatever it was, the records tell
                self._exit = None
        if isinstance(result, NotFound | SandboxNotRunning | Unavailable):
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, POLL_S[1])
        else:
            self._pause_s = POLL_S[0]
