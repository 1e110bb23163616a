"""A refusal of the egress proxy: what was asked for, why not, and what a person can do about it."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a connection was not made or was cut."""

    NOT_ALLOWED = "not-allowed"          # no entry of the policy speaks of it
    PRIVATE_ADDRESS = "private-address"  # its name leads into a private network
    HOST_ADDRESS = "host-address"        # its name leads to the machine that the sandbox runs on
    NEVER = "forbidden-address"          # link-local, metadata, multicast
    OTHER_NAME = "other-name"            # inside TLS another server was asked for
    NOT_TLS = "not-tls"                  # port 443, and no TLS
    POLICY_CHANGED = "policy-changed"    # it was open, and is not allowed any more


_WORDS = {
    Reason.NOT_ALLOWED: "the network policy of this sandbox does not allow it",
    Reason.PRIVATE_ADDRESS: "its name leads to a private address",
    Reason.HOST_ADDRESS: "its name leads to the machine that the sandbox runs on",
    Reason.NEVER: "its name leads to an address that is never let out to (link-local, metadata, multicast)",
    Reason.OTHER_NAME: "inside TLS another name was asked for",
    Reason.NOT_TLS: "port 443 is for TLS, and this is none",
    Reason.POLICY_CHANGED: "the network policy was changed and does not allow it any more",
}
_OPTION = {Reason.NOT_ALLOWED: "--allow", Reason.POLICY_CHANGED: "--allow",
           Reason.PRIVATE_ADDRESS: "--allow-private"}


class Refused(Exception):
    """`host`:`port` may not be reached, for `reason`."""

    def __init__(self, host: str, port: int, reason: Reason) -> None:
        super().__init__(host, port, reason)
        self.host, self.port, self.reason = host, port, reason

    @property
    def target(self) -> str:
        """What was asked for, as an entry of a policy has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (443, 80) and ":" not in self.host else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}: {_WORDS[self.reason]}"

    def way_out(self, sandbox_id: str) -> str:
        """What a person can do, or "" where nothing helps."""
        option = _OPTION.get(self.reason)
        return f"./tpp sandbox network {sandbox_id[:8]} {option} {self.target}" if option else ""
