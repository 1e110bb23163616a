"""The life of a sandbox as a table: state and operation in, state and actions out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.sandbox import core
from actors.sandbox.core import (
    Destroy,
    Died,
    Held,
    Pause,
    Perform,
    Restart,
    Resume,
    Sandbox,
    Start,
    Started,
    StartFailed,
    Stop,
    Stopped,
    Wanted,
)
from terminalpp.types.states import SandboxState

NEW = Sandbox(spec={"cpu": 1})
STARTING = replace(NEW, status=SandboxState.STARTING, wanted=Wanted.RUNNING, generation=1, detail="starting")
RUNNING = replace(STARTING, status=SandboxState.RUNNING, driver="docker", started={"handle": "h"}, detail="")
STOPPING = replace(RUNNING, wanted=Wanted.STOPPED, ending=True, detail="stopping")
STOPPED = replace(STOPPING, status=SandboxState.STOPPED, ending=False, started=None, detail="")
ERROR = replace(STARTING, status=SandboxState.ERROR, detail="no", error={"detail": "no"})
PAUSING = replace(RUNNING, paused=True, holding=True, holds=1, detail="pausing")
PAUSED = replace(PAUSING, frozen=True, holding=False, detail="paused")
RESUMING = replace(PAUSED, paused=False, holding=True, holds=2, detail="resuming")
GONE = replace(STOPPED, wanted=Wanted.DESTROYED)

OK = Started(1, "docker", {"handle": "h"})
FAILED = StartFailed(1, {"detail": "no"})
S, W = SandboxState, Wanted

# before, operation, (status, wanted, generation) or None for IGNORED, actions
TABLE = [
    (NEW, Start(), (S.STARTING, W.RUNNING, 1), ["start 1"]),
    (STARTING, Start(), None, []),
    (RUNNING, Start(), None, []),
    (ERROR, Start(), (S.STARTING, W.RUNNING, 2), ["start 2"]),
    (STOPPED, Start(), (S.STARTING, W.RUNNING, 2), ["start 2"]),
    (STOPPING, Start(), (S.RUNNING, W.RUNNING, 1), []),
    (GONE, Start(), None, []),
    (STARTING, OK, (S.RUNNING, W.RUNNING, 1), []),
    (STARTING, Started(0, "docker", {}), None, []),
    (RUNNING, OK, None, []),
    (replace(STARTING, wanted=W.STOPPED), OK, (S.RUNNING, W.STOPPED, 1), ["stop 1"]),
    (replace(STARTING, wanted=W.DESTROYED), OK, (S.RUNNING, W.DESTROYED, 1), ["stop 1"]),
    (STARTING, FAILED, (S.ERROR, W.RUNNING, 1), []),
    (replace(STARTING, wanted=W.DESTROYED), FAILED, (S.ERROR, W.DESTROYED, 1), ["remove 1"]),
    (RUNNING, FAILED, None, []),
    (NEW, Stop(), (S.STOPPED, W.STOPPED, 0), []),
    (RUNNING, Stop(), (S.RUNNING, W.STOPPED, 1), ["stop 1"]),
    (RUNNING, Stop(idle=True), (S.RUNNING, W.ASLEEP, 1), ["stop 1"]),
    (STOPPING, Stop(), None, []),
    (STOPPED, Stop(idle=True), None, []),
    (STARTING, Stop(), (S.STARTING, W.STOPPED, 1), []),
    (NEW, Restart(), (S.STARTING, W.RUNNING, 1), ["start 1"]),
    (STARTING, Restart(), None, []),
    (replace(STARTING, wanted=W.STOPPED), Restart(), (S.STARTING, W.RUNNING, 1), []),
    (RUNNING, Restart(), (S.RUNNING, W.RUNNING, 1), ["stop 1"]),
    (STOPPING, Restart(), (S.RUNNING, W.RUNNING, 1), []),
    (replace(STOPPING, wanted=W.RUNNING), Restart(), None, []),
    (STOPPED, Restart(), (S.STARTING, W.RUNNING, 2), ["start 2"]),
    (ERROR, Restart(), (S.STARTING, W.RUNNING, 2), ["start 2"]),
    (GONE, Restart(), None, []),
    (replace(STOPPING, wanted=W.DESTROYED), Restart(), None, []),
    (NEW, Pause(), None, []),
    (STARTING, Pause(), None, []),
    (STOPPING, Pause(), None, []),
    (RUNNING, Pause(), (S.RUNNING, W.RUNNING, 1), ["hold 1"]),
    (RUNNING, Resume(), None, []),
    (RUNNING, Held(1, True), None, []),
    (PAUSING, Pause(), None, []),
    (PAUSING, Held(0, True), None, []),
    (PAUSING, Held(1, True), (S.RUNNING, W.RUNNING, 1), []),
    (PAUSING, Resume(), (S.RUNNING, W.RUNNING, 1), []),
    (replace(PAUSING, paused=False), Held(1, True), (S.RUNNING, W.RUNNING, 1), ["hold 1"]),
    (PAUSING, Stop(), (S.RUNNING, W.STOPPED, 1), []),
    (replace(PAUSING, wanted=W.STOPPED), Held(1, True), (S.RUNNING, W.STOPPED, 1), ["stop 1"]),
    (PAUSED, Resume(), (S.RUNNING, W.RUNNING, 1), ["hold 1"]),
    (PAUSED, Stop(), (S.RUNNING, W.STOPPED, 1), ["stop 1"]),
    (PAUSED, Restart(), (S.RUNNING, W.RUNNING, 1), ["stop 1"]),
    (PAUSED, Destroy(), (S.RUNNING, W.DESTROYED, 1), ["stop 1"]),
    (PAUSED, Died(1, "killed"), (S.ERROR, W.ASLEEP, 1), []),
    (RESUMING, Held(1, False), (S.RUNNING, W.RUNNING, 1), []),
    (STOPPING, Stopped(1), (S.STOPPED, W.STOPPED, 1), []),
    (STOPPING, Stopped(0), None, []),
    (replace(STOPPING, wanted=W.RUNNING), Stopped(1), (S.STARTING, W.RUNNING, 2), ["start 2"]),
    (replace(STOPPING, wanted=W.DESTROYED), Stopped(1), (S.STOPPED, W.DESTROYED, 1), ["remove 1"]),
    (RUNNING, Died(1, "killed"), (S.ERROR, W.ASLEEP, 1), []),
    (RUNNING, Died(1, "the machine restarted", expected=True), (S.STOPPED, W.ASLEEP, 1), []),
    (RUNNING, Died(0, "killed"), None, []),
    (STOPPING, Died(1, "killed"), (S.STOPPED, W.STOPPED, 1), []),
    (replace(STOPPING, wanted=W.RUNNING), Died(1, "killed"), (S.STARTING, W.RUNNING, 2), ["start 2"]),
    (replace(STOPPING, wanted=W.DESTROYED), Died(1, "killed"), (S.STOPPED, W.DESTROYED, 1), ["remove 1"]),
    (STOPPED, Died(1, "killed"), None, []),
    (RUNNING, Destroy(), (S.RUNNING, W.DESTROYED, 1), ["stop 1"]),
    (STOPPING, Destroy(), (S.RUNNING, W.DESTROYED, 1), []),
    (STOPPED, Destroy(), (S.STOPPED, W.DESTROYED, 1), ["remove 1"]),
    (ERROR, Destroy(), (S.ERROR, W.DESTROYED, 1), ["remove 1"]),
    (GONE, Destroy(), None, []),
    (GONE, Stop(), None, []),
]


@pytest.mark.parametrize(("before", "op", "after", "actions"), TABLE)
def test_table(before, op, after, actions):
    applied = core.apply(before, op)
    if after is None:
        assert applied is core.IGNORED
        return
    got = applied.sandbox
    assert (got.status, got.wanted, got.generation) == after
    assert [f"{action.name} {action.generation}" for action in applied.actions] == actions


def test_commands_are_settled_when_and_only_when_their_sandbox_ends():
    assert core.apply(RUNNING, Died(1, "killed")).ended
    assert core.apply(STOPPING, Stopped(1)).ended
    assert core.apply(replace(STOPPING, wanted=W.RUNNING), Stopped(1)).ended
    assert core.apply(STARTING, FAILED).ended
    assert not core.apply(RUNNING, Stop()).ended
    assert not core.apply(STARTING, OK).ended


def test_a_pause_holds_until_it_is_resumed_or_its_sandbox_ends():
    assert core.apply(PAUSING, Held(1, True)).sandbox == PAUSED
    assert not PAUSED.usable
    assert not RESUMING.usable
    assert core.apply(PAUSED, Resume()).sandbox == RESUMING
    assert core.apply(RESUMING, Held(1, False)).sandbox.usable
    ended = core.apply(PAUSED, Died(1, "killed")).sandbox
    assert not ended.held


def test_a_pause_that_cannot_be_is_taken_back_with_its_reason():
    s = core.apply(PAUSING, Held(1, False, {"detail": "no freezer"})).sandbox
    assert s.usable
    assert (s.detail, s.error) == ("no freezer", {"detail": "no freezer"})
    assert core.apply(s, Pause()).sandbox.error is None


def test_state_survives_json():
    for sandbox in (NEW, STARTING, RUNNING, PAUSED, RESUMING, STOPPING, STOPPED, ERROR, GONE):
        assert Sandbox.from_json(sandbox.to_json()) == sandbox
    assert Sandbox.from_json({}) == Sandbox()


# The row's trigger allows these steps only (schema/migrations/0002_repairs.sql).
ALLOWED = {(S.STOPPED, S.STARTING), (S.STARTING, S.RUNNING), (S.RUNNING, S.STOPPED), (S.ERROR, S.STARTING)}
OPS = st.sampled_from([
    "start", "stop", "restart", "pause", "resume", "froze", "thawed",
    "sleep", "destroy", "ok", "failed", "stopped", "died"])


@given(st.lists(OPS, max_size=40))
def test_any_history_keeps_the_promises(names):
    """One effect at a time; every step is one the database allows; nothing leaves `destroyed`."""
    s, under_way = NEW, None
    for name in names:
        generation = s.generation
        op = {"start": Start(), "stop": Stop(), "restart": Restart(),
              "pause": Pause(), "resume": Resume(), "froze": Held(generation, True),
              "thawed": Held(generation, False),
              "sleep": Stop(idle=True), "destroy": Destroy(),
              "ok": Started(generation, "docker", {}), "failed": StartFailed(generation, {"detail": "no"}),
              "stopped": Stopped(generation), "died": Died(generation, "killed")}[name]
        # An effect reports only while it is under way; death is seen by a probe, at any time.
        reports = {"ok": "start", "failed": "start", "stopped": "stop", "froze": "hold",
                   "thawed": "hold"}
        if name in reports:
            if under_way != reports[name]:
                continue
            under_way = None
        applied = core.apply(s, op)
        if applied is None:
            continue
        after = applied.sandbox
        step = (s.status, after.status)
        if name in ("stopped", "died") and step == (S.RUNNING, S.STARTING):
            step = (S.RUNNING, S.STOPPED)  # the row takes both steps, one after the other
        assert step[0] == step[1] or step in ALLOWED or step[1] is S.ERROR
        assert s.wanted is not W.DESTROYED or after.wanted is W.DESTROYED
        if name == "died" and under_way in ("stop", "hold"):
            under_way = None  # its report will be ignored
        for action in applied.actions:
            assert under_way is None, f"{action} while {under_way} is under way"
            assert isinstance(action, Perform)
            under_way = action.name
        s = after
        assert (s.started is not None) == (s.status is S.RUNNING)
        assert s.ending == (under_way == "stop")
        assert s.usable == (s.status is S.RUNNING and under_way is None and not s.frozen)
        assert s.holding == (under_way == "hold")
        assert s.status is S.RUNNING or not s.held
