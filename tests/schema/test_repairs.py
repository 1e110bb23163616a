"""Each repair of migration 2, proven by the statement that the seed alone would have got wrong."""

from __future__ import annotations

import asyncpg
import pytest

from schema import Database, retention, users
from schema.conversations import Conversation
from schema.sandboxes import Sandbox
from terminalpp.types.ids import new_id
from tests.schema.seed_objects import OBJECTS

HASH = "0" * 64


async def user(database: Database, name: str) -> str:
    return await database.fetchval(
        "INSERT INTO users (email, username) VALUES ($1, $2) RETURNING id", f"{name}@example.org", name
    )


async def refused(database: Database, constraint: str, statement: str, *args: object) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as caught:
        await database.execute(statement, *args)
    assert caught.value.constraint_name == constraint


# ---- accounts -------------------------------------------------------------------------------------


async def test_email_and_name_are_one_whatever_their_case(database: Database) -> None:
    await user(database, "ann")
    insert = "INSERT INTO users (email, username) VALUES ($1, $2)"
    await refused(database, "uq_users_email_ci", insert, "ANN@example.org", "other")
    await refused(database, "uq_users_username_ci", insert, "other@example.org", "Ann")


async def test_a_session_token_is_unique_and_found_by_index(database: Database, owner: str) -> None:
    insert = "INSERT INTO user_sessions (user_id, token_hash, expires_at) VALUES ($1, $2, now())"
    await database.execute(insert, owner, HASH)
    await refused(database, "uq_user_sessions_token_hash", insert, owner, HASH)


async def test_a_user_who_worked_for_others_can_be_deleted(
    database: Database, sandbox: Sandbox
) -> None:
    guest = await user(database, "guest")
    await database.execute(
        "INSERT INTO snapshots (sandbox_id, name, created_by) VALUES ($1, 's', $2)", sandbox.id, guest
    )
    entry = await database.fetchval(
        "INSERT INTO fs_entries (sandbox_id, path, name, type) VALUES ($1, '/a', 'a', 'file') RETURNING id",
        sandbox.id,
    )
    await database.execute(
        "INSERT INTO file_versions (fs_entry_id, version_number, size_bytes, created_by) "
        "VALUES ($1, 1, 0, $2)",
        entry,
        guest,
    )
    await database.execute(
        "INSERT INTO sandbox_collaborators (sandbox_id, user_id, invited_by) VALUES ($1, $2, $3)",
        sandbox.id,
        await user(database, "friend"),
        guest,
    )
    await database.execute(
        "INSERT INTO plugins (name, display_name, version, author_id, manifest) "
        "VALUES ('p', 'P', '1', $1, $2)",
        guest,
        {},
    )
    assert await database.execute("DELETE FROM users WHERE id = $1", guest) == "DELETE 1"
    assert await database.fetchval("SELECT count(*) FROM snapshots WHERE created_by IS NULL") == 1
    assert await database.fetchval("SELECT count(*) FROM file_versions WHERE created_by IS NULL") == 1


OWNED = {
    "user_sessions": "user_id", "sandboxes": "user_id", "sandbox_collaborators": "sandbox_id",
    "fs_entries": "sandbox_id", "file_versions": "fs_entry_id", "snapshots": "sandbox_id",
    "ai_conversations": "user_id", "ai_messages": "conversation_id", "ai_agents": "conversation_id",
    "ai_memory": "user_id", "command_executions": "sandbox_id", "github_connections": "user_id",
    "repository_links": "sandbox_id", "secrets": "user_id", "user_plugins": "user_id",
}  # fmt: skip


@pytest.mark.parametrize(("table", "column"), OWNED.items())
async def test_nothing_is_without_its_owner(database: Database, table: str, column: str) -> None:
    nullable = await database.fetchval(
        "SELECT is_nullable FROM information_schema.columns WHERE table_name = $1 AND column_name = $2",
        table,
        column,
    )
    assert nullable == "NO"


# ---- updated_at -----------------------------------------------------------------------------------


async def test_every_table_with_updated_at_has_its_trigger(database: Database) -> None:
    missing = await database.fetch(
        """SELECT c.table_name FROM information_schema.columns c
        JOIN information_schema.tables t USING (table_schema, table_name)
        WHERE c.table_schema = 'public' AND c.column_name = 'updated_at' AND t.table_type = 'BASE TABLE'
            AND c.table_name <> 'entities' AND NOT EXISTS (
                SELECT 1 FROM pg_trigger g WHERE g.tgrelid = c.table_name::regclass
                    AND g.tgname = 'trg_' || c.table_name || '_updated_at')"""
    )
    assert missing == []


