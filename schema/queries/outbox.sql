-- add --
-- Adds an action under the fence, once per id. The fence is checked in the same statement.
WITH owned AS MATERIALIZED (
    SELECT 1 FROM entities WHERE kind = $1 AND id = $2 AND epoch = $3 AND owner IS NOT NULL FOR NO KEY UPDATE
), added AS (
    INSERT INTO outbox (action_id, kind, id, name, payload, epoch)
    SELECT $4, $1, $2, $5, $6, $3 FROM owned
    ON CONFLICT (action_id) DO NOTHING
    RETURNING action_id
)
SELECT EXISTS (SELECT 1 FROM owned) AS owned, EXISTS (SELECT 1 FROM added) AS added

-- pending --
-- The entity's actions that are not done, in order; those with a later retry_at are waiting for it.
SELECT *, extract(epoch FROM retry_at - clock_timestamp())::float8 AS due_in_seconds
FROM outbox WHERE kind = $1 AND id = $2 AND status = 'pending' ORDER BY seq

-- get --
-- One action by id.
SELECT *, extract(epoch FROM retry_at - clock_timestamp())::float8 AS due_in_seconds
FROM outbox WHERE action_id = $1

-- done --
-- The action's effect has happened.
UPDATE outbox SET status = 'done', finished_at = clock_timestamp() WHERE action_id = $1 AND status = 'pending'

-- failed --
-- The action failed and is to be tried again at $3.
UPDATE outbox SET attempts = attempts + 1, error = $2, retry_at = $3
WHERE action_id = $1 AND status = 'pending' RETURNING attempts

-- failed_for --
-- The action failed and is to be tried again after $3 seconds by this database's clock.
UPDATE outbox SET attempts = attempts + 1, error = $2, retry_at = clock_timestamp() + make_interval(secs => $3)
WHERE action_id = $1 AND status = 'pending' RETURNING attempts

-- to_dead_letter --
-- Gives the action up and keeps it, with the error, among the dead letters.
WITH dead AS (
    UPDATE outbox SET status = 'dead', error = $2, finished_at = clock_timestamp()
    WHERE action_id = $1 AND status = 'pending' RETURNING *
)
INSERT INTO dead_letters (source, source_id, kind, entity_id, name, payload, error, attempts)
SELECT 'outbox', action_id, kind, id, name, payload, $2, attempts FROM dead
RETURNING id

-- prune --
-- Forgets finished actions older than $1 seconds, at most $2 at a time; dead ones stay with their letter.
DELETE FROM outbox WHERE action_id IN (
    SELECT action_id FROM outbox WHERE finished_at < now() - make_interval(secs => $1) AND (status <> 'dead'
        OR NOT EXISTS (SELECT 1 FROM dead_letters d
            WHERE d.source = 'outbox' AND d.source_id = action_id AND d.replayed_at IS NULL))
    LIMIT $2
)
