-- add --
-- Adds a rewind point once per checkpoint; a repeated step replaces what it tied together.
INSERT INTO rewind_points (conversation_id, event_seq, checkpoint_ns, checkpoint_id, tree, snapshot_id, label, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (conversation_id, checkpoint_ns, checkpoint_id) DO UPDATE SET
    event_seq = excluded.event_seq, tree = excluded.tree, snapshot_id = excluded.snapshot_id, label = excluded.label,
    state = excluded.state
RETURNING *

-- list_points --
-- A conversation's rewind points in order.
SELECT * FROM rewind_points WHERE conversation_id = $1 ORDER BY event_seq, created_at LIMIT $2

-- get --
-- One point of a conversation.
SELECT * FROM rewind_points WHERE conversation_id = $1 AND id = $2

-- newest --
-- The point that was made last.
SELECT * FROM rewind_points WHERE conversation_id = $1 AND snapshot_id IS NOT NULL
ORDER BY created_at DESC, event_seq DESC LIMIT 1

-- boundary --
-- The newest point at or before an event that keeps what the conversation knew, among these ranges of events.
SELECT p.* FROM rewind_points p WHERE p.conversation_id = $1 AND p.state IS NOT NULL AND p.event_seq <= $2
    AND EXISTS (SELECT 1 FROM unnest($3::bigint[], $4::bigint[]) AS r(first, last)
        WHERE p.event_seq BETWEEN r.first AND r.last)
ORDER BY p.event_seq DESC, p.created_at DESC LIMIT 1

-- loosen --
-- The files of points beyond the newest $1 of their conversation are not kept any more.
UPDATE rewind_points SET snapshot_id = NULL WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY conversation_id ORDER BY created_at DESC, event_seq DESC) AS place
        FROM rewind_points WHERE snapshot_id IS NOT NULL
    ) old WHERE place > $1
)
