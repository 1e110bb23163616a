"""The actor system on real Ray and Postgres: activation, routing, placement, crashes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from runtime import Runtime
from schema import Database, dead_letters, entities
from terminalpp.types import errors
from terminalpp.types.ids import Ref, new_id
from tests.eventually import eventually
from tests.runtime.conftest import LEASE_SECONDS

# 3–4 s on a calm machine with two cores; the rest is for one that runs other suites at the same time.
RECOVERY_SECONDS = 30.0


async def test_first_call_activates_and_state_is_kept(runtime: Runtime, counter: Ref) -> None:
    assert await runtime.call(counter, "echo", {"a": [1, "ü"]}) == {"a": [1, "ü"]}
    assert await runtime.send(counter, "add", {"n": 2}) == {"total": 2}
    assert (await runtime.call(counter, "get"))["total"] == 2
    assert (await runtime.call(counter, "get"))["epoch"] == 1


async def test_two_callers_at_once_activate_once(runtime: Runtime, counter: Ref) -> None:
    answers = await asyncio.gather(*(runtime.call(counter, "get") for _ in range(20)))
    assert {(answer["pid"], answer["epoch"]) for answer in answers} == {(answers[0]["pid"], 1)}


async def test_same_message_id_returns_the_stored_result(runtime: Runtime, counter: Ref) -> None:
    first = await runtime.send(counter, "add", {"n": 5}, message_id=f"m-{counter.id}")
    again = await runtime.send(counter, "add", {"n": 5}, message_id=f"m-{counter.id}")
    assert first == again == {"total": 5}
    with pytest.raises(errors.IdempotencyMismatch):
        await runtime.send(counter, "add", {"n": 6}, message_id=f"m-{counter.id}")


async def test_errors_cross_as_themselves(runtime: Runtime, counter: Ref) -> None:
    with pytest.raises(errors.Conflict) as refused:
        await runtime.send(counter, "refuse", {"x": 1})
    assert refused.value.next_step == "Ask nicely."
    assert refused.value.extra == {"asked": {"x": 1}}
    with pytest.raises(errors.UnknownMethod):
        await runtime.call(counter, "no_such_method")
    with pytest.raises(errors.UnknownMethod):
        await runtime.call(counter, "add")
    with pytest.raises(errors.UnknownMethod):
        await runtime.send(counter, "echo")
    with pytest.raises(errors.InvalidInput):
        await runtime.call(counter, "wrong")
    with pytest.raises(errors.NotFound):
        await runtime.call(Ref("unheard-of", "1"), "get")
    with pytest.raises(errors.InvalidInput):
        await runtime.call(Ref("missing", "1"), "get")


async def test_deadline(runtime: Runtime, counter: Ref) -> None:
    await runtime.call(counter, "get")
    with pytest.raises(errors.DeadlineExceeded):
        await runtime.call(counter, "hang", timeout_s=0.3)


async def test_everything_is_visible_through_ray(runtime: Runtime, counter: Ref) -> None:
    """Ray itself is asked: named actors, and what each says that it hosts."""
    import ray

    talker = Ref("talker", new_id())
    await runtime.call(counter, "get")
    await runtime.call(talker, "get")
    hosted: dict[tuple[str, str], str] = {}
    for name in ray.util.list_named_actors():
        actor = ray.get_actor(name, "terminalpp")
        import json

        told = json.loads(await actor.describe.remote())
        assert told["name"] == name
        for entity in told["entities"]:
            hosted[(entity["kind"], entity["id"])] = told["group"]
    assert hosted[("counter", counter.id)] == "general"
    assert hosted[("talker", talker.id)] == "conversation"
    named = await runtime.cells()
    assert {cell["group"] for cell in named} >= {"node", "general", "conversation"}
    assert (await runtime.describe())["entities"] >= 2


async def test_empty_cells_are_preferred_and_spares_refilled(runtime: Runtime) -> None:
    first, second = Ref("counter", new_id()), Ref("counter", new_id())
    await eventually(lambda: _has_spare(runtime), timeout_s=30)
    one = await runtime.call(first, "get")
    await eventually(lambda: _spare_or_full(runtime), timeout_s=30)
    two = await runtime.call(second, "get")
    cells = await runtime.cells()
    if len(cells) < 6:
        assert one["pid"] != two["pid"]
    assert len(cells) <= 7  # the budget, and one cell that a group without any needed


async def _has_spare(runtime: Runtime) -> bool:
    cells = await runtime.cells()
    return len(cells) >= 6 or any(c["group"] == "general" and not c["entities"] for c in cells)


async def _spare_or_full(runtime: Runtime) -> bool:
    return await _has_spare(runtime)


async def test_kill_mid_turn_applies_exactly_once(runtime: Runtime, counter: Ref, tmp_path: Path) -> None:
    await runtime.send(counter, "add", {"n": 10})
    began = time.monotonic()
    result = await runtime.send(counter, "add_and_die_once", {"marker": str(tmp_path / "died")}, timeout_s=60)
    took = time.monotonic() - began
    assert result == {"total": 11}
    assert (await runtime.call(counter, "get"))["total"] == 11
    assert took < RECOVERY_SECONDS, f"took {took:.1f} s"


async def test_killed_while_nobody_waits_resumes_by_itself(
    runtime: Runtime, counter: Ref, cluster_database: Database, tmp_path: Path
) -> None:
    message = f"m-{counter.id}"
    await runtime.send(
        counter, "add_and_die_once", {"marker": str(tmp_path / "died")}, message_id=message, wait=False
    )

    async def applied() -> bool:
        row = await entities.load(cluster_database, counter)
        return row is not None and row.state.get("total") == 1

    await eventually(applied, timeout_s=60)


async def test_a_call_outlives_its_cell(runtime: Runtime, counter: Ref, tmp_path: Path) -> None:
    """It is made again, whether it has a limit or not."""
    go = tmp_path / "go"
    for limit, epoch in ((60.0, 1), (None, 2)):
        waiting = tmp_path / f"waiting{epoch}"
        pid = (await runtime.call(counter, "get"))["pid"]
        names = {"waiting": str(waiting), "go": str(go)}
        pending = asyncio.create_task(runtime.call(counter, "write_when_told", names, timeout_s=limit))
        await eventually(waiting.exists, timeout_s=10)
        waiting.unlink()
        os.kill(pid, signal.SIGKILL)
        await eventually(waiting.exists, timeout_s=30)
        go.touch()
        assert await pending == "written"
        go.unlink()
        assert (await runtime.call(counter, "get"))["epoch"] == epoch + 1


async def test_a_call_that_no_cell_answers_ends_with_its_time(runtime: Runtime, counter: Ref) -> None:
    pending = asyncio.create_task(runtime.call(counter, "hang", timeout_s=3.0))
    await eventually(lambda: _calls(runtime, counter), timeout_s=5)
    with pytest.raises(errors.DeadlineExceeded):
        await pending


async def _calls(runtime: Runtime, ref: Ref) -> bool:
    return any(
        entity["id"] == ref.id and entity["calls"]
        for cell in await runtime.cells() for entity in cell["entities"]
    )


async def test_effect_is_retried_after_a_kill_and_done_once_committed(
    runtime: Runtime, counter: Ref, tmp_path: Path, cluster_database: Database
) -> None:
    file = tmp_path / "lines"
    payload = {"name": "write_line_and_die_once", "file": str(file), "marker": str(tmp_path / "died")}
    action_id = await runtime.send(counter, "act", payload)

    async def done() -> bool:
        query = "SELECT status FROM outbox WHERE action_id = $1"
        return await cluster_database.fetchval(query, action_id) == "done"

    await eventually(done, timeout_s=60)
    assert file.read_text().split() == [action_id, "1", action_id, "1"]


async def test_frozen_cell_is_fenced_and_drops_the_entity(
    runtime: Runtime, counter: Ref, tmp_path: Path
) -> None:
    """Stopped past its lease, the entity lives elsewhere; woken, the old copy may not write."""
    pid = (await runtime.call(counter, "get"))["pid"]
    waiting, go = tmp_path / "waiting", tmp_path / "go"
    zombie = asyncio.create_task(
        runtime.call(counter, "write_when_told", {"waiting": str(waiting), "go": str(go)}, timeout_s=60)
    )
    await eventually(waiting.exists)
    os.kill(pid, signal.SIGSTOP)
    try:
        other = Runtime(runtime._settings, runtime._database, runtime._cells, owns_database=False)
        began = time.monotonic()
        await other.send(counter, "add", {"n": 1}, timeout_s=60)
        assert time.monotonic() - began < LEASE_SECONDS + RECOVERY_SECONDS
        assert (await other.call(counter, "get"))["pid"] != pid
        go.touch()
    finally:
        os.kill(pid, signal.SIGCONT)
    with pytest.raises((errors.Fenced, errors.Unavailable)):
        await zombie

    async def dropped() -> bool:
        hosts = [
            cell["pid"] for cell in await runtime.cells()
            for entity in cell["entities"] if entity["id"] == counter.id
        ]
        return hosts != [] and pid not in hosts

    await eventually(dropped)
    assert (await runtime.call(counter, "get"))["epoch"] == 2


@pytest.mark.chaos
async def test_cell_frozen_in_a_turn_gives_the_row_back(
    runtime: Runtime, counter: Ref, tmp_path: Path
) -> None:
    """Its transaction holds the entity's row lock; Postgres ends it, and the turn runs elsewhere, once."""
    marker = tmp_path / "frozen"
    try:
        result = await runtime.send(counter, "freeze_once", {"marker": str(marker)}, timeout_s=100)
    finally:
        with contextlib.suppress(ProcessLookupError):  # the steward may have ended it meanwhile
            os.kill(int(marker.read_text()), signal.SIGCONT)
    assert result == {"total": 1}
    assert await runtime.send(counter, "add", {"n": 1}) == {"total": 2}


