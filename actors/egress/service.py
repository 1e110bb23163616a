"""The egress proxy of a machine: finds the sandboxes with an allowlist and lets out what each may reach.

What it knows is in Postgres: which sandboxes run with an allowlist, and their policies. It looks every
LOOK_SECONDS and when it is nudged; a request is judged by the policy as it stands at that moment, and what
is open and not allowed any more is cut at the next look. Killed, it loses what was under way; started
again, it finds the sockets where they are, in each sandbox's tppd. While it does not run nothing gets out,
and while Postgres does not answer no new connection does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from actors.egress.credentials import Credentials, NoCredentials
from actors.egress.dialing import Dialer
from actors.egress.dialogue import Means
from actors.egress.nudge import DONE
from actors.egress.policy import Policy
from actors.egress.refusals import Refusals
from actors.egress.way import Way, take_listener
from schema import Database, network
from terminalpp.types.errors import TerminalError

log = logging.getLogger("terminalpp.egress")
LOOK_SECONDS = 1.0
SERVE_SECONDS = 1.0  # of one look


class Egress:
    """See the head of this file. `run_dir`: where a sandbox's tppd listens, by the sandbox's id."""

    def __init__(
        self, database: Database, node_id: str, run_dir: Callable[[str], Path], dialer: Dialer,
        credentials: Credentials | None = None,
    ) -> None:  # fmt: skip
        self._database, self._node_id, self._run_dir, self._dialer = database, node_id, run_dir, dialer
        self._credentials = credentials or NoCredentials()
        self._ways: dict[str, Way] = {}
        self._refusals: dict[str, Refusals] = {}
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._looking = asyncio.Lock()

    async def run(self) -> None:
        """Look after the sandboxes, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> bool:
        """Serve what is to be served, cut what is not; False when it cannot be known just now."""
        async with self._looking:
            try:
                wanted = await network.served(self._database, self._node_id)
            except TerminalError as error:
                log.warning("the sandboxes cannot be looked for: %s", error)
                return False
            for sandbox_id in [id for id, way in self._ways.items() if id not in wanted or way.closed]:
                await self._ways.pop(sandbox_id).close()
            for sandbox_id in [id for id in self._refusals if id not in wanted]:
                await self._refusals.pop(sandbox_id).flush()
            for sandbox_id, policy in wanted.items():
                if sandbox_id not in self._serving:
                    task = asyncio.create_task(self._serve(sandbox_id, policy))
                    self._serving[sandbox_id] = task
                    task.add_done_callback(lambda task, id=sandbox_id: self._served(id, task))
            if self._serving:  # one whose tppd does not answer (it may be frozen) holds up no other
                await asyncio.wait(list(self._serving.values()), timeout=SERVE_SECONDS)
            return True

    def _served(self, sandbox_id: str, task: asyncio.Task[None]) -> None:
        self._serving.pop(sandbox_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s could not be served", sandbox_id, exc_info=error)

    async def nudged(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody has changed something, and wants to know when it holds."""
        try:
            if await self.look():
                writer.write(DONE)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def close(self) -> None:
        """Cut everything."""
        for task in list(self._serving.values()):
            task.cancel()
        for way in self._ways.values():
            await way.close()
        self._ways.clear()

    async def _serve(self, sandbox_id: str, policy: dict[str, object] | None) -> None:
        refusals = self._refusals.setdefault(sandbox_id, Refusals(self._database, sandbox_id))
        await refusals.flush()
        if (way := self._ways.get(sandbox_id)) is not None:
            await way.enforce(self._read(sandbox_id, policy))
            return
        try:
            handed = await take_listener(self._run_dir(sandbox_id))
        except TerminalError as error:
            log.debug("%s: no way out yet: %s", sandbox_id, error)  # it starts, or has just died
            return
        self._ways[sandbox_id] = Way(handed, self._means(sandbox_id, refusals))
        log.info("%s: the way out is open", sandbox_id)

    def _means(self, sandbox_id: str, refusals: Refusals) -> Means:
        async def policy() -> Policy | None:
            found = await network.policy_of(self._database, sandbox_id)
            return None if found is None else self._read(sandbox_id, found)

        return Means(sandbox_id, policy, refusals.add, self._dialer, self._credentials)

    @staticmethod
    def _read(sandbox_id: str, policy: dict[str, object] | None) -> Policy:
        """The stored policy; one that cannot be read (of a newer version) allows nothing."""
        try:
            return Policy.from_json(policy)
        except TerminalError as error:
            log.error("%s: its policy cannot be read, so nothing is let out: %s", sandbox_id, error)
            return Policy()
