"""/v1/sandboxes/{id}/terminals: open, list, read, type, end; and the recording.

What a person does with a terminal goes through its WebSocket (`gateway.terminal_socket`); these routes are
for programs and models, which read the screen as text and type without staying.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import Field, model_validator
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from gateway import field_errors
from gateway.idempotency import id_for, once
from gateway.paging import Cursor, Limit, page
from gateway.recordings import MEDIA_TYPE, recording
from gateway.requests import AbsolutePath, Body, _example
from gateway.responses import _ID, _TIME, Answer, Count, Id, Json, Time, example, from_row
from gateway.routes import Route
from gateway.sandboxes import owned
from gateway.state import AppState, app_state, user_of
from schema import terminals
from schema.rows import Place
from terminalpp.types.commands import MAX_ARGUMENTS, MAX_COMMAND_BYTES
from terminalpp.types.errors import InvalidInput, NotFound
from terminalpp.types.ids import Ref
from terminalpp.types.states import AgentRole, TerminalState
from terminalpp.types.terminals import COLS, INPUT_MAX, KEYS, NAME_MAX, ROWS, SIDE_MAX, Policy, Role, keys

CALL_S = 30.0
START_S = 60
HISTORY_MAX = 20_000
router = APIRouter(prefix="/v1/sandboxes/{sandbox_id}/terminals", tags=["terminals"], route_class=Route)
all_router = APIRouter(prefix="/v1/terminals", tags=["terminals"], route_class=Route)


def _both(*names: str) -> dict[str, Any]:
    """The schema of a body that has all of `names`; null is as good as nothing."""
    one = {"not": {"type": "null"}}
    return {"required": list(names), "properties": dict.fromkeys(names, one)}


Side = Annotated[int, Field(ge=1, le=SIDE_MAX)]


class TerminalCreate(Body):
    """A terminal to open."""

    model_config = _example({"not": _both("command", "argv")}, name="build", cols=120, rows=40)

    name: str | None = Field(None, min_length=1, max_length=NAME_MAX, pattern=field_errors.NOT_BLANK)
    command: str | None = Field(
        None, min_length=1, max_length=MAX_COMMAND_BYTES, pattern=field_errors.NOT_BLANK,
        description="A shell line; without it and `argv` a shell.",
    )  # fmt: skip
    argv: list[str] | None = Field(
        None, min_length=1, max_length=MAX_ARGUMENTS,
        json_schema_extra={"prefixItems": [{"type": "string", "minLength": 1}]},
    )  # fmt: skip
    cwd: AbsolutePath | None = None
    env: dict[Annotated[str, Field(pattern=field_errors.VARIABLE)], str] | None = Field(
        None, max_length=256, json_schema_extra={"propertyNames": {"pattern": field_errors.VARIABLE}}
    )
    cols: Side = COLS
    rows: Side = ROWS
    policy: Policy = Field(Policy.LATEST, strict=False, description="Whose size it has when several look.")

    @model_validator(mode="after")
    def one_at_most(self) -> TerminalCreate:
        """Raises ValueError where both are given, or the program has no name."""
        if self.command is not None and self.argv is not None:
            raise ValueError("send `command` or `argv`, not both")
        if self.argv is not None and not self.argv[0]:
            raise ValueError("the program, `argv.0`, must not be empty")
        return self


class TerminalInput(Body):
    """What is to be typed: `text`, then `keys`; or bytes."""

    model_config = _example(text="make test", keys=["Enter"])

    text: str | None = Field(None, max_length=INPUT_MAX)
    keys: list[str] | None = Field(
        None, max_length=256,
        description=f"Names of keys, as C-c, M-x or one of {', '.join(KEYS)}.",
    )  # fmt: skip
    base64: str | None = Field(None, max_length=2 * INPUT_MAX)
    take: bool = Field(False, description="Take control where somebody else has it.")

    def data(self) -> bytes:
        """The bytes. Raises InvalidInput."""
        if self.base64 is not None:
            try:
                return base64.b64decode(self.base64, validate=True)
            except ValueError:
                raise InvalidInput("body.base64: not base64") from None
        return (self.text or "").encode() + b"".join(keys(name) for name in self.keys or ())


class TerminalResize(Body):
    """A size that stays whoever looks, or whose size it has."""

    model_config = _example(cols=120, rows=40)

    cols: Side | None = None
    rows: Side | None = None
    policy: Policy | None = Field(None, strict=False)


class Viewer(Answer):
    """Who looks at a terminal."""

    id: str
    name: str
    role: Role
    agent: bool
    asks: bool = Field(description="It asks for control.")


class TerminalListed(Answer):
    """A terminal in a list."""

    id: Id
    sandbox_id: Id
    conversation_id: Id | None
    agent: AgentRole | None
    name: str
    command: str = Field(description="Empty: a shell.")
    cwd: str
    cols: Count
    rows: Count
    status: TerminalState
    exit_code: int | None
    signal: int | None
    reason: str | None
    output_bytes: Count = Field(description="Once it has ended.")
    created_at: Time
    started_at: Time | None
    ended_at: Time | None

    model_config = example(
        id=_ID, sandbox_id=_ID, conversation_id=None, agent=None, name="build", command="", cwd="/home/user",
        cols=120, rows=40, status="running", exit_code=None, signal=None, reason=None, output_bytes=0,
        created_at=_TIME, started_at=_TIME, ended_at=None,
    )  # fmt: skip


class TerminalPage(Answer):
    """One page of terminals."""

    items: list[TerminalListed]
    next_cursor: str | None


class Terminal(TerminalListed):
    """A terminal's record, with who looks at it now."""

    title: str = Field(description="What its program says it shows.")
    policy: Policy
    controller: str | None = Field(description="The viewer that types.")
    viewers: list[Viewer]

    model_config = example(
        id=_ID, sandbox_id=_ID, conversation_id=None, agent=None, name="build", command="", cwd="/home/user",
        cols=120, rows=40, status="running", exit_code=None, signal=None, reason=None, output_bytes=0,
        created_at=_TIME, started_at=_TIME, ended_at=None, title="vim", policy="latest", controller=None,
        viewers=[],
    )  # fmt: skip


