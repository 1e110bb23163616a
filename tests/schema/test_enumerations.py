"""The words of `terminalpp.types.states` are the words that SQL takes, and it takes no others."""

from __future__ import annotations

import asyncpg
import pytest

from schema import Database
from schema.sandboxes import Sandbox
from terminalpp.types import states

ENUMERATIONS = [
    ("sandboxes", "status", "ck_sandboxes_status", list(states.SandboxState)),
    ("sandboxes", "isolation", "ck_sandboxes_isolation", list(states.Isolation)),
    ("sandboxes", "network", "ck_sandboxes_network", list(states.Network)),
    ("command_executions", "status", "ck_ce_status", list(states.ExecutionState)),
    ("command_executions", "execution_mode", "ck_ce_mode", ["manual", "auto", "scheduled"]),
    ("ai_agents", "type", "ck_agent_type", list(states.AgentRole)),
    ("ai_agents", "status", "ck_agent_status", list(states.AgentState)),
    ("ai_conversations", "status", "ck_conv_status", ["active", "archived", "deleted"]),
    ("ai_messages", "role", "ck_msg_role", ["user", "assistant", "system", "tool"]),
    ("ai_memory", "memory_type", "ck_mem_type", ["session", "project", "global"]),
    ("sandbox_collaborators", "role", "ck_collab_role", ["owner", "editor", "viewer"]),
    ("fs_entries", "type", "ck_fs_type", ["file", "directory", "symlink"]),
    ("file_versions", "change_type", "ck_fv_change", ["created", "modified", "deleted", "renamed"]),
    ("snapshots", "snapshot_type", "ck_snap_type", ["manual", "auto", "scheduled"]),
    ("repository_links", "sync_status", "ck_sync", ["synced", "pending", "error"]),
    ("secrets", "secret_type", "ck_secret_type", ["env_var", "api_key", "ssh_key", "certificate"]),
    ("plugins", "status", "ck_plugin_status", ["pending", "approved", "rejected"]),
]
MAY_BE_UNKNOWN = {"ck_fv_change", "ck_sandboxes_isolation"}


@pytest.mark.parametrize(("table", "column", "check", "words"), ENUMERATIONS)
async def test_an_enumeration_takes_its_words_and_no_others(
    database: Database, table: str, column: str, check: str, words: list[str]
) -> None:
    definition = await database.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conname = $1 AND conrelid = $2::text::regclass",
        check,
        table,
    )
    # The definition is judged by Postgres itself, on a value of its own.
    condition = definition.removeprefix("CHECK ")
    verdict = f"SELECT {condition} FROM (SELECT $1::varchar AS {column}) AS row_"
    for word in words:
        assert await database.fetchval(verdict, str(word)) is True, word
    assert await database.fetchval(verdict, "banana") is False
    required = await database.fetchval(
        "SELECT attnotnull FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = $2",
        table,
        column,
    )
    assert required is (check not in MAY_BE_UNKNOWN), "a CHECK alone lets NULL pass"


async def test_a_sandbox_is_not_a_banana(database: Database, sandbox: Sandbox) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await database.execute("UPDATE sandboxes SET status = 'banana' WHERE id = $1", sandbox.id)
