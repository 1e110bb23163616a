-- create --
-- A share once per id. Asked for again it gets the new secret: whoever asks did not get the first one.
INSERT INTO port_shares (id, sandbox_id, port, name, secret_sha256, expires_at)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6))
ON CONFLICT (id) DO UPDATE SET secret_sha256 = excluded.secret_sha256, expires_at = excluded.expires_at
    WHERE port_shares.sandbox_id = excluded.sandbox_id AND port_shares.port = excluded.port
RETURNING *, 0::float8 AS seconds_left

-- of_secret --
-- What a secret opens, and for how many seconds more (none: it has expired). Of a disabled account: nothing.
SELECT p.*, extract(epoch FROM p.expires_at - clock_timestamp())::float8 AS seconds_left
FROM port_shares p JOIN sandboxes s ON s.id = p.sandbox_id JOIN users u ON u.id = s.user_id
WHERE p.secret_sha256 = $1 AND u.disabled_at IS NULL

-- list_shares --
-- A sandbox's shares behind a place, newest first.
SELECT *, extract(epoch FROM expires_at - clock_timestamp())::float8 AS seconds_left
FROM port_shares WHERE sandbox_id = $1 AND (created_at, id) < ($2, $3)
ORDER BY created_at DESC, id DESC LIMIT $4

-- revoke --
-- Ends a share.
DELETE FROM port_shares WHERE id = $1 AND sandbox_id = $2

-- prune --
-- Forgets shares that expired long ago: until then their holders are told that they have.
DELETE FROM port_shares WHERE id IN (
    SELECT id FROM port_shares WHERE expires_at < clock_timestamp() - make_interval(secs => $1) LIMIT $2
)