async def test_updated_at_moves_with_a_change_and_only_then(database: Database, owner: str) -> None:
    read = "SELECT updated_at FROM users WHERE id = $1"
    before = await database.fetchval(read, owner)
    await database.execute("UPDATE users SET full_name = full_name WHERE id = $1", owner)
    assert await database.fetchval(read, owner) == before
    await database.execute("UPDATE users SET full_name = 'New' WHERE id = $1", owner)
    assert await database.fetchval(read, owner) > before


async def test_being_recalled_is_not_being_changed(database: Database, owner: str) -> None:
    insert = (
        "INSERT INTO ai_memory (user_id, memory_type, key, value) VALUES ($1, 'global', 'k', $2) "
        "RETURNING updated_at"
    )
    before = await database.fetchval(insert, owner, {})
    await database.execute("UPDATE ai_memory SET access_count = access_count + 1")
    assert await database.fetchval("SELECT updated_at FROM ai_memory") == before
    await database.execute("UPDATE ai_memory SET content = 'new'")
    assert await database.fetchval("SELECT updated_at FROM ai_memory") > before


# ---- files ----------------------------------------------------------------------------------------

ENTRY = (
    "INSERT INTO fs_entries (sandbox_id, path, name, type) VALUES ($1, $2, 'x', 'file') "
    "ON CONFLICT (sandbox_id, path) DO UPDATE SET deleted_at = NULL, type = excluded.type RETURNING id"
)


async def test_a_deleted_file_can_be_made_again_and_keeps_its_history(
    database: Database, sandbox: Sandbox
) -> None:
    first = await database.fetchval(ENTRY, sandbox.id, "/home/user/x")
    await database.execute("UPDATE fs_entries SET deleted_at = now() WHERE id = $1", first)
    again = await database.fetchval(ENTRY, sandbox.id, "/home/user/x")
    assert again == first
    assert await database.fetchval("SELECT deleted_at FROM fs_entries WHERE id = $1", first) is None


@pytest.mark.parametrize("path", ["x", "", "/a//b", "/a/./b", "/a/../b", "/..", "/a/.", "/a/"])
async def test_a_path_has_one_spelling(database: Database, sandbox: Sandbox, path: str) -> None:
    await refused(database, "ck_fs_path", ENTRY, sandbox.id, path)


@pytest.mark.parametrize("path", ["/", "/a", "/a/.b", "/a/..b", "/a\nb/c", "/...", "/ü/😀"])
async def test_odd_paths_are_paths(database: Database, sandbox: Sandbox, path: str) -> None:
    assert await database.fetchval(ENTRY, sandbox.id, path)


async def test_a_path_too_long_for_its_index_is_refused_by_name(
    database: Database, sandbox: Sandbox
) -> None:
    long = "/" + "".join(f"{n:04d}" for n in range(639))
    assert await database.fetchval(ENTRY, sandbox.id, long)
    await refused(database, "ck_fs_path_length", ENTRY, sandbox.id, "/" + "x" * 2560)


async def test_a_version_number_is_used_once(database: Database, sandbox: Sandbox) -> None:
    entry = await database.fetchval(ENTRY, sandbox.id, "/x")
    insert = "INSERT INTO file_versions (fs_entry_id, version_number, size_bytes) VALUES ($1, 1, 0)"
    await database.execute(insert, entry)
    await refused(database, "uq_file_versions", insert, entry)


# ---- AI -------------------------------------------------------------------------------------------

MEMORY = (
    "INSERT INTO ai_memory (user_id, sandbox_id, conversation_id, memory_type, key, value) "
    "VALUES ($1, $2, $3, $4, $5, '{}'::jsonb)"
)


async def test_a_memory_has_one_key_per_scope(database: Database, owner: str, sandbox: Sandbox) -> None:
    await database.execute(MEMORY, owner, None, None, "global", "k")
    await database.execute(MEMORY, owner, sandbox.id, None, "project", "k")
    await refused(database, "uq_ai_memory", MEMORY, owner, None, None, "global", "k")


async def test_a_memory_is_anchored_where_its_layer_says(
    database: Database, owner: str, sandbox: Sandbox, conversation: Conversation
) -> None:
    await refused(database, "ck_mem_scope", MEMORY, owner, sandbox.id, None, "global", "k")
    await refused(database, "ck_mem_scope", MEMORY, owner, None, None, "project", "k")
    await database.execute(MEMORY, owner, sandbox.id, conversation.id, "session", "k")


