"""Quarantine and dead letters as an operator meets them: over HTTP, with real entities and a real sandbox."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from gateway.redaction import HIDDEN, extract
from schema import Database, dead_letters, entities, mailbox, users
from terminalpp.client import Client
from terminalpp.types import errors
from terminalpp.types.ids import Ref, new_id
from tests.eventually import eventually
from tests.gateway.conftest import Served, Talk

REASON = {"code": "internal", "status": 500, "detail": "KeyError: 'exec_id'"}
ROOT = Path(__file__).parents[2]
NOBODY = "00000000-0000-4000-8000-000000000000"


async def test_a_sandbox_in_quarantine_is_seen_read_stopped_released_and_deleted(
    api: Client, box: str, database: Database
) -> None:
    """Every call on it answered 503 for ever, DELETE included, and its record said `running`."""
    ran = await api.run_command(box, "echo kept", wait_ms=20_000)
    assert (await api.sandbox(box))["quarantined"] is None
    await entities.quarantine(database, Ref("sandbox", box), REASON)

    row = await api.sandbox(box)
    assert (row["status"], row["quarantined"]) == ("running", REASON["detail"])
    assert [(row["id"], row["quarantined"]) for row in await api.sandboxes()] == [(box, REASON["detail"])]
    (aside,) = await api.quarantine()
    assert (aside["kind"], aside["id"], aside["reason"], aside["messages"]) == (
        "sandbox", box, REASON["detail"], 0)
    assert await api.quarantined("sandbox", box) == aside

    # Reading goes on: records, output, files.
    assert (await api.command(box, ran["id"]))["stdout"] == "kept\n"
    assert (await api.output(box, ran["id"])).data == b"kept\n"
    assert await api.read_file(box, "/etc/hostname")
    # New work is refused, and says where to look.
    with pytest.raises(errors.Quarantined, match="exec_id") as refused:
        await api.run_command(box, "true")
    assert "./tpp quarantine" in refused.value.next_step
    # It can be stopped, which is no release.
    assert (await api.stop_sandbox(box))["quarantined"] == REASON["detail"]

    async def stopped() -> bool:
        return (await api.sandbox(box))["status"] == "stopped"

    await eventually(stopped, timeout_s=30)

    await api.release("sandbox", box)
    with pytest.raises(errors.NotFound):
        await api.release("sandbox", box)
    assert await api.quarantine() == []
    assert (await api.start_sandbox(box))["status"] == "running"
    assert (await api.run_command(box, "echo again", wait_ms=20_000))["stdout"] == "again\n"

    await entities.quarantine(database, Ref("sandbox", box), REASON)
    await api.delete_sandbox(box)
    with pytest.raises(errors.NotFound):
        await api.sandbox(box)

    async def gone() -> bool:
        return not (await database.fetchval(
            "SELECT count(*) FROM outbox WHERE kind = 'sandbox' AND id = $1 AND status = 'pending'", box))

    await eventually(gone, timeout_s=30)


async def test_a_conversation_in_quarantine_is_read_and_cancelled(
    served: Served, talk: Talk, database: Database
) -> None:
    await talk.say(2)
    await entities.quarantine(database, Ref("conversation", talk.id), REASON)
    async with served.client() as client:
        assert (await client.conversation(talk.id))["quarantined"] == REASON["detail"]
        assert [row["quarantined"] for row in await client.conversations()] == [REASON["detail"]]
        assert len([event async for event in client.events(talk.id, follow=False)]) == 2


async def letter(database: Database, entity: str, payload: dict) -> str:
    """A message that failed for good; the letter's id."""
    ref, id = Ref("sandbox", entity), new_id()
    await mailbox.enqueue(database, ref, id, "stop", payload)
    return str(await mailbox.to_dead_letter(database, id, REASON))


async def test_a_dead_letter_is_replayed_at_most_once(api: Client, box: str, database: Database) -> None:
    id = await letter(database, box, {})
    (row,) = await api.dead_letters()
    assert (row["id"], row["method"], row["entity_id"], row["reason"]) == (id, "stop", box, REASON["detail"])

    tries = await asyncio.gather(*(api.replay(id) for _ in range(4)), return_exceptions=True)
    assert sorted(type(found).__name__ for found in tries) == ["Conflict"] * 3 + ["dict"]

    async def stopped() -> bool:
        return (await api.sandbox(box))["status"] == "stopped"

    await eventually(stopped, timeout_s=30)
    assert (await mailbox.result_of(database, row["source_id"])).status == "done"
    assert await api.dead_letters() == []
    assert [found["id"] for found in await api.dead_letters(replayed=True)] == [id]
    with pytest.raises(errors.Conflict, match="before"):
        await api.replay(id)


async def test_a_dropped_letter_is_not_done_and_is_pruned(api: Client, box: str, database: Database) -> None:
    id = await letter(database, box, {})
    source = (await api.dead_letter(id))["source_id"]
    await mailbox.prune(database, -1)
    assert await mailbox.result_of(database, source), "its letter may still be replayed"
    await api.drop(id)
    for act in (api.drop, api.replay, api.dead_letter):
        with pytest.raises(errors.NotFound):
            await act(id)
    assert (await mailbox.result_of(database, source)).status == "dead"
    await mailbox.prune(database, -1)
    assert await mailbox.result_of(database, source) is None
    assert (await api.sandbox(box))["status"] == "running"


