"""What the methods of `Client` are made of: one request, and a list of pages."""

from __future__ import annotations

from typing import Any

from terminalpp.client.transport import Transport, understanding

GRACE_S = 20.0  # a request that waits on the server may take this much longer than it asked for


class Routes:
    """A part of `Client`, which is made of several."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def _get(self, path: str, **query: Any) -> Any:
        return await self._transport.json("GET", path, query=query)

    async def _post(self, path: str, body: Any = None, *, key: str | None = None, **options: Any) -> Any:
        body = None if body is None else {name: value for name, value in body.items() if value is not None}
        return await self._transport.json("POST", path, json=body, key=key, **options)

    async def _pages(self, path: str, limit: int, **query: Any) -> list[Any]:
        items: list[Any] = []
        cursor = None
        while len(items) < limit:
            page = await self._get(path, limit=min(100, limit - len(items)), cursor=cursor, **query)
            with understanding(f"the list at {path}"):
                items += page["items"]
                cursor = page["next_cursor"]
            if cursor is None:
                break
        return items
