"""The conversation's core and the closing of turns as tables; the turn log's proofs on Postgres."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from actors.agent.turn_log import Superseded, TurnLog
from actors.conversation import closing, core
from actors.conversation.workspace import numstat
from graphs.ports import Event
from schema import Database, Live, conversations, entities, events, users
from terminalpp.types.errors import Conflict, Fenced, InvalidInput, NotFound, TooLarge
from terminalpp.types.ids import Fence, Ref, new_id
from terminalpp.types.states import TurnOutcome


def conversation(**changes: Any) -> core.Conversation:
    made = core.created({"user_id": "u", "sandbox_id": "s", "workspace": "/home/user/x/", "model": "m"})
    return replace(made, **changes)


def accept(c: core.Conversation, *ids: str, now: float = 1.0) -> core.Conversation:
    for id in ids:
        applied = core.apply(c, core.Accept("c", id, now))
        assert applied is not None
        c = applied.conversation
    return c


def close(c: core.Conversation, turn_id: str, *delivered: str) -> core.Applied | None:
    outcome = TurnOutcome.CANCELLED if c.cancel else TurnOutcome.PASSED
    return core.apply(c, core.Close("c", turn_id, "t" * 9999, outcome, "s" * 9999, frozenset(delivered), 2.0))


# ---- the core ----------------------------------------------------------------------------------


def test_a_new_conversation_has_its_settings():
    made = conversation()
    assert (made.workspace, made.mode, made.queue) == ("/home/user/x", "team", ())
    assert core.Conversation.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize("bad", [
    {"workspace": "/x"}, {"sandbox_id": "s"}, {"sandbox_id": "s", "workspace": "x"},
    {"sandbox_id": "s", "workspace": "/x", "mode": "crowd"}, {"sandbox_id": "s", "workspace": "/\0"},
])  # fmt: skip
def test_bad_settings_are_refused(bad):
    with pytest.raises(InvalidInput):
        core.created(bad)


@pytest.mark.parametrize(("text", "queue", "error"), [
    (" \n", [], InvalidInput), ("x" * 300_000, [], TooLarge), ("x", ["m"] * 100, Conflict), ("x", [], None),
])  # fmt: skip
def test_messages_are_checked(text, queue, error):
    if error is None:
        core.check_message({"queue": queue}, text)
    else:
        with pytest.raises(error):
            core.check_message({"queue": queue}, text)


def test_turns_come_one_after_the_other():
    c = accept(conversation(), "m1", "m1", "m2", "m2", "m3")
    first = c.turn
    assert first is not None, "an idle conversation begins at once"
    assert (first["message_id"], first["number"], c.queue) == ("m1", 1, ("m2", "m3")), "one at a time"
    cancelled = core.apply(c, core.Cancel())
    assert cancelled is not None
    assert cancelled.conversation.cancel == first["turn_id"]
    closed = close(cancelled.conversation, first["turn_id"])
    assert closed is not None
    assert closed.begun is not None, "the next begins with the end of the last"
    assert (closed.begun["message_id"], closed.begun["started_at"]) == ("m2", 2.0)
    assert closed.begun["turn_id"] != first["turn_id"]
    assert closed.conversation.cancel is None
    assert close(closed.conversation, first["turn_id"]) is core.IGNORED, "only once"


def test_what_concerns_no_running_turn_changes_nothing():
    idle, busy = conversation(), accept(conversation(), "m")
    for c, op in ((idle, core.Cancel()), (idle, core.Announced("t", 4)), (busy, core.Announced("other", 4))):
        assert core.apply(c, op) is core.IGNORED
    assert close(idle, "t") is core.IGNORED


def test_a_turn_is_announced_and_prepared():
    c = accept(conversation(), "m")
    assert c.turn is not None
    turn_id = c.turn["turn_id"]
    c = core.apply(c, core.Announced(turn_id, 7)).conversation
    c = core.apply(c, core.Prepared(turn_id, "tree1")).conversation
    assert (c.turn["seq"], c.turn["base"], c.baseline, c.set_up) == (7, "tree1", "tree1", True)
    later = core.apply(c, core.Prepared("ended meanwhile", "tree2")).conversation
    assert (later.turn["base"], later.baseline) == ("tree1", "tree1"), "the baseline is the first one"


def test_delivered_messages_start_no_turn_and_history_is_bounded():
    c = accept(conversation(), "m0")
    for number in range(1, 12):
        c = accept(c, f"given{number}", f"m{number}")
        closed = close(c, c.turn["turn_id"], f"given{number}")
        c = closed.conversation
        assert c.turn["message_id"] == f"m{number}"
    assert len(c.history) == core.HISTORY_TURNS
    assert len(c.history[0]["task"]) == core.HISTORY_CHARACTERS
    assert c.queue == ()


def test_a_deleted_conversation_ends_its_turn_and_begins_none():
    c = core.apply(accept(conversation(), "m1", "m2"), core.Delete()).conversation
    assert (c.deleted, c.queue, c.cancel) == (True, (), c.turn["turn_id"])
    closed = close(c, c.turn["turn_id"])
    assert (closed.begun, closed.conversation.turn) == (None, None)
    with pytest.raises(NotFound):
        core.exists(c.to_json(), "c")


def test_another_model_is_for_the_turns_to_come():
    c = core.apply(accept(conversation(), "m"), core.SetModel("better")).conversation
    assert (c.turn["model"], c.model) == ("m", "better")


def test_a_conversation_that_was_never_made():
    with pytest.raises(NotFound):
        core.exists({}, "c")


# ---- closing -----------------------------------------------------------------------------------


def told(*entries: tuple[str, dict[str, Any]]) -> list[Event]:
    return [Event(n, type, "coder", payload) for n, (type, payload) in enumerate(entries, 1)]


def test_open_ends_are_found():
    log = told(
        ("tool.called", {"tool_call_id": "1", "task_id": "t", "tool": "bash", "exec_id": "e1"}),
        ("command.started", {"exec_id": "e1"}),
        ("command.finished", {"exec_id": "e1"}),
        ("tool.finished", {"tool_call_id": "1"}),
        ("tool.called", {"tool_call_id": "2", "task_id": "t", "tool": "bash", "exec_id": "e2"}),
        ("command.started", {"exec_id": "e2"}),
        ("tool.called", {"tool_call_id": "3", "task_id": "t", "tool": "search", "exec_id": "e3"}),
        ("model.started", {"call_id": "m1"}),
        ("model.finished", {"call_id": "m1", "usage": {"input_tokens": 5}, "cost_usd": None}),
        ("model.started", {"call_id": "m2"}),
    )
    left = closing.loose(log)
    assert [called["tool_call_id"] for _, called in left.calls] == ["2", "3"]
    assert [started["exec_id"] for _, started in left.commands] == ["e2"]
    assert (left.hidden, left.models) == (["e3"], ["m2"])
    written = closing.entries(
        log, {"turn_id": "x", "started_at": 1.0}, closing.TurnEnd(TurnOutcome.CANCELLED), 3.0
    )
    assert [type for type, _, _ in written] == ["tool.finished", "tool.finished", "turn.finished"]
    end = written[-1][2]
    assert (end["duration_ms"], end["cost_usd"], end["usage"]["input_tokens"]) == (2000, None, 5)


def test_numstat_takes_any_name():
    assert numstat(b"1\t2\ta b\0-\t-\t\xffx\n\0") == [
        {"path": "a b", "added": 1, "removed": 2},
        {"path": "�x\n", "added": None, "removed": None},
    ]


# ---- the turn log ------------------------------------------------------------------------------


class Place:
    def __init__(self, database: Database, live: Live, id: str, fence: Fence, agent: Fence) -> None:
        self.database, self.live, self.id, self.fence, self.agent = database, live, id, fence, agent

    def log(self, fence: Fence | None = None, writer: Fence | None = None) -> TurnLog:
        return TurnLog(self.database, self.live, fence or self.fence, "t1", 0, writer)


@pytest.fixture
async def place(database: Database, redis_url: str):
    user, id, agent = await users.ensure_owner(database), new_id(), new_id()
    await conversations.create(database, id, user, None)
    mine = await entities.claim(database, Ref("conversation", id), "a", 0.0)
    its = await entities.claim(database, Ref("agent", agent), "a", 0.0)
    await entities.save_state(
        database, mine.fence, {"turn": {"turn_id": "t1"}, "queue": ["m1", "m2"], "model": "m"}
    )
    live = Live(redis_url)
    yield Place(database, live, id, mine.fence, its.fence)
    await live.close()


async def test_a_superseded_conversation_writes_nothing(place: Place):
    old = place.log()
    await entities.claim(place.database, Ref("conversation", place.id), "b", 9.0)
    with pytest.raises(Superseded):
        await old.emit("x", "coder", {})
    with pytest.raises(Superseded):
        await old.task_history("t")
    assert await events.last_seq(place.database, place.id) == 0


async def test_a_superseded_agent_writes_nothing(place: Place):
    old = place.log(writer=place.agent)
    await old.emit("x", "coder", {})
    await entities.claim(place.database, Ref("agent", place.agent.id), "b", 9.0)
    with pytest.raises(Fenced):
        await old.emit("x", "coder", {})
    assert await events.last_seq(place.database, place.id) == 1


@pytest.mark.parametrize("after", [
    {"turn": None}, {"turn": {"turn_id": "t2"}}, {"turn": {"turn_id": "t1"}, "cancel": "t1"}])  # fmt: skip
async def test_nothing_is_written_behind_the_end_of_the_turn(place: Place, after):
    await entities.save_state(place.database, place.fence, after)
    with pytest.raises(Superseded):
        await place.log(writer=place.agent).emit("x", "coder", {})


async def test_once_is_once_also_when_two_write_at_the_same_time(place: Place):
    log = place.log()
    await asyncio.gather(*(log.emit_once("command.started", "coder", {"exec_id": "e"}) for _ in range(8)))
    assert await events.last_seq(place.database, place.id) == 1


async def test_queued_messages_are_delivered_once(place: Place):
    log = place.log()
    await log.append([("message.accepted", "user", {"message_id": m, "text": m}) for m in ("m1", "m2")])
    given = await asyncio.gather(*(log.deliver("task", "coder") for _ in range(3)))
    assert sorted(len(messages) for messages in given) == [0, 0, 2]
    assert len(await log.task_history("task")) == 2
