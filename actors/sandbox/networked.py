"""The part of the sandbox entity that keeps its network: which one it has, and what an allowlist lets it
reach.

`none` and `allowlist` have the same walls, a network namespace without a device, so one becomes the other
while the sandbox runs: its tppd listens on the loopback inside, or stops. `open` is made when a sandbox
starts, so to it and from it one changes while the sandbox does not run. The bytes are carried by the egress
proxy (`actors.egress`), a process of its own, which reads the row; where it does not run nothing gets out
until it does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from actors.egress.nudge import nudge
from actors.egress.policy import Policy
from actors.egress.way import take_listener
from actors.sandbox import core
from actors.sandbox.core import Wanted
from actors.sandbox.tppd.client import Tppd
from actors.sandbox.tppd.protocol import Op
from runtime import Action, Entity, Turn, durable, effect, typed, volatile
from runtime.settings import Settings
from schema import network as rows
from schema import sandboxes
from terminalpp.types.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    SandboxNotRunning,
    TerminalError,
)
from terminalpp.types.states import Network, SandboxState

RUNS = (SandboxState.STARTING, SandboxState.RUNNING)


def chosen(
    payload: dict[str, Any], row: sandboxes.Sandbox | None, settings: Settings
) -> tuple[Network, dict[str, Any] | None]:
    """The network that `payload` asks for, else `row`'s, else the server's default; and the policy of an
    allowlist. Raises InvalidInput naming the field."""
    listed = payload.get("allow") is not None or payload.get("allow_private") is not None
    wanted = payload.get("network") or (Network.ALLOWLIST if listed else None)
    wanted = wanted or (row.network if row else settings.sandbox_network)
    try:
        network = Network(wanted)
    except ValueError:
        raise InvalidInput(f"network: {wanted!r} is none of none, allowlist and open") from None
    if network is not Network.ALLOWLIST:
        if listed:
            raise InvalidInput(f"allow: the network {network} has no list",
                               "Leave it out, or say network: allowlist.")
        return network, row.network_policy if row else None  # for when it is an allowlist again
    if listed:
        return network, Policy.of(payload.get("allow") or (), payload.get("allow_private") or ()).to_json()
    if row is not None and row.network_policy is not None:
        return network, row.network_policy
    default = (settings.sandbox_network_allow or "").replace(",", " ").split()
    return network, Policy.of(default).to_json()


class Networked(Entity):
    """See the head of this file. The sandbox brings `core`, `run_dir` and `_attach`."""

    run_dir: str
    _attach: Callable[[], Awaitable[None]]
    core: core.Sandbox

    @durable
    async def set_network(self, turn: Turn, payload: dict[str, Any]) -> dict[str, Any]:
        """Another network or list. Payload: network, allow, allow_private, as of `create`; a list that is
        left out stays. Returns `network` and the policy. What was open and is not allowed any more is cut.

        Raises NotFound, InvalidInput, Conflict (from or to `open` while it runs).
        """
        typed(payload, network=str, allow=list, allow_private=list)
        now = core.Sandbox.from_json(turn.state.get("core") or {})
        if not turn.state or now.wanted is Wanted.DESTROYED:
            raise NotFound(f"there is no sandbox {self.ref.id}")
        row = await sandboxes.get(turn.connection, self.ref.id)
        kept = row.network_policy or {} if payload.get("network") in (None, Network.ALLOWLIST) else {}
        listed = {**kept, **payload} if "allow" in payload or "allow_private" in payload else payload
        network, policy = chosen(listed, row, self.context.settings)
        before = now.spec.get("network", Network.NONE)
        if network != before and Network.OPEN in (network, before) and now.status in RUNS:
            raise Conflict(f"the network cannot be changed from {before} to {network} while the sandbox is "
                           f"{now.status}", "Stop it first: `./tpp sandbox stop`.")
        await rows.set_network(turn.connection, self.ref.id, network, policy)
        turn.state["core"] = {**turn.state["core"], "spec": {**now.spec, "network": str(network)}}
        turn.act("apply_network")
        return {"network": str(network), "policy": policy}

    @effect
    async def apply_network(self, _action: Action) -> None:
        """Make the running sandbox listen, or stop, as its network now is; have the proxy look. What a
        program inside prevents is told on the record."""
        try:
            await self.network_applied()
        except SandboxNotRunning:
            return  # its next start does it
        except TerminalError as error:
            if error.retryable:
                raise
            async with self.context.fenced() as connection:
                await sandboxes.set_status(connection, self.ref.id, self.core.status, f"the network: {error}")

    @volatile
    async def network_applied(self, _payload: dict[str, Any] | None = None) -> bool:
        """Returns when what `set_network` said holds inside; False: the proxy does not answer just now.

        Raises Conflict (a program inside has taken the port), SandboxNotRunning.
        """
        if self.core.usable:
            await self._attach()  # the next command has the variables of the new network
            await self._open_way(self.run_dir)
        return await nudge(self.context.settings.home)

    async def _open_way(self, run_dir: str) -> None:
        """The way out, or none, as the network says. Raises Conflict (a program has taken the port)."""
        match self.core.spec.get("network"):
            case Network.ALLOWLIST:
                (await take_listener(run_dir)).close()
            case Network.NONE:
                tppd = Tppd(run_dir)
                try:
                    await tppd.ask(Op.EGRESS_CLOSE, [])
                finally:
                    await tppd.close()

    async def _lead_out(self, run_dir: str) -> None:
        """Before its first command: the way out of a sandbox with an allowlist."""
        if self.core.spec.get("network") == Network.ALLOWLIST:
            await self._open_way(run_dir)
            await nudge(self.context.settings.home)
