"""A sandbox as an object: `await AsyncSandbox.create()`.

    async with await AsyncSandbox.create() as sandbox:
        result = await sandbox.commands.run("echo hello", on_stdout=print)

A sandbox made here is deleted at the end of its `async with`; one that was found by `connect` is only let go
of. Without `async with` it stays until `kill`: on purpose, so that another program can connect to it. When
making one fails or is cancelled, nothing is left behind.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Self, TypedDict, Unpack

from terminalpp.client import shapes
from terminalpp.client.client import Client
from terminalpp.client.command import AsyncCommands, held
from terminalpp.client.connection import connection
from terminalpp.client.filesystem import AsyncFilesystem
from terminalpp.client.networks import SandboxNetwork
from terminalpp.client.ports import AsyncPort, Port
from terminalpp.client.transport import field
from terminalpp.types import errors


class SandboxOptions(TypedDict, total=False):
    """As of `POST /v1/sandboxes`. `network`: none, allowlist or open; `allow`: hosts and presets."""

    name: str | None
    image: str | None
    network: str | None
    allow: list[str] | None
    allow_private: list[str] | None
    resource_limits: dict[str, Any] | None
    auto_sleep_after_minutes: int | None


@asynccontextmanager
async def _calling(client: Client | None, url: str | None, token: str | None) -> AsyncIterator[Client]:
    """The client that was given, or a new one, which is closed when the block fails."""
    if client is not None:
        yield client
        return
    made = connection(url, token).client()
    try:
        yield made
    except BaseException:
        await made.close()
        raise


class AsyncSandbox:
    """A sandbox; its `commands` and `files`, and `client` for every other route."""

    def __init__(self, client: Client, id: str, *, made: bool = False, owns_client: bool = False) -> None:
        self.id = id
        self.client = client
        self.commands = AsyncCommands(client, id)
        self.files = AsyncFilesystem(client, id)
        self._made = made
        self._owns_client = owns_client

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id})"

    @classmethod
    async def create(
        cls,
        *,
        client: Client | None = None,
        url: str | None = None,
        token: str | None = None,
        **options: Unpack[SandboxOptions],
    ) -> Self:
        """A new one, running. `client`, or `url` with `token`: of another server than `connection` finds.

        Raises SandboxFailed with the reason, Unavailable when no server answers."""
        async with _calling(client, url, token) as caller:
            row = await held(
                caller.create_sandbox(**options), lambda row: caller.delete_sandbox(field(row, "id"))
            )
            sandbox = cls(caller, field(row, "id"), made=True, owns_client=client is None)
            try:
                await sandbox.start()
            except BaseException:
                with suppress(errors.TerminalError):
                    await caller.delete_sandbox(sandbox.id)
                raise
        return sandbox

    @classmethod
    async def connect(
        cls,
        sandbox_id: str,
        *,
        client: Client | None = None,
        url: str | None = None,
        token: str | None = None,
    ) -> Self:
        """One that exists, as it is (`start` starts it). Raises NotFound."""
        async with _calling(client, url, token) as caller:
            row = await caller.sandbox(sandbox_id)
        return cls(caller, field(row, "id"), owns_client=client is None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._made:
            await self.kill()
        await self.close()

    async def record(self) -> shapes.Sandbox:
        """Its record as it stands: status, image, limits, … Raises NotFound."""
        return await self.client.sandbox(self.id)

    async def network(self) -> SandboxNetwork:
        """What it may reach, and what it was refused."""
        return await self.client.network(self.id)

    async def set_network(
        self, network: str | None = None, *, allow: Sequence[str] | None = None,
        allow_private: Sequence[str] | None = None,
    ) -> SandboxNetwork:  # fmt: skip
        """Another network or list, which holds when this returns. Raises InvalidInput, Conflict."""
        listed = None if allow is None else list(allow)
        private = None if allow_private is None else list(allow_private)
        return await self.client.set_network(self.id, network, allow=listed, allow_private=private)

    async def start(self) -> None:
        """Returns when it runs. Raises SandboxFailed with the reason."""
        row = await self.client.start_sandbox(self.id, wait=True)
        if field(row, "status") != "running":  # an image is being built, or it failed
            await self.client.wait_for_sandbox(self.id)

    async def stop(self) -> None:
        """End every process in it; its files stay."""
        await self.client.stop_sandbox(self.id)

    async def restart(self) -> None:
        """End every process in it and start it again; its files stay. Raises SandboxFailed."""
        row = await self.client.restart_sandbox(self.id, wait=True)
        if field(row, "status") != "running":
            await self.client.wait_for_sandbox(self.id)

    async def pause(self) -> None:
        """Freeze every process in it, until `resume`. Raises Conflict (why it cannot be)."""
        await self.client.pause_sandbox(self.id)

    async def resume(self) -> None:
        """Let its processes go on."""
        await self.client.resume_sandbox(self.id)

    async def kill(self) -> bool:
        """Delete it with its files, commands and conversations. False: it was gone already."""
        try:
            await self.client.delete_sandbox(self.id)
        except errors.NotFound:
            return False
        return True

    async def processes(self) -> list[shapes.Process]:
        """All that runs in it, with the command it comes from."""
        return await self.client.processes(self.id)

    async def ports(self) -> builtins.list[Port]:
        """Ports that are listened on in it, and those declared."""
        return field(await self.client.ports(self.id), "items")

    def port(self, port: int) -> AsyncPort:
        """One of its ports: to send requests, to share it, to forward it."""
        return AsyncPort(self.client, self.id, port)

    async def close(self) -> None:
        """Let go of the connection, unless it was given. The sandbox is not touched."""
        if self._owns_client:
            await self.client.close()

    @staticmethod
    async def list(
        *, client: Client | None = None, url: str | None = None, token: str | None = None
    ) -> list[shapes.Sandbox]:
        """The account's sandboxes, newest first."""
        if client is not None:
            return await client.sandboxes()
        async with connection(url, token).client() as caller:
            return await caller.sandboxes()
