"""`Cell`: the Ray actor around a `Host`; cell 0 of a node also runs its `Steward`.

Ray restarts a cell that dies, but gives up for good on an actor whose constructor raises; so the
constructor only starts `_boot`, which tries until the database answers, and every method waits for it.
Methods of the control group run on a thread and loop of their own (Ray does that per concurrency group):
they answer while the main loop is busy, and therefore only read. Settings come from the environment,
which Ray's workers inherit from the head: no secret passes through Ray's tables.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import sys
import uuid
from typing import Any

import ray

from runtime import local_transport, memory, wire
from runtime import settings as settings_module
from runtime.client import Runtime
from runtime.cluster import CONTROL_GROUP, ROOT, RayCells
from runtime.entity_host import Host
from runtime.placement import number
from runtime.registry import Registry
from runtime.steward import Steward
from runtime.watchdog import Watchdog
from schema import Database, Live

log = logging.getLogger("terminalpp.runtime")


class Cell:
    """The Ray actor; see the head of this file. `name`: `cell/<node>/<n>`; `group`: what it imports and
    hosts."""

    async def __init__(self, name: str, group: str) -> None:
        os.chdir(ROOT)
        logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._name = name
        self._group = group
        self._owner = f"{name}@{uuid.uuid4().hex}"
        self._ready = False  # the group's modules are imported
        self._host: Host | None = None
        self._steward: Steward | None = None
        self._server: asyncio.Server | None = None  # callers on this machine come in here
        self._watchdog = Watchdog(asyncio.get_running_loop())
        self._watchdog.start()
        self._booting = asyncio.create_task(self._boot(), name="boot")

    async def _boot(self) -> Host:
        while True:
            try:
                return await self._try_boot()
            except Exception:
                log.exception("%s could not start; trying again", self._name)
                await asyncio.sleep(1.0)

    async def _try_boot(self) -> Host:
        settings = settings_module.load(os.environ)
        logging.getLogger("terminalpp").setLevel(settings.log_level.upper())
        registry = Registry.load(settings.entity_registry, settings.preload_registry)
        database = await Database.connect(settings.database_url or "", application_name=self._name)
        cells = RayCells(Cell, settings.home)
        runtime = Runtime(settings, database, cells, owns_database=False)
        live = Live(settings.redis_url or "")
        host = Host(self._owner, settings, registry, database, live, runtime)
        await host.renew()
        host.start()
        self._server = await local_transport.serve(settings.home, self._name, self._serve)
        self._host = host
        if number(self._name) == 0:
            self._steward = Steward(self._name, host, cells)
            self._steward.start()
        host.background(self._preload(registry), "preload")
        host.background(memory.trim_for_ever(), "trim")
        return host

    async def _preload(self, registry: Registry) -> None:
        """Import the group's heavy modules now, so that the first entity does not wait for them."""
        for entry in registry.preload(self._group):
            module, _, function = entry.partition(":")
            try:
                loaded = await asyncio.to_thread(importlib.import_module, module)
                if function:
                    await asyncio.to_thread(getattr(loaded, function))
            except Exception:
                # Activating an entity of that module will tell the caller; other kinds are unharmed.
                log.exception("%s cannot be preloaded", entry)
        self._ready = True

    async def _serve(self, method: str, data: bytes) -> bytes:
        """Answer a call that came over `runtime.local_transport` as one that came over Ray."""
        return await getattr(self, method)(data)

    async def _booted_host(self) -> Host:
        return self._host or await asyncio.shield(self._booting)

    # ---- the main loop -----------------------------------------------------------------------------

    async def booted(self) -> str:
        """The owner's name of this incarnation, once it serves."""
        await self._booted_host()
        return self._owner

    async def activate(self, data: bytes) -> bytes:
        """[kind, id, takeover_from, crashed] → null."""
        return await _reply(_activate(await self._booted_host(), data))

    async def call(self, data: bytes) -> bytes:
        """[kind, id, method, payload] → the method's value."""
        return await _reply(_call(await self._booted_host(), data))

    async def deliver(self, data: bytes) -> bytes:
        """[kind, id, message_id] → the stored message's result, once it was applied."""
        return await _reply(_deliver(await self._booted_host(), data))

    async def nudge(self, data: bytes) -> bytes:
        """[kind, id] → null: the entity looks into its mailbox soon."""
        return await _reply(_nudge(await self._booted_host(), data))

    async def locate(self, data: bytes) -> bytes:
        """[kind, id] → the name of the cell that hosts it now. Only of the steward."""
        await self._booted_host()
        if self._steward is None:
            return wire.refusal(wire.NOT_HERE)
        return await _reply(self._steward.locate(wire.parse(data)[0]))

    async def whoami(self, _data: bytes) -> bytes:
        """The name under which this incarnation owns entities."""
        return self._owner.encode()

    async def retire(self) -> bool:
        """Stop, before the steward ends this cell; False when an entity came meanwhile."""
        return await (await self._booted_host()).retire()

    # ---- the control loop --------------------------------------------------------------------------

    @ray.method(concurrency_group=CONTROL_GROUP)
    async def ping(self) -> bytes:
        """The cell's name, process and health as JSON; answered while the main loop is busy."""
        host = self._host
        return wire.encode({
            "name": self._name, "group": self._group, "owner": self._owner, "pid": os.getpid(),
            "ready": self._ready, "serving": host is not None and host.serving,
            "entities": host.count if host else 0,
            "idle_seconds": host.clock() - host.idle_since if host and not host.count else 0.0,
            "lag_ms": round(self._watchdog.lag_ms, 1),
        })

    @ray.method(concurrency_group=CONTROL_GROUP)
    async def describe(self) -> bytes:
        """What `ping` says, and the entities: which sandbox and which agents stand in this actor."""
        host = self._host
        told: dict[str, Any] = json.loads(await self.ping())
        state = "starting" if host is None else "serving" if host.serving else "suspended"
        return wire.encode(told | {"state": state, "entities": host.list() if host else []})


async def _reply(work: Any) -> bytes:
    """Run it and pack what happened. Cancellation is not packed: nobody waits for it."""
    try:
        return wire.value(await work)
    except wire.Refused as refused:
        return wire.refusal(str(refused.args[0]))
    except Exception as error:
        packed = wire.as_terminal(error)
        if packed is not error:
            log.error("a call failed", exc_info=error)
        return wire.failure(packed)


async def _activate(host: Host, data: bytes) -> None:
    ref, (takeover_from, crashed) = wire.parse(data)
    await host.activate(ref, takeover_from, crashed)


async def _call(host: Host, data: bytes) -> Any:
    ref, (method, payload) = wire.parse(data)
    return await host.find(ref).call(method, payload)


async def _deliver(host: Host, data: bytes) -> Any:
    ref, (message_id,) = wire.parse(data)
    return (await host.find(ref).deliver(message_id)).unwrap()


async def _nudge(host: Host, data: bytes) -> None:
    host.find(wire.parse(data)[0]).wake()
