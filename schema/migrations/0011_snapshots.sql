-- Migration 11: files that can be taken back. Snapshots of a sandbox follow each other by number; each holds what
-- differs from the one before (a `whole` one holds everything), so one costs what changed.

ALTER TABLE fs_entries
    ALTER COLUMN name TYPE text,             -- bytes that are no text are written out, four characters each
    ADD COLUMN stamp bytea,                  -- times and inode at the last look; NULL: to be read again
    ADD CONSTRAINT ck_fs_stamp CHECK (octet_length(stamp) = 24);

ALTER TABLE blobs
    ADD COLUMN position bigint NOT NULL DEFAULT 0,   -- of its first byte in the object `url`
    ADD CONSTRAINT ck_blobs_codec CHECK (codec IN ('raw', 'zstd')),
    ADD CONSTRAINT ck_blobs_position CHECK (position >= 0);
CREATE INDEX idx_blobs_url ON blobs (url);

ALTER TABLE snapshots
    ADD COLUMN seq bigint,
    ADD COLUMN whole boolean NOT NULL DEFAULT true,
    ADD COLUMN tree_hash varchar(64);
UPDATE snapshots s SET seq = n.seq
FROM (SELECT id, row_number() OVER (PARTITION BY sandbox_id ORDER BY created_at, id) AS seq FROM snapshots) n
WHERE n.id = s.id;
ALTER TABLE snapshots
    ALTER COLUMN seq SET NOT NULL,
    ADD CONSTRAINT uq_snapshots_seq UNIQUE (sandbox_id, seq);
-- Whoever inserts the seed's columns alone gets the next number.
CREATE FUNCTION number_snapshot() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq IS NULL THEN
        NEW.seq := (SELECT COALESCE(max(seq), 0) + 1 FROM snapshots WHERE sandbox_id = NEW.sandbox_id);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER trg_snapshots_seq BEFORE INSERT ON snapshots FOR EACH ROW EXECUTE FUNCTION number_snapshot();

ALTER TABLE snapshot_entries
    DROP CONSTRAINT ck_snapshot_entries_type,
    ADD CONSTRAINT ck_snapshot_entries_type CHECK (type IN ('file', 'directory', 'symlink', 'absent'));
