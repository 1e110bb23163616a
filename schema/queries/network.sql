-- served --
-- Sandboxes of a node that run, or are about to, with an allowlist.
SELECT id, network_policy FROM sandboxes
WHERE network = 'allowlist' AND node_id = $1 AND status IN ('starting', 'running')

-- policy_of --
-- The policy of a sandbox as it stands; no row unless its network is an allowlist.
SELECT network_policy FROM sandboxes WHERE id = $1 AND network = 'allowlist'

-- set_network --
-- Another network and policy.
UPDATE sandboxes SET network = $2, network_policy = $3 WHERE id = $1 RETURNING id

-- refused --
-- Counts refusals of one target. Nothing is added for a sandbox that is gone.
INSERT INTO network_refusals (sandbox_id, host, port, reason, detail, count)
SELECT s.id, $2, $3, $4, $5, $6 FROM sandboxes s WHERE s.id = $1
ON CONFLICT (sandbox_id, host, port, reason) DO UPDATE
    SET count = network_refusals.count + excluded.count, last_at = clock_timestamp(), detail = excluded.detail

-- prune --
-- Of each sandbox the newest targets are kept.
DELETE FROM network_refusals WHERE sandbox_id = $1 AND (host, port, reason) IN (
    SELECT host, port, reason FROM network_refusals WHERE sandbox_id = $1
    ORDER BY last_at DESC, host, port, reason OFFSET $2)

-- refusals --
-- What a sandbox was refused since a moment, the latest first.
SELECT * FROM network_refusals WHERE sandbox_id = $1 AND ($2::timestamptz IS NULL OR last_at >= $2)
ORDER BY last_at DESC, host, port, reason LIMIT $3
