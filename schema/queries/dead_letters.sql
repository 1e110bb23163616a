-- add --
-- Keeps something that failed for good; once per source while it is not replayed.
INSERT INTO dead_letters (source, source_id, kind, entity_id, name, payload, error, attempts)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (source, source_id) WHERE replayed_at IS NULL DO UPDATE SET error = excluded.error
RETURNING *

-- list_letters --
-- The newest dead letters first; replayed ones only when asked for.
SELECT * FROM dead_letters WHERE (replayed_at IS NULL OR $1) AND ($2::text IS NULL OR kind = $2)
    AND ($3::text IS NULL OR entity_id = $3)
    AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
ORDER BY created_at DESC, id DESC LIMIT $4

-- get --
-- One dead letter.
SELECT * FROM dead_letters WHERE id = $1

-- drop --
-- Forgets a dead letter.
DELETE FROM dead_letters WHERE id = $1

-- replay_mailbox --
-- Puts the message back at the end of its entity's mailbox with a clean count of attempts.
WITH letter AS (
    UPDATE dead_letters d SET replayed_at = clock_timestamp()
    WHERE id = $1 AND source = 'mailbox' AND replayed_at IS NULL AND EXISTS (
        SELECT 1 FROM mailbox m WHERE m.message_id = d.source_id AND m.status = 'dead') RETURNING *
)
UPDATE mailbox m SET status = 'pending', attempts = 0, error = NULL, finished_at = NULL,
    seq = nextval(pg_get_serial_sequence('mailbox', 'seq'))
FROM letter WHERE m.message_id = letter.source_id AND m.status = 'dead'
RETURNING m.kind, m.id

-- replay_outbox --
-- Makes the action pending again, due now, with a clean count of attempts.
WITH letter AS (
    UPDATE dead_letters d SET replayed_at = clock_timestamp()
    WHERE id = $1 AND source = 'outbox' AND replayed_at IS NULL AND EXISTS (
        SELECT 1 FROM outbox o WHERE o.action_id = d.source_id AND o.status = 'dead') RETURNING *
)
UPDATE outbox o SET status = 'pending', attempts = 0, error = NULL, finished_at = NULL,
    retry_at = clock_timestamp()
FROM letter WHERE o.action_id = letter.source_id AND o.status = 'dead'
RETURNING o.kind, o.id

-- prune --
-- Forgets dead letters that were replayed or dropped more than $1 seconds ago, at most $2 at a time.
DELETE FROM dead_letters WHERE id IN (
    SELECT id FROM dead_letters WHERE replayed_at < now() - make_interval(secs => $1) LIMIT $2
)