async def test_both_vector_indexes_serve_and_the_query_chooses(database: Database) -> None:
    vector = "array_fill(0.1, ARRAY[1536])::vector"
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        for expression, index in [
            (f"embedding::halfvec(1536) <=> ({vector})::halfvec(1536)", "idx_ai_memory_embedding_hnsw"),
            (f"embedding <=> {vector}", "idx_ai_memory_embedding"),
        ]:
            plan = await connection.fetch(
                f"EXPLAIN SELECT id FROM ai_memory WHERE embedding IS NOT NULL ORDER BY {expression} LIMIT 5"
            )
            assert f"using {index} " in "".join(line[0] for line in plan)


async def test_the_hnsw_index_finds_what_was_added_later(database: Database, owner: str) -> None:
    insert = (
        "INSERT INTO ai_memory (user_id, memory_type, key, value, embedding, embedding_model) SELECT $1, "
        "'global', n::text, '{}'::jsonb, (array_fill(0.0, ARRAY[1535]) || ARRAY[1.0])::vector "
        "+ (array_fill(n / 10.0, ARRAY[1]) || array_fill(0.0, ARRAY[1535]))::vector, 'm' "
        "FROM generate_series(1, 20) AS n"
    )
    await database.execute(insert, owner)
    nearest = await database.fetchval(
        "SELECT key FROM ai_memory WHERE embedding IS NOT NULL ORDER BY embedding::halfvec(1536) <=> "
        "((array_fill(0.7, ARRAY[1]) || array_fill(0.0, ARRAY[1534]) || ARRAY[1.0])::halfvec(1536)) LIMIT 1"
    )
    assert nearest == "7"


async def test_long_model_names_and_many_tokens_fit(database: Database, conversation: Conversation) -> None:
    await database.execute(
        "UPDATE ai_conversations SET model_used = $2, total_tokens = $3 WHERE id = $1",
        conversation.id,
        "bedrock/arn:aws:bedrock:eu-central-1:123456789012:inference-profile/" + "x" * 200,
        5_000_000_000,
    )


# ---- commands, audit, retention -----------------------------------------------------------------------


async def test_old_commands_are_archived_by_the_seeds_policy(
    database: Database, owner: str, sandbox: Sandbox
) -> None:
    await database.execute(
        "INSERT INTO command_executions (sandbox_id, user_id, command, created_at) VALUES "
        "($1, $2, 'old', now() - interval '91 days'), ($1, $2, 'new', now())",
        sandbox.id,
        owner,
    )
    assert (await retention.run(database))["old_commands"] == 1
    assert (await retention.run(database))["old_commands"] == 0
    archived = await database.fetch("SELECT command FROM command_executions WHERE archived")
    assert [record["command"] for record in archived] == ["old"]


async def test_fifty_versions_of_a_file_are_kept(database: Database, sandbox: Sandbox) -> None:
    entry = await database.fetchval(ENTRY, sandbox.id, "/x")
    await database.execute(
        "INSERT INTO file_versions (fs_entry_id, version_number, size_bytes, created_at) "
        "SELECT $1, n, 0, now() + n * interval '1 second' FROM generate_series(1, 60) AS n",
        entry,
    )
    assert (await retention.run(database))["old_file_versions"] == 10
    assert await database.fetchval("SELECT min(version_number) FROM file_versions") == 11


async def test_a_row_holds_a_bounded_part_of_the_output(
    database: Database, owner: str, sandbox: Sandbox
) -> None:
    insert = "INSERT INTO command_executions (sandbox_id, user_id, command, stdout) VALUES ($1, $2, 'c', $3)"
    await database.execute(insert, sandbox.id, owner, "x" * 262_144)
    await refused(database, "ck_ce_out", insert, sandbox.id, owner, "x" * 262_145)


AUDIT = "INSERT INTO audit_logs (user_id, action, resource_type) VALUES ($1, 'a', 'r')"


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_logs SET action = 'b'", "DELETE FROM audit_logs", "TRUNCATE audit_logs"]
)
async def test_the_audit_log_is_append_only(database: Database, owner: str, statement: str) -> None:
    await database.execute(AUDIT, owner)
    with pytest.raises(asyncpg.CheckViolationError, match="append-only"):
        await database.execute(statement)


async def test_the_audit_log_outlives_its_user_and_can_be_purged_on_purpose(database: Database) -> None:
    guest = await user(database, "guest")
    await database.execute(AUDIT, guest)
    await database.execute("DELETE FROM users WHERE id = $1", guest)
    assert await database.fetchval("SELECT count(*) FROM audit_logs WHERE user_id IS NULL") == 1
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL terminalpp.audit_purge = 'on'")
        assert await connection.execute("DELETE FROM audit_logs") == "DELETE 1"


