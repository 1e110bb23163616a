-- put --
-- Writes a checkpoint; writing the same id again replaces it.
INSERT INTO graph_checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_id, checkpoint, metadata)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id) DO UPDATE SET
    parent_id = excluded.parent_id, checkpoint = excluded.checkpoint, metadata = excluded.metadata

-- get --
-- One checkpoint by id.
SELECT * FROM graph_checkpoints WHERE thread_id = $1 AND checkpoint_ns = $2 AND checkpoint_id = $3

-- get_latest --
-- The newest checkpoint: ids grow with time (they are UUID version 6).
SELECT * FROM graph_checkpoints WHERE thread_id = $1 AND checkpoint_ns = $2 ORDER BY checkpoint_id DESC LIMIT 1

-- list_checkpoints --
-- Checkpoints, newest first, with filters by thread, namespace, id, metadata and an upper bound.
SELECT * FROM graph_checkpoints
WHERE ($1::text IS NULL OR thread_id = $1) AND ($2::text IS NULL OR checkpoint_ns = $2)
    AND ($3::jsonb IS NULL OR metadata @> $3) AND ($4::text IS NULL OR checkpoint_id < $4)
    AND ($5::text IS NULL OR checkpoint_id = $5)
ORDER BY checkpoint_id DESC, thread_id, checkpoint_ns LIMIT $6

-- put_write --
-- Writes one value of a task; a value that is there stays.
INSERT INTO graph_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel, value)
SELECT $1, $2, $3, $4, (item ->> 0)::int, $5, item ->> 1, item -> 2 FROM jsonb_array_elements($6::jsonb) AS item
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING

-- replace_write --
-- Writes one value of a task; a value that is there is replaced (LangGraph's special channels).
INSERT INTO graph_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel, value)
SELECT $1, $2, $3, $4, (item ->> 0)::int, $5, item ->> 1, item -> 2 FROM jsonb_array_elements($6::jsonb) AS item
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE SET
    channel = excluded.channel, value = excluded.value, task_path = excluded.task_path

-- get_writes --
-- The writes that belong to a checkpoint, in task order.
SELECT * FROM graph_writes WHERE thread_id = $1 AND checkpoint_ns = $2 AND checkpoint_id = $3
ORDER BY task_path, task_id, idx

-- forget_writes --
-- Forgets what the tasks of a checkpoint wrote: its successor is stored, which holds it.
DELETE FROM graph_writes WHERE thread_id = $1 AND checkpoint_ns = $2 AND checkpoint_id = $3

-- delete_writes --
-- Forgets all writes of a thread.
DELETE FROM graph_writes WHERE thread_id = $1

-- delete_checkpoints --
-- Forgets all checkpoints of a thread.
DELETE FROM graph_checkpoints WHERE thread_id = $1

-- copy_checkpoints --
-- Copies a thread's checkpoints to another thread.
INSERT INTO graph_checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_id, checkpoint, metadata)
SELECT $2, checkpoint_ns, checkpoint_id, parent_id, checkpoint, metadata FROM graph_checkpoints
WHERE thread_id = $1
ON CONFLICT DO NOTHING

-- copy_writes --
-- Copies a thread's writes to another thread.
INSERT INTO graph_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel, value)
SELECT $2, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel, value FROM graph_writes
WHERE thread_id = $1
ON CONFLICT DO NOTHING

-- delete_for_runs --
-- Forgets the checkpoints of some runs (metadata run_id), with their writes.
WITH gone AS (
    DELETE FROM graph_checkpoints WHERE metadata ->> 'run_id' = ANY($1::text[])
    RETURNING thread_id, checkpoint_ns, checkpoint_id
)
DELETE FROM graph_writes w USING gone
WHERE w.thread_id = gone.thread_id AND w.checkpoint_ns = gone.checkpoint_ns AND w.checkpoint_id = gone.checkpoint_id

-- prune --
-- Keeps the newest $2 checkpoints of each namespace of a thread, and those that a rewind point names.
WITH ranked AS (
    SELECT checkpoint_ns, checkpoint_id,
        row_number() OVER (PARTITION BY checkpoint_ns ORDER BY checkpoint_id DESC) AS rank
    FROM graph_checkpoints WHERE thread_id = $1
), gone AS (
    DELETE FROM graph_checkpoints g USING ranked r
    WHERE g.thread_id = $1 AND g.checkpoint_ns = r.checkpoint_ns AND g.checkpoint_id = r.checkpoint_id
        AND r.rank > $2 AND NOT EXISTS (
            SELECT 1 FROM rewind_points p WHERE p.conversation_id::text = $1
                AND p.checkpoint_ns = g.checkpoint_ns AND p.checkpoint_id = g.checkpoint_id)
    RETURNING g.checkpoint_ns, g.checkpoint_id
), writes AS (
    DELETE FROM graph_writes w USING gone
    WHERE w.thread_id = $1 AND w.checkpoint_ns = gone.checkpoint_ns AND w.checkpoint_id = gone.checkpoint_id
)
SELECT count(*) FROM gone
