"""Going back in a conversation: files, chat and what it knew; undone, cut short, and in the middle of a
turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schema import messages, rewind_points
from terminalpp.types.branches import holds, ranges
from terminalpp.types.errors import Conflict, NotFound
from terminalpp.types.ids import new_id
from tests.agents.conftest import REPO, Talk
from tests.agents.test_turns import FIX, call, team
from tests.eventually import eventually


async def points(chat: Talk) -> dict[str, rewind_points.RewindPoint]:
    return {one.label: one for one in await rewind_points.list(chat.database, chat.id) if one.snapshot_id}


async def go_back(chat: Talk, point: rewind_points.RewindPoint | str) -> dict[str, Any]:
    rewind_id = new_id()
    id = point if isinstance(point, str) else point.id
    await chat.send("rewind", rewind_id=rewind_id, point_id=id)
    return await told(chat, rewind_id)


async def told(chat: Talk, rewind_id: str) -> dict[str, Any]:
    async def there() -> bool:
        await chat.sweep()
        return any(e.payload["rewind_id"] == rewind_id for e in await chat.events("conversation.rewound"))

    await eventually(there, timeout_s=60)
    return next(
        e.payload for e in await chat.events("conversation.rewound") if e.payload["rewind_id"] == rewind_id
    )


async def branch(chat: Talk) -> list[tuple[int, int]]:
    rewinds = [(e.seq, e.payload["to_seq"]) for e in await chat.events("conversation.rewound")]
    return ranges(rewinds, (await chat.events())[-1].seq)


async def sh(chat: Talk, script: str) -> str:
    ran = await chat.cell.sh(chat.sandbox_id, f"cd {REPO} && {script}")
    assert ran["exit_code"] == 0, ran
    return ran["stdout"]


async def test_a_turn_is_taken_back_and_the_taking_back_too(talk, script):
    chat = await talk(script(team(FIX)))
    await sh(
        chat, "echo kept > ../neighbour; mkdir -p build; echo old > build/out; echo '/build' > .gitignore"
    )
    await chat.post("Fix the failing test")
    assert (await chat.finished())["outcome"] == "passed"
    assert "a + b" in await chat.read("calc.py")
    await sh(chat, "echo mine > mine.txt; echo new > build/out; echo changed > ../neighbour")
    known = await points(chat)
    first = known["before: Fix the failing test"]
    done = await go_back(chat, first)
    assert "a - b" in await chat.read("calc.py")
    assert await sh(chat, "cat build/out ../neighbour; ls mine.txt 2>&1 || :") == (
        "old\nchanged\nls: cannot access 'mine.txt': No such file or directory\n"
    )
    assert (done["to_seq"], done["untouched"]) == (first.event_seq, [])
    state = await chat.call("describe")
    assert (state["turn"], state["rewinding"]) == (None, None)
    on = await branch(chat)
    assert not any(holds(on, e.seq) for e in await chat.events("message.accepted", "turn.finished"))
    rows = await messages.list(chat.database, chat.id)
    assert [row.metadata.get("abandoned") for row in rows] == [True, True]
    # And back again: the files that a person made meanwhile are there too.
    undone = await go_back(chat, done["undo_point_id"])
    assert undone["to_seq"] == (await chat.events("conversation.rewound"))[0].seq - 1
    assert "a + b" in await chat.read("calc.py")
    assert await sh(chat, "cat mine.txt build/out") == "mine\nnew\n"
    rows = await messages.list(chat.database, chat.id)
    assert [row.metadata.get("abandoned") for row in rows] == [None, None]
    on = await branch(chat)
    assert all(holds(on, e.seq) for e in await chat.events("message.accepted", "turn.finished"))


async def test_what_was_taken_back_is_not_known_to_the_next_turn(talk, script, database):
    chat = await talk(script(team(FIX)))
    await chat.post("Fix the failing test")
    await chat.finished()
    before = (await points(chat))["before: Fix the failing test"]
    row = await database.fetchrow("SELECT state FROM entities WHERE id = $1", chat.id)
    assert [one["task"] for one in row["state"]["history"]] == ["Fix the failing test"]
    await go_back(chat, before)
    row = await database.fetchrow("SELECT state FROM entities WHERE id = $1", chat.id)
    assert row["state"]["history"] == []
    await chat.post("Fix the failing test, please")
    again = await chat.finished(2)
    assert again["outcome"] == "passed"
    assert "a + b" in await chat.read("calc.py")
    names = [one["task"] for one in (await database.fetchval(
        "SELECT state FROM entities WHERE id = $1", chat.id))["history"]]  # fmt: skip
    assert names == ["Fix the failing test, please"]


async def test_back_into_the_middle_of_a_turn(talk, script, database):
    replies = [
        call("bash", command="echo one > log"),
        call("bash", command="echo two >> log; rm -f calc.py.orig"),
        call("edit", path="calc.py", old="a - b", new="a + b"),
        {"content": "done"},
    ]
    chat = await talk(script(team(replies)))
    await chat.post("Fix the failing test")
    await chat.finished()
    known = await points(chat)
    middle = next(point for label, point in known.items() if label.startswith("coder: echo two"))
    await go_back(chat, middle)
    assert await sh(chat, "cat log") == "one\n"
    assert "a - b" in await chat.read("calc.py")
    state = await database.fetchval("SELECT state FROM entities WHERE id = $1", chat.id)
    assert [(one["task"], one["outcome"]) for one in state["history"]] == [
        ("Fix the failing test", "cancelled")
    ]
    end = next(point for label, point in known.items() if label.startswith("after turn 1"))
    await go_back(chat, end)
    assert await sh(chat, "cat log") == "one\ntwo\n"


async def test_a_running_turn_is_ended_first(talk, script):
    slow = [call("bash", command="echo begun > begun; sleep 60"), {"content": "done"}]
    chat = await talk(script(team(slow)))
    await chat.post("Fix the failing test")

    async def begun() -> bool:
        return bool(await chat.events("command.started")) and "begun" in await sh(chat, "ls")

    await eventually(begun)
    first = (await points(chat))["before: Fix the failing test"]
    done = await go_back(chat, first)
    finished = await chat.events("turn.finished")
    assert [e.payload["outcome"] for e in finished] == ["cancelled"]
    assert finished[0].seq < (await chat.events("conversation.rewound"))[0].seq
    assert "begun" not in await sh(chat, "ls")
    assert done["running"] == []


async def test_killed_again_and_again_it_goes_back_once(talk, script, cells):
    chat = await talk(script(team(FIX)))
    await chat.post("Fix the failing test")
    await chat.finished()
    await sh(chat, "for i in $(seq 300); do head -c 3000 /dev/urandom > junk$i; done")
    first, rewind_id = (await points(chat))["before: Fix the failing test"], new_id()
    await chat.send("rewind", rewind_id=rewind_id, point_id=first.id)
    for delay in (0.0, 0.03, 0.1, 0.2, 0.3):
        await asyncio.sleep(delay)
        await chat.cell.kill()
        chat.cell = await cells()
        await chat.wake()
        await chat.cell.activate(chat.sandbox_id)
    await told(chat, rewind_id)
    assert len(await chat.events("conversation.rewound")) == 1
    assert "a - b" in await chat.read("calc.py")
    assert "junk" not in await sh(chat, "ls")
    await chat.send("rewind", rewind_id=rewind_id, point_id=first.id)  # said again: nothing more
    assert len(await chat.events("conversation.rewound")) == 1


async def test_what_cannot_be_gone_back_to(talk, script, database):
    chat = await talk(script(team(FIX)))
    await chat.post("Fix the failing test")
    await chat.finished()
    with pytest.raises(NotFound):
        await chat.send("rewind", rewind_id=new_id(), point_id=new_id())
    first = (await points(chat))["before: Fix the failing test"]
    await database.execute("UPDATE rewind_points SET snapshot_id = NULL WHERE id = $1", first.id)
    with pytest.raises(Conflict):
        await chat.send("rewind", rewind_id=new_id(), point_id=first.id)


async def fork(chat: Talk, talk: Any, owner: str, point: rewind_points.RewindPoint, model: str) -> Talk:
    """As `POST …/fork` makes it."""
    box, id = new_id(), new_id()
    await chat.cell.send(box, "create", user_id=owner, from_snapshot=point.snapshot_id)
    other = Talk(chat.cell, chat.database, chat.home, id, box)
    about = {"conversation_id": chat.id, "point_id": point.id}
    await other.send("create", user_id=owner, sandbox_id=box, workspace=REPO, model=model, fork_of=about)
    return other


async def test_a_fork_goes_its_own_way_and_brings_all_of_it_home(talk, script, owner):
    chat = await talk(script(team(FIX)))
    await chat.post("Fix the failing test")
    await chat.finished()
    end = next(point for label, point in (await points(chat)).items() if label.startswith("after turn 1"))
    more = [call("bash", command="echo new > new.txt"), {"content": "I made it."}]
    other = await fork(chat, talk, owner, end, script(team(more)))
    await other.post("Make new.txt")
    assert (await other.finished(2))["outcome"] == "passed"
    assert await sh(other, "cat new.txt") == "new\n"
    # Its log begins with the other's, and its patch has the work of both.
    told = await other.events()
    first = await chat.events()
    assert [(e.type, e.payload) for e in told[: end.event_seq]] == [(e.type, e.payload) for e in first]
    assert told[end.event_seq].type == "conversation.forked"
    change = await other.call("diff")
    assert sorted(file["path"] for file in change["files"]) == ["calc.py", "new.txt"]
    assert [row.content for row in await messages.list(chat.database, other.id)][:1] == [
        "Fix the failing test"
    ]
    # The first one knows nothing of it.
    assert "new.txt" not in await sh(chat, "ls")
    assert [file["path"] for file in (await chat.call("diff"))["files"]] == ["calc.py"]
    # And the fork can be gone back in by itself.
    before = (await points(other))["before: Make new.txt"]
    await go_back(other, before)
    assert "new.txt" not in await sh(other, "ls")
    rows = await messages.list(chat.database, other.id)
    assert [row.metadata.get("abandoned") for row in rows] == [None, None, True, True]


async def test_a_fork_in_the_middle_of_a_turn_is_closed(talk, script, owner):
    replies = [
        call("bash", command="echo one > log"),
        call("bash", command="echo two >> log"),
        {"content": "done"},
    ]
    chat = await talk(script(team(replies)))
    await chat.post("Fix the failing test")
    await chat.finished()
    middle = next(p for label, p in (await points(chat)).items() if label.startswith("coder: echo two"))
    other = await fork(chat, talk, owner, middle, script(team(FIX)))
    finished = await other.events("turn.finished")
    assert [e.payload["outcome"] for e in finished] == ["cancelled"]
    assert await sh(other, "cat log") == "one\n"
    await other.post("Fix it another way")
    assert (await other.finished(2))["outcome"] == "passed"
    assert "a + b" in await other.read("calc.py")


async def test_outside_of_the_home_there_are_no_points_and_that_is_said(talk, script, owner, database):
    chat = await talk(script(team(FIX)))
    await sh(chat, "cp -r . /tmp/elsewhere")
    other = Talk(chat.cell, chat.database, chat.home, new_id(), chat.sandbox_id)
    model = script(team([{"content": "Nothing to do."}]))
    about = {"user_id": owner, "sandbox_id": chat.sandbox_id, "workspace": "/tmp/elsewhere", "model": model}
    await other.send("create", **about)
    await other.post("Look around")
    await other.finished()
    (missed,) = await other.events("snapshot.failed")
    assert "outside of /home/user" in missed.payload["detail"]
    assert await points(other) == {}
