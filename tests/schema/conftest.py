"""Rows that most tests of the schema start from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from schema import Database, conversations, entities, sandboxes, users
from schema.conversations import Conversation
from schema.sandboxes import Sandbox
from terminalpp.types.ids import Fence, Ref, new_id
from tests.services import PostgresServer


@pytest.fixture
async def server(server_folder: Callable[[], Path]) -> AsyncIterator[PostgresServer]:
    """A Postgres of this test's own, to be hurt."""
    server = PostgresServer(server_folder())
    server.start()
    await server.answer()
    yield server
    server.stop()


@pytest.fixture
async def owner(database: Database) -> str:
    return await users.ensure_owner(database)


@pytest.fixture
async def sandbox(database: Database, owner: str) -> Sandbox:
    return await sandboxes.create(database, new_id(), owner, "box")


@pytest.fixture
async def conversation(database: Database, owner: str, sandbox: Sandbox) -> Conversation:
    return await conversations.create(database, new_id(), owner, sandbox.id)


@pytest.fixture
async def fence(database: Database, conversation: Conversation) -> Fence:
    """The conversation's entity, claimed by `cell-a` for a minute."""
    claimed = await entities.claim(database, Ref("conversation", conversation.id), "cell-a", 60)
    assert claimed is not None
    return claimed.fence
