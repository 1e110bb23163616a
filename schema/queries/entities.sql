-- load --
-- The entity's row as it stands.
SELECT * FROM entities WHERE kind = $1 AND id = $2

-- claim --
-- Takes ownership when nobody live holds it, and raises the epoch, which fences every earlier owner.
-- The conflicting row is locked before WHERE is judged on its newest version, so of two claimers one wins.
-- The same owner may claim again: its first claim's answer may have been lost. clock_timestamp, not now():
-- after waiting for that lock, now() would still be the time at which the statement began.
-- One in quarantine may have mail that it must leave: it is not to be woken for it again at once.
INSERT INTO entities AS e (kind, id, owner, epoch, lease_expires_at)
VALUES ($1, $2, $3, 1, clock_timestamp() + make_interval(secs => $4))
ON CONFLICT (kind, id) DO UPDATE SET
    owner = excluded.owner,
    epoch = e.epoch + 1,
    lease_expires_at = clock_timestamp() + make_interval(secs => $4),
    retry_at = CASE WHEN e.quarantined_at IS NULL THEN e.retry_at
        ELSE clock_timestamp() + interval '5 minutes' END,
    updated_at = clock_timestamp()
WHERE e.owner IS NULL OR e.owner = $3 OR e.owner = $5 OR e.lease_expires_at < clock_timestamp()
RETURNING *

-- renew --
-- Renews every lease of one owner. Locked in key order, so that two renewals cannot deadlock.
WITH mine AS MATERIALIZED (
    SELECT kind, id FROM entities WHERE owner = $1 ORDER BY kind, id FOR NO KEY UPDATE
)
UPDATE entities e SET lease_expires_at = clock_timestamp() + make_interval(secs => $2)
FROM mine WHERE e.kind = mine.kind AND e.id = mine.id AND e.owner = $1
RETURNING e.kind, e.id, e.epoch

-- release --
-- Gives the entity up, if it is still ours. The epoch stays: the next claim raises it.
UPDATE entities SET owner = NULL, lease_expires_at = NULL, updated_at = clock_timestamp()
WHERE kind = $1 AND id = $2 AND epoch = $3 AND owner IS NOT NULL

-- release_all --
-- Gives up everything that one owner holds (a cell that stops in good order).
UPDATE entities SET owner = NULL, lease_expires_at = NULL, updated_at = clock_timestamp() WHERE owner = $1

-- save_state --
-- Writes the state under its fence; a success also ends the window in which failures are counted.
UPDATE entities SET state = $4, updated_at = clock_timestamp(),
    failures = 0, first_failure_at = NULL, retry_at = NULL
WHERE kind = $1 AND id = $2 AND epoch = $3 AND owner IS NOT NULL

-- owner_of --
-- The owner, and whether its lease is live by this database's clock.
SELECT kind, id, owner, epoch, lease_expires_at > clock_timestamp() AS live, quarantined_at, last_error
FROM entities WHERE kind = $1 AND id = $2

-- record_failure --
-- Counts a failure in a window of $4 seconds and forbids waking the entity for $5 seconds.
INSERT INTO entities AS e (kind, id, failures, first_failure_at, last_error, retry_at)
VALUES ($1, $2, 1, clock_timestamp(), $3, clock_timestamp() + make_interval(secs => $5))
ON CONFLICT (kind, id) DO UPDATE SET
    failures = CASE WHEN e.first_failure_at > clock_timestamp() - make_interval(secs => $4)
        THEN e.failures + 1 ELSE 1 END,
    first_failure_at = CASE WHEN e.first_failure_at > clock_timestamp() - make_interval(secs => $4)
        THEN e.first_failure_at ELSE clock_timestamp() END,
    last_error = excluded.last_error,
    retry_at = excluded.retry_at,
    updated_at = clock_timestamp()
RETURNING failures

-- quarantine --
-- Puts the entity aside with the reason on record; its owner, if any, is fenced at once. It may be woken at
-- once, for what is done in quarantine too.
INSERT INTO entities AS e (kind, id, quarantined_at, last_error)
VALUES ($1, $2, clock_timestamp(), $3)
ON CONFLICT (kind, id) DO UPDATE SET
    quarantined_at = coalesce(e.quarantined_at, clock_timestamp()), last_error = excluded.last_error,
    retry_at = NULL,
    owner = NULL, lease_expires_at = NULL, epoch = e.epoch + 1, updated_at = clock_timestamp()

-- defer --
-- Forbids waking the entity for $4 seconds; nothing is counted.
INSERT INTO entities AS e (kind, id, last_error, retry_at)
VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))
ON CONFLICT (kind, id) DO UPDATE SET last_error = excluded.last_error, retry_at = excluded.retry_at,
    updated_at = clock_timestamp()

-- release_quarantine --
-- Lets the entity work again, with a clean count of failures. Whoever holds it, holds it as one in
-- quarantine: it is fenced, and the next claim is a whole one.
UPDATE entities SET quarantined_at = NULL, failures = 0, first_failure_at = NULL, retry_at = NULL,
    owner = NULL, lease_expires_at = NULL, epoch = epoch + 1, updated_at = clock_timestamp()
WHERE kind = $1 AND id = $2 AND quarantined_at IS NOT NULL

-- orphans_with_work --
-- Entities with work to do now and no live owner (owners named in $2 count as dead), oldest work first.
SELECT w.kind, w.id FROM (
    SELECT kind, id, min(since) AS since FROM (
        SELECT kind, id, enqueued_at AS since FROM mailbox WHERE status = 'pending'
        UNION ALL
        SELECT kind, id, retry_at FROM outbox WHERE status = 'pending' AND retry_at <= clock_timestamp()
    ) AS pending GROUP BY kind, id
) AS w
LEFT JOIN entities e ON e.kind = w.kind AND e.id = w.id
WHERE (e.owner IS NULL OR e.lease_expires_at < clock_timestamp() OR e.owner = ANY($2::text[]))
    AND (e.retry_at IS NULL OR e.retry_at <= clock_timestamp())
ORDER BY w.since LIMIT $1

-- owned_with_work --
-- Entities of one owner that have work to do now: the net under a nudge that got lost.
SELECT DISTINCT e.kind, e.id FROM entities e
WHERE e.owner = $1 AND (
    EXISTS (SELECT 1 FROM mailbox m WHERE m.kind = e.kind AND m.id = e.id AND m.status = 'pending')
    OR EXISTS (SELECT 1 FROM outbox o WHERE o.kind = e.kind AND o.id = e.id AND o.status = 'pending'
        AND o.retry_at <= clock_timestamp()))
ORDER BY e.kind, e.id LIMIT $2

-- owners --
-- Every owner on record whose name begins with $1.
SELECT DISTINCT owner FROM entities WHERE starts_with(owner, $1)

-- list_entities --
-- Entities in key order, with filters by kind, owner and quarantine.
SELECT * FROM entities
WHERE ($1::text IS NULL OR kind = $1) AND ($2::text IS NULL OR owner = $2)
    AND ($3::boolean IS NULL OR (quarantined_at IS NOT NULL) = $3)
ORDER BY kind, id LIMIT $4 OFFSET $5

-- delete --
-- Forgets an entity for good, under its fence.
DELETE FROM entities WHERE kind = $1 AND id = $2 AND epoch = $3 AND owner IS NOT NULL
