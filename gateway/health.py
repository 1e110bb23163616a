"""Health for operators: does it live, can it work, which version, what does it count. No token is needed;
the answers hold no data of an account. Text by default (one line per part), JSON with `Accept`."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field
from starlette.responses import PlainTextResponse, Response

from gateway.responses import Answer, Json, example
from gateway.routes import Route
from gateway.state import AppState, app_state
from schema import migrations
from terminalpp import __version__
from terminalpp.types.errors import TerminalError, Unavailable

CHECK_S = 3.0
LAG_ALARM_S = 1.0

class Version(Answer):
    """The version that runs."""

    model_config = example(name="terminalpp", version="0.1.0", api="v1", python="3.12.3")

    name: Literal["terminalpp"]
    version: str
    api: Literal["v1"]
    python: str


class Live(Answer):
    """Whether the event loop turns."""

    model_config = example(alive=True, lag_ms=1.2)

    alive: bool
    lag_ms: Annotated[float, Field(ge=0)]


class Part(Answer):
    """A part that requests need."""

    name: str
    ok: bool
    detail: str
    ms: Annotated[float, Field(ge=0)]


class Ready(Answer):
    """Whether requests can be carried out."""

    ready: bool
    checks: list[Part]


router = APIRouter(tags=["server"], route_class=Route)


def _wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")


async def _database(gateway: AppState) -> str:
    await gateway.outage.ask()
    return "answers"


async def _migrations(gateway: AppState) -> str:
    states = await migrations.status(gateway.settings.database_url or "")
    wrong = [f"{state.version} is {state.state}" for state in states if state.state != "applied"]
    if wrong:
        raise Unavailable("migration " + ", ".join(wrong))
    return f"{len(states)} applied"


async def _live(gateway: AppState) -> str:
    if not await gateway.live.ping():
        raise Unavailable("no answer")
    return "answers"


async def _actors(gateway: AppState) -> str:
    cells = await gateway.runtime.cells()
    return f"{len(cells)} cells"


async def _disk(gateway: AppState) -> str:
    return gateway.disk.words()


CHECKS: dict[str, Callable[[AppState], Awaitable[str]]] = {
    "postgres": _database,
    "migrations": _migrations,
    "redis": _live,
    "ray": _actors,
    "disk": _disk,  # a low one is told and makes nothing unready: reading and deleting go on
}


async def check(gateway: AppState, name: str) -> dict[str, Any]:
    """One part: `{name, ok, detail, ms}`. Never raises; a part that does not answer in 3 s is not ok."""
    started = time.monotonic()
    asking = asyncio.create_task(CHECKS[name](gateway), name=f"check {name}")
    try:
        done, _ = await asyncio.wait({asking}, timeout=CHECK_S)
        if done:
            ok, detail = True, asking.result()
        else:
            ok, detail = False, f"no answer within {CHECK_S:.0f} s"
    except TerminalError as error:
        ok, detail = False, error.detail
    except Exception as error:  # whatever a part throws, the answer is that this part is not ready
        ok, detail = False, type(error).__name__
    finally:
        # Not waited for: a part that does not answer does not hear goodbye either.
        asking.cancel()
    return {"name": name, "ok": ok, "detail": detail, "ms": round((time.monotonic() - started) * 1000, 1)}


def _texts(shape: type[Answer], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Text, or JSON of that shape with `Accept: application/json`."""
    text = {"schema": {"type": "string"}}
    return {status: {"model": shape, "content": {"text/plain": text}} for status in statuses}


@router.get(
    "/livez", operation_id="livez", summary="Whether this process lives",
    responses=_texts(Live, 200),
)  # fmt: skip
async def livez(request: Request) -> Response:
    """`lag_ms` is the worst delay of the event loop in the last 30 s. Always 200 while it can answer."""
    lag_ms = round(app_state(request).pulse.lag_seconds * 1000, 1)
    if _wants_json(request):
        return Json({"alive": True, "lag_ms": lag_ms})
    word = "slow" if lag_ms > LAG_ALARM_S * 1000 else "ok"
    return PlainTextResponse(f"{word} loop lag {lag_ms} ms\n")


@router.get(
    "/readyz", operation_id="readyz", summary="Whether every part it needs answers",
    responses=_texts(Ready, 200, 503),
)  # fmt: skip
async def readyz(request: Request) -> Response:
    """503 when a part does not answer; the line (or the entry) of that part says why."""
    gateway = app_state(request)
    checks = await asyncio.gather(*(check(gateway, name) for name in CHECKS))
    ready = all(item["ok"] for item in checks) and not gateway.draining.is_set()
    status = 200 if ready else 503
    headers = {} if ready else {"retry-after": "1"}
    if _wants_json(request):
        return Json({"ready": ready, "checks": checks}, status, headers)
    lines = [
        f"{'ok  ' if item['ok'] else 'FAIL'} {item['name']:<10} {item['detail']} ({item['ms']} ms)\n"
        for item in checks
    ]
    return PlainTextResponse("".join(lines), status, headers)


@router.get(
    "/version", operation_id="version", summary="The version of the server", response_model=Version
)
async def version() -> Response:
    """The version that runs."""
    python = platform.python_version()
    return Json({"name": "terminalpp", "version": __version__, "api": "v1", "python": python})


@router.get(
    "/metrics", operation_id="metrics", summary="Counters in Prometheus' text format",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)  # fmt: skip
async def metrics(request: Request) -> Response:
    """The figures, in Prometheus' text form."""
    gateway = app_state(request)
    await gateway.figures.refresh()
    return Response(gateway.metrics.text(), media_type=CONTENT_TYPE_LATEST)
