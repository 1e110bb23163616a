"""A client's connection that has left HTTP: raw bytes both ways, after an upgrade.

`gateway.protocol` makes one for each request that wants to leave and is for a port in a sandbox, and hands
on what arrives behind the request's head. Nobody reads it until the answer was 101: what arrives before
waits, in a bounded buffer, and then in the kernel. The end of one direction is told (half-close) and leaves
the other.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl

AHEAD_BYTES = 128 * 1024


class Tunnel:
    """See the head of this file. `lost` is set once the connection is gone."""

    def __init__(self, transport: asyncio.Transport, flow: FlowControl) -> None:
        self._transport = transport
        self._flow = flow
        self._arrived = asyncio.StreamReader(limit=AHEAD_BYTES)
        self._arrived.set_transport(transport)
        self.lost = asyncio.Event()

    # ---- the connection's end: called by the protocol -------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes have come."""
        if data:
            self._arrived.feed_data(data)

    def ended(self) -> None:
        """The client sends no more."""
        self._arrived.feed_eof()

    def gone(self) -> None:
        """The connection is lost."""
        self._arrived.feed_eof()
        self.lost.set()

    # ---- the application's end ------------------------------------------------------------------

    async def read(self, limit: int) -> bytes:
        """What has come, empty at the client's end."""
        return await self._arrived.read(limit)

    async def write(self, data: bytes) -> None:
        """Send; waits while the client does not read. Nothing happens once it is gone."""
        if not self._transport.is_closing():
            self._transport.write(data)
            await self._flow.drain()

    def write_eof(self) -> None:
        """Send no more."""
        if not self._transport.is_closing():
            self._transport.write_eof()

    async def close(self, *, abort: bool = False) -> None:
        """End the connection; `abort`: at once, without what was not yet taken."""
        if abort:
            self._transport.abort()
        else:
            self._transport.close()
        await self.lost.wait()