async def test_lists_are_paged_by_key(served: Served, database: Database) -> None:
    for n in range(5):
        await letter(database, f"s{n}", {})
        await entities.quarantine(database, Ref("sandbox", f"s{n}"), REASON)
    async with served.http() as http:
        for path, key in (("/v1/quarantine", "id"), ("/v1/dead-letters", "entity_id")):
            seen, cursor = [], None
            while True:
                more = {"cursor": cursor} if cursor else {}
                page = (await http.get(path, params={"limit": 2, **more})).json()
                seen += [item[key] for item in page["items"]]
                if cursor is None:
                    await letter(database, "later", {})  # what comes meanwhile moves nothing
                if (cursor := page["next_cursor"]) is None:
                    break
            wanted = {f"s{n}" for n in range(5)}
            assert wanted <= set(seen) <= wanted | {"later"}
            assert len(seen) == len(set(seen))
        for cursor in ("x", "eyJ9", "WzEsMl0=", "WyJhIiwiYiJd"):
            answer = await http.get("/v1/dead-letters", params={"cursor": cursor})
            assert answer.status_code == 422, (cursor, answer.text)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/quarantine"),
        ("GET", "/v1/quarantine/sandbox/x"),
        ("POST", "/v1/quarantine/sandbox/x/release"),
        ("GET", "/v1/dead-letters"),
        ("GET", f"/v1/dead-letters/{NOBODY}"),
        ("POST", f"/v1/dead-letters/{NOBODY}/replay"),
        ("DELETE", f"/v1/dead-letters/{NOBODY}"),
    ],
)
async def test_the_door_is_for_administrators(
    served: Served, database: Database, method: str, path: str
) -> None:
    async with served.http() as http:
        assert (await http.request(method, path)).status_code in (200, 404)
        owner = await users.ensure_owner(database)
        await database.execute("UPDATE users SET role = 'user' WHERE id = $1", owner)
        refused = await http.request(method, path)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


def test_payloads_are_shown_cut_and_without_secrets() -> None:
    shown = extract({
        "user_id": "u", "environment": {"OPENAI_API_KEY": "sk-abc", "LANG": "C"}, "api_key": "k",
        "text": "x" * 999, "token": {"deep": "t"}, "url": "https://me:hunter2@host/x",
        "say": "curl -H 'Authorization: Bearer abcdef'", "key": "sk-abcdefghijklmnop",
        "list": list(range(50)), "deep": {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}},
        "export": "MY_TOKEN=abc ok",
    })  # fmt: skip
    told = repr(shown)
    for secret in ("sk-abc", "hunter2", "abcdef", "'k'", "'t'", "MY_TOKEN=abc"):
        assert secret not in told, secret
    assert shown["environment"] == {"OPENAI_API_KEY": HIDDEN, "LANG": HIDDEN}
    assert shown["text"] == "x" * 200 + "… (999 characters)"
    assert len(shown["list"]) == 21
    assert shown["list"][-1] == "… (50 items)"
    assert "…" in repr(shown["deep"])
    assert extract({str(n): n for n in range(30)})["…"] == "(30 fields)"


async def typed(served: Served, *words: str) -> tuple[int, str, str]:
    """`./tpp …` against the served gateway."""
    (served.home / "run").mkdir(exist_ok=True)
    (served.home / "run" / "state.json").write_text(f'{{"url": "{served.url}", "pid": 1}}')
    environment = {**os.environ, "TPP_HOME": str(served.home), "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "terminalpp.cli.main", *words, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_verbs(served: Served, talk: Talk, database: Database) -> None:
    ref = Ref("sandbox", talk.sandbox_id)
    await entities.quarantine(database, ref, REASON)
    first, second = [await letter(database, talk.sandbox_id, {"n": n}) for n in range(2)]

    status, out, err = await typed(served, "quarantine", "ls")
    assert (status, err) == (0, "")
    assert f"sandbox/{talk.sandbox_id[:8]} " in out
    assert REASON["detail"] in out
    _, out, _ = await typed(served, "ps")
    assert "quarantined (stopped)" in out
    status, out, _ = await typed(served, "quarantine", "show", talk.sandbox_id[:8], "--json")
    assert (status, '"reason": "KeyError' in out) == (0, True)
    status, out, _ = await typed(served, "quarantine", "release", str(ref)[:16])
    assert (status, out.strip()) == (0, f"released {ref}")
    status, out, _ = await typed(served, "quarantine", "ls")
    assert out.strip() == "Nothing is in quarantine."
    status, _, err = await typed(served, "quarantine", "show", "nobody")
    assert (status, "./tpp quarantine ls" in err) == (2, True)

    status, out, _ = await typed(served, "dead-letters", "ls")
    assert (status, first[:8] in out, second[:8] in out) == (0, True, True)
    status, out, _ = await typed(served, "dead-letters", "show", first[:12])
    assert (status, '{"n": 0}' in out) == (0, True)
    status, out, err = await typed(served, "dead-letters", "drop", second)
    assert (status, out.strip()) == (0, f"dropped {second}"), err
    status, _, err = await typed(served, "dead-letters", "replay", second)
    assert (status, "./tpp dead-letters ls" in err) == (2, True)
    assert [str(row.id) for row in await dead_letters.list(database)] == [first]


