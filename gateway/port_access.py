"""Who may use a port in a sandbox: its owner, by a token; whoever has a share link, until it ends.

A share's secret opens one port of one sandbox and nothing else of the API. It comes in the query of a link
(`tpp_share`, by host only), in the cookie that such a link leaves behind, or as bearer token. An
Authorization that is none of ours belongs to the program inside; one that is ours never reaches it, also
where the caller was let in by a cookie.

Shares that were looked up are kept for `CACHE_S`: one that was revoked through another gateway works that
much longer at most; through this one it ends at once, with what is open by it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from gateway import port_headers
from gateway.auth import TOKEN_MAX, Tokens, bearer
from gateway.port_addresses import Address
from schema import Database, port_shares
from schema.port_shares import PortShare
from terminalpp.types import errors
from terminalpp.types.proof import digest

PREFIX = "tpps_"
CACHE_S = 5.0
CACHE_SIZE = 1024
LOOKUPS = 4  # at once: who guesses secrets takes no connection away from the others
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks. `account`: whose places he takes. `user_id`: the owner; None for one with a link. `ours`: the
    request's Authorization was for us. `seconds`: how long he may stay, unless the link is `revoked`."""

    account: str
    user_id: str | None
    ours: bool
    seconds: float | None = None
    revoked: asyncio.Event = field(default_factory=asyncio.Event)

    async def stay(self) -> None:
        """Returns never. Raises LinkExpired when he must go."""
        try:
            async with asyncio.timeout(self.seconds):
                await self.revoked.wait()
        except TimeoutError:
            raise errors.LinkExpired("the link has just expired") from None
        raise errors.LinkExpired("the link was revoked")


class Shares:
    """Secrets to their shares, with a short memory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[str, tuple[PortShare, float]] = OrderedDict()
        self._lookups = asyncio.Semaphore(LOOKUPS)
        self._revoked: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()  # of those in use

    async def visitor(self, secret: str, address: Address, ours: bool) -> Visitor:
        """Raises NotFound (unknown, revoked, of another port), LinkExpired."""
        share, read_at = await self._share(secret)
        if share is None or (share.sandbox_id, share.port) != (address.sandbox_id, address.port):
            raise errors.NotFound("there is no such share link", "It may have been revoked: ask for another.")
        left = share.seconds_left - (time.monotonic() - read_at)
        if left <= 0:
            raise errors.LinkExpired(f"this link expired at {share.expires_at:%Y-%m-%d %H:%M:%S} UTC")
        revoked = self._revoked.setdefault(share.id, asyncio.Event())
        return Visitor(f"share {share.id}", None, ours, left, revoked)

    async def _share(self, secret: str) -> tuple[PortShare | None, float]:
        if not secret.startswith(PREFIX) or len(secret) > TOKEN_MAX:
            return None, 0.0
        key, now = digest(secret), time.monotonic()
        known = self._known.get(key)
        if known is not None and known[1] + CACHE_S > now:
            return known
        async with self._lookups:
            share = await port_shares.of_secret(self._database, key)
        self._known.pop(key, None)
        if share is not None:
            self._known[key] = share, now
            while len(self._known) > CACHE_SIZE:
                self._known.popitem(last=False)
        return share, now

    def revoked(self, share: str) -> None:
        """Forget it, and end what is open by it."""
        for key in [key for key, (one, _) in self._known.items() if one.id == share]:
            del self._known[key]
        if (event := self._revoked.get(share)) is not None:
            event.set()


async def visitor_of(
    address: Address, headers: Headers, secret: str | None, tokens: Tokens, shares: Shares
) -> Visitor:
    """Who asks. `secret`: of the link, from the query. The owner's right is for the caller to check.

    Raises Unauthorized, NotFound, LinkExpired, Overloaded, Unavailable."""
    given = [value for name, value in headers if name == b"authorization"]
    ours = False
    if address.prefix or (given and given[0][:7].lower() == b"bearer "):
        try:
            token = bearer(headers)
            if token.startswith(PREFIX):
                return await shares.visitor(token, address, True)
            principal = await tokens.principal(token)
            ours = True
        except errors.Unauthorized:
            if address.prefix:
                raise  # by path an Authorization is always for us
        secret = secret or port_headers.cookie_of(headers)
        if ours and (address.prefix or secret is None):
            return Visitor(principal.user_id, principal.user_id, True)
    secret = secret or port_headers.cookie_of(headers)
    if secret is not None:
        return await shares.visitor(secret, address, ours)
    raise errors.Unauthorized(
        "this address needs a share link, or a bearer token", "Ask for a link: `./tpp ports share`."
    )
