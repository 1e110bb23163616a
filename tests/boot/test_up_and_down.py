"""Real processes: what `up`, `down` and `status` do, whatever was killed before."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import asyncpg
import pytest

from runtime import boot, settings
from runtime.home import Home
from runtime.services import postgres, processes
from runtime.services.gateway import http_status
from runtime.services.redis import Redis
from tests.boot.node import Node
from tests.eventually import eventually


def last(lines):
    return lines[-1]


async def one(node: Node) -> int:
    """Ask the node's database through a log-in."""
    connection = await asyncpg.connect(boot.database_url(settings.load(node.environment)), timeout=10)
    try:
        return await connection.fetchval("SELECT 1")
    finally:
        await connection.close()


async def test_a_long_home_with_spaces_boots_and_reports(node):
    state = node.status()
    assert state["state"] == "ready"
    assert {name: unit["state"] for name, unit in state["services"].items()} == dict.fromkeys(
        ("postgres", "redis", "ray", "gateway"), "running"
    )
    assert all(unit["alive"] for unit in state["services"].values())
    assert len(str(node.home)) > 200
    assert await one(node) == 1
    status, lines = node.verb("db", "status")
    assert status == 0
    assert [item["version"] for item in last(lines)["items"]][:3] == [1, 2, 3]
    status, lines = node.verb("db", "verify")
    assert (status, last(lines)["items"]) == (0, [])


def test_everything_in_the_home_is_private(node):
    assert node.home.stat().st_mode & 0o777 == 0o700
    for path in (node.home / "secrets").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    short = settings.run_dir(node.home)
    assert short != node.home
    assert short.stat().st_mode & 0o777 == 0o700
    for service in node.status()["services"].values():
        arguments = processes.command_line(service["pid"])
        for secret in (node.home / "secrets").iterdir():
            assert secret.read_text().strip() not in arguments


def test_a_second_up_says_that_it_runs(node):
    before = node.status()
    status, lines = node.up()
    assert status == 0
    assert last(lines)["already"] is True
    assert node.status()["services"] == before["services"]


async def test_postgres_comes_back(node):
    before = node.process("postgres")
    before.signal(signal.SIGKILL)
    unit = await node.recovered("postgres", before)
    assert unit["restarts"] == 1
    assert await one(node) == 1


async def test_redis_comes_back(node):
    before = node.process("redis")
    before.signal(signal.SIGKILL)
    await node.recovered("redis", before)


async def test_the_gateway_comes_back_at_its_address(node):
    url, before = node.status()["url"], node.process("gateway")
    before.signal(signal.SIGKILL)
    await node.recovered("gateway", before)
    assert node.status()["url"] == url
    assert await http_status(node.status()["port"], "/livez") == 200


async def test_a_killed_ray_head_comes_back_with_the_gateway_and_leaves_nothing(node):
    before, gateway = node.process("ray"), node.process("gateway")
    members = processes.session_members(before, lambda _: True)
    assert len(members) > 2
    before.signal(signal.SIGKILL)
    await node.recovered("ray", before)
    await node.recovered("gateway", gateway)
    assert not [m for m in members if m.alive]


@pytest.mark.chaos  # by default an end-to-end run does the same
async def test_a_killed_raylet_brings_a_new_cluster(node):
    await node.settled()
    before = node.process("ray")
    ray_process("raylet", before).signal(signal.SIGKILL)
    await node.recovered("ray", before)


async def test_a_killed_gcs_comes_back_under_the_same_head(node):
    await node.settled()
    head = node.process("ray")
    before = ray_process("gcs_server", head)
    before.signal(signal.SIGKILL)
    await eventually(lambda: (found := ray_process("gcs_server", head)) and found != before, timeout_s=30)
    assert node.process("ray") == head


def ray_process(name: str, head: processes.Identity) -> processes.Identity | None:
    for member in processes.session_members(head, lambda _: True):
        if Path(processes.command_line(member.pid).split(" --")[0]).name.startswith(name):
            return member
    return None


