-- create --
-- Adds a sandbox once per id, stopped.
INSERT INTO sandboxes (id, user_id, name, description, image, network, resource_limits, environment_vars,
    auto_sleep_after_minutes, node_id, driver, workspace)
VALUES ($1, $2, $3, $4, coalesce($5, 'ubuntu:22.04'), $6,
    coalesce($7, '{"cpu": "1", "memory": "1GB", "disk": "10GB"}'::jsonb), $8, $9, $10, $11, $12)
ON CONFLICT (id) DO NOTHING RETURNING *

-- get --
-- One sandbox, with the reason of its entity's quarantine.
SELECT *, (SELECT coalesce(e.last_error ->> 'detail', '') FROM entities e
    WHERE e.kind = 'sandbox' AND e.id = s.id::text AND e.quarantined_at IS NOT NULL) AS quarantined
FROM sandboxes s WHERE id = $1

-- list_sandboxes --
-- A user's sandboxes (everyone's when $1 is NULL) behind a place, newest first.
SELECT *, (SELECT coalesce(e.last_error ->> 'detail', '') FROM entities e
    WHERE e.kind = 'sandbox' AND e.id = s.id::text AND e.quarantined_at IS NOT NULL) AS quarantined
FROM sandboxes s WHERE ($1::uuid IS NULL OR user_id = $1) AND ($2::text IS NULL OR status = $2)
    AND ($3::timestamptz IS NULL OR created_at >= $3) AND (created_at, id) < ($4, $5)
ORDER BY created_at DESC, id DESC LIMIT $6

-- set_status --
-- One step of the state machine; no row when the step is not allowed or the sandbox is gone.
UPDATE sandboxes SET status = $2, status_detail = $3,
    last_activity_at = CASE WHEN $2 = 'running' THEN clock_timestamp() ELSE last_activity_at END
WHERE id = $1 AND sandbox_may_become(status, $2) RETURNING *

-- set_paused --
-- Whether its processes are frozen. Both ways count as use: it does not sleep the moment it goes on.
UPDATE sandboxes SET paused = $2, last_activity_at = clock_timestamp() WHERE id = $1

-- next_generation --
-- A new life of the sandbox: processes of earlier generations are known to be gone.
UPDATE sandboxes SET generation = generation + 1 WHERE id = $1 RETURNING generation

-- set_container --
-- What the driver reports about the running sandbox; NULL leaves a value as it is, except the container.
UPDATE sandboxes SET container_id = $2, node_id = coalesce($3, node_id), driver = coalesce($4, driver),
    isolation = coalesce($5, isolation), image = coalesce($6, image),
    generation = coalesce($7, generation), workspace = coalesce($8, workspace),
    started_as = coalesce($9, started_as)
WHERE id = $1 RETURNING *

-- touch --
-- The sandbox was used just now; written at most once a second.
UPDATE sandboxes SET last_activity_at = clock_timestamp()
WHERE id = $1 AND last_activity_at < clock_timestamp() - interval '1 second'

-- delete --
-- Removes the sandbox with everything that the seed ties to it (conversations, commands, files).
DELETE FROM sandboxes WHERE id = $1
