"""The checks that keep web pages out: the `Host` that a request names, the `Origin` that a browser adds, the
headers that tell a browser what it may do with an answer.

A web page can make the browser of a person send requests to this server: to its address (CSRF), or under a
name of the page's own that it lets point here (DNS rebinding). Such a page has no token, and no cookie would
send one; what it could reach without one are the pages and figures that need none. So a name that is not
this server's is refused (403), and so is a change that a page of another origin asks for. Programs send no
`Origin`, and are held to the `Host` alone.

Allowed names: `localhost`, loopback addresses, the address that the server listens on, TPP_ALLOWED_HOSTS.
Ports are not compared: a forwarded port has another number on each side.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import Scope

from terminalpp.types import errors, text

HERE = frozenset({"localhost", "127.0.0.1", "::1"})  # known without reading them as addresses
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
Headers = list[tuple[bytes, bytes]]
_ALWAYS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]
_POLICY = "default-src 'none'; {}base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_SECRET: Headers = [
    *_ALWAYS,
    (b"cache-control", b"no-store"),
    (b"content-security-policy", _POLICY.format("").encode()),
]


class Guard:
    """`hosts`: names beside those that are always allowed; a leading dot allows all names below."""

    def __init__(self, hosts: Iterable[str] = ()) -> None:
        given = [host.strip().lower().rstrip(".") for host in hosts]
        self._names = {"localhost", *(name for name in given if name and not name.startswith("."))}
        self._below = tuple(name for name in given if name.startswith("."))

    def domain(self, host: str) -> str | None:
        """What `host` is below: `localhost`, or a name that is allowed with all below it; None: nothing."""
        below = [*self._below, ".localhost"]
        return next((name[1:] for name in below if _name(host).endswith(name)), None)

    @property
    def ports_domain(self) -> str:
        """Below which each port of a sandbox has a host of its own."""
        return self._below[0][1:] if self._below else "localhost"

    def check(self, scope: Scope, *, ours: bool = False) -> None:
        """Raises HostNotAllowed, OriginNotAllowed. `ours`: the host is known to be one of ours."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        if len(hosts) > 1:
            raise errors.BadRequest("the request names two hosts")
        host = hosts[0].decode("latin-1") if hosts else ""
        name = _name(host)
        server = (scope.get("server") or ("",))[0]
        if host and not (ours or self._allowed(name) or name == server):  # HTTP/1.0 need not name any
            raise errors.HostNotAllowed(f"this server is not called {_shown(host)}")
        # A page may open a WebSocket to any server, and read what comes: no browser asks that server first.
        if origins and (scope["type"] == "websocket" or scope["method"] not in SAFE):
            origin = origins[0].decode("latin-1")
            parts = urlsplit(origin) if "://" in origin else None
            same = parts is not None and parts.netloc.lower() == host.lower()
            configured = parts is not None and _name(parts.netloc) in self._names - {"localhost"}
            if len(origins) > 1 or not (same or configured):
                raise errors.OriginNotAllowed(f"a page of {_shown(origin)} may not change anything here")

    def _allowed(self, name: str) -> bool:
        if name in HERE or name in self._names or (self._below and name.endswith(self._below)):
            return True
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(name).is_loopback
        return False


def headers(path: str) -> Headers:
    """The headers of every answer for that path, unless it sets them itself."""
    return _SECRET if path.startswith("/v1") else _ALWAYS


def page_policy(style: str) -> str:
    """The Content-Security-Policy of a page whose one style sheet is `style`, without scripts."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return _POLICY.format(f"style-src 'sha256-{digest}'; ")


def _name(host: str) -> str:
    """`host` without its port and in one spelling."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower().rstrip(".") if ":" in host else host.lower().rstrip(".")


def _shown(value: str) -> str:
    return repr(text.clean(value)[:100])
