-- create_table --
-- Where applied migrations are recorded.
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    sha256 varchar(64) NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    ms integer NOT NULL
)

-- applied --
-- What was applied.
SELECT version, name, sha256, applied_at, ms FROM schema_migrations ORDER BY version

-- record --
-- Records a migration in the transaction that applied it.
INSERT INTO schema_migrations (version, name, sha256, ms) VALUES ($1, $2, $3, $4) RETURNING applied_at
