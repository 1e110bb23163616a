"""A conversation is deleted with all that belongs to it, whatever it is doing; its sandbox stays."""

from __future__ import annotations

from typing import Any

import pytest

from schema import Database
from terminalpp.types.errors import NotFound
from terminalpp.types.ids import new_id
from tests.agents.test_turns import call, team
from tests.eventually import eventually

LEFT = """SELECT (SELECT count(*) FROM ai_conversations WHERE id = $1)
    + (SELECT count(*) FROM events WHERE conversation_id = $1)
    + (SELECT count(*) FROM ai_messages WHERE conversation_id = $1)
    + (SELECT count(*) FROM ai_agents WHERE conversation_id = $1)
    + (SELECT count(*) FROM rewind_points WHERE conversation_id = $1)
    + (SELECT count(*) FROM graph_checkpoints WHERE thread_id = $1::text)
    + (SELECT count(*) FROM graph_writes WHERE thread_id = $1::text)"""


async def everything_gone(chat: Any, database: Database) -> None:
    async def gone() -> bool:
        return await database.fetchval(LEFT, chat.id) == 0

    await eventually(gone, timeout_s=60)
    with pytest.raises(NotFound):
        await chat.post("Are you there?")
    assert await chat.send("destroy") == {"deleted": True}


async def test_a_running_turn_is_ended_first(talk, script, database):
    chat = await talk(script(team([call("bash", command="sleep 600 & sleep 600")])))
    await chat.post("Fix the failing test")

    async def sleeping() -> bool:
        return any("sleep" in e.payload["command"] for e in await chat.events("command.started"))

    await eventually(sleeping, timeout_s=60)
    assert await database.fetchval(LEFT, chat.id) > 10
    assert await chat.send("destroy") == {"deleted": True}
    with pytest.raises(NotFound):
        await chat.send("post", message_id=new_id(), text="hello")
    await everything_gone(chat, database)
    left = await chat.cell.sh(chat.sandbox_id, "ps ax | grep -c '[s]leep 600'")
    assert left["stdout"].strip() == "0"
    assert "return a - b" in await chat.read("calc.py")


async def test_it_is_deleted_over_the_death_of_the_cell(talk, script, database):
    chat = await talk(script(team([{"hang": True}])))
    await chat.post("Fix the failing test")

    async def asking() -> bool:
        return any(e.payload["agent"] == "coder" for e in await chat.events("model.started"))

    await eventually(asking, timeout_s=60)
    await chat.send("destroy")
    await chat.cell.kill()
    await chat.cell.start()
    await chat.wake()
    await everything_gone(chat, database)


async def test_one_at_rest_goes_at_once(talk, script, database):
    chat = await talk(script(team([{"content": "done"}])), mode="single")
    await chat.post("Say done")
    await chat.finished()
    await chat.send("destroy")
    assert await database.fetchval(LEFT, chat.id) == 0
    await everything_gone(chat, database)
