"""The routes of ports: which ones a sandbox has, links that share one, requests and raw bytes to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

from terminalpp.client.routes import GRACE_S, Routes
from terminalpp.client.transport import Answer, field, segment
from terminalpp.client.tunnel import Forward, Wire, open_tunnel
from terminalpp.types import errors

ANSWER_S = 600.0


class Port(TypedDict):
    """A port that is listened on, or was declared. `url`: for a browser, with a share link."""

    port: int
    name: str | None
    declared: bool
    listening: bool
    reachable: bool
    addresses: list[str]
    pid: int | None
    argv: list[str]
    url: str


class PortList(TypedDict):
    """A sandbox's ports. `change`: to wait for another state of things."""

    items: list[Port]
    running: bool
    change: int | None


class ShareListed(TypedDict):
    """A share link, without its secret."""

    id: str
    sandbox_id: str
    port: int
    name: str
    expired: bool
    created_at: str
    expires_at: str


class Share(ShareListed):
    """A share link as it was made: the secret is not shown again."""

    url: str
    token: str


def _of(sandbox_id: str, what: str) -> str:
    return f"/v1/sandboxes/{segment(sandbox_id)}/{what}"


class Ports(Routes):
    """See `Client`."""

    async def ports(self, sandbox_id: str, *, change: int | None = None, wait_ms: int = 0) -> PortList:
        """The ports that are listened on, and those declared; with `change`, as soon as there is another.
        Wakes no sandbox."""
        query = {"change": change, "wait_ms": wait_ms or None}
        path = _of(sandbox_id, "ports")
        return await self._transport.json("GET", path, query=query, timeout_s=wait_ms / 1000 + GRACE_S)

    async def share_port(
        self, sandbox_id: str, port: int, *, expires_in_seconds: int = 3600, name: str | None = None,
        key: str | None = None,
    ) -> Share:  # fmt: skip
        """A link that opens the port to whoever has it, until it expires."""
        body = {"port": port, "expires_in_seconds": expires_in_seconds, "name": name}
        return await self._post(_of(sandbox_id, "port-shares"), body, key=key)

    async def port_shares(self, sandbox_id: str, limit: int = 1000) -> list[ShareListed]:
        """The newest first, expired ones too."""
        return await self._pages(_of(sandbox_id, "port-shares"), limit)

    async def unshare_port(self, sandbox_id: str, share_id: str) -> None:
        """End a link, and what is open by it. Raises NotFound."""
        await self._transport.json("DELETE", _of(sandbox_id, f"port-shares/{segment(share_id)}"))

    async def port_request(
        self, sandbox_id: str, port: int, method: str = "GET", target: str = "/", *,
        headers: dict[str, str] | None = None, content: Any = None, timeout_s: float = ANSWER_S,
    ) -> Answer:  # fmt: skip
        """One request to the program that listens there: its answer, whatever it is. Starts a sandbox that
        does not run; not repeated. `target` goes on as it is. Raises PortClosed, PortFailed."""
        if not target.startswith("/"):
            raise errors.InvalidInput("a target begins with a slash")
        path = _of(sandbox_id, f"ports/{port}{target}")
        return await self._transport.through(
            method, path, headers=headers or {}, content=content, silence_s=timeout_s
        )

    async def port_tunnel(self, sandbox_id: str, port: int) -> Wire:
        """Raw bytes to and from a port. Raises PortClosed."""
        return await open_tunnel(self._transport, _of(sandbox_id, f"tunnels/{port}"))

    def forward_port(
        self, sandbox_id: str, port: int, local_port: int = 0, *, host: str = "127.0.0.1",
        told: Callable[[errors.TerminalError], None] | None = None,
    ) -> Forward:  # fmt: skip
        """A port of this machine that is one of the sandbox's: `async with client.forward_port(…) as f`,
        then `f.port`. 0: any that is free. Raises PortInUse."""
        return Forward(lambda: self.port_tunnel(sandbox_id, port), host, local_port, told)


class AsyncPort:
    """A port of a sandbox; `sandbox.port(8000)`."""

    def __init__(self, client: Ports, sandbox_id: str, port: int) -> None:
        self._client, self._sandbox_id, self.port = client, sandbox_id, port

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._sandbox_id}, {self.port})"

    async def request(
        self, method: str = "GET", target: str = "/", *, headers: dict[str, str] | None = None,
        content: Any = None, timeout_s: float = ANSWER_S,
    ) -> Answer:  # fmt: skip
        """One request to the program that listens there: see `Client.port_request`."""
        return await self._client.port_request(
            self._sandbox_id, self.port, method, target, headers=headers, content=content,
            timeout_s=timeout_s,
        )  # fmt: skip

    async def share(self, expires_in_seconds: int = 3600, name: str | None = None) -> Share:
        """A link that opens it to whoever has it: its `url`, and its `token` for programs."""
        return await self._client.share_port(
            self._sandbox_id, self.port, expires_in_seconds=expires_in_seconds, name=name
        )

    async def unshare(self, share_id: str) -> None:
        """End a link, and what is open by it. Raises NotFound."""
        await self._client.unshare_port(self._sandbox_id, share_id)

    async def url(self) -> str:
        """Its address for a browser, which needs a share link."""
        found = await self._client.ports(self._sandbox_id)
        urls = [one["url"] for one in field(found, "items") if one["port"] == self.port]
        if not urls:
            raise errors.PortClosed(f"nobody listens on port {self.port} in the sandbox")
        return urls[0]

    def forward(self, local_port: int = 0) -> Forward:
        """A port of this machine that is this one: see `Client.forward_port`."""
        return self._client.forward_port(self._sandbox_id, self.port, local_port)