@pytest.mark.chaos
async def test_cell_that_stays_frozen_is_killed(runtime: Runtime, counter: Ref) -> None:
    pid = (await runtime.call(counter, "get"))["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(errors.Unavailable):
            await runtime.call(counter, "hang", timeout_s=100)
    finally:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGCONT)
    assert (await runtime.call(counter, "get"))["pid"] != pid


@pytest.mark.chaos
async def test_frozen_steward_is_ended_by_who_waits_for_it(runtime: Runtime) -> None:
    (steward,) = [cell for cell in await runtime.cells() if cell["name"].endswith("/0")]
    os.kill(steward["pid"], signal.SIGSTOP)
    try:
        fresh = Ref("counter", new_id())
        assert await runtime.send(fresh, "add", {"n": 3}, timeout_s=100) == {"total": 3}
    finally:
        if Path(f"/proc/{steward['pid']}").exists():
            os.kill(steward["pid"], signal.SIGCONT)


async def test_blocked_loop_is_ended_by_the_watchdog(runtime: Runtime, counter: Ref) -> None:
    pid = (await runtime.call(counter, "get"))["pid"]
    with pytest.raises((errors.Unavailable, errors.DeadlineExceeded)):
        await runtime.call(counter, "block", {"seconds": 60}, timeout_s=30)
    after = await runtime.call(counter, "get")
    assert after["pid"] != pid


