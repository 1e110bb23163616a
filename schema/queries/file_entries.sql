-- live --
-- All entries of a sandbox that are there.
SELECT path, type, permissions, size_bytes, content_hash, symlink_target, stamp FROM fs_entries
WHERE sandbox_id = $1 AND deleted_at IS NULL

-- put --
-- Makes entries or changes them; one that was deleted is there again, with its id.
INSERT INTO fs_entries (sandbox_id, path, name, type, permissions, size_bytes, content_hash, symlink_target, stamp,
    mime_type)
SELECT $1, u.* FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
    $9::bytea[], $10::text[]) u
ON CONFLICT (sandbox_id, path) DO UPDATE SET type = excluded.type, permissions = excluded.permissions,
    size_bytes = excluded.size_bytes, content_hash = excluded.content_hash, symlink_target = excluded.symlink_target,
    stamp = excluded.stamp, mime_type = excluded.mime_type, deleted_at = NULL

-- restamp --
-- Entries that are as they were, seen at another time.
UPDATE fs_entries e SET stamp = u.stamp FROM unnest($2::text[], $3::bytea[]) AS u(path, stamp)
WHERE e.sandbox_id = $1 AND e.path = u.path

-- drop --
-- Entries that are gone.
UPDATE fs_entries SET deleted_at = now(), stamp = NULL
WHERE sandbox_id = $1 AND path = ANY($2::text[]) AND deleted_at IS NULL

-- move --
-- Entries under another name, with their history; where that name has a history of its own, nothing.
UPDATE fs_entries e SET path = u.new, name = u.name, deleted_at = NULL
FROM unnest($2::text[], $3::text[], $4::text[]) AS u(old, new, name)
WHERE e.sandbox_id = $1 AND e.path = u.old
    AND NOT EXISTS (SELECT 1 FROM fs_entries t WHERE t.sandbox_id = $1 AND t.path = u.new)

-- add_versions --
-- The next version of each of these files.
INSERT INTO file_versions (fs_entry_id, version_number, path, change_type, size_bytes, content_hash, content_url,
    content_preview, created_by, commit_message)
SELECT e.id, COALESCE((SELECT max(version_number) FROM file_versions v WHERE v.fs_entry_id = e.id), 0) + 1,
    u.path, u.change, u.size, u.hash, 'cas://sha256/' || u.hash, u.preview, $7, $8
FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[]) AS u(path, change, size, hash, preview)
JOIN fs_entries e ON e.sandbox_id = $1 AND e.path = u.path

-- versions --
-- A file's versions, newest first, before a number.
SELECT v.* FROM file_versions v JOIN fs_entries e ON e.id = v.fs_entry_id
WHERE e.sandbox_id = $1 AND e.path = $2 AND v.version_number < $3
ORDER BY v.version_number DESC LIMIT $4
