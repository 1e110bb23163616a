"""The SDK: every route of the gateway as a typed coroutine.

    async with Client.at("~/.local/share/terminalpp") as client:  # or Client("https://…", token)
        sandbox = await client.create_sandbox(wait=True)
        ran = await client.run_command(sandbox["id"], "echo hello", wait_ms=5000)

Every method raises `TerminalError` (see `terminalpp.types.errors`) and nothing else of its own.
`key` is the Idempotency-Key: the same key repeats nothing; without one a fresh key is made, so that
the transport can repeat the request by itself. Methods that wait let the server wait: one request,
no polling. `timeout_s` bounds each request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

from terminalpp.client import connector, outputs
from terminalpp.client.conversations import Conversations
from terminalpp.client.files import Files
from terminalpp.client.networks import Networks
from terminalpp.client.operator import Operator
from terminalpp.client.ports import Ports
from terminalpp.client.routes import GRACE_S
from terminalpp.client.shapes import (
    Execution,
    ExecutionListed,
    Model,
    Output,
    OutputEvent,
    Process,
    Sandbox,
    Uploaded,
)
from terminalpp.client.snapshots import Snapshots
from terminalpp.client.terminals import Terminals
from terminalpp.client.transport import Transport, field, segment, understanding
from terminalpp.types import errors


class Client(Files, Networks, Snapshots, Terminals, Ports, Conversations, Operator):
    """An account's view of one gateway. Safe for many concurrent calls on one event loop."""

    def __init__(
        self, base_url: str, token: str, *, timeout_s: float = 30.0, patience_s: float = 60.0,
        socket: Path | None = None, prove: bool = True,
    ) -> None:
        """`socket`: the Unix socket of a server on this machine, instead of `base_url`. `prove`: over plain
        HTTP on the loopback, have the server prove that it knows the token before it gets it; turn it off for
        a forwarded port, where client and server see different addresses."""
        options: dict[str, Any] = {"socket": socket, "prove": prove}
        super().__init__(Transport(base_url, token, timeout_s=timeout_s, patience_s=patience_s, **options))

    @classmethod
    def at(cls, home: str | Path, **options: Any) -> Self:
        """The client of this machine's server with this TPP_HOME, over its socket. Raises Unavailable."""
        token, socket = connector.of_home(Path(home).expanduser())
        return cls("", token, socket=socket, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the server goes on."""
        await self._transport.close()

    # ---- the server ------------------------------------------------------------------------------

    async def version(self) -> dict[str, Any]:
        """The server's version and the versions of its parts."""
        return await self._get("/version")

    async def livez(self) -> dict[str, Any]:
        """Whether the server's process lives; needs no token."""
        return await self._transport.json("GET", "/livez", headers={"accept": "application/json"})

    async def readyz(self) -> dict[str, Any]:
        """`{"ready": bool, "checks": [{name, ok, detail, ms}]}`, also when not ready."""
        headers = {"accept": "application/json"}
        return await self._transport.json("GET", "/readyz", headers=headers, also=frozenset({503}))

    async def models(self) -> list[Model]:
        """Models that can be asked, the default first."""
        return field(await self._get("/v1/models"), "data")

    async def me(self) -> dict[str, Any]:
        """Whose token this is, and the limits of one request."""
        return await self._get("/v1/me")

    # ---- sandboxes -------------------------------------------------------------------------------

    async def create_sandbox(
        self,
        *,
        name: str | None = None,
        image: str | None = None,
        network: str | None = None,
        allow: list[str] | None = None,
        allow_private: list[str] | None = None,
        resource_limits: dict[str, Any] | None = None,
        auto_sleep_after_minutes: int | None = None,
        wait: bool = False,
        key: str | None = None,
    ) -> Sandbox:
        """Its row; it starts in the background. `wait`: until it runs or has failed (at most 60 s)."""
        body = {
            "name": name,
            "image": image,
            "network": network,
            "allow": allow,
            "allow_private": allow_private,
            "resource_limits": resource_limits,
            "auto_sleep_after_minutes": auto_sleep_after_minutes,
        }
        query = {"wait": "true"} if wait else None
        return await self._post("/v1/sandboxes", body, key=key, query=query, timeout_s=60 + GRACE_S)

    async def sandboxes(self, limit: int = 1000) -> list[Sandbox]:
        """The account's sandboxes, the newest first, at most `limit`."""
        return await self._pages("/v1/sandboxes", limit)

    async def sandbox(self, sandbox_id: str) -> Sandbox:
        """The sandbox's record. Raises NotFound."""
        return await self._get(f"/v1/sandboxes/{segment(sandbox_id)}")

    async def start_sandbox(self, sandbox_id: str, *, wait: bool = True, key: str | None = None) -> Sandbox:
        """Start it if it does not run, and with `wait` return when it does. Raises what starting raises."""
        query = {"wait": "true"} if wait else None
        path = f"/v1/sandboxes/{segment(sandbox_id)}/start"
        return await self._post(path, key=key, query=query, timeout_s=60 + GRACE_S)

    async def stop_sandbox(self, sandbox_id: str, *, key: str | None = None) -> Sandbox:
        """End every process in it; its files stay."""
        return await self._post(f"/v1/sandboxes/{segment(sandbox_id)}/stop", key=key)

    async def restart_sandbox(self, sandbox_id: str, *, wait: bool = True, key: str | None = None) -> Sandbox:
        """End every process in it and start it again; its files stay. `wait`: until it runs or has failed."""
        query = {"wait": "true"} if wait else None
        path = f"/v1/sandboxes/{segment(sandbox_id)}/restart"
        return await self._post(path, key=key, query=query, timeout_s=60 + GRACE_S)

    async def pause_sandbox(self, sandbox_id: str, *, key: str | None = None) -> Sandbox:
        """Freeze every process in it until it is resumed. Raises Conflict (why it cannot be)."""
        path = f"/v1/sandboxes/{segment(sandbox_id)}/pause"
        return await self._post(path, key=key, timeout_s=60 + GRACE_S)

    async def resume_sandbox(self, sandbox_id: str, *, key: str | None = None) -> Sandbox:
        """Let its processes go on."""
        path = f"/v1/sandboxes/{segment(sandbox_id)}/resume"
        return await self._post(path, key=key, timeout_s=60 + GRACE_S)

    async def delete_sandbox(self, sandbox_id: str) -> None:
        """Delete it with all its files, commands and conversations. It cannot be undone."""
        await self._transport.request("DELETE", f"/v1/sandboxes/{segment(sandbox_id)}")

    async def wait_for_sandbox(
        self, sandbox_id: str, *, timeout_s: float = 900.0, progress: Callable[[str], None] | None = None
    ) -> Sandbox:
        """The sandbox once it runs; `progress` gets each new `status_detail` (an image may be built).

        Raises SandboxFailed with the reason, or DeadlineExceeded after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        said = None
        while True:
            row = await self.sandbox(sandbox_id)
            detail, status = field(row, "status_detail"), field(row, "status")
            if progress and detail and detail != said:
                said = detail
                progress(detail)
            if status == "running":
                return row
            if status == "error":
                raise errors.SandboxFailed(detail or "the sandbox could not be started")
            if time.monotonic() > deadline:
                raise errors.DeadlineExceeded(f"the sandbox did not start within {timeout_s:.0f} s")
            await asyncio.sleep(0.2)

    async def upload_archive(
        self, sandbox_id: str, path: str, tar: bytes | AsyncIterator[bytes], *, timeout_s: float = 3600.0
    ) -> Uploaded:
        """Unpack a tar (plain, ustar/pax/gnu) under `path`. An iterator is streamed and never repeated."""
        return await self._transport.json(
            "PUT",
            f"/v1/sandboxes/{segment(sandbox_id)}/archive?path={segment(path)}",
            content=tar,
            headers={"content-type": "application/x-tar"},
            timeout_s=timeout_s,
        )

    # ---- commands --------------------------------------------------------------------------------

    async def run_command(
        self,
        sandbox_id: str,
        command: str | None = None,
        *,
        argv: list[str] | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        stdin: bool = False,
        wait_ms: int = 0,
        timeout_ms: int | None = None,
        key: str | None = None,
    ) -> Execution:
        """Start a shell line or an `argv`; wait up to `wait_ms` (0..60000) for its end.

        After `timeout_ms` it is ended (reason `timeout`)."""
        body = {"command": command, "argv": argv, "cwd": cwd, "env": env, "stdin": stdin, "wait_ms": wait_ms,
                "timeout_ms": timeout_ms}
        path = f"/v1/sandboxes/{segment(sandbox_id)}/commands"
        return await self._post(path, body, key=key, timeout_s=wait_ms / 1000 + GRACE_S)

    def _command(self, sandbox_id: str, command_id: str, verb: str = "") -> str:
        path = f"/v1/sandboxes/{segment(sandbox_id)}/commands/{segment(command_id)}"
        return f"{path}/{verb}" if verb else path

    async def commands(
        self, sandbox_id: str, limit: int = 100, *, status: str | None = None
    ) -> list[ExecutionListed]:
        """Newest first."""
        return await self._pages(f"/v1/sandboxes/{segment(sandbox_id)}/commands", limit, status=status)

    async def command(self, sandbox_id: str, command_id: str) -> Execution:
        """The command's record, with bounded extracts of its output. Raises NotFound."""
        return await self._get(self._command(sandbox_id, command_id))

    async def output(
        self,
        sandbox_id: str,
        command_id: str,
        *,
        stream: str = "stdout",
        offset: int = 0,
        limit: int = 65536,
        wait_ms: int = 0,
    ) -> Output:
        """Bytes of `stdout` or `stderr` from `offset`; waits up to `wait_ms` while there are none."""
        response = await self._transport.request(
            "GET",
            self._command(sandbox_id, command_id, "output"),
            query={"stream": stream, "offset": offset, "limit": limit, "wait_ms": wait_ms},
            timeout_s=wait_ms / 1000 + GRACE_S,
        )
        headers = response.headers
        with understanding("the output"):
            return Output(
                data=response.content,
                offset=int(headers["x-offset"]),
                next_offset=int(headers["x-next-offset"]),
                gap_bytes=int(headers["x-gap-bytes"]),
                exited=headers["x-exited"] == "true",
                ended=headers["x-ended"] == "true",
            )

    async def follow_output(
        self, sandbox_id: str, command_id: str, *, stream: str = "stdout", offset: int = 0
    ) -> AsyncIterator[Output]:
        """Every piece of the output until it has ended: a process that the command left may hold it open for
        longer than the command runs (`Output.exited`)."""
        while True:
            piece = await self.output(sandbox_id, command_id, stream=stream, offset=offset, wait_ms=20_000)
            if piece.data or piece.gap_bytes:
                yield piece
            if piece.ended:
                return
            offset = piece.next_offset

    def stream_output(
        self, sandbox_id: str, command_id: str, *, stdout_offset: int = 0, stderr_offset: int = 0
    ) -> AsyncGenerator[OutputEvent, None]:
        """Both streams as they come, then `exited` and `end`; reconnects by itself, byte for byte."""
        path = self._command(sandbox_id, command_id, "output/stream")
        return outputs.follow(self._transport, path, {"stdout": stdout_offset, "stderr": stderr_offset})

    async def write_stdin(
        self, sandbox_id: str, command_id: str, data: bytes, *, offset: int, eof: bool = False
    ) -> dict[str, Any]:
        """Write at `offset` (a repeated write is recognised by it). Answers `{"offset": next}`."""
        query = {"offset": offset, "eof": "true" if eof else None}
        headers = {"content-type": "application/octet-stream"}
        path = self._command(sandbox_id, command_id, "stdin")
        return await self._transport.json("POST", path, query=query, content=data, headers=headers)

    async def signal(
        self,
        sandbox_id: str,
        command_id: str,
        signal: str = "TERM",
        *,
        tree: bool = True,
        key: str | None = None,
    ) -> None:
        """`signal`: TERM, INT, KILL, … ; `tree`: the whole process tree, after its end what it left."""
        body = {"signal": signal, "tree": tree}
        await self._post(self._command(sandbox_id, command_id, "signal"), body, key=key)

    async def processes(self, sandbox_id: str) -> list[Process]:
        """All that runs in the sandbox, with the command it comes from."""
        return field(await self._get(f"/v1/sandboxes/{segment(sandbox_id)}/processes"), "items")

    async def kill_processes(self, sandbox_id: str, *, key: str | None = None) -> int:
        """End all of them; how many there were."""
        path = f"/v1/sandboxes/{segment(sandbox_id)}/processes/kill"
        return field(await self._post(path, None, key=key), "killed")

    async def wait_command(self, sandbox_id: str, command_id: str, *, timeout_ms: int = 30_000) -> Execution:
        """Its record when it has ended, or as it stands after `timeout_ms` (≤ 60000)."""
        path = self._command(sandbox_id, command_id, "wait")
        return await self._post(path, {"timeout_ms": timeout_ms}, timeout_s=timeout_ms / 1000 + GRACE_S)