class Cursor2D(Answer):
    """Where the cursor is, from 0."""

    column: int
    row: int
    visible: bool


class ScreenText(Answer):
    """What stands on a terminal's screen."""

    lines: list[str]
    cols: Count
    rows: Count
    cursor: Cursor2D
    alternate: bool = Field(description="A program has taken the whole screen.")
    title: str
    lines_above: Count = Field(description="Lines that were scrolled away and are kept.")
    offset: Count = Field(description="So many bytes of output are on it.")
    status: TerminalState
    history: list[str] | None = Field(None, description="The last lines, folded ones as one.")

    model_config = example(
        lines=["$ ls", "notes.txt", "$"], cols=80, rows=3, alternate=False, title="", lines_above=0,
        offset=30, cursor={"column": 2, "row": 2, "visible": True}, status="running", history=None,
    )  # fmt: skip


class Found(Answer):
    """A line that holds what was looked for."""

    line: Count = Field(description="From 0, the oldest that is kept.")
    text: str


class FoundLines(Answer):
    """The newest first."""

    items: list[Found]


class Typed(Answer):
    """How many bytes were typed."""

    bytes: Count

    model_config = example(bytes=10)


async def row_of(gateway: AppState, sandbox: str, terminal: str) -> terminals.TerminalRow:
    """The terminal's row. Raises NotFound."""
    row = await terminals.get(gateway.database, terminal)
    if row.sandbox_id != sandbox:
        raise NotFound(f"there is no terminal {terminal}")
    return row


async def ask(
    gateway: AppState, terminal: str, method: str, timeout_s: float = CALL_S, **payload: Any
) -> Any:
    """Call the terminal's entity."""
    return await gateway.runtime.call(Ref("terminal", terminal), method, payload, timeout_s=timeout_s)


async def _told(gateway: AppState, row: terminals.TerminalRow) -> dict[str, Any]:
    now = await ask(gateway, row.id, "describe")
    live = {name: now[name] for name in ("title", "policy", "controller", "viewers")}
    return from_row(Terminal, row, **live)


@router.post("", operation_id="createTerminal", status_code=201, response_model=Terminal)
async def create(request: Request, sandbox_id: UUID, body: TerminalCreate) -> Response:
    """Opens a terminal with a program in it and answers once that runs, or could not be started. A sandbox
    that sleeps is started first."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)

    async def work() -> Response:
        id = id_for(request, "terminal")
        given = {**body.model_dump(exclude_none=True), "policy": str(body.policy)}
        payload = {**given, "sandbox_id": sandbox, "user_id": user_of(request)}
        await gateway.runtime.send(Ref("terminal", id), "create", payload, message_id=f"{id}:create")
        await ask(gateway, id, "settled", START_S + CALL_S, timeout_ms=START_S * 1000)
        told = await _told(gateway, await row_of(gateway, sandbox, id))
        return Json(told, 201, {"location": f"/v1/sandboxes/{sandbox}/terminals/{id}"})

    return await once(request, work)


@router.get("", operation_id="listTerminals", response_model=TerminalPage)
async def list_all(
    request: Request,
    sandbox_id: UUID,
    open: Annotated[bool, Query(description="Only those that have a program.")] = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)

    async def read(limit: int, after: Place | None) -> list[terminals.TerminalRow]:
        return await terminals.list(gateway.database, sandbox, open=open, after=after, limit=limit)

    return Json(await page(read, lambda row: from_row(TerminalListed, row), limit, cursor))


@all_router.get("", operation_id="listAllTerminals", response_model=TerminalPage)
async def list_everywhere(
    request: Request,
    open: Annotated[bool, Query(description="Only those that have a program.")] = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """The account's terminals in all sandboxes, newest first."""
    gateway, user = app_state(request), user_of(request)

    async def read(limit: int, after: Place | None) -> list[terminals.TerminalRow]:
        return await terminals.list_of_user(gateway.database, user, open=open, after=after, limit=limit)

    return Json(await page(read, lambda row: from_row(TerminalListed, row), limit, cursor))


