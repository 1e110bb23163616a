"""The two addresses of a port inside a sandbox, and which requests are for one.

- *By path*, for programs: `/v1/sandboxes/{id}/ports/{port}/…`. It is on the API's own origin, so no page
  may work there (`gateway.port_headers`).
- *By host*, for browsers: `http://{port}-{sandbox id}.localhost:…/…`, or the same below a name that
  TPP_ALLOWED_HOSTS allows by a leading dot. Each port is an origin of its own there: its cookies and storage
  are not the API's, and absolute paths work. Browsers resolve `*.localhost` to this machine by themselves.

`/v1/sandboxes/{id}/tunnels/{port}` is the port without HTTP: an upgrade to `tpp-tcp`, then its raw bytes.

The target goes on to the program byte for byte, with whatever it holds: `..`, `//`, escapes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.types import Scope

PREFIX = re.compile(rb"/v1/sandboxes/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})/(?:ports|"
                    rb"(tunnels))/([1-9][0-9]{0,4})(?=[/?]|$)")  # fmt: skip
_LABEL = re.compile(r"([1-9][0-9]{0,4})-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(.+)")
ROUTE = "/v1/sandboxes/{id}/ports/{port}"  # of the figures
PORT_MAX = 65535
RAW = "tpp-tcp"
SECRET = "tpp_share"  # in a query and as a cookie


@dataclass(frozen=True, slots=True)
class Address:
    """Where a request goes. `target`: what the program is asked for. `host`: as the request names it.
    `prefix`: of the path by which it came; empty for an address by host. `upgrade`: what HTTP is left for.
    `raw`: there is no HTTP with the program at all."""

    sandbox_id: str
    port: int
    target: bytes
    host: str
    prefix: str
    upgrade: bytes
    raw: bool = False


def names_a_port(name: str) -> re.Match[str] | None:
    """The match of a host's name that stands for a port; its third group is the rest of the name."""
    return _LABEL.fullmatch(name)


def upgrade_of(method: str, headers: list[tuple[bytes, bytes]]) -> bytes:
    """What a request wants to leave HTTP for; empty when it does not, or has a body to send first."""
    named = dict(headers)
    if method != "GET" or b"transfer-encoding" in named or named.get(b"content-length", b"0") != b"0":
        return b""
    wanted = [value for name, value in headers if name == b"connection"]
    if not any(word.strip().lower() == b"upgrade" for value in wanted for word in value.split(b",")):
        return b""
    return named.get(b"upgrade", b"")


def is_for_a_port(target: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a request, whose target is as it came, is for a port."""
    return _by_path(target) is not None or _by_host(headers) is not None


def of(scope: Scope) -> Address | None:
    """The port that a request is for; None: it is for this server."""
    headers, target = scope["headers"], scope.get("target", b"")
    upgrade = upgrade_of(scope["method"], headers) if "tunnel" in scope else b""
    host = next((value for name, value in headers if name == b"host"), b"").decode("latin-1")
    if (found := _by_host(headers)) is not None:
        target = _without_authority(target)
        return Address(found[2], int(found[1]), target, host, "", upgrade)
    if (path := _by_path(target)) is not None:
        rest = target[path.end() :]
        rest = rest if rest.startswith(b"/") else b"/" + rest
        id, raw = path[1].decode().lower(), path[2] is not None
        return Address(id, int(path[3]), rest, host, path[0].decode(), upgrade, raw)
    return None


def _by_path(target: bytes) -> re.Match[bytes] | None:
    found = PREFIX.match(target)
    return found if found is not None and int(found[3]) <= PORT_MAX else None


def _by_host(headers: list[tuple[bytes, bytes]]) -> re.Match[str] | None:
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1:
        return None
    name = hosts[0].decode("latin-1").lower()
    name = (name.rpartition(":")[0] if ":" in name else name).rstrip(".")
    found = names_a_port(name)
    return found if found is not None and int(found[1]) <= PORT_MAX else None


def _without_authority(target: bytes) -> bytes:
    """`http://host/path`, as proxies are asked, without its first half; anything else as it is."""
    if target.startswith(b"/") or b"://" not in target.partition(b"?")[0]:
        return target
    rest = target.partition(b"://")[2]
    cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    return rest[cut:] if rest[cut : cut + 1] == b"/" else b"/" + rest[cut:]


def secret_in(target: bytes) -> tuple[bytes, str | None]:
    """A target without the secret of a share in its query, and that secret."""
    path, mark, query = target.partition(b"?")
    begin = SECRET.encode() + b"="
    pieces = query.split(b"&")
    found = [piece for piece in pieces if piece.startswith(begin)]
    if not mark or not found:
        return target, None
    left = b"&".join(piece for piece in pieces if not piece.startswith(begin))
    return path + (b"?" + left if left else b""), found[0][len(begin) :].decode("latin-1")


def url(sandbox_id: str, port: int, domain: str, server_port: int) -> str:
    """The address by host, for a browser. A name of one's own is served by a proxy with TLS."""
    host = f"{port}-{sandbox_id}.{domain}"
    return f"http://{host}:{server_port}/" if domain == "localhost" else f"https://{host}/"
