-- create --
-- Adds a terminal once per id, starting.
INSERT INTO terminals (id, sandbox_id, user_id, conversation_id, agent, name, command, cwd, cols, rows)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING

-- get --
-- One terminal.
SELECT * FROM terminals WHERE id = $1

-- list_terminals --
-- A sandbox's terminals behind a place, newest first; with $2 only those that have a program.
SELECT * FROM terminals WHERE sandbox_id = $1 AND (NOT $2::boolean OR status IN ('starting', 'running'))
    AND (created_at, id) < ($3, $4)
ORDER BY created_at DESC, id DESC LIMIT $5

-- list_of_user --
-- The same of a user's terminals in all sandboxes.
SELECT * FROM terminals WHERE user_id = $1 AND (NOT $2::boolean OR status IN ('starting', 'running'))
    AND (created_at, id) < ($3, $4)
ORDER BY created_at DESC, id DESC LIMIT $5

-- list_open_ids --
-- Terminals that have a program: their journals must stay.
SELECT id FROM terminals WHERE status IN ('starting', 'running')

-- started --
-- Its program runs; no row when it has ended already.
UPDATE terminals SET status = 'running', started_at = clock_timestamp()
WHERE id = $1 AND status = 'starting' RETURNING *

-- resize --
-- Its size from now on.
UPDATE terminals SET cols = $2, rows = $3 WHERE id = $1

-- finish --
-- Its end, once.
UPDATE terminals SET status = $2, exit_code = $3, signal = $4, reason = $5, output_bytes = $6,
    ended_at = clock_timestamp()
WHERE id = $1 AND status IN ('starting', 'running') RETURNING *