@router.get("/{terminal_id}", operation_id="getTerminal", response_model=Terminal)
async def get(request: Request, sandbox_id: UUID, terminal_id: UUID) -> Response:
    """Its record, with who looks at it."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    return Json(await _told(gateway, await row_of(gateway, sandbox, str(terminal_id))))


@router.delete("/{terminal_id}", operation_id="endTerminal", response_model=Terminal)
async def end(request: Request, sandbox_id: UUID, terminal_id: UUID) -> Response:
    """Kills its program and all that left. What was printed stays, and so does its record."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    id = (await row_of(gateway, sandbox, str(terminal_id))).id
    await gateway.runtime.send(Ref("terminal", id), "end", {"by": "its owner"}, message_id=f"{id}:end")
    await ask(gateway, id, "settled", timeout_ms=20_000, ended=True)
    return Json(await _told(gateway, await row_of(gateway, sandbox, id)))


@router.get(
    "/{terminal_id}/screen",
    operation_id="getScreen",
    response_model=ScreenText,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def screen(
    request: Request,
    sandbox_id: UUID,
    terminal_id: UUID,
    format: Annotated[Literal["json", "text"], Query(description="`text`: the lines alone.")] = "json",
    history: Annotated[int, Query(ge=0, le=HISTORY_MAX, description="So many of the last lines too.")] = 0,
) -> Response:
    """What stands on the screen, as text. With `history` and `format=text`: those lines instead of the
    screen."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    id = (await row_of(gateway, sandbox, str(terminal_id))).id
    told = await ask(gateway, id, "text", history=history)
    if format == "text":
        return PlainTextResponse("\n".join(told.get("history") or told["lines"]).rstrip("\n") + "\n")
    return Json({"history": None, **told})


@router.get("/{terminal_id}/search", operation_id="searchTerminal", response_model=FoundLines)
async def search(
    request: Request,
    sandbox_id: UUID,
    terminal_id: UUID,
    q: Annotated[str, Query(min_length=1, max_length=1000)],
    ignore_case: bool = False,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """Lines that hold the text, on the screen or scrolled away, the newest first."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    id = (await row_of(gateway, sandbox, str(terminal_id))).id
    return Json(await ask(gateway, id, "search", q=q, ignore_case=ignore_case, limit=limit))


@router.post("/{terminal_id}/input", operation_id="typeTerminal", response_model=Typed)
async def type_into(request: Request, sandbox_id: UUID, terminal_id: UUID, body: TerminalInput) -> Response:
    """Types into the terminal, where nobody else is in control. With an `Idempotency-Key` at most once."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    id, data, user = (await row_of(gateway, sandbox, str(terminal_id))).id, body.data(), user_of(request)

    async def work() -> Response:
        me = {"viewer": f"api-{user}", "user_id": user, "name": "the API"}
        if body.take:
            await ask(gateway, id, "watch", **me, timeout_ms=0)
            await ask(gateway, id, "control", **me, do="take")
        writer = id_for(request, "input")
        await ask(gateway, id, "type", **me, writer=writer, offset=0, data=base64.b64encode(data).decode())
        return Json({"bytes": len(data)})

    return await once(request, work)


@router.post("/{terminal_id}/resize", operation_id="resizeTerminal", response_model=Terminal)
async def resize(request: Request, sandbox_id: UUID, terminal_id: UUID, body: TerminalResize) -> Response:
    """Gives the terminal a size of its own, or says whose size it has."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    row = await row_of(gateway, sandbox, str(terminal_id))
    given = {name: value for name in ("cols", "rows") if (value := getattr(body, name)) is not None}
    policy = {"policy": str(body.policy)} if body.policy else {}
    await ask(gateway, row.id, "resize", **given, **policy, fix=True)
    return Json(await _told(gateway, await row_of(gateway, sandbox, row.id)))


@router.get(
    "/{terminal_id}/recording",
    operation_id="getRecording",
    response_class=Response,
    responses={
        200: {"description": "asciicast v3.", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
    },
)
async def get_recording(request: Request, sandbox_id: UUID, terminal_id: UUID) -> Response:
    """All that it printed, with times, sizes and markers."""
    gateway, sandbox = app_state(request), await owned(request, sandbox_id)
    row = await row_of(gateway, sandbox, str(terminal_id))

    async def lines() -> Any:
        async with gateway.connections.to(sandbox) as access:
            async for line in recording(access, row):
                yield line

    name = f'attachment; filename="{row.id}.cast"'
    return StreamingResponse(lines(), media_type=MEDIA_TYPE, headers={"content-disposition": name})