async def test_a_killed_supervisor_is_followed_by_one_that_adopts(node):
    await node.settled()
    before = {name: unit["pid"] for name, unit in node.status()["services"].items()}
    node.supervisor().signal(signal.SIGKILL)
    await eventually(lambda: not node.status()["running"])
    status, lines = node.up()
    assert status == 0, lines
    assert {name: unit["pid"] for name, unit in node.status()["services"].items()} == before
    # Adopted ones are watched like own children.
    postgres_before = node.process("postgres")
    postgres_before.signal(signal.SIGKILL)
    await node.recovered("postgres", postgres_before)
    assert await one(node) == 1


# ---- frozen: stopped with SIGSTOP, which no other signal gets through


def everything(*owners) -> list[processes.Identity]:
    """Each process that belongs to one of these services."""
    found = (processes.Identity.of(pid) for pid in processes.all_pids() if any(owns(pid) for owns in owners))
    return [identity for identity in found if identity]


def freeze(members: list[processes.Identity]) -> None:
    assert members
    for member in members:
        member.signal(signal.SIGSTOP)


async def test_a_frozen_postgres_is_replaced(small_node):
    """The default run's one; the others wait for half a minute each and are run by `./tpp test -m chaos`."""
    before = small_node.process("postgres")
    members = everything(postgres.Postgres(Home(small_node.home)).owns)
    assert len(members) > 3
    freeze(members)
    unit = await small_node.recovered("postgres", before, timeout_s=60)
    assert unit["restarts"] >= 1
    assert not [member for member in members if member.alive]
    assert await one(small_node) == 1


async def test_a_frozen_supervisor_is_followed_by_one_that_adopts(small_node):
    before = {name: unit["pid"] for name, unit in small_node.status()["services"].items()}
    frozen = small_node.supervisor()
    frozen.signal(signal.SIGSTOP)
    assert small_node.up()[0] == 0
    assert not frozen.alive
    assert {name: unit["pid"] for name, unit in small_node.status()["services"].items()} == before
    small_node.supervisor().signal(signal.SIGSTOP)
    assert last(small_node.down()[1])["detail"] == "stopped"
    assert small_node.up()[0] == 0


@pytest.mark.chaos
@pytest.mark.parametrize("service", ["redis", "gateway", "ray"])
async def test_a_frozen_service_is_replaced(node, service):
    await node.settled()
    before = node.process(service)
    members = processes.session_members(before, lambda _: True)
    freeze(members)
    await node.recovered(service, before)
    await node.settled()
    assert not [member for member in members if member.alive]
    await eventually(lambda: lives(node), timeout_s=60)


async def lives(node: Node) -> bool:
    return await http_status(node.status()["port"], "/livez") == 200


@pytest.mark.chaos
@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
async def test_a_frozen_part_of_ray_is_replaced(node, name):
    await node.settled()
    head = node.process("ray")
    before = ray_process(name, head)
    freeze([before])
    await eventually(lambda: not before.alive, timeout_s=60)
    if name == "gcs_server":
        await eventually(lambda: (found := ray_process(name, head)) and found != before, timeout_s=30)
        assert node.process("ray") == head
    else:
        await node.recovered("ray", head)
    await node.settled()


# ---- the smaller node: no Ray


async def test_two_homes_do_not_meet(node, small_node):
    def of(each):
        return json.loads((each.home / "run" / "ports.json").read_text()).items()

    assert not {port for _, port in of(node)} & {port for _, port in of(small_node)}
    assert await one(small_node) == 1
    assert small_node.down()[0] == 0
    assert node.status()["state"] == "ready"
    assert await one(node) == 1
    assert small_node.up()[0] == 0


async def test_down_and_up_keep_the_data(small_node):
    connection = await asyncpg.connect(boot.database_url(settings.load(small_node.environment)))
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    await connection.close()
    status, lines = small_node.down()
    assert status == 0
    assert last(lines)["detail"] == "stopped"
    assert last(small_node.down()[1])["detail"] == "was not running"
    assert small_node.verb("status")[0] == 3
    assert small_node.up()[0] == 0
    connection = await asyncpg.connect(boot.database_url(settings.load(small_node.environment)))
    assert await connection.fetchval("SELECT answer FROM kept") == 42
    await connection.close()


