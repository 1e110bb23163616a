"""The port by which a request gets a secret that never enters the sandbox.

Who owns what: whoever implements it keeps the secrets; the proxy asks once per request and forgets. It is
asked only after the policy let the request out. Inside TLS nothing can be added, since TLS is not broken
open.
"""

from __future__ import annotations

from typing import Protocol


class Credentials(Protocol):
    """See the head of this file."""

    async def headers(self, sandbox_id: str, host: str, port: int) -> list[tuple[str, str]]:
        """Header fields for a plain HTTP request to this host, in place of those of the same name."""
        ...


class NoCredentials:
    """Adds none."""

    async def headers(self, sandbox_id: str, host: str, port: int) -> list[tuple[str, str]]:
        """See Credentials.headers."""
        return []
