-- add --
-- The sandbox's next snapshot; nothing when there is one of this id.
INSERT INTO snapshots (id, sandbox_id, name, description, snapshot_type, file_count, total_size_bytes, metadata,
    created_by, whole, tree_hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (id) DO NOTHING RETURNING *

-- get --
-- One snapshot.
SELECT * FROM snapshots WHERE id = $1

-- head --
-- A sandbox's newest.
SELECT * FROM snapshots WHERE sandbox_id = $1 ORDER BY seq DESC LIMIT 1

-- list_snapshots --
-- A sandbox's, newest first, before a number; with $3 only those of this type.
SELECT * FROM snapshots WHERE sandbox_id = $1 AND seq < $2 AND ($3::text IS NULL OR snapshot_type = $3)
ORDER BY seq DESC LIMIT $4

-- since_whole --
-- How many there are from the newest whole one on, and how many entries these hold.
SELECT count(DISTINCT s.id) AS snapshots, count(e.path) AS entries
FROM snapshots s LEFT JOIN snapshot_entries e ON e.snapshot_id = s.id
WHERE s.sandbox_id = $1
    AND s.seq >= (SELECT max(seq) FROM snapshots WHERE sandbox_id = $1 AND whole)

-- add_entries --
-- What differs from the snapshot before it.
INSERT INTO snapshot_entries (snapshot_id, path, type, permissions, size_bytes, content_hash, symlink_target)
SELECT $1, u.* FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[]) u

-- tree --
-- All that a snapshot holds: of each path the newest entry, from the last whole snapshot on. With $3 only what is
-- at or below that path.
SELECT path, type, permissions, size_bytes, content_hash, symlink_target FROM (
    SELECT DISTINCT ON (e.path) e.* FROM snapshot_entries e JOIN snapshots s ON s.id = e.snapshot_id
    WHERE s.sandbox_id = $1 AND s.seq <= $2
        AND s.seq >= (SELECT max(seq) FROM snapshots WHERE sandbox_id = $1 AND whole AND seq <= $2)
        AND ($3::text IS NULL OR e.path = $3 OR starts_with(e.path, $3 || '/'))
    ORDER BY e.path, s.seq DESC
) newest WHERE type <> 'absent'

-- touched --
-- What a snapshot holds at every path that differs in one of those behind it, up to $3, of which none may be
-- whole; `type` absent where it holds nothing.
WITH paths AS (
    SELECT DISTINCT e.path FROM snapshot_entries e JOIN snapshots s ON s.id = e.snapshot_id
    WHERE s.sandbox_id = $1 AND s.seq > $2 AND s.seq <= $3
)
SELECT p.path, COALESCE(e.type, 'absent') AS type, e.permissions, COALESCE(e.size_bytes, 0) AS size_bytes,
    e.content_hash, e.symlink_target
FROM paths p LEFT JOIN LATERAL (
    SELECT e.* FROM snapshot_entries e JOIN snapshots s ON s.id = e.snapshot_id
    WHERE e.path = p.path AND s.sandbox_id = $1 AND s.seq <= $2
        AND s.seq >= (SELECT max(seq) FROM snapshots WHERE sandbox_id = $1 AND whole AND seq <= $2)
    ORDER BY s.seq DESC LIMIT 1
) e ON true

-- at --
-- What a snapshot holds at these paths.
SELECT e.path, e.type, e.permissions, e.size_bytes, e.content_hash, e.symlink_target
FROM unnest($3::text[]) AS p(path) CROSS JOIN LATERAL (
    SELECT e.* FROM snapshot_entries e JOIN snapshots s ON s.id = e.snapshot_id
    WHERE e.path = p.path AND s.sandbox_id = $1 AND s.seq <= $2
        AND s.seq >= (SELECT max(seq) FROM snapshots WHERE sandbox_id = $1 AND whole AND seq <= $2)
    ORDER BY s.seq DESC LIMIT 1
) e WHERE e.type <> 'absent'

-- whole_between --
-- Whether there is a whole snapshot behind $2, up to $3.
SELECT EXISTS (SELECT 1 FROM snapshots WHERE sandbox_id = $1 AND seq > $2 AND seq <= $3 AND whole)

-- lock --
-- Until the end of the transaction no other snapshot of the sandbox is deleted: one that is deleted hands down to
-- the next, which must not go meanwhile.
SELECT pg_advisory_xact_lock(hashtextextended($1::text, 11))

-- hand_down --
-- What a snapshot holds and the next one ($2) does not say otherwise is from now on the next one's.
INSERT INTO snapshot_entries (snapshot_id, path, type, permissions, size_bytes, content_hash, symlink_target)
SELECT $2, path, type, permissions, size_bytes, content_hash, symlink_target FROM snapshot_entries
WHERE snapshot_id = $1 ON CONFLICT DO NOTHING

-- make_whole --
-- It holds all there is; what is absent needs no saying.
WITH told AS (DELETE FROM snapshot_entries WHERE snapshot_id = $1 AND type = 'absent')
UPDATE snapshots SET whole = true WHERE id = $1

-- following --
-- The snapshot behind this one.
SELECT * FROM snapshots WHERE sandbox_id = $1 AND seq > $2 ORDER BY seq LIMIT 1

-- delete --
-- A snapshot whose entries were handed down.
DELETE FROM snapshots WHERE id = $1

-- past --
-- Automatic snapshots that nothing refers to, beyond the newest $1 of their sandbox; never a sandbox's newest.
SELECT id FROM (
    SELECT s.id, s.seq, row_number() OVER (PARTITION BY s.sandbox_id ORDER BY s.seq DESC) AS place,
        max(s.seq) OVER (PARTITION BY s.sandbox_id) AS newest
    FROM snapshots s WHERE s.snapshot_type = 'auto'
        AND NOT EXISTS (SELECT 1 FROM rewind_points p WHERE p.snapshot_id = s.id)
) old WHERE place > $1 AND seq < newest LIMIT $2
