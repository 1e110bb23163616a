-- get --
-- One entity in quarantine, with how much waits for its release.
SELECT kind, id, last_error AS error, quarantined_at AS since, failures, (
    SELECT count(*) FROM mailbox m WHERE m.kind = e.kind AND m.id = e.id AND m.status = 'pending') AS messages, (
    SELECT count(*) FROM outbox o WHERE o.kind = e.kind AND o.id = e.id AND o.status = 'pending') AS actions
FROM entities e WHERE kind = $1 AND id = $2 AND quarantined_at IS NOT NULL

-- list_page --
-- What is in quarantine behind the key ($1, $2), in key order.
SELECT kind, id, last_error AS error, quarantined_at AS since, failures, (
    SELECT count(*) FROM mailbox m WHERE m.kind = e.kind AND m.id = e.id AND m.status = 'pending') AS messages, (
    SELECT count(*) FROM outbox o WHERE o.kind = e.kind AND o.id = e.id AND o.status = 'pending') AS actions
FROM entities e WHERE quarantined_at IS NOT NULL AND (kind, id) > ($1, $2) ORDER BY kind, id LIMIT $3

-- of_kind --
-- Which of the entities named in $2 are in quarantine, and why.
SELECT id, coalesce(last_error ->> 'detail', '') AS reason FROM entities
WHERE kind = $1 AND id = ANY($2::text[]) AND quarantined_at IS NOT NULL

-- count_by_kind --
-- How many entities of each kind are in quarantine.
SELECT kind, count(*) AS n FROM entities WHERE quarantined_at IS NOT NULL GROUP BY kind
