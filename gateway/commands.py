"""/v1/sandboxes/{id}/commands: start, watch, feed, signal, wait.

Starting is the hot path: one call to the sandbox's entity and nothing else (no look-up of the token, the
owner or a key in the database once they are known). With an Idempotency-Key the command's id is derived
from it, and its own row is what recognises the repetition, over every crash.
Output never passes through an actor: it is read from the journals on disk, and waited for at `tppd`.
"""

from __future__ import annotations

import asyncio
import time
from signal import Signals
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from actors.sandbox.access import NEVER, SandboxAccess
from actors.sandbox.tppd.journal import Chunk
from gateway import responses
from gateway.fast_route import FastRoute
from gateway.idempotency import REPLAYED, id_for, once
from gateway.paging import Cursor, Limit, Since, moment_of, page
from gateway.requests import WAIT_LIMIT_MS, CommandCreate, CommandWait, Id, SignalSend
from gateway.responses import Json
from gateway.routes import Route
from gateway.sandboxes import BYTES, owned
from gateway.state import AppState, app_state, user_of
from schema import executions
from schema.rows import Place
from terminalpp.types.errors import (
    CommandFinished,
    NotFound,
    OffsetMismatch,
    SandboxNotRunning,
    Unavailable,
)
from terminalpp.types.ids import Ref
from terminalpp.types.states import ExecutionState

CALL_S = 30.0
OUTPUT_MAX = 1024 * 1024
WATCH_S = 1.0
POLL_S = 0.05
HEAD_BYTES = 65_536
FINAL = frozenset(str(state) for state in ExecutionState if state.final)

router = APIRouter(prefix="/v1/sandboxes/{sandbox_id}/commands", tags=["commands"], route_class=Route)


def listed(row: executions.ExecutionRow) -> dict[str, Any]:
    """A command in a list: all but its output."""
    return {name: value for name, value in row.told().to_json().items() if name not in ("stdout", "stderr")}


async def run(request: Request, sandbox_id: UUID, body: CommandCreate) -> Response:
    """Starts a command, once; with `wait_ms` the answer waits for its end that long. A sandbox that sleeps is
    started first. The command outlives every process of the server but its sandbox."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    exec_id = id_for(request, "command")
    payload = body.model_dump(exclude_none=True)
    payload |= {
        "exec_id": exec_id,
        "user_id": user_of(request),
        "mode": "manual",
        "merge": False,
        "head_bytes": HEAD_BYTES,
    }
    timeout_s = body.wait_ms / 1000 + CALL_S
    ref = Ref("sandbox", sandbox)
    ran = await gateway.runtime.call(ref, "run", payload, timeout_s=timeout_s)
    replayed = {} if ran.pop("created") else {REPLAYED: "true"}
    return Json(ran, 201, {"location": f"/v1/sandboxes/{sandbox}/commands/{exec_id}"} | replayed)


router.add_api_route(
    "",
    run,
    methods=["POST"],
    operation_id="runCommand",
    status_code=201,
    response_model=responses.Execution,
    route_class_override=FastRoute,
)


@router.get("", operation_id="listCommands", response_model=responses.ExecutionPage)
async def list_all(
    request: Request,
    sandbox_id: UUID,
    status: ExecutionState | None = None,
    conversation_id: Id | None = None,
    since: Since = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first, without output: that is in each command's own record."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    of = None if conversation_id is None else str(conversation_id)
    where = {"status": status, "conversation_id": of, "since": moment_of(since)}

    async def read(limit: int, after: Place | None) -> list[executions.ExecutionRow]:
        rows = await executions.list(gateway.database, sandbox, **where, after=after, limit=limit)
        if all(row.status in FINAL for row in rows):
            return rows
        async with gateway.connections.to(sandbox) as access:
            return await access.with_ends(rows, output=False)

    found = await page(read, listed, limit, cursor)
    if status is not None:
        # A row follows its command by some milliseconds: what is shown has the state that was asked for.
        found["items"] = [item for item in found["items"] if item["status"] == status]
    return Json(found)


async def row_of(gateway: AppState, sandbox: str, command: str) -> executions.ExecutionRow:
    """The command's row, with its end where the journal knows it first. Raises NotFound."""
    row = await executions.get(gateway.database, command)
    if row.sandbox_id != sandbox:
        raise NotFound(f"there is no command {command}")
    if row.status in FINAL:
        return row
    async with gateway.connections.to(sandbox) as access:
        return (await access.with_ends([row]))[0]


@router.get("/{command_id}", operation_id="getCommand", response_model=responses.Execution)
async def get(request: Request, sandbox_id: UUID, command_id: UUID) -> Response:
    """Its record. `stdout` and `stderr` are bounded extracts; the whole is under `…/output`."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    return Json((await row_of(gateway, sandbox, str(command_id))).told().to_json())


# ---- output -------------------------------------------------------------------------------------


@router.get(
    "/{command_id}/output",
    operation_id="getOutput",
    response_class=Response,
    responses={
        200: {
            "description": "Bytes of the stream. `X-Offset`: of the first byte; `X-Next-Offset`: where to go "
            "on; `X-Gap-Bytes`: so many before them were dropped by the journal's bound; `X-Exited`: the "
            "command has ended; `X-Ended`: nothing will follow `X-Next-Offset`.",
            "content": {"application/octet-stream": BYTES},
        }
    },
)
async def output(
    request: Request,
    sandbox_id: UUID,
    command_id: UUID,
    stream: Literal["stdout", "stderr"] = "stdout",
    offset: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=OUTPUT_MAX)] = 65536,
    wait_ms: Annotated[int, Query(ge=0, le=WAIT_LIMIT_MS)] = 0,
) -> Response:
    """Bytes from `offset` on; waits up to `wait_ms` while there are none and some may come. A command exits
    with its own process; its output ends when all that hold it open, background processes too, have closed
    it."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    command = str(command_id)
    deadline = time.monotonic() + wait_ms / 1000
    async with gateway.connections.to(sandbox) as access:
        while True:
            # The end is looked for before the bytes are read: what is printed between the two is not missed.
            exited, ended = await life(gateway, access, sandbox, command)
            try:
                chunk = await access.output(command, stream, offset, limit)
            except NotFound:
                chunk = await forgotten(gateway, sandbox, command, stream, offset)
            left = deadline - time.monotonic()
            if chunk.data or ended or left <= 0 or gateway.draining.is_set():
                break
            await _more(access, command, stream, offset, left)
        if chunk.data and not ended:  # the last bytes often come with the end: that saves the next request
            exited, ended = await life(gateway, access, sandbox, command)
        ended = ended and chunk.next_offset >= await access.length(command, stream)
    headers = {
        "x-offset": str(chunk.offset),
        "x-next-offset": str(chunk.next_offset),
        "x-gap-bytes": str(chunk.gap_bytes),
        "x-exited": "true" if exited else "false",
        "x-ended": "true" if ended else "false",
        "cache-control": "no-store",
    }
    return Response(chunk.data, headers=headers, media_type="application/octet-stream")


