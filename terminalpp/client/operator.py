"""The operator's door: the part of `Client` that sees and releases what was put aside.

All of it is for administrators (the owner of an installation is one); anybody else gets Forbidden.
"""

from __future__ import annotations

from typing import Any

from terminalpp.client.routes import Routes
from terminalpp.client.shapes import DeadLetter, Quarantine
from terminalpp.client.transport import field, segment


class Operator(Routes):
    """The requests of an operator."""

    async def quarantine(self, limit: int = 1000) -> list[Quarantine]:
        """What was put aside, in the order of kind and id."""
        return await self._pages("/v1/quarantine", limit)

    async def quarantined(self, kind: str, id: str) -> Quarantine:
        """Raises NotFound when it is not in quarantine."""
        return await self._transport.json("GET", f"/v1/quarantine/{segment(kind)}/{segment(id)}")

    async def release(self, kind: str, id: str, *, key: str | None = None) -> None:
        """What waits for the entity goes on. Raises NotFound when it is not in quarantine."""
        path = f"/v1/quarantine/{segment(kind)}/{segment(id)}/release"
        await self._transport.request("POST", path, key=key)

    async def dead_letters(
        self, *, kind: str | None = None, replayed: bool = False, limit: int = 1000
    ) -> list[DeadLetter]:
        """The newest first; `replayed`: those that were replayed too."""
        with_replayed = "true" if replayed else None
        return await self._pages("/v1/dead-letters", limit, kind=kind, replayed=with_replayed)

    async def dead_letter(self, letter_id: str) -> DeadLetter:
        """One dead letter with its payload's extract. Raises NotFound."""
        return await self._transport.json("GET", f"/v1/dead-letters/{segment(letter_id)}")

    async def replay(self, letter_id: str, *, key: str | None = None) -> DeadLetter:
        """Do it again, once. Raises Conflict when it was replayed before."""
        return await self._transport.json("POST", f"/v1/dead-letters/{segment(letter_id)}/replay", key=key)

    async def model_keys(self) -> list[dict[str, Any]]:
        """`{provider, added_at, usable}` of each provider with a stored key; never a key."""
        return list(field(await self._transport.json("GET", "/v1/models/keys"), "items"))

    async def put_model_key(self, provider: str, secret: str) -> dict[str, Any]:
        """Store the key of a provider, as litellm names it; it is used from the next call on."""
        path = f"/v1/models/keys/{segment(provider)}"
        return await self._transport.json("PUT", path, json={"key": secret})

    async def delete_model_key(self, provider: str) -> None:
        """Forget it. Raises NotFound."""
        await self._transport.request("DELETE", f"/v1/models/keys/{segment(provider)}")

    async def drop(self, letter_id: str) -> None:
        """Forget it. Raises NotFound."""
        await self._transport.request("DELETE", f"/v1/dead-letters/{segment(letter_id)}")
