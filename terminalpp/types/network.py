"""How programs in a sandbox with the network `allowlist` find the way out, and what they were refused."""

from __future__ import annotations

from typing import TypedDict

from terminalpp.types.states import Network

PROXY_PORT = 3128  # on the sandbox's own loopback; what proxies have used for ever
_PROXY = f"http://127.0.0.1:{PROXY_PORT}"
_DIRECT = "localhost,127.0.0.1,::1"


class Target(TypedDict):
    """A host and port that may not be reached, and why not."""

    host: str
    port: int
    reason: str


class NetworkRefused(TypedDict):
    """While an agent's command ran, the network policy of its sandbox refused these targets."""

    exec_id: str
    targets: list[Target]
    agent: str


def proxy_environment(network: str | None) -> dict[str, str]:
    """The variables by which pip, npm, git, curl, apt and most others use the proxy; else none."""
    if network != Network.ALLOWLIST:
        return {}
    names = {"HTTP_PROXY": _PROXY, "HTTPS_PROXY": _PROXY, "NO_PROXY": _DIRECT}
    lower = {name.lower(): value for name, value in names.items()}
    return {**names, **lower, "NODE_USE_ENV_PROXY": "1"}
