-- known --
-- Which of these contents are stored.
SELECT content_hash FROM blobs WHERE content_hash = ANY($1::text[])

-- get --
-- Where these contents are.
SELECT * FROM blobs WHERE content_hash = ANY($1::text[])

-- add --
-- Contents that were stored. Of one that was stored twice the first place stays.
INSERT INTO blobs (content_hash, size_bytes, stored_bytes, codec, url, position)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[])
ON CONFLICT (content_hash) DO UPDATE SET last_seen_at = now()

-- seen --
-- They are in use again: not to be collected soon.
UPDATE blobs SET last_seen_at = now()
WHERE content_hash = ANY($1::text[]) AND last_seen_at < now() - interval '1 hour'

-- collect --
-- Forgets contents that nothing refers to and that nobody has used for $1 seconds, $2 at a time. The foreign keys
-- of file_versions and snapshot_entries refuse what is referred to meanwhile.
DELETE FROM blobs WHERE content_hash IN (
    SELECT content_hash FROM blobs b
    WHERE last_seen_at < now() - make_interval(secs => $1)
        AND NOT EXISTS (SELECT 1 FROM snapshot_entries e WHERE e.content_hash = b.content_hash)
        AND NOT EXISTS (SELECT 1 FROM file_versions v WHERE v.content_hash = b.content_hash)
    LIMIT $2
) RETURNING content_hash

-- urls --
-- Which of these objects hold something.
SELECT DISTINCT url FROM blobs WHERE url = ANY($1::text[])
