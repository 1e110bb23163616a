"""Which server a program talks to when it does not say: that of the environment, or this machine's own.

In this order: what was given; TPP_URL with TPP_TOKEN; the server whose home is TPP_HOME (or the default
home), over its Unix socket and with its owner's token. A token is never taken from one of these and sent to
the address of another.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from terminalpp.client import connector
from terminalpp.client.client import Client
from terminalpp.types import home
from terminalpp.types.errors import Unauthorized


@dataclass(frozen=True, slots=True)
class Connection:
    """An address with its token; `socket`: that of this machine's server, instead of `url`."""

    url: str
    token: str = field(repr=False)
    socket: Path | None = None

    def client(self) -> Client:
        """A new client. Raises InvalidInput for an address that is none."""
        return Client(self.url, self.token, socket=self.socket)


def connection(url: str | None = None, token: str | None = None) -> Connection:
    """Raises Unauthorized (an address without its token), Unavailable (no server has run here)."""
    if url is not None or token is not None:
        return _whole("url", url, "token", token)
    url, token = os.environ.get("TPP_URL"), os.environ.get("TPP_TOKEN")
    if url or token:
        return _whole("TPP_URL", url, "TPP_TOKEN", token)
    owner, socket = connector.of_home(home.path())
    return Connection("", owner, socket)


def _whole(url_name: str, url: str | None, token_name: str, token: str | None) -> Connection:
    if not url or not token:
        missing, given = (token_name, url_name) if url else (url_name, token_name)
        raise Unauthorized(f"{given} is given without {missing}", "Give both, or none: then this machine's.")
    return Connection(url, token)
