"""What a sandbox with the network `allowlist` may reach: host names and ports, written by a person.

An entry of `allow` is `api.example.org` (ports 443 and 80), `api.example.org:8443`, `*.example.org` (every
name below it, not itself), `*` (every public host), or a preset such as `pypi` (presets.json). It lets out
to public addresses only, whatever the name resolves to. An entry of `allow_private` is one exact name or
address, which may also lead to a private network. Names are compared as DNS does: without case and final
dot, in punycode.

Pure. Refuses what is no host name, and numbers that only some programs read as an address (`0x7f.1`).
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from terminalpp.types.errors import InvalidInput

PORTS = (443, 80)  # of an entry that names none
ENTRIES_MAX = 200
ENTRY_CHARACTERS = 260  # a name has 253, a port 5
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_HINT = "Write `api.example.org`, `api.example.org:8443`, `*.example.org`, or a preset: {}."


@cache
def presets() -> dict[str, list[str]]:
    """The entries behind each preset's name."""
    return json.loads((Path(__file__).parent / "presets.json").read_text())


def host_of(text: str) -> str:
    """A host's name in the one way we write it, or an address in its usual form. Raises ValueError."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare:
        return str(ipaddress.IPv6Address(bare.partition("%")[0] if "%" not in bare else ""))
    if not bare.isascii():
        bare = bare.encode("idna").decode()
    name = bare.lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):  # then it is an address, or nothing that two programs would agree upon
        return str(ipaddress.IPv4Address(name))
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{text!r} is no host name")
    return name


def host_and_port(text: str) -> tuple[str, int | None]:
    """`name`, `name:port`, `[v6]:port`: the host as `host_of` has it, and the port. Raises ValueError."""
    found = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?", text)
    if found is None:
        if text.count(":") > 1:
            return host_of(text), None  # a bare IPv6 address
        raise ValueError(f"{text!r} is neither a host nor host:port")
    port = int(found[2]) if found[2] else None
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"{text!r}: a port is between 1 and 65535")
    return host_of(found[1]), port


@dataclass(frozen=True, slots=True)
class Rule:
    """`below`: every name below `host` ("" is all), and not `host` itself. `port` None: PORTS."""

    host: str
    port: int | None
    below: bool = False

    def matches(self, host: str, port: int) -> bool:
        """Whether it speaks of this host and port."""
        if port != self.port if self.port else port not in PORTS:
            return False
        if not self.below:
            return host == self.host
        return not is_address(host) and (not self.host or host.endswith(f".{self.host}"))

    def __str__(self) -> str:
        host = f"*.{self.host}" if self.below and self.host else ("*" if self.below else self.host)
        host = f"[{host}]" if ":" in host and self.port else host
        return f"{host}:{self.port}" if self.port else host


@dataclass(frozen=True, slots=True)
class Policy:
    """See the head of this file. `allow` and `allow_private` are as written, in our spelling."""

    allow: tuple[str, ...] = ()
    allow_private: tuple[str, ...] = ()
    _rules: tuple[Rule, ...] = ()
    _private: tuple[Rule, ...] = ()

    @classmethod
    def of(cls, allow: Sequence[str] = (), allow_private: Sequence[str] = ()) -> Policy:
        """The policy of these entries. Raises InvalidInput naming the field and the entry."""
        allow, allow_private = list(dict.fromkeys(allow)), list(dict.fromkeys(allow_private))
        for field, entries in (("allow", allow), ("allow_private", allow_private)):
            if len(entries) > ENTRIES_MAX:
                raise InvalidInput(f"{field}: {len(entries)} entries; the limit is {ENTRIES_MAX}")
        private = tuple(_private_rule(entry) for entry in allow_private)
        named: list[str] = []
        rules: list[Rule] = []
        for entry in allow:
            if entry in presets():
                named.append(entry)
                rules += [_rule("allow", one) for one in presets()[entry]]
            else:
                rules.append(_rule("allow", entry))
                named.append(str(rules[-1]))
        return cls(_once(named), _once(str(rule) for rule in private), tuple(rules), private)

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Policy:
        """What `to_json` wrote; nothing at all for None."""
        value = value or {}
        return cls.of(tuple(value.get("allow") or ()), tuple(value.get("allow_private") or ()))

    def to_json(self) -> dict[str, list[str]]:
        """As it is stored."""
        return {"allow": list(self.allow), "allow_private": list(self.allow_private)}

    def permits(self, host: str, port: int) -> bool:
        """Whether this host may be reached at this port at all; `host` as `host_of` has it."""
        return any(rule.matches(host, port) for rule in self._rules) or self.permits_private(host, port)

    def permits_private(self, host: str, port: int) -> bool:
        """Whether that may be on a private network."""
        return any(rule.matches(host, port) for rule in self._private)

    def lines(self) -> Iterator[str]:
        """Every rule in words, presets written out."""
        yield from _once(str(rule) for rule in self._rules)
        yield from (f"{rule} (private)" for rule in self._private)


def _once(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def is_address(host: str) -> bool:
    """Whether `host`, as `host_of` has it, is an address and no name."""
    return ":" in host or host.replace(".", "").isdigit()


def _rule(field: str, entry: str) -> Rule:
    hint = _HINT.format(", ".join(presets()))
    if not isinstance(entry, str) or len(entry) > ENTRY_CHARACTERS:
        raise InvalidInput(f"{field}: an entry is a text of at most {ENTRY_CHARACTERS} characters", hint)
    below = entry == "*" or entry.startswith(("*.", "*:"))
    rest = entry[2:] if entry.startswith("*.") else entry[1:] if below else entry
    try:
        if below and not entry.startswith("*."):
            port = int(rest[1:]) if rest else None
            if port is not None and not 1 <= port <= 65535:
                raise ValueError("a port is between 1 and 65535")
            return Rule("", port, True)
        host, port = host_and_port(rest)
    except (ValueError, UnicodeError) as error:
        raise InvalidInput(f"{field}: {entry!r} is no host: {error}", hint) from None
    if below and is_address(host):
        raise InvalidInput(f"{field}: {entry!r}: nothing is below an address", hint)
    if field == "allow" and not below and "." not in host and ":" not in host:
        raise InvalidInput(f"{field}: there is no preset {entry!r}, and a public host has a dot", hint)
    return Rule(host, port, below)


def _private_rule(entry: str) -> Rule:
    rule = _rule("allow_private", entry)
    if rule.below:
        raise InvalidInput(f"allow_private: {entry!r}: a private host is named exactly, without *",
                           "Write `db.internal:5432`.")
    return rule