async def forgotten(gateway: AppState, sandbox: str, command: str, stream: str, offset: int) -> Chunk:
    """The answer where there is no journal: the row knows how much retention has deleted."""
    row = await row_of(gateway, sandbox, command)
    size = max((row.stdout_bytes if stream == "stdout" else row.stderr_bytes) or 0, offset)
    return Chunk(size, b"", size - offset, size)


async def life(gateway: AppState, access: SandboxAccess, sandbox: str, command: str) -> tuple[bool, bool]:
    """Whether the command has exited, and whether its output has ended; by the row where the sandbox cannot
    tell (it was never started, its journal is no more, its sandbox is down).

    Raises NotFound for a command that does not exist."""
    if (found := await access.life(command)) is not None:
        return found.exited, found.closed
    final = (await row_of(gateway, sandbox, command)).status in FINAL
    return final, final


async def _more(access: SandboxAccess, command: str, stream: str, offset: int, left_s: float) -> None:
    """Returns when there may be more to read; at the latest after a second, to look around."""
    wait_s = min(left_s, WATCH_S)
    out, err = (offset, NEVER) if stream == "stdout" else (NEVER, offset)
    try:
        await access.more(command, wait_s, out, err)
    except (NotFound, SandboxNotRunning, Unavailable):
        await asyncio.sleep(min(wait_s, POLL_S))


# ---- while it runs ------------------------------------------------------------------------------


async def _alive(gateway: AppState, access: SandboxAccess, sandbox: str, command: str) -> None:
    """Raises NotFound or CommandFinished before anything is attached (attaching wakes a sandbox)."""
    if (await life(gateway, access, sandbox, command))[0]:
        raise CommandFinished(f"command {command} has ended")


@router.post(
    "/{command_id}/stdin",
    operation_id="writeStdin",
    response_model=responses.Written,
    openapi_extra={"requestBody": {"content": {"application/octet-stream": BYTES}}},
)
async def stdin(
    request: Request,
    sandbox_id: UUID,
    command_id: UUID,
    offset: Annotated[int, Query(ge=0, le=2**62, description="Bytes written so far.")],
    eof: Annotated[bool, Query(description="Close standard input behind the body.")] = False,
) -> Response:
    """Writes the body at `offset`; the command must have been started with `stdin`. What was written before
    is recognised by the offset and not written twice, so a repeated request is harmless."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    command, data = str(command_id), await request.body()
    async with gateway.connections.to(sandbox) as access:
        await _alive(gateway, access, sandbox, command)
        following = await access.stdin(command, offset, data, eof=eof)
    if following < offset + len(data):
        raise OffsetMismatch("not all of it was taken", "", {"expected": following})
    return Json({"offset": following})


@router.post("/{command_id}/signal", operation_id="signalCommand", status_code=204)
async def signal(request: Request, sandbox_id: UUID, command_id: UUID, body: SignalSend) -> Response:
    """Sends a signal to the command, or with `tree` to every process it has started: after its end, to those
    it has left."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    command = str(command_id)

    async def work() -> Response:
        async with gateway.connections.to(sandbox) as access:
            if not (body.tree and await access.left(command)):
                await _alive(gateway, access, sandbox, command)
            if body.signal == "KILL" and body.tree:
                await access.kill_tree(command)
            else:
                await access.signal(command, Signals[f"SIG{body.signal}"], tree=body.tree)
        return Response(status_code=204)

    return await once(request, work)


@router.post("/{command_id}/wait", operation_id="waitCommand", response_model=responses.Execution)
async def wait(request: Request, sandbox_id: UUID, command_id: UUID, body: CommandWait) -> Response:
    """Its record when it has ended, or as it stands after `timeout_ms`."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    await row_of(gateway, sandbox, str(command_id))
    return Json((await _ended(gateway, sandbox, str(command_id), body.timeout_ms)).told().to_json())


async def _ended(gateway: AppState, sandbox: str, command: str, timeout_ms: int) -> executions.ExecutionRow:
    """The row, once it is final or the time is up."""
    deadline = time.monotonic() + timeout_ms / 1000
    while True:
        row = await row_of(gateway, sandbox, command)
        left = deadline - time.monotonic()
        if row.status in FINAL or left <= 0 or gateway.draining.is_set():
            return row
        try:
            async with gateway.connections.to(sandbox) as access:
                await access.end(command, min(left, WATCH_S))
        except (NotFound, SandboxNotRunning, Unavailable):
            await asyncio.sleep(min(left, POLL_S))
