"""The supervisor with small services of the test's own: real processes that do one thing."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from runtime import supervisor as supervisors
from runtime.home import Home
from runtime.services import Service, processes
from runtime.settings import load
from runtime.supervisor import Supervisor
from terminalpp.types.errors import PortInUse, ServiceFailed
from tests.eventually import eventually

SERVER = """
import asyncio, sys
async def main():
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", int(sys.argv[1]))
    print("listening", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Small(Service):
    """Listens on its port, or runs another script."""

    starts_within_s = 10.0
    stops_within_s = 5.0
    signature = "-c"

    def __init__(self, home: Home, name: str, needs: tuple[str, ...] = (), script: str = SERVER) -> None:
        super().__init__(home)
        self.name, self.needs, self.script = name, needs, script

    async def prepare(self, settings, progress):
        self.home.port(self.name, ours=self.leftover)
        return {}

    def command(self, settings):
        return [sys.executable, "-c", self.script, str(self.home.remembered_port(self.name))]

    async def ready(self, settings):
        try:
            async with asyncio.timeout(0.2):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self.home.remembered_port(self.name)
                )
                await reader.read()
                writer.close()
        except (OSError, TimeoutError):
            return False
        return True


@pytest.fixture
async def make(tmp_path):
    """Makes supervisors on one home; whatever they run is stopped at the end."""
    home = Home(tmp_path / "h")
    home.prepare()
    made: list[Supervisor] = []

    def make(*services: Small) -> Supervisor:
        settings = load({"TPP_HOME": str(home.path)})
        made.append(Supervisor(home, settings, services, lambda *line: lines.append(line)))
        return made[-1]

    lines: list[tuple[str, str, str]] = []
    make.home, make.lines = home, lines
    yield make
    for each in made:
        await each.stop()


def state(home: Home, name: str) -> dict:
    return json.loads(home.state_file.read_text())["services"][name]


async def test_steps_are_in_order_and_stop_is_complete_and_repeatable(make):
    node = make(Small(make.home, "one"), Small(make.home, "two"))
    await node.start()
    assert [(step, word) for step, word, _ in make.lines] == [
        ("one", "start"), ("one", "done"), ("two", "start"), ("two", "done"),
    ]  # fmt: skip
    identities = [unit.running.identity for unit in node.units.values()]
    assert all(identity.alive for identity in identities)
    await node.stop()
    await node.stop()
    assert not any(identity.alive for identity in identities)
    assert state(make.home, "one")["state"] == "stopped"


async def test_what_needs_a_lost_service_is_restarted_after_it(make):
    node = make(Small(make.home, "base"), Small(make.home, "other"), Small(make.home, "top", needs=("base",)))
    await node.start()
    before = {name: unit.running.identity for name, unit in node.units.items()}
    before["base"].signal(signal.SIGKILL)
    await eventually(lambda: node.units["top"].restarts and node.units["top"].up.is_set())
    after = {name: unit.running.identity for name, unit in node.units.items()}
    assert after["base"] != before["base"]
    assert after["top"] != before["top"]
    assert after["other"] == before["other"]
    assert int(after["top"].start.split(":")[1]) >= int(after["base"].start.split(":")[1])


async def test_a_frozen_service_is_replaced_with_all_its_processes(make, monkeypatch):
    """It is not asked to end: a stopped process would hear it when it is too late."""
    monkeypatch.setattr(supervisors, "HEALTH_EVERY_SECONDS", 0.05)
    script = (
        f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1)\n{SERVER}"
    )
    service = Small(make.home, "one", script=script)
    service.stops_within_s = 3600.0
    node = make(service)
    await node.start()
    before = node.units["one"].running.identity
    members = processes.session_members(before, lambda _: True)
    assert len(members) == 2
    try:
        for member in members:
            member.signal(signal.SIGSTOP)
        await eventually(lambda: before.stopped)
        await eventually(lambda: node.units["one"].restarts == 1 and node.units["one"].up.is_set(), 20)
        assert not any(member.alive for member in members)
        assert node.units["one"].running.identity != before
    finally:
        service.stops_within_s = 5.0


