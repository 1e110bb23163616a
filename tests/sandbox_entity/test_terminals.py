"""The terminal entity in a real sandbox: its screen, who types, and what crashes cost."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from actors.agent.terminals import AgentTerminals
from actors.sandbox.tppd import journal, ptys
from graphs.toolbox import Call, Result
from graphs.tools import BUILT_IN
from schema import Database, conversations, terminals
from terminalpp.types.errors import (
    CommandFinished,
    Fenced,
    InvalidInput,
    NotFound,
    NotInControl,
    OffsetMismatch,
    Unavailable,
)
from terminalpp.types.ids import Ref, new_id
from tests.eventually import eventually
from tests.sandbox_entity.conftest import Cell


@dataclass
class Term:
    """A terminal and one who looks at it."""

    cell: Cell
    sandbox: str
    owner: str
    id: str = field(default_factory=new_id)
    me: str = "anna"
    sent: dict[str, int] = field(default_factory=dict)

    async def open(self, command: str | None = None, **options: Any) -> dict[str, Any]:
        given = {"command": command} if command else {}
        await self.cell.send(
            self.id, "create", message_id=f"{self.id}:create", kind="terminal", sandbox_id=self.sandbox,
            user_id=self.owner, **given, **options,
        )
        return await self.call("settled")

    async def call(self, method: str, **payload: Any) -> Any:
        return await self.cell.call(self.id, method, kind="terminal", **payload)

    async def watch(self, viewer: str = "anna", **payload: Any) -> dict[str, Any]:
        return await self.call("watch", viewer=viewer, user_id=self.owner, name=viewer, **payload)

    async def type(self, text: str, viewer: str = "anna", **options: Any) -> None:
        data = base64.b64encode(text.encode()).decode()
        at = self.sent.get(viewer, 0)
        self.sent[viewer] = (await self.call("type", viewer=viewer, offset=at, data=data, **options))[
            "offset"
        ]

    async def until(self, pattern: str) -> str:
        found = ""

        async def shown() -> bool:
            nonlocal found
            found = "\n".join((await self.call("text", history=5000))["history"])
            return re.search(pattern, found) is not None

        try:
            await eventually(shown, timeout_s=20)
        except AssertionError:
            raise AssertionError(f"{pattern!r} is not in {found!r}") from None
        return found


@pytest.fixture
def term(cell: Cell, sandbox: str, owner: str) -> Term:
    return Term(cell, sandbox, owner)


async def test_a_shell_is_typed_to_and_its_screen_is_painted(term: Term, database: Database) -> None:
    told = await term.open(cols=100, rows=30)
    assert (told["status"], told["cols"], told["rows"]) == ("running", 100, 30)
    await term.type("stty size; echo $TERM $((6*7))\r")
    await term.until(r"30 100\nxterm-256color 42")
    await term.type("printf '\\033]2;my title\\007'\r")

    async def titled() -> bool:
        return (await term.call("describe"))["title"] == "my title"

    await eventually(titled)
    paint = await term.call("paint")
    assert paint["cols"] == 100
    assert b"xterm-256color 42" in base64.b64decode(paint["data"])
    await term.type("exit 3\r")
    ended = await term.call("settled", ended=True)
    assert ended["status"] == "ended"
    assert ended["end"]["exit_code"] == 3
    row = await terminals.get(database, term.id)
    assert (row.status, row.exit_code, row.output_bytes > 0) == ("ended", 3, True)
    await term.until("xterm-256color 42")  # what was printed stays
    with pytest.raises(CommandFinished):
        await term.type("more\r")


async def test_created_again_it_is_the_same_terminal(term: Term) -> None:
    first = await term.open("echo once; sleep 100")
    second = await term.open("echo once; sleep 100")
    assert first["id"] == second["id"]
    assert (await term.until("once")).count("once") == 1


async def test_bad_terminals_are_refused_and_a_missing_program_is_told(
    term: Term, cell: Cell, sandbox: str
) -> None:
    for wrong in (
        {"cols": 0},
        {"rows": 1001},
        {"policy": "largest"},
        {"name": ""},
        {"command": " "},
        {"env": {"=": "x"}},
    ):
        with pytest.raises(InvalidInput):
            await Term(cell, sandbox, term.owner).open(**{"command": "true", **wrong})
    with pytest.raises(NotFound):
        await term.call("describe")
    other = Term(cell, sandbox, term.owner)
    told = await other.open(argv=["/no/such/program"])
    assert told["status"] == "failed"
    assert "No such file" in told["end"]["reason"]


async def test_one_at_a_time_types_and_control_can_be_taken(term: Term) -> None:
    await term.open("cat")
    await term.watch("anna", cols=80, rows=24)
    await term.watch("ben", cols=120, rows=40)
    await term.watch("eve", role="viewer")
    await term.watch("coder", agent=True)
    await term.type("from anna\r")
    await term.until("from anna\nfrom anna")
    with pytest.raises(NotInControl, match="anna is in control"):
        await term.type("from ben\r", "ben")
    with pytest.raises(NotInControl, match="only a writer"):
        await term.call("control", viewer="eve", do="take")
    with pytest.raises(NotInControl):
        await term.call("control", viewer="coder", do="take")   # an agent does not push a person aside
    told = await term.call("control", viewer="ben", do="ask")
    assert [v["id"] for v in told["viewers"] if v["asks"]] == ["ben"]
    told = await term.call("control", viewer="anna", do="release", to="ben")
    assert told["controller"] == "ben"
    assert not any(v["asks"] for v in told["viewers"])
    await term.type("from ben\r", "ben")
    await term.until("from ben\nfrom ben")
    await term.call("control", viewer="ben", do="release")
    await term.type("from coder\r", "coder", agent=True)
    told = await term.call("control", viewer="anna", do="take")  # a person takes over from an agent
    assert told["controller"] == "anna"
    with pytest.raises(NotInControl):
        await term.type("again\r", "coder", agent=True)
    assert re.findall("from (\\w+)\n", (await term.until("from coder\nfrom coder")) + "\n") == [
        who for who in ("anna", "ben", "coder") for _ in "12"
    ]
    await term.call("leave", viewer="anna")
    assert (await term.call("describe"))["controller"] is None


async def test_the_size_follows_the_policy_and_the_program_is_told(term: Term) -> None:
    await term.open("trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done", cols=80, rows=24)
    await term.until("ready")
    await term.watch("anna", cols=100, rows=30)
    await term.until("30 100")
    await term.watch("ben", cols=90, rows=50)
    await term.until("50 90")
    told = await term.call("resize", policy="smallest")
    assert (told["cols"], told["rows"]) == (90, 30)
    await term.until("30 90")
    await term.call("resize", cols=132, rows=43, fix=True)
    await term.until("43 132")
    assert (await term.watch("anna", cols=70, rows=20))["cols"] == 132
    assert (await term.call("text"))["cols"] == 132


async def test_news_come_to_who_waits_for_them(term: Term) -> None:
    await term.open("cat")
    told = await term.watch("anna")
    waiting = asyncio.create_task(term.watch("anna", version=told["version"], timeout_ms=30_000))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await term.watch("ben")
    assert "ben" in [viewer["id"] for viewer in (await waiting)["viewers"]]


async def test_what_is_typed_twice_is_typed_once_and_a_hole_is_refused(term: Term) -> None:
    await term.open("cat")
    data = base64.b64encode(b"one\r").decode()
    for _ in range(3):
        assert (await term.call("type", viewer="anna", offset=0, data=data))["offset"] == 4
    with pytest.raises(OffsetMismatch):
        await term.call("type", viewer="anna", offset=9, data=data)
    with pytest.raises(InvalidInput):
        await term.call("type", viewer="anna", offset=4, data="not base64!")
    assert (await term.until("one\none")).count("one") == 2


async def test_queries_are_answered_by_the_screen(term: Term) -> None:
    await term.open(r"stty raw -echo; printf 'ab\033[6n'; head -c 6 | od -An -c")
    await term.until(r"033   \[   1   ;   3   R")


async def test_killed_in_the_middle_nothing_is_lost_and_nothing_doubled(
    cells: Callable[[], Awaitable[Cell]], cell: Cell, sandbox: str, owner: str
) -> None:
    term = Term(cell, sandbox, owner)
    await term.open(
        "stty -echo; printf '\\033[?1049h\\033[5;5Hready '; while read -r line; do echo \"<$line>\"; done"
    )
    await term.until("ready")
    await term.type("1\r")
    for number in range(2, 6):
        data, at = base64.b64encode(f"{number}\r".encode()).decode(), term.sent["anna"]
        typing = asyncio.create_task(term.call("type", viewer="anna", offset=at, data=data))
        await asyncio.sleep(0.002 * number)
        await term.cell.kill()
        typing.cancel()
        term.cell = await cells()
        term.sent["anna"] = (await term.call("type", viewer="anna", offset=at, data=data))["offset"]
    shown = await term.until("<5>")
    assert re.findall(r"<(\d)>", shown) == ["1", "2", "3", "4", "5"]
    assert (await term.call("text"))["alternate"]
    await term.cell.send(term.id, "end", kind="terminal")


async def test_an_owner_that_was_frozen_cannot_type(
    cells: Callable[[], Awaitable[Cell]], cell: Cell, sandbox: str, owner: str
) -> None:
    term = Term(cell, sandbox, owner)
    await term.open("cat")
    epoch = (await term.call("describe"))["epoch"]
    assert cell.process is not None
    os.kill(cell.process.pid, signal.SIGSTOP)
    term.cell = await cells()

    async def owned() -> bool:
        with contextlib.suppress(Unavailable):  # the lease of the frozen one has to run out
            return bool(await term.call("describe"))
        return False

    await eventually(owned, timeout_s=60)
    await term.type("new\r")
    access = term.cell.access(sandbox)
    with pytest.raises(Fenced):  # what the old one would send
        await access.do(lambda tppd, at: ptys.type_into(
            tppd, term.id, "anna", 4, b"late\r", epoch=at, owner=epoch))
    await access.close()
    os.kill(cell.process.pid, signal.SIGCONT)
    assert "late" not in await term.until("new\nnew")


async def test_a_terminal_whose_sandbox_stops_is_lost_and_stays_readable(term: Term, cell: Cell) -> None:
    await term.open("echo before; exec sleep 1000")
    await term.until("before")
    await cell.send(term.sandbox, "stop")
    told = await term.call("settled", ended=True, timeout_ms=60_000)
    assert told["status"] in ("ended", "lost")

    async def stopped() -> bool:
        return (await cell.call(term.sandbox, "status"))["status"] == "stopped"

    await eventually(stopped)
    await term.until("before")
    assert await stopped()  # reading woke nothing


async def test_with_its_sandbox_a_terminal_goes_and_nobody_looks_for_it_any_more(
    term: Term, cell: Cell, database: Database
) -> None:
    await term.open("cat")
    await cell.send(term.sandbox, "destroy")
    told = await term.call("settled", ended=True, timeout_ms=60_000)
    assert told["status"] in ("ended", "lost")
    with pytest.raises(NotFound):
        await terminals.get(database, term.id)
    reminders = "SELECT count(*) FROM reminders WHERE kind = 'terminal' AND id = $1"
    assert await database.fetchval(reminders, term.id) == 0


async def test_a_terminal_wakes_a_sandbox_that_sleeps_when_it_is_made(term: Term, cell: Cell) -> None:
    await cell.send(term.sandbox, "stop")

    async def stopped() -> bool:
        return (await cell.call(term.sandbox, "status"))["status"] == "stopped"

    await eventually(stopped)
    assert (await term.open("echo hello; cat"))["status"] == "running"
    await term.until("hello")


async def test_ended_by_request_all_of_it_is_gone(term: Term, cell: Cell) -> None:
    await term.open("setsid sleep 1234 & sleep 1234 & wait")
    await cell.send(term.id, "end", kind="terminal", by="anna")
    told = await term.call("settled", ended=True)
    assert told["status"] == "ended"
    assert told["end"]["reason"] == "ended by anna"
    access = cell.access(term.sandbox)
    assert not [p for p in await access.processes() if p.name == "sleep"]
    await access.close()


async def test_redis_tells_of_it(term: Term, cell: Cell, redis_url: str) -> None:
    from schema import Live

    live = Live(redis_url)
    await term.open("cat", cwd="/tmp", env={"SECRET": "value"})

    async def there() -> bool:
        return (await live.terminal(term.sandbox)) is not None

    await eventually(there)
    held = await live.terminal(term.sandbox, term.id)
    assert held == await live.terminal(term.sandbox)
    assert held is not None
    assert held["cwd"] == "/tmp"
    assert isinstance(held["pid"], int)
    assert "SECRET" in held["env_vars"]
    assert "value" not in str(held)
    await cell.send(term.id, "end", kind="terminal")

    async def gone() -> bool:
        return (
            await live.terminal(term.sandbox) is None and await live.terminal(term.sandbox, term.id) is None
        )

    await eventually(gone)
    await live.close()


async def test_search_and_the_recording_marks(term: Term, cell: Cell) -> None:
    await term.open("for i in $(seq 1 300); do echo line $i; done; cat")
    await term.until("line 300")
    hits = (await term.call("search", q="LINE 29", ignore_case=True))["items"]
    assert [hit["text"] for hit in hits][-1] == "line 29"
    assert len(hits) == 11
    place = (await term.call("mark", label="step 1"))["offset"]
    run_dir = term.cell.settings.home / "sandboxes" / term.sandbox / "run"
    assert [(m.offset, m.label) for m in ptys.marks(run_dir, term.id) if m.kind == "m"] == [(place, "step 1")]
    assert place == journal.end(run_dir, term.id, "stdout")


# ---- the agents' tool -----------------------------------------------------------------------------------


class Through:
    """As much of a runtime as the tool asks for, by way of the test's cell; and the tool's sandbox."""

    def __init__(self, cell: Cell, sandbox: str) -> None:
        self.cell, self.workspace = cell, "/tmp"
        self.terminals = AgentTerminals(self, sandbox, new_id(), "coder")  # type: ignore[arg-type]

    async def call(self, ref: Ref, method: str, payload: dict[str, Any], *, timeout_s: float) -> Any:
        return await self.cell.call(ref.id, method, kind=ref.kind, **payload)

    async def send(self, ref: Ref, method: str, payload: dict[str, Any], **options: Any) -> Any:
        return await self.cell.send(ref.id, method, options["message_id"], kind=ref.kind, **payload)

    async def find_terminal(self, name: str) -> tuple[str, bool]:
        return await self.terminals.find(name)

    async def use_terminal(self, id: str, call_id: str, name: str, **use: Any) -> Any:
        return await self.terminals.use(id, call_id, name, cwd=self.workspace, **use)

    async def tool(self, exec_id: str | None = None, times: int = 1, **arguments: Any) -> Any:
        call = Call(arguments, exec_id or new_id(), self, limit=4000)  # type: ignore[arg-type]
        prepared = await BUILT_IN.prepare("terminal", call)
        if isinstance(prepared, Result):
            return prepared
        for _ in range(times):  # as after a crash between the effect and its record
            done = await BUILT_IN.perform("terminal", call, prepared)
        return done


async def test_an_agent_uses_a_repl_across_calls(
    cell: Cell, sandbox: str, owner: str, database: Database
) -> None:
    team = Through(cell, sandbox)
    await conversation_row(database, team.terminals._conversation, sandbox, owner)
    opened = await team.tool(name="repl", command="python3 -q -i 2>&1 || sh")
    assert opened.ok
    assert "terminal repl runs" in opened.output
    await team.tool(name="repl", text="x = 6*7", keys="Enter", times=3)
    seen = await team.tool(name="repl", text="print('x is', x)", keys="Enter")
    assert "x is 42" in seen.output
    assert seen.output.count("x = 6*7") == 1, "typed once, however often it is carried out"
    again = await team.tool(name="repl", command="sh")
    assert not again.ok
    assert "is open already" in again.output
    assert not (await team.tool(name="repl", keys="Hyper-x")).ok
    ended = await team.tool(name="repl", end=True)
    assert "has ended" in ended.output
    fresh = await team.tool(name="repl", command="echo fresh; exit 3")
    assert "fresh" in fresh.output
    assert "with status 3" in fresh.output
    row = (await terminals.list(database, sandbox))[0]
    assert (row.agent, row.name, row.conversation_id) == ("coder", "repl", team.terminals._conversation)


async def test_a_person_takes_an_agents_terminal_over(
    cell: Cell, sandbox: str, owner: str, database: Database
) -> None:
    team = Through(cell, sandbox)
    await conversation_row(database, team.terminals._conversation, sandbox, owner)
    await team.tool(name="box", command="cat")
    await team.tool(name="box", text="by agent", keys="Enter")
    id, is_open = await team.find_terminal("box")
    assert is_open
    person = Term(cell, sandbox, owner, id=id)
    await person.watch("anna")
    with pytest.raises(NotInControl):
        await person.type("x")
    await person.call("control", viewer="anna", do="take")
    await person.type("by anna\r")
    refused = await team.tool(name="box", text="again", keys="Enter")
    assert not refused.ok
    assert "a person has taken over" in refused.output
    assert "again" not in await person.until("by anna\nby anna")
    run_dir = cell.settings.home / "sandboxes" / sandbox / "run"
    labels = [mark.label for mark in ptys.marks(run_dir, id) if mark.kind == "m"]
    assert labels[0] == "coder: by agent "


async def conversation_row(database: Database, id: str, sandbox: str, owner: str) -> None:
    await conversations.create(database, id, owner, sandbox, settings={"mode": "team"})
