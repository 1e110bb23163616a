"""The application: its parts opened in order, its routes, its one outer layer.

`create_app` does no IO; the lifespan does: Postgres, Redis, the actor runtime, the owner's account and
token. What is given by parameter is used and not closed. The application is answered for by `Edge`, which
stands before FastAPI: no route under /v1 is reached without a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp

from actors.sandbox.link import link_to
from actors.sandbox.versions.objects import Objects
from gateway import (
    account,
    archive_download,
    commands,
    conversations,
    directories,
    docs,
    file_versions,
    files,
    health,
    keys,
    networks,
    openapi,
    operator,
    origin_checks,
    output,
    port_addresses,
    ports,
    problems,
    processes,
    proof,
    rewinds,
    sandboxes,
    snapshots,
    terminal_socket,
    terminals,
    tickets,
)  # fmt: skip
from gateway.admission import Admission
from gateway.auth import Tokens
from gateway.database_metrics import Figures
from gateway.disk_metrics import Room
from gateway.fast_route import FastRoutes
from gateway.feeds import Feeds
from gateway.methods import Methods, head
from gateway.metrics import Metrics, Pulse, template
from gateway.middleware import Edge
from gateway.outage import Outage
from gateway.port_access import Shares
from gateway.sandbox_connections import SandboxConnections
from gateway.state import AppState
from runtime import memory
from runtime.disk import Disk
from runtime.home import Home
from runtime.settings import Settings
from schema import Database, Live, figures, users
from terminalpp.types.errors import InvalidInput, TerminalError
from terminalpp.types.proof import digest

log = logging.getLogger("gateway")
DATABASE_WAIT_S = 4.0
POOL_MAX = 16


class Application(FastAPI):
    """FastAPI behind `Edge`. `gateway` is there from the start of the lifespan on."""

    gateway: AppState
    methods: Methods
    edge: Edge | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.fast_routes: ASGIApp = super().__call__
        self.opened = asyncio.Event()
        self.joined = asyncio.Event()  # Ray has been joined, which goes on while requests are answered

    async def join(self) -> None:
        """Sets `joined`. A cluster that cannot be joined ends the process (see `gateway.ray_monitor`)."""
        try:
            await self.gateway.runtime.joined()
            self.joined.set()
        except TerminalError as error:
            log.error("Ray cannot be joined: %s", error)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return openapi.document(self)

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request that has passed `Edge`."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            await head(super().__call__, scope, receive, send)
        else:
            await self.fast_routes(scope, receive, send)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket") and self.edge is not None:
            scope["app"] = self
            await self.edge(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(
    settings: Settings,
    runtime: Any = None,
    *,
    database: Database | None = None,
    live: Live | None = None,
) -> Application:
    """The application. Without `runtime`, `database` or `live` the lifespan connects by `settings`."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Application) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            app.gateway = gateway = await _open(settings, runtime, database, live, stack)
            paths = (*app.openapi()["paths"], port_addresses.ROUTE)
            gateway.metrics.known = frozenset(template(path) for path in paths)
            app.state.gateway = gateway
            app.edge = Edge(app.answer, gateway)
            app.opened.set()
            room = Room(gateway.metrics.registry, gateway.disk, settings)
            loops = (gateway.pulse, gateway.connections, gateway.outage, room)
            works = [*(part.run() for part in loops), _wake_at_end(gateway), memory.trim_for_ever()]
            if runtime is None:
                works.append(app.join())
            background = [asyncio.create_task(work) for work in works]
            try:
                yield
            finally:
                gateway.draining.set()
                for task in background:
                    task.cancel()

    app = Application(
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        telemetry={"tracing": False},
        redirect_slashes=False,
    )
    problems.install(app)
    for router in (
        commands.router,  # first: routes are tried in this order, and these are asked for most often
        sandboxes.router,
        networks.router,
        processes.router,
        health.router,
        proof.router,
        files.router,
        directories.router,
        archive_download.router,
        output.router,
        account.router,
        keys.router,
        conversations.router,
        conversations.agents_router,
        operator.router,
        rewinds.router,
        snapshots.router,
        snapshots.restores_router,
        file_versions.router,
        terminals.router,
        terminals.all_router,
        ports.router,
        ports.shares_router,
        tickets.router,
        terminal_socket.router,
    ):
        # Not `include_router`: FastAPI looks for a route twice in what is included, once to find it in there.
        app.router.routes.extend(router.routes)

    app.fast_routes = FastRoutes(app.fast_routes, app.routes)
    app.methods = Methods(app.openapi(), others=("/docs", "/openapi.json"))

    @app.get("/docs", include_in_schema=False)
    async def documentation() -> HTMLResponse:
        policy = {"content-security-policy": origin_checks.page_policy(docs.STYLE)}
        return HTMLResponse(docs.page(app.openapi()), headers=policy)

    return app


async def _wake_at_end(gateway: AppState) -> None:
    await gateway.draining.wait()
    gateway.feeds.wake()


async def _open(
    settings: Settings,
    runtime: Any,
    database: Database | None,
    live: Live | None,
    stack: contextlib.AsyncExitStack,
) -> AppState:
    """Every part, in the order in which they need each other; closed in the reverse order."""
    if database is None:
        if settings.database_url is None:
            raise InvalidInput("TPP_DATABASE_URL is not set", "Start the server with `./tpp up`.")
        database = await Database.connect(
            settings.database_url,
            min_size=2,
            max_size=POOL_MAX,
            application_name="tpp-gateway",
            wait_s=DATABASE_WAIT_S,
        )
        stack.push_async_callback(database.close)
    if live is None:
        if settings.redis_url is None:
            raise InvalidInput("TPP_REDIS_URL is not set", "Start the server with `./tpp up`.")
        live = Live(settings.redis_url)
        stack.push_async_callback(live.close)
    if runtime is None:
        from runtime.connect import connect  # imports Ray, which tools that only read the routes do not need

        runtime = await connect(settings, wait=False)
        stack.push_async_callback(runtime.close)
    token = Home(settings.home).secret("owner.token")
    async with database.transaction() as connection:
        began = await figures.clock(connection)
        owner = await users.ensure_owner(connection)
        await users.ensure_token(connection, owner, digest(token), only=True)
    outage = Outage(settings.database_url)
    stack.push_async_callback(outage.close)
    metrics, admission = Metrics(), Admission(settings)
    metrics.watch((admission.requests, admission.commands, admission.long), database)
    connections = SandboxConnections(runtime, partial(link_to, settings.home))
    stack.push_async_callback(connections.close)
    return AppState(
        settings=settings,
        database=database,
        live=live,
        runtime=runtime,
        metrics=metrics,
        figures=Figures(metrics.registry, database, began),
        pulse=Pulse(metrics),
        outage=outage,
        tokens=Tokens(database),
        admission=admission,
        owner_digest=digest(token),
        connections=connections,
        disk=Disk(settings.home, settings.disk_reserve_bytes),
        objects=Objects.of(settings),
        feeds=Feeds(database, live),
        guard=origin_checks.Guard((settings.allowed_hosts or "").split(",")),
        shares=Shares(database),
    )
