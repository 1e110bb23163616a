-- add --
-- Adds a rewind point once per checkpoint; a repeated step replaces what it tied together.
INSERT INTO rewind_points (conversation_id, event_seq, checkpoint_ns, checkpoint_id, tree, snapshot_id, label)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (conversation_id, checkpoint_ns, checkpoint_id) DO UPDATE SET
    event_seq = excluded.event_seq, tree = excluded.tree, snapshot_id = excluded.snapshot_id, label = excluded.label
RETURNING *

-- list_points --
-- A conversation's rewind points in order.
SELECT * FROM rewind_points WHERE conversation_id = $1 ORDER BY event_seq, created_at LIMIT $2
