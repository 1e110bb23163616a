-- begin --
-- Takes the key, or takes it over from a try that has been silent for $6 seconds (its process died).
INSERT INTO idempotency_keys AS k (user_id, key, method, path, body_sha256)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (user_id, key) DO UPDATE SET locked_at = clock_timestamp()
WHERE k.finished_at IS NULL AND k.locked_at < clock_timestamp() - make_interval(secs => $6)
    AND k.method = $3 AND k.path = $4 AND k.body_sha256 = $5
RETURNING locked_at

-- get --
-- The key's row.
SELECT * FROM idempotency_keys WHERE user_id = $1 AND key = $2

-- finish --
-- Keeps the response, written once.
UPDATE idempotency_keys SET response_status = $3, response_headers = $4, response_body = $5,
    finished_at = clock_timestamp()
WHERE user_id = $1 AND key = $2 AND finished_at IS NULL

-- abandon --
-- Frees the key: the request changed nothing and may be sent again.
DELETE FROM idempotency_keys WHERE user_id = $1 AND key = $2 AND finished_at IS NULL

-- prune --
-- Forgets keys older than $1 seconds, at most $2 at a time.
DELETE FROM idempotency_keys WHERE (user_id, key) IN (
    SELECT user_id, key FROM idempotency_keys WHERE created_at < now() - make_interval(secs => $1) LIMIT $2
)