async def test_message_that_kills_its_cell_becomes_a_dead_letter(
    runtime: Runtime, counter: Ref, cluster_database: Database
) -> None:
    with pytest.raises(errors.TerminalError, match="died"):
        await runtime.send(counter, "die", timeout_s=120)
    assert await runtime.send(counter, "add", {"n": 1}, timeout_s=60) == {"total": 1}
    letters = await dead_letters.list(cluster_database, kind="counter", entity_id=counter.id)
    assert [letter.name for letter in letters] == ["die"]


async def test_reminder_survives_a_kill(runtime: Runtime, counter: Ref) -> None:
    await runtime.send(counter, "remind_me", {"after": 1.5})
    pid = (await runtime.call(counter, "get"))["pid"]
    os.kill(pid, signal.SIGKILL)

    async def ticked() -> bool:
        return (await runtime.call(counter, "get")).get("ticks") == 1

    await eventually(ticked, timeout_s=60, interval_s=0.2)


async def test_steward_dies_and_all_goes_on(runtime: Runtime, counter: Ref) -> None:
    await runtime.call(counter, "get")
    cells = await runtime.cells()
    (steward,) = [cell for cell in cells if cell["name"].endswith("/0")]
    os.kill(steward["pid"], signal.SIGKILL)
    assert await runtime.call(counter, "echo", {"still": "here"}) == {"still": "here"}
    fresh = Ref("counter", new_id())
    began = time.monotonic()
    assert await runtime.send(fresh, "add", {"n": 3}, timeout_s=60) == {"total": 3}
    assert time.monotonic() - began < RECOVERY_SECONDS
    assert (await runtime.call(counter, "get"))["epoch"] == 1  # the steward's death touched nobody else
