"""Conversations renamed, archived, deleted; their messages; the models, and whose token it is."""

from __future__ import annotations

import pytest

from gateway.account import usable
from runtime.settings import Settings
from schema import Database, messages
from terminalpp.client import Client
from terminalpp.types import errors
from terminalpp.types.ids import new_id
from tests.gateway.conftest import Served, Talk


async def test_rename_archive_and_take_back(served: Served, talk: Talk) -> None:
    async with served.client() as api:
        assert (await api.change_conversation(talk.id, title="Dates"))["title"] == "Dates"
        archived = await api.change_conversation(talk.id, archived=True)
        assert (archived["status"], archived["title"]) == ("archived", "Dates")
        assert (await api.conversation(talk.id))["status"] == "archived"
        for status, shown in ((None, False), ("active", False), ("archived", True), ("all", True)):
            listed = {row["id"] for row in await api.conversations(status=status)}
            assert (talk.id in listed) == shown, status
        assert (await api.change_conversation(talk.id, archived=False))["status"] == "active"
        for wrong in ({"title": ""}, {"title": " "}, {"title": "x" * 256}, {"colour": 1}, {}):
            with pytest.raises(errors.InvalidInput):
                await api._transport.json("PATCH", f"/v1/conversations/{talk.id}", json=wrong)
        with pytest.raises(errors.NotFound):
            await api.change_conversation(new_id(), title="x")


async def test_what_is_being_deleted_stays_deleted(served: Served, talk: Talk, database: Database) -> None:
    await database.execute("UPDATE ai_conversations SET status = 'deleted' WHERE id = $1", talk.id)
    async with served.client() as api:
        for act in (
            api.change_conversation(talk.id, archived=False),
            api.delete_conversation(talk.id),
            api.messages(talk.id),
            api.conversation(talk.id),
        ):
            with pytest.raises(errors.NotFound):
                await act


async def test_messages_in_pages(served: Served, talk: Talk, database: Database) -> None:
    for n in range(5):
        await messages.add(database, new_id(), talk.id, "user" if n % 2 == 0 else "assistant", f"text {n}")
    async with served.client() as api:
        said = await api.messages(talk.id)
        assert [(one["role"], one["content"]) for one in said] == [
            ("user" if n % 2 == 0 else "assistant", f"text {n}") for n in range(5)
        ]
        page = await api._get(f"/v1/conversations/{talk.id}/messages", limit=2)
        rest = await api._get(f"/v1/conversations/{talk.id}/messages", limit=9, cursor=page["next_cursor"])
        assert page["items"] + rest["items"] == said
        assert rest["next_cursor"] is None


async def test_deleting_leaves_the_sandbox(api: Client, box: str) -> None:
    made = await api.create_conversation(box, "/home/user", model="scripted:demo")
    await api.delete_conversation(made["id"])
    for act in (api.conversation(made["id"]), api.delete_conversation(made["id"]), api.messages(made["id"])):
        with pytest.raises(errors.NotFound):
            await act
    assert made["id"] not in {row["id"] for row in await api.conversations()}
    assert (await api.run_command(box, "echo here", wait_ms=10_000))["stdout"] == "here\n"


def test_models_that_can_be_asked(tmp_path) -> None:
    plain = Settings(home=tmp_path)

    def ids(settings: Settings, **keys: str) -> list[tuple[str, bool]]:
        return [(one["id"], one["default"]) for one in usable(settings, keys)]

    assert ids(plain)[0] == ("scripted:demo", True)
    keyed = ids(plain, OPENAI_API_KEY="k", ANTHROPIC_API_KEY="k")
    assert [default for _, default in keyed].count(True) == 1
    assert keyed[0][0].startswith("anthropic/")
    assert keyed[1][0].startswith("openai/")
    chosen = ids(plain.model_copy(update={"model": "openai/mine"}), OPENAI_API_KEY="k")
    assert chosen[0] == ("openai/mine", True)
    assert len({id for id, _ in chosen}) == len(chosen)


async def test_models_and_me_over_http(served: Served) -> None:
    async with served.client() as api:
        models = await api.models()
        assert "scripted:demo" in {one["id"] for one in models}
        assert {one["object"] for one in models} == {"model"}
        me = await api.me()
        assert (me["name"], me["role"]) == ("owner", "admin")
        assert me["limits"]["file_bytes"] == served.app.gateway.settings.file_limit_bytes
    async with served.http() as http:
        assert (await http.get("/v1/models")).json()["object"] == "list"
