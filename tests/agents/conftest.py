"""A cell process with conversation, agents and a real sandbox, which tests may kill."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from actors.node.entity import make_drivers
from actors.sandbox.access import SandboxAccess
from actors.sandbox.link import link_to
from runtime import settings as settings_module
from runtime.settings import Settings
from schema import Database, entities, events
from terminalpp.types.errors import Unavailable
from terminalpp.types.ids import Ref, new_id
from terminalpp.types.messages import MESSAGES
from tests.eventually import eventually
from tests.payloads import check, check_event
from tests.sandbox_entity.conftest import Cell, built, cell, cells, home, owner  # noqa: F401

REPO = "/home/user/repo"
FILES = {
    "calc.py": "def add(a, b):\n    return a - b\n",
    "tests/__init__.py": "",
    "tests/test_calc.py": "import unittest\n\nfrom calc import add\n\n\nclass TestAdd(unittest.TestCase):\n"
    "    def test_add(self):\n        self.assertEqual(add(2, 3), 5)\n",
}


@pytest.fixture
def model_kind() -> str:
    return "DOUBLE"


@pytest.fixture
async def settings(
    home: Path,  # noqa: F811
    built: Path,  # noqa: F811
    database_url: str,
    redis_url: str,
    model_kind: str,
) -> AsyncIterator[Settings]:
    settings = settings_module.load({
        "TPP_HOME": str(home), "TPP_DATABASE_URL": database_url, "TPP_REDIS_URL": redis_url,
        "TPP_SANDBOX_DRIVER": "bubblewrap", "TPP_LEASE_SECONDS": "1", "TPP_SANDBOX_MEMORY_BYTES": "268435456",
        "TPP_ENTITY_REGISTRY": f"tests.agents.registry:{model_kind}",
        "TPP_PRELOAD_REGISTRY": "tests.agents.registry:PRELOAD",
    })  # fmt: skip
    yield settings
    driver = make_drivers(settings)["bubblewrap"]
    for sandbox_id in await driver.list():
        await driver.remove(sandbox_id)


class Talk:
    """One conversation, as its person and its operator see it."""

    def __init__(
        self, cell: Cell, database: Database, home: Path, id: str, sandbox_id: str  # noqa: F811
    ) -> None:
        self.cell, self.database, self.home, self.id, self.sandbox_id = cell, database, home, id, sandbox_id

    async def send(self, method: str, **payload: Any) -> Any:
        id = payload.get("message_id") or new_id()
        return await self.cell._ask("send", self.id, method, payload, id, "conversation")

    async def post(self, text: str) -> dict[str, Any]:
        return await self.send("post", message_id=new_id(), text=text)

    async def call(self, method: str, **payload: Any) -> Any:
        return await self.cell.call(self.id, method, kind="conversation", **payload)

    async def wake(self) -> None:
        """What the sweeper does for an entity with work and no owner."""
        await self.cell._ask("activate", self.id, "", None, None, "conversation")

    async def sweep(self) -> None:
        """The sweeper's round: a loaded machine is late with its lease of a second, and then lets go."""
        held = await entities.owner_of(self.database, Ref("conversation", self.id))
        if held is None or held.owner is None or not held.live:
            with contextlib.suppress(Unavailable):
                await self.wake()

    async def events(self, *types: str) -> list[events.Event]:
        found = await events.read(self.database, self.id, 0, 100_000)
        assert [event.seq for event in found] == list(range(1, len(found) + 1)), "the log has no gap"
        for event in found:
            check_event(event.type, event.payload)
        return [event for event in found if not types or event.type in types]

    async def finished(self, turns: int = 1, timeout_s: float = 60) -> dict[str, Any]:
        """The payload of the last `turn.finished` once there are `turns` of them."""

        async def there() -> bool:
            await self.sweep()
            return len(await self.events("turn.finished")) >= turns

        await eventually(there, timeout_s=timeout_s)
        return (await self.events("turn.finished"))[-1].payload

    def access(self) -> SandboxAccess:
        async def attach() -> dict[str, Any]:
            return await self.cell.call(self.sandbox_id, "attach")

        return SandboxAccess(link_to(self.home, self.sandbox_id), attach)

    async def read(self, path: str) -> str:
        access = self.access()
        try:
            return (await access.read_file(f"{REPO}/{path}")).decode()
        finally:
            await access.close()


@pytest.fixture
async def script(tmp_path: Path) -> Callable[[dict[str, Any]], str]:
    """Writes a script for the provider's double; the model's name for it."""

    def write(scenes: dict[str, Any]) -> str:
        path = tmp_path / f"{new_id()}.json"
        path.write_text(json.dumps(scenes))
        return f"double:{path}"

    return write


@pytest.fixture
async def talk(
    cell: Cell, database: Database, settings: Settings, owner: str  # noqa: F811
) -> AsyncIterator[Callable[..., Any]]:
    """Makes a sandbox with a small broken repository and a conversation about it. What was told and stored
    meanwhile has its declared shape."""
    made: list[Talk] = []

    async def make(model: str, files: dict[str, str] | None = None, **options: Any) -> Talk:
        sandbox_id, id = new_id(), new_id()
        await cell.send(sandbox_id, "create", user_id=owner, name="test")
        talk = Talk(cell, database, settings.home, id, sandbox_id)
        access = talk.access()
        for path, text in (FILES if files is None else files).items():
            await access.write_file(f"{REPO}/{path}", text.encode())
        await access.close()
        await talk.send(
            "create", user_id=owner, sandbox_id=sandbox_id, workspace=REPO, model=model, **options
        )
        made.append(talk)
        return talk

    yield make
    for one in made:
        await one.events()
    sent = await database.fetch(
        "SELECT kind, method, payload FROM mailbox WHERE id = ANY($1) AND method = ANY($2)",
        [id for one in made for id in (one.id, one.sandbox_id)],
        [name.partition(".")[2] for name in MESSAGES],
    )
    for row in sent:
        name = f"{row['kind']}.{row['method']}"
        check(MESSAGES[name], row["payload"], name)
