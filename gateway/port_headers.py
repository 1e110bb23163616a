"""The headers of a request on its way to a program in a sandbox, and of its answer on the way back.

In: what is between two connections only is taken out, and so is whatever is ours: the token or the link's
secret by which the caller was let in, our cookie, and what a caller says about proxies before us. Said
instead: for whom, under which name and path it was asked.

Out: what is between two connections only is taken out, and what would reach beyond the program's own
origin. By host that is little: a cookie's `Domain`, `Clear-Site-Data`, `Strict-Transport-Security`. By path
the origin is the API's, so nothing from inside may be at home there: no cookie is set, and the page is one
that a browser runs nothing of and shows in no frame. What was taken out is named in `tpp-removed`.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from gateway import origin_checks
from gateway.port_addresses import SECRET, Address
from terminalpp.types.errors import PortFailed

Headers = list[tuple[bytes, bytes]]
REMOVED = b"tpp-removed"
FROM = b"tpp-port"  # by path: the answer is the program's, whatever it says, and not the API's
_BETWEEN = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
    b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip
_PROXIES = frozenset({
    b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port",
    b"x-forwarded-prefix", b"x-real-ip",
})  # fmt: skip
_BEYOND = frozenset({b"clear-site-data", b"strict-transport-security", b"alt-svc"})
_AT_HOME = frozenset({
    b"set-cookie", b"service-worker-allowed", b"report-to", b"reporting-endpoints", b"nel",
})  # fmt: skip
# By path these are replaced by the strictest ones, so that a page is none.
_POLICIES = frozenset({
    b"content-security-policy", b"content-security-policy-report-only", b"x-frame-options",
    b"cross-origin-resource-policy", b"x-content-type-options", b"referrer-policy",
})  # fmt: skip
_STRICT: Headers = [
    (b"content-security-policy", b"sandbox; default-src 'none'; base-uri 'none'; form-action 'none'; "
                                 b"frame-ancestors 'none'"),
    *((name, value) for name, value in origin_checks.headers("/v1") if name in _POLICIES - {
        b"content-security-policy"}),
]  # fmt: skip
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})


def _named(headers: Headers) -> set[bytes]:
    """Headers that `Connection` names: they are between two connections too."""
    return {word.strip().lower() for name, value in headers if name == b"connection"
            for word in value.split(b",")}  # fmt: skip


def request(
    address: Address, headers: Headers, client: str | None, *, ours: bool, server_port: int
) -> Headers:  # fmt: skip
    """What the program is told. `ours`: the Authorization was for us. `client`: the caller's address."""
    drop = _BETWEEN | _PROXIES | _named(headers) | {b"host", b"content-length"}
    drop |= {b"authorization"} if ours else set()
    kept = [(name, value) for name, value in headers if name not in drop and name != b"cookie"]
    by_path = bool(address.prefix)
    if not by_path and (cookie := _cookies(headers)):
        kept.append((b"cookie", cookie))
    host = f"localhost:{address.port}" if by_path else address.host
    named = address.host or f"localhost:{server_port}"
    told = [(b"host", host.encode("latin-1")), *kept]
    if client is not None:
        told += [(b"x-forwarded-for", client.encode()), (b"x-real-ip", client.encode())]
    told += [(b"x-forwarded-host", named.encode("latin-1")), (b"x-forwarded-proto", b"http")]
    if by_path:
        told.append((b"x-forwarded-prefix", address.prefix.encode()))
    who = f'"[{client}]"' if client and ":" in client else client or "unknown"
    quoted = named.replace("\\", "\\\\").replace('"', '\\"')
    told.append((b"forwarded", f'for={who};host="{quoted}";proto=http'.encode("latin-1")))
    if address.upgrade:
        return [*told, (b"connection", b"upgrade"), (b"upgrade", address.upgrade)]
    return [*told, (b"connection", b"close"), *framing(headers)]


def framing(headers: Headers) -> Headers:
    """How the body is told from what follows: one way, whatever the request says (RFC 9112, section 6)."""
    if any(name == b"transfer-encoding" for name, _ in headers):
        return [(b"transfer-encoding", b"chunked")]
    return [(name, value) for name, value in headers if name == b"content-length"][:1]


def _cookies(headers: Headers) -> bytes:
    """The request's cookies without ours."""
    pairs = [pair.strip() for name, value in headers if name == b"cookie" for pair in value.split(b";")]
    return b"; ".join(pair for pair in pairs if pair and pair.partition(b"=")[0].strip() != SECRET.encode())


def cookie_of(headers: Headers) -> str | None:
    """The secret of a share in the request's cookies."""
    for name, value in headers:
        for pair in value.split(b";") if name == b"cookie" else ():
            key, _, secret = pair.strip().partition(b"=")
            if key.strip() == SECRET.encode():
                return secret.strip().decode("latin-1")
    return None


def response(address: Address, headers: Headers) -> Headers:
    """What the caller is told. Raises PortFailed for what is no header."""
    by_path = bool(address.prefix)
    forbidden = _BEYOND | (_AT_HOME if by_path else set())
    drop = _BETWEEN | _named(headers) | {b"date", REMOVED, FROM} | (_POLICIES if by_path else set())
    if any(name == b"transfer-encoding" for name, _ in headers):
        drop |= {b"content-length"}
    removed: dict[bytes, None] = {}
    told: Headers = []
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise PortFailed(f"the program in the sandbox sent a header that is none: {name[:40]!r}")
        if name in forbidden or (name == b"set-cookie" and _is_ours(value)):
            removed[name] = None
        elif name in drop:
            continue
        elif name == b"set-cookie":
            told.append((name, _here(value)))
        elif name in (b"location", b"content-location"):
            told.append((name, _moved(address, value)))
        else:
            told.append((name, value))
    told += [*_STRICT, (FROM, str(address.port).encode())] if by_path else []
    return told + ([(REMOVED, b", ".join(removed))] if removed else [])


def _is_ours(cookie: bytes) -> bool:
    return cookie.partition(b"=")[0].strip() == SECRET.encode()


def _here(cookie: bytes) -> bytes:
    """A cookie without its Domain: it is for this host alone."""
    parts = cookie.split(b";")
    kept = [part for part in parts[1:] if part.partition(b"=")[0].strip().lower() != b"domain"]
    return b";".join([parts[0], *kept])


def _moved(address: Address, value: bytes) -> bytes:
    """A place on the program's own server as the caller reaches it; any other as it is."""
    text = value.decode("latin-1")
    try:
        parts = urlsplit(text)
        own = parts.hostname in _LOOPBACK and (parts.port or 80) == address.port
    except ValueError:
        return value
    if parts.scheme == "http" and own:
        rest = text.partition("://")[2]
        cut = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
        rest = rest[cut:] if rest[cut:].startswith("/") else "/" + rest[cut:]
    elif text.startswith("/") and not text.startswith("//"):
        rest = text
    else:
        return value
    return (address.prefix + rest).encode("latin-1")