async def test_kill_everything_at_once_then_up(small_node):
    """What a reboot does: supervisor and services end in the same moment."""
    killed = [small_node.supervisor(), small_node.process("postgres"), small_node.process("redis")]
    for process in killed:
        process.signal(signal.SIGKILL)
    await eventually(lambda: not any(process.alive for process in killed))
    assert small_node.up()[0] == 0
    assert await one(small_node) == 1


async def test_a_reused_process_number_does_not_keep_postgres_down(small_node):
    assert small_node.down()[0] == 0
    lock = small_node.home / "pg" / "postmaster.pid"
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        lock.write_text(f"{stranger.pid}\n{small_node.home / 'pg'}\n1\n1\n\n\n\n")
        status, lines = small_node.up()
        assert status == 0, lines
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_down_cleans_up_after_a_killed_supervisor(small_node):
    left = [small_node.process("postgres"), small_node.process("redis")]
    small_node.supervisor().signal(signal.SIGKILL)
    await eventually(lambda: not small_node.status()["running"])
    # Also when the records are lost: the processes carry a mark.
    for record in (small_node.home / "run").glob("*.pid"):
        record.unlink()
    assert last(small_node.down()[1])["detail"] == "stopped"
    assert not [process for process in left if process.alive]
    assert small_node.up()[0] == 0


async def test_a_leftover_that_does_not_answer_where_it_should_is_replaced(small_node):
    before = small_node.process("redis")
    small_node.supervisor().signal(signal.SIGKILL)
    await eventually(lambda: not small_node.status()["running"])
    (small_node.home / "run" / "redis.pid").unlink()
    ports = small_node.home / "run" / "ports.json"
    ports.write_text(json.dumps({k: v for k, v in json.loads(ports.read_text()).items() if k != "redis"}))
    assert small_node.up()[0] == 0
    assert not before.alive
    found = processes.leaders(Redis(Home(small_node.home)).owns)
    assert found == [small_node.process("redis")]


def test_a_fixed_port_in_use_is_refused(folder):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        refused = Node(folder / "refused", "gateway", TPP_PORT=str(other.getsockname()[1]))
        status, lines = refused.up()
    assert status == 1
    assert last(lines)["error"]["code"] == "port-in-use"
    assert not refused.status()["running"]


def test_a_corrupt_home_is_refused_with_its_name(folder):
    corrupt = Node(folder / "corrupt", "postgres")
    (corrupt.home / "pg").mkdir(parents=True)
    status, lines = corrupt.up()
    assert status == 1
    assert last(lines)["error"]["code"] == "home-corrupt"
    assert "PG_VERSION" in last(lines)["detail"]


async def test_a_damaged_database_is_refused_with_its_words(folder):
    damaged = Node(folder / "damaged", "postgres")
    assert damaged.up()[0] == 0
    assert damaged.down()[0] == 0
    os.truncate(damaged.home / "pg" / "global" / "pg_control", 0)
    status, lines = damaged.up()
    assert status == 1
    assert last(lines)["error"]["code"] == "home-corrupt"
    assert "control" in last(lines)["detail"]
    assert await postgres.greeting(
        json.loads((damaged.home / "run" / "ports.json").read_text())["postgres"]
    ) == ("silent")


async def test_a_newer_database_is_refused(folder):
    newer = Node(folder / "newer", "postgres,migrate")
    assert newer.up()[0] == 0
    connection = await asyncpg.connect(boot.database_url(settings.load(newer.environment)))
    await connection.execute(
        "INSERT INTO schema_migrations SELECT 9999, 'future', sha256, applied_at, ms"
        " FROM schema_migrations LIMIT 1"
    )
    await connection.close()
    assert newer.down()[0] == 0
    status, lines = newer.up()
    assert status == 1
    assert last(lines)["error"]["code"] == "database-too-new"
    assert not newer.status()["running"]
