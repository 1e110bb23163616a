-- create --
-- Adds a command once per id.
WITH added AS (
    INSERT INTO command_executions (id, sandbox_id, user_id, command, working_directory, environment_vars,
        execution_mode, idempotency_key, agent, conversation_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT DO NOTHING RETURNING *
)
SELECT true AS owned, true AS created, added.* FROM added
UNION ALL
SELECT true, false, e.* FROM command_executions e WHERE e.id = $1 AND NOT EXISTS (SELECT 1 FROM added)

-- create_fenced --
-- The same under the fence of an entity ($11 kind, $12 id, $13 epoch), checked and locked in this statement,
-- so that accepting a command costs one round trip and one commit. FOR SHARE: commands of one owner need
-- not wait for each other, while a claim, which updates the row, waits for us or is seen by us.
WITH owner AS MATERIALIZED (
    SELECT 1 FROM entities WHERE kind = $11 AND id = $12 AND epoch = $13 AND owner IS NOT NULL FOR SHARE
), added AS (
    INSERT INTO command_executions (id, sandbox_id, user_id, command, working_directory, environment_vars,
        execution_mode, idempotency_key, agent, conversation_id)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 FROM owner
    ON CONFLICT DO NOTHING RETURNING *
)
SELECT true AS owned, true AS created, added.* FROM added
UNION ALL
SELECT EXISTS (SELECT 1 FROM owner), false, e.* FROM command_executions e
WHERE e.id = $1 AND NOT EXISTS (SELECT 1 FROM added)

-- owned --
-- Whether the fence holds, asked only after create_fenced found nothing to say.
SELECT EXISTS (SELECT 1 FROM entities WHERE kind = $1 AND id = $2 AND epoch = $3 AND owner IS NOT NULL)

-- get --
-- One command.
SELECT * FROM command_executions WHERE id = $1

-- list_executions --
-- A sandbox's commands behind a place, newest first, without their output; archived ones when asked for.
SELECT id, sandbox_id, user_id, command, working_directory, environment_vars, execution_mode, status, exit_code,
    NULL AS stdout, NULL AS stderr, stdout_bytes, stderr_bytes, truncated, reason, execution_time_ms,
    started_at, completed_at, created_at, archived, idempotency_key, agent, conversation_id
FROM command_executions
WHERE sandbox_id = $1 AND (NOT archived OR $2) AND ($3::uuid IS NULL OR conversation_id = $3)
    AND ($4::text IS NULL OR status = $4) AND ($5::timestamptz IS NULL OR created_at >= $5)
    AND (created_at, id) < ($6, $7)
ORDER BY created_at DESC, id DESC LIMIT $8

-- list_open --
-- A sandbox's commands that have not ended, oldest first.
SELECT * FROM command_executions WHERE sandbox_id = $1 AND status IN ('pending', 'running') ORDER BY created_at, id

-- list_open_ids --
-- The ids of all commands that have not ended, or that left something which may still print, of every sandbox.
SELECT id FROM command_executions WHERE status IN ('pending', 'running') OR streams_open

-- mark_running --
-- The process exists.
UPDATE command_executions SET status = 'running', started_at = coalesce(started_at, clock_timestamp())
WHERE id = $1 AND status = 'pending'

-- finish --
-- The end, written once: an end that is already there stays.
UPDATE command_executions SET status = $2, exit_code = $3, stdout = $4, stderr = $5, stdout_bytes = $6,
    stderr_bytes = $7, truncated = $8, reason = $9, execution_time_ms = $10, streams_open = $11,
    started_at = coalesce(started_at, clock_timestamp() - make_interval(secs => coalesce($10, 0) / 1000.0)),
    completed_at = clock_timestamp()
WHERE id = $1 AND status IN ('pending', 'running')

-- close --
-- The streams of an ended command have ended too: its extract is that of all it printed.
UPDATE command_executions SET stdout = $2, stderr = $3, stdout_bytes = $4, stderr_bytes = $5, truncated = $6,
    streams_open = false
WHERE id = $1 AND streams_open

-- withdraw --
-- Takes back a command that was never started.
DELETE FROM command_executions WHERE id = $1 AND status = 'pending'

-- list_unclosed --
-- A sandbox's commands that have ended and whose streams have not.
SELECT id FROM command_executions WHERE sandbox_id = $1 AND streams_open ORDER BY created_at, id
