-- set_reminder --
-- Sets or replaces a reminder. A new `setting` makes its slots new, so an earlier firing is never repeated.
INSERT INTO reminders (kind, id, name, due_at, every_seconds)
VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4), $5)
ON CONFLICT (kind, id, name) DO UPDATE SET
    setting = gen_random_uuid(), slot = 0, due_at = excluded.due_at, every_seconds = excluded.every_seconds
RETURNING *

-- cancel --
-- Forgets a reminder. A firing that is already in the mailbox stays there.
DELETE FROM reminders WHERE kind = $1 AND id = $2 AND name = $3

-- list_reminders --
-- The reminders of one entity.
SELECT * FROM reminders WHERE kind = $1 AND id = $2 ORDER BY name

-- fire_due --
-- Moves due reminders into mailboxes: the message id is the slot's, so a slot can only be added once.
-- SKIP LOCKED lets several pollers share the work; slots missed while nothing ran count as one, those of an
-- entity in quarantine too.
WITH due AS MATERIALIZED (
    SELECT * FROM reminders r WHERE due_at <= clock_timestamp() AND NOT EXISTS (
        SELECT 1 FROM entities e WHERE e.kind = r.kind AND e.id = r.id AND e.quarantined_at IS NOT NULL)
    ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
), next AS (
    UPDATE reminders r SET slot = r.slot + 1,
        due_at = r.due_at + make_interval(secs => r.every_seconds
            * (1 + floor(greatest(0, extract(epoch FROM clock_timestamp() - r.due_at)) / r.every_seconds)))
    FROM due WHERE r.kind = due.kind AND r.id = due.id AND r.name = due.name AND due.every_seconds IS NOT NULL
), ended AS (
    DELETE FROM reminders r USING due
    WHERE r.kind = due.kind AND r.id = due.id AND r.name = due.name AND due.every_seconds IS NULL
)
INSERT INTO mailbox (message_id, kind, id, method, payload, sender)
SELECT 'reminder/' || setting || '/' || slot, kind, id, 'remind:' || name,
    jsonb_build_object('name', name, 'slot', slot, 'due_at', due_at), 'reminders'
FROM due
ON CONFLICT (message_id) DO NOTHING
RETURNING kind, id, message_id
