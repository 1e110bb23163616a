"""The routes of a sandbox's network: what it may reach, what it was refused."""

from __future__ import annotations

from typing import Any, TypedDict

from terminalpp.client.routes import Routes
from terminalpp.client.transport import segment


class Refusal(TypedDict):
    """What was asked for and refused, `count` times."""

    host: str
    port: int
    reason: str                      # not-allowed | private-address | host-address | forbidden-address | …
    detail: str
    count: int
    first_at: str
    last_at: str


class SandboxNetwork(TypedDict):
    """What a sandbox may reach, and what it was refused."""

    sandbox_id: str
    network: str                     # none | allowlist | open
    allow: list[str]                 # as it was written
    allow_private: list[str]
    rules: list[str]                 # with each preset written out
    presets: list[str]
    note: str | None                 # why it does not hold inside yet
    refusals: list[Refusal]


class Networks(Routes):
    """See `Client`."""

    async def network(self, sandbox_id: str) -> SandboxNetwork:
        """What it may reach, and the last targets that it was refused."""
        return await self._get(_of(sandbox_id))

    async def set_network(
        self, sandbox_id: str, network: str | None = None, *, allow: list[str] | None = None,
        allow_private: list[str] | None = None,
    ) -> SandboxNetwork:  # fmt: skip
        """Another network or list, which holds when this returns; what is None stays. Raises InvalidInput
        naming the entry, Conflict (to or from `open` while it runs)."""
        body: dict[str, Any] = {"network": network, "allow": allow, "allow_private": allow_private}
        given = {name: value for name, value in body.items() if value is not None}
        return await self._transport.json("PUT", _of(sandbox_id), json=given)


def _of(sandbox_id: str) -> str:
    return f"/v1/sandboxes/{segment(sandbox_id)}/network"
