-- enqueue --
-- Adds a message once per id, unless the entity has $7 waiting. A message that is already there is
-- answered, full mailbox or not: a repeated send must find its first self.
WITH waiting AS (
    SELECT count(*) AS n FROM (
        SELECT 1 FROM mailbox WHERE kind = $2 AND id = $3 AND status = 'pending' LIMIT $7
    ) AS counted
), added AS (
    INSERT INTO mailbox (message_id, kind, id, method, payload, sender)
    SELECT $1, $2, $3, $4, $5, $6 FROM waiting WHERE n < $7
    ON CONFLICT (message_id) DO NOTHING
    RETURNING *
)
SELECT true AS created, added.* FROM added
UNION ALL
SELECT false, m.* FROM mailbox m WHERE m.message_id = $1 AND NOT EXISTS (SELECT 1 FROM added)

-- get --
-- One message by id.
SELECT *, false AS created FROM mailbox WHERE message_id = $1

-- next_message --
-- The entity's oldest message that waits; with $3, of those methods.
SELECT *, false AS created FROM mailbox WHERE kind = $1 AND id = $2 AND status = 'pending'
    AND ($3::text[] IS NULL OR method = ANY($3))
ORDER BY seq LIMIT 1

-- pending_count --
-- How many messages wait for the entity.
SELECT count(*) FROM mailbox WHERE kind = $1 AND id = $2 AND status = 'pending'

-- finish --
-- Marks a message done and keeps its result for whoever asks again.
UPDATE mailbox SET status = 'done', result = $2, error = NULL, finished_at = clock_timestamp()
WHERE message_id = $1 AND status = 'pending'

-- fail --
-- Marks a message failed: its method refused it with an error that is the answer.
UPDATE mailbox SET status = 'failed', error = $2, finished_at = clock_timestamp()
WHERE message_id = $1 AND status = 'pending'

-- record_attempt --
-- Counts a try that was rolled back, outside the transaction that was lost.
UPDATE mailbox SET attempts = attempts + 1, error = $2
WHERE message_id = $1 AND status = 'pending' RETURNING attempts

-- to_dead_letter --
-- Takes a poison message out of the way and keeps it, with the error, among the dead letters.
WITH dead AS (
    UPDATE mailbox SET status = 'dead', error = $2, finished_at = clock_timestamp()
    WHERE message_id = $1 AND status = 'pending' RETURNING *
)
INSERT INTO dead_letters (source, source_id, kind, entity_id, name, payload, error, attempts)
SELECT 'mailbox', message_id, kind, id, method, payload, $2, attempts FROM dead
RETURNING id

-- prune_firings --
-- Forgets finished firings of reminders older than $1 seconds, at most $2 at a time.
DELETE FROM mailbox WHERE message_id IN (
    SELECT message_id FROM mailbox
    WHERE finished_at < now() - make_interval(secs => $1) AND status <> 'dead' AND method LIKE 'remind:%' LIMIT $2
)

-- prune --
-- Forgets finished messages older than $1 seconds, at most $2 at a time; dead ones stay with their letter.
DELETE FROM mailbox WHERE message_id IN (
    SELECT message_id FROM mailbox WHERE finished_at < now() - make_interval(secs => $1) AND (status <> 'dead'
        OR NOT EXISTS (SELECT 1 FROM dead_letters d
            WHERE d.source = 'mailbox' AND d.source_id = message_id AND d.replayed_at IS NULL))
    LIMIT $2
)