# ---- GitHub, secrets, plugins -----------------------------------------------------------------------

CONNECTION = (
    "INSERT INTO github_connections (user_id, github_user_id, username, access_token_hash, scope) "
    "VALUES ($1, 7, 'gh', $2, 'repo')"
)


async def test_a_github_account_belongs_to_one_user(database: Database, owner: str) -> None:
    await database.execute(CONNECTION, owner, "x" * 320)
    await refused(database, "uq_github_user", CONNECTION, await user(database, "guest"), "y")


async def test_a_clone_url_carries_no_password(database: Database, sandbox: Sandbox) -> None:
    insert = "INSERT INTO repository_links (sandbox_id, repository_full_name, clone_url) VALUES ($1, $2, $3)"
    await database.execute(insert, sandbox.id, "a/b", "https://github.com/a/b.git")
    await database.execute(insert, sandbox.id, "a/c", "git@github.com:a/c.git")
    await refused(database, "ck_repo_clone_url", insert, sandbox.id, "a/d", "https://u:secret@github.com/a/d")
    await refused(database, "uq_repo_link", insert, sandbox.id, "a/b", "https://github.com/a/b.git")


async def test_a_user_level_secret_has_one_value(database: Database, owner: str, sandbox: Sandbox) -> None:
    insert = "INSERT INTO secrets (user_id, sandbox_id, name, encrypted_value) VALUES ($1, $2, 'K', 'v')"
    await database.execute(insert, owner, None)
    await database.execute(insert, owner, sandbox.id)
    await refused(database, "uq_secrets_global", insert, owner, None)


async def test_a_plugin_is_installed_once_per_user(database: Database, owner: str) -> None:
    plugin = await database.fetchval(
        "INSERT INTO plugins (name, display_name, version, manifest) VALUES ('p', 'P', '1', '{}'::jsonb) "
        "RETURNING id"
    )
    insert = "INSERT INTO user_plugins (user_id, plugin_id, version) VALUES ($1, $2, '1')"
    await database.execute(insert, owner, plugin)
    await refused(database, "uq_user_plugins_global", insert, owner, plugin)


async def test_a_container_belongs_to_one_sandbox(database: Database, owner: str) -> None:
    insert = "INSERT INTO sandboxes (user_id, name, container_id) VALUES ($1, 'n', $2)"
    for container in ("c1", None, None):
        await database.execute(insert, owner, container)
    await refused(database, "uq_sandboxes_container", insert, owner, "c1")


# ---- the view -----------------------------------------------------------------------------------------


async def test_the_view_shows_what_the_seeds_view_showed(
    database: Database, owner: str, sandbox: Sandbox
) -> None:
    await database.execute("UPDATE sandboxes SET status = 'starting' WHERE id = $1", sandbox.id)
    await database.execute("INSERT INTO sandboxes (user_id, name, status) VALUES ($1, 'b', 'running')", owner)
    await database.execute("INSERT INTO sandboxes (user_id, name) VALUES ($1, 'c')", owner)
    for command in ("a", "b"):
        await database.execute(
            "INSERT INTO command_executions (sandbox_id, user_id, command) VALUES ($1, $2, $3)",
            sandbox.id,
            owner,
            command,
        )
    select = OBJECTS["active_sandboxes"].partition(" AS\n")[2].rstrip(";")
    columns = "id, name, status, username, email, command_count, last_command_at"
    ours = await database.fetch(f"SELECT {columns} FROM active_sandboxes ORDER BY name")
    seeds = await database.fetch(f"SELECT {columns} FROM ({select}) AS seed ORDER BY name")
    assert ours == seeds
    assert [record["command_count"] for record in ours] == [0, 2]


async def test_every_foreign_key_that_cascades_has_an_index(database: Database) -> None:
    """Deleting a user or a sandbox must not read whole tables; a few cold links to users are left out."""
    bare = await database.fetch(
        """SELECT c.conrelid::regclass || '.' || a.attname AS name FROM pg_constraint c
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
        WHERE c.contype = 'f' AND c.connamespace = 'public'::regnamespace AND NOT EXISTS (
            SELECT 1 FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1])"""
    )
    assert {record["name"] for record in bare} == {
        "sandbox_collaborators.invited_by", "file_versions.created_by", "snapshots.created_by",
        "plugins.author_id", "plugin_ratings.user_id",
    }  # fmt: skip


async def test_the_owner_is_an_admin(database: Database, owner: str) -> None:
    assert (await users.get(database, owner)).role == "admin"
    assert await users.get(database, new_id()) is None
