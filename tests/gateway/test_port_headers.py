"""What a program in a sandbox is told, and what of its answer goes on: as a table."""

from __future__ import annotations

import pytest

from gateway import port_headers
from gateway.origin_checks import Guard
from gateway.port_addresses import Address, url
from terminalpp.types.errors import PortFailed

ID = "6f1d2c3b-0000-4000-8000-000000000001"
BY_PATH = Address(ID, 8000, b"/", "localhost:7438", f"/v1/sandboxes/{ID}/ports/8000", b"")
BY_HOST = Address(ID, 8000, b"/", f"8000-{ID}.localhost:7438", "", b"")


@pytest.mark.parametrize("name", [b"clear-site-data", b"strict-transport-security", b"alt-svc"])
@pytest.mark.parametrize("address", [BY_PATH, BY_HOST])
def test_what_reaches_beyond_a_page_is_taken_out_and_named(address: Address, name: bytes) -> None:
    told = port_headers.response(address, [(name, b"x"), (b"content-type", b"text/html")])
    assert name not in dict(told)
    assert dict(told)[b"tpp-removed"] == name
    assert dict(told)[b"content-type"] == b"text/html"


def test_by_path_nothing_is_at_home() -> None:
    said = [(b"set-cookie", b"a=b"), (b"content-security-policy", b"default-src *"), (b"nel", b"{}")]
    told = dict(port_headers.response(BY_PATH, said))
    assert b"set-cookie" not in told
    assert told[b"content-security-policy"].startswith(b"sandbox; default-src 'none'")
    assert told[b"tpp-port"] == b"8000"
    assert told[b"tpp-removed"] == b"set-cookie, nel"


def test_by_host_a_cookie_is_for_that_host_and_never_ours() -> None:
    said = [(b"set-cookie", b"a=b; Domain=localhost; Path=/"), (b"set-cookie", b"tpp_share=forged")]
    told = port_headers.response(BY_HOST, said)
    assert [value for name, value in told if name == b"set-cookie"] == [b"a=b; Path=/"]


NONE = [(b"a b", b"x"), (b"x", b"a\rb"), (b"x", b"a\nSet-Cookie: y"), (b"", b"x")]


@pytest.mark.parametrize("header", NONE)
def test_a_header_that_is_none_is_refused(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(PortFailed):
        port_headers.response(BY_HOST, [header])


def test_the_program_is_told_one_length_and_no_secret_of_ours() -> None:
    given = [
        (b"host", b"x"), (b"authorization", b"Bearer ours"), (b"cookie", b"a=1; tpp_share=s; b=2"),
        (b"x-forwarded-for", b"9.9.9.9"), (b"content-length", b"3"), (b"transfer-encoding", b"chunked"),
        (b"connection", b"close, x-private"), (b"x-private", b"1"),
    ]  # fmt: skip
    told = port_headers.request(BY_HOST, given, "10.0.0.7", ours=True, server_port=7438)
    assert dict(told)[b"cookie"] == b"a=1; b=2"
    assert dict(told)[b"x-forwarded-for"] == b"10.0.0.7"
    assert {b"authorization", b"content-length", b"x-private"}.isdisjoint(dict(told))
    assert dict(told)[b"transfer-encoding"] == b"chunked"


def test_a_domain_of_ones_own() -> None:
    guard = Guard([".ports.example.com"])
    assert guard.domain(f"8000-{ID}.ports.example.com") == "ports.example.com"
    assert guard.domain("8000.example.com") is None
    assert guard.ports_domain == "ports.example.com"
    assert url(ID, 8000, guard.ports_domain, 7438) == f"https://8000-{ID}.ports.example.com/"
    assert url(ID, 8000, Guard([]).ports_domain, 7438) == f"http://8000-{ID}.localhost:7438/"
