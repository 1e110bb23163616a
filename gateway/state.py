"""The state that routes share: one object per application, made by `create_app`, opened by its lifespan."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from starlette.requests import HTTPConnection

from actors.sandbox.versions.objects import Objects
from gateway.admission import Admission
from gateway.auth import Principal, Tokens
from gateway.database_metrics import Figures
from gateway.feeds import Feeds
from gateway.metrics import Metrics, Pulse
from gateway.origin_checks import Guard
from gateway.outage import Outage
from gateway.port_access import Shares
from gateway.sandbox_connections import SandboxConnections
from runtime.disk import Disk
from runtime.settings import Settings
from schema import Database, Live

OWNERS_KEPT = 10_000


@dataclass
class AppState:
    """`draining` is set when the process is asked to stop: streams end, long waits answer as they stand."""

    settings: Settings
    database: Database
    live: Live
    runtime: Any
    metrics: Metrics
    figures: Figures
    pulse: Pulse
    outage: Outage
    tokens: Tokens
    admission: Admission
    owner_digest: str  # of the owner's token: what `gateway.proof` proves to know
    connections: SandboxConnections
    disk: Disk
    objects: Objects  # the contents of snapshots
    feeds: Feeds
    guard: Guard
    shares: Shares
    port: int = 0                                           # on which it listens, once it does
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    streams: int = 0                                        # event streams open now
    # Sandbox id -> user id, which never changes; of those used last.
    owners: OrderedDict[str, str] = field(default_factory=OrderedDict)

    def remember_owner(self, sandbox_id: str, user_id: str) -> str:
        """Keep whose sandbox it is, which the next request then need not ask; the owner."""
        self.owners[sandbox_id] = user_id
        while len(self.owners) > OWNERS_KEPT:
            self.owners.popitem(last=False)
        return user_id


def app_state(request: Request) -> AppState:
    """The application's state."""
    return request.app.state.gateway


def principal_of(request: HTTPConnection) -> Principal:
    """The account that asks, as the middleware has recognised it."""
    return request.scope["principal"]


def user_of(request: HTTPConnection) -> str:
    """The id of the account that asks."""
    return principal_of(request).user_id