async def test_a_service_that_never_starts_fails_with_its_words_and_stops_the_others(make):
    node = make(Small(make.home, "good"), Small(make.home, "bad", script="raise SystemExit('no such luck')"))
    with pytest.raises(ServiceFailed, match="no such luck"):
        await node.start()
    assert node.units["good"].running is None
    assert json.loads(make.home.state_file.read_text())["state"] == "failed"
    assert make.lines[-1][:2] == ("bad", "failed")


async def test_a_crash_loop_is_slowed_down_and_can_be_stopped(make, tmp_path):
    flag = tmp_path / "fail"
    script = f"import os, sys\nif os.path.exists({str(flag)!r}): sys.exit('loop')\n{SERVER}"
    node = make(Small(make.home, "one", script=script))
    await node.start()
    flag.touch()
    node.units["one"].running.identity.signal(signal.SIGKILL)
    await eventually(lambda: "loop" in state(make.home, "one")["detail"])
    assert state(make.home, "one")["state"] in ("restarting", "starting")
    flag.unlink()
    await eventually(lambda: state(make.home, "one")["state"] == "running", timeout_s=30)


async def test_the_rest_of_a_dead_session_is_ended(make):
    script = (
        f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1)\n{SERVER}"
    )
    node = make(Small(make.home, "one", script=script))
    await node.start()
    leader = node.units["one"].running.identity
    child = next(m for m in processes.session_members(leader, lambda _: True) if m != leader)
    leader.signal(signal.SIGKILL)
    await eventually(lambda: not child.alive)
    await eventually(lambda: node.units["one"].up.is_set())


async def test_a_leftover_is_adopted_only_when_it_is_the_same(make):
    first = make(Small(make.home, "one"), Small(make.home, "two"))
    await first.start()
    before = {name: unit.running.identity for name, unit in first.units.items()}
    for keeper in first._keepers:  # what SIGKILL does to a supervisor
        keeper.cancel()
    second = make(Small(make.home, "one"), Small(make.home, "two", script=SERVER + "\n# newer"))
    await second.start()
    assert second.units["one"].running.identity == before["one"]
    assert second.units["one"].running.adopted
    assert second.units["two"].running.identity != before["two"]
    assert not before["two"].alive


def test_a_number_without_its_start_time_names_nobody():
    stranger = processes.Identity(1, "00000000:1")
    assert not stranger.alive
    stranger.signal(signal.SIGKILL)
    assert Path("/proc/1").exists()
    assert processes.session_members(stranger, lambda _: True) == []


async def test_a_stranger_on_the_port_is_not_taken_for_the_service(make):
    """Two homes may choose one port in the same second; the later one moves."""

    class Movable(Small):
        may_move = True

        def failure(self, how, tail):
            return PortInUse(tail) if "address already in use" in tail.lower() else super().failure(how, tail)

    service = Movable(make.home, "one")
    node = make(service)
    chosen = make.home.port("one")
    before_start = service.before_start

    async def stranger_first():
        nonlocal stranger
        await before_start()
        if stranger is None:
            stranger = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", chosen)

    stranger = None
    service.before_start = stranger_first
    await node.start()
    assert make.home.remembered_port("one") != chosen
    assert not processes.strangers_listen(
        node.units["one"].running.identity, make.home.remembered_port("one")
    )
    assert processes.strangers_listen(node.units["one"].running.identity, chosen)
    stranger.close()


async def test_a_check_that_hangs_is_a_sign_of_no_life(make, monkeypatch):
    monkeypatch.setattr(supervisors, "HEALTH_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(supervisors, "HEALTH_WITHIN_SECONDS", 0.05)
    service = Small(make.home, "one")
    node = make(service)
    await node.start()
    before = node.units["one"].running.identity

    async def hang(_settings):
        if node.units["one"].running.identity == before:
            await asyncio.get_running_loop().create_future()
        return True

    service.alive = hang
    await eventually(lambda: node.units["one"].restarts == 1 and node.units["one"].up.is_set(), timeout_s=20)
    assert not before.alive
