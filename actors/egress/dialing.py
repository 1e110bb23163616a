"""Connecting to a host that the policy allows, at an address that was judged.

The name is resolved once, here; each address is judged and then connected to by its number, so a name that
resolves differently the next moment (DNS rebinding) changes nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from actors.egress.addresses import Standing, is_own, standing
from actors.egress.policy import Policy, is_address
from actors.egress.refusal import Reason, Refused

Resolve = Callable[[str, int], Awaitable[list[str]]]
RESOLVE_SECONDS = 10.0
CONNECT_SECONDS = 10.0  # per address
ADDRESSES_MAX = 8  # tried, of a name that has more
BUFFER_BYTES = 64 * 1024
_REASONS = {Standing.PRIVATE: Reason.PRIVATE_ADDRESS, Standing.HOST: Reason.HOST_ADDRESS,
            Standing.NEVER: Reason.NEVER}


class Unreachable(Exception):
    """It is allowed, and cannot be reached: why, in words."""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, by this machine's own resolver. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Dialer:
    """`host_ports`: ports of this very machine that a policy may allow; a sandbox reaches no others."""

    def __init__(self, resolver: Resolve = resolve, host_ports: frozenset[int] = frozenset()) -> None:
        self._resolve = resolver
        self._host_ports = host_ports

    async def dial(
        self, policy: Policy, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection; `host` as `policy.host_of` has it. Raises Refused, Unreachable."""
        if not policy.permits(host, port):
            never = is_address(host) and standing(host) is Standing.NEVER
            raise Refused(host, port, Reason.NEVER if never else Reason.NOT_ALLOWED)
        allowed, worst = [], Standing.PUBLIC
        for address in await self._addresses(host, port):
            found = self._judged(address)
            if self._let_out(found, policy, host, port):
                allowed.append(address)
            else:
                worst = found
        if not allowed:
            raise Refused(host, port, _REASONS[worst])
        return await self._first(allowed[:ADDRESSES_MAX], host, port)

    def _let_out(self, found: Standing, policy: Policy, host: str, port: int) -> bool:
        match found:
            case Standing.PUBLIC:
                return True
            case Standing.PRIVATE:
                return policy.permits_private(host, port)
            case Standing.HOST:
                return policy.permits_private(host, port) and port in self._host_ports
        return False

    @staticmethod
    def _judged(address: str) -> Standing:
        found = standing(address)
        return Standing.HOST if found in (Standing.PUBLIC, Standing.PRIVATE) and is_own(address) else found

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                found = await self._resolve(host, port)
        except TimeoutError:
            raise Unreachable(f"{host} could not be resolved within {RESOLVE_SECONDS:.0f} s") from None
        except (OSError, UnicodeError) as error:
            raise Unreachable(f"{host} could not be resolved: {error}") from None
        if not found:
            raise Unreachable(f"{host} has no address")
        return found

    async def _first(
        self, addresses: list[str], host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        said = ""
        for address in addresses:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(address, port, limit=BUFFER_BYTES)
            except TimeoutError:
                said = f"no answer within {CONNECT_SECONDS:.0f} s"
            except OSError as error:
                said = error.strerror or str(error)
        raise Unreachable(f"{host}:{port} could not be connected to: {said}")
