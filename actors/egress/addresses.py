"""Where a name may lead: each address that is to be connected to is judged, not the name.

An address inside another one (IPv4 in IPv6, NAT64, 6to4, Teredo) is judged by the one inside.
"""

from __future__ import annotations

import ipaddress
import socket
from enum import StrEnum

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = [ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48")]  # RFC 6052, 8215
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291, 2.5.5.1
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")  # Linux takes 0.0.0.0 for itself
# What tells a cloud's machine its secrets, beside link-local 169.254.169.254: Azure, Alibaba, Oracle, AWS.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")
)


class Standing(StrEnum):
    """`HOST`: this very machine. `NEVER`: link-local, metadata, multicast and what is no address of a
    host."""

    PUBLIC = "public"
    PRIVATE = "private"
    HOST = "host"
    NEVER = "never"


def standing(text: str) -> Standing:
    """The standing of an address as the resolver gives it, without asking the machine."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if (inner := _inside(address)) is not None:
        found = standing(str(inner))
        return Standing.NEVER if found is Standing.PUBLIC and not _is_mapped(address) else found
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return Standing.NEVER
    if address.is_loopback:
        return Standing.HOST
    if address.version == 4 and (address in _THIS_NETWORK or int(address) >= 0xF0000000):
        return Standing.NEVER
    return Standing.PUBLIC if address.is_global else Standing.PRIVATE


def is_own(text: str) -> bool:
    """Whether an address is this machine's: what would be sent there goes out with the same one. Sends
    nothing."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((text, 9))
            return asking.getsockname()[0] == text
        except OSError:
            return False  # no route: connecting will say so


def _is_mapped(address: IPAddress) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


def _inside(address: IPAddress) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one carries."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if any(address in network for network in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _COMPATIBLE and int(address) > 1:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour or (address.teredo[1] if address.teredo else None)
