-- Migration 2: repairs of the seed, by adding only. docs/schema.md says why each one is needed.
-- Every table, column, default, index and view of the seed keeps its name and its meaning.
-- Rules that hold below: an enumeration gets a CHECK *and* NOT NULL (a CHECK alone lets NULL pass);
-- a foreign key that is searched or cascaded gets an index; text limits that real values exceed go.

-- ---- updated_at -----------------------------------------------------------------------------------
CREATE FUNCTION set_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;

-- ---- users & authentication -----------------------------------------------------------------------
ALTER TABLE users
    ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN updated_at SET NOT NULL,
    ADD COLUMN role varchar(20) NOT NULL DEFAULT 'user' CONSTRAINT ck_users_role CHECK (role IN ('user', 'admin')),
    ADD COLUMN disabled_at timestamptz;
CREATE UNIQUE INDEX uq_users_email_ci ON users (lower(email));
CREATE UNIQUE INDEX uq_users_username_ci ON users (lower(username));

CREATE TABLE user_credentials (
    user_id uuid PRIMARY KEY REFERENCES users(id) ON DELETE CASCADE,
    password_hash text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE user_keys (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    version integer NOT NULL,
    kek_id text NOT NULL,
    wrapped_dek bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    CONSTRAINT uq_user_keys UNIQUE (user_id, version)
);

ALTER TABLE user_sessions
    ALTER COLUMN user_id SET NOT NULL,
    ALTER COLUMN created_at SET NOT NULL,
    ADD CONSTRAINT uq_user_sessions_token_hash UNIQUE (token_hash);
CREATE INDEX idx_user_sessions_user ON user_sessions (user_id);
CREATE INDEX idx_user_sessions_expires ON user_sessions (expires_at);

-- ---- sandboxes ------------------------------------------------------------------------------------
ALTER TABLE sandboxes
    ALTER COLUMN user_id SET NOT NULL,
    ALTER COLUMN status SET NOT NULL,
    ALTER COLUMN last_activity_at SET NOT NULL,
    ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN updated_at SET NOT NULL,
    ADD CONSTRAINT ck_sandboxes_status CHECK (status IN ('stopped', 'starting', 'running', 'error')),
    ADD CONSTRAINT ck_sandboxes_autosleep CHECK (auto_sleep_after_minutes IS NULL OR auto_sleep_after_minutes >= 0);
CREATE INDEX idx_sandboxes_autosleep ON sandboxes (last_activity_at) WHERE status = 'running';
CREATE UNIQUE INDEX uq_sandboxes_container ON sandboxes (container_id) WHERE container_id IS NOT NULL;

-- The state machine, in one place: the trigger refuses what this function refuses, and queries ask
-- it first so that an impossible step is an answer and not an aborted transaction.
CREATE FUNCTION sandbox_may_become(before text, after text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
SELECT after = before OR after = 'error' OR (before, after) IN (
    ('stopped', 'starting'), ('starting', 'running'), ('running', 'stopped'), ('error', 'starting')
) $$;
CREATE FUNCTION check_sandbox_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT sandbox_may_become(OLD.status, NEW.status) THEN
        RAISE EXCEPTION 'a sandbox cannot go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_sandboxes_transition';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER trg_sandboxes_status BEFORE UPDATE OF status ON sandboxes
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION check_sandbox_status();

ALTER TABLE sandbox_collaborators
    ALTER COLUMN sandbox_id SET NOT NULL,
    ALTER COLUMN user_id SET NOT NULL,
    ALTER COLUMN role SET NOT NULL,
    ADD CONSTRAINT ck_collab_role CHECK (role IN ('owner', 'editor', 'viewer')),
    DROP CONSTRAINT sandbox_collaborators_invited_by_fkey,
    ADD CONSTRAINT sandbox_collaborators_invited_by_fkey
        FOREIGN KEY (invited_by) REFERENCES users(id) ON DELETE SET NULL;
CREATE INDEX idx_collab_user ON sandbox_collaborators (user_id);
CREATE UNIQUE INDEX uq_collab_one_owner ON sandbox_collaborators (sandbox_id) WHERE role = 'owner';

-- ---- files & versions -----------------------------------------------------------------------------
-- UNIQUE(sandbox_id, path) of the seed stays: a deleted entry is a tombstone that an upsert revives,
-- so a file keeps its id and history when it comes back.
ALTER TABLE fs_entries
    ALTER COLUMN sandbox_id SET NOT NULL,
    ALTER COLUMN size_bytes SET NOT NULL,
    ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN updated_at SET NOT NULL,
    ADD COLUMN symlink_target text,
    ADD CONSTRAINT ck_fs_type CHECK (type IN ('file', 'directory', 'symlink')),
    ADD CONSTRAINT ck_fs_size CHECK (size_bytes >= 0),
    ADD CONSTRAINT ck_fs_hash CHECK (content_hash IS NULL OR content_hash ~ '^[0-9a-f]{64}$'),
    ADD CONSTRAINT ck_fs_path CHECK (path ~ '^/' AND path !~ '//|/\.\.?(/|$)' AND path !~ './$'),
    ADD CONSTRAINT ck_fs_path_length CHECK (octet_length(path) <= 2560),
    ADD CONSTRAINT ck_fs_symlink CHECK (symlink_target IS NULL OR type = 'symlink');
CREATE INDEX idx_fs_entries_live ON fs_entries (sandbox_id, path text_pattern_ops) INCLUDE (size_bytes)
    WHERE deleted_at IS NULL;

CREATE TABLE blobs (
    content_hash varchar(64) PRIMARY KEY,
    size_bytes bigint NOT NULL,
    stored_bytes bigint NOT NULL,
    codec varchar(10) NOT NULL,
    url text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_blobs_hash CHECK (content_hash ~ '^[0-9a-f]{64}$'),
    CONSTRAINT ck_blobs_size CHECK (size_bytes >= 0 AND stored_bytes >= 0)
);
ALTER TABLE file_versions
    ALTER COLUMN fs_entry_id SET NOT NULL,
    ALTER COLUMN created_at SET NOT NULL,
    ADD COLUMN content_hash varchar(64),
    ADD COLUMN path text,
    ADD CONSTRAINT uq_file_versions UNIQUE (fs_entry_id, version_number),
    ADD CONSTRAINT ck_fv_change CHECK (change_type IN ('created', 'modified', 'deleted', 'renamed')),
    ADD CONSTRAINT ck_fv_size CHECK (size_bytes >= 0),
    ADD CONSTRAINT fk_fv_blob FOREIGN KEY (content_hash) REFERENCES blobs(content_hash),
    DROP CONSTRAINT file_versions_created_by_fkey,
    ADD CONSTRAINT file_versions_created_by_fkey FOREIGN KEY (created_by) REFERENCES users(id) ON DELETE SET NULL;
CREATE INDEX idx_fv_hash ON file_versions (content_hash);
-- The retention policy ranks versions by time within a file; this index lets it read them in order.
CREATE INDEX idx_fv_entry_created ON file_versions (fs_entry_id, created_at DESC);

ALTER TABLE snapshots
    ALTER COLUMN sandbox_id SET NOT NULL,
    ALTER COLUMN snapshot_type SET NOT NULL,
    ALTER COLUMN created_at SET NOT NULL,
    ADD CONSTRAINT ck_snap_type CHECK (snapshot_type IN ('manual', 'auto', 'scheduled')),
    DROP CONSTRAINT snapshots_created_by_fkey,
    ADD CONSTRAINT snapshots_created_by_fkey FOREIGN KEY (created_by) REFERENCES users(id) ON DELETE SET NULL;
CREATE INDEX idx_snapshots_sandbox ON snapshots (sandbox_id, created_at DESC);
CREATE TABLE snapshot_entries (
    snapshot_id uuid NOT NULL REFERENCES snapshots(id) ON DELETE CASCADE,
    path text NOT NULL,
    type varchar(20) NOT NULL CONSTRAINT ck_snapshot_entries_type CHECK (type IN ('file', 'directory', 'symlink')),
    permissions varchar(10),
    size_bytes bigint NOT NULL DEFAULT 0,
    content_hash varchar(64) REFERENCES blobs(content_hash),
    symlink_target text,
    PRIMARY KEY (snapshot_id, path)
);
CREATE INDEX idx_snapshot_entries_hash ON snapshot_entries (content_hash);

-- ---- AI -------------------------------------------------------------------------------------------
ALTER TABLE ai_conversations
    ALTER COLUMN user_id SET NOT NULL,
    ALTER COLUMN status SET NOT NULL,
    ALTER COLUMN total_tokens SET NOT NULL,
    ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN updated_at SET NOT NULL,
    ALTER COLUMN model_used TYPE text,
    ALTER COLUMN total_tokens TYPE bigint,
    ADD CONSTRAINT ck_conv_status CHECK (status IN ('active', 'archived', 'deleted'));
CREATE INDEX idx_ai_conv_sandbox ON ai_conversations (sandbox_id);

ALTER TABLE ai_messages
    ALTER COLUMN conversation_id SET NOT NULL,
    ALTER COLUMN created_at SET NOT NULL,
    ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY,
    ADD CONSTRAINT ck_msg_role CHECK (role IN ('user', 'assistant', 'system', 'tool'));
CREATE INDEX idx_ai_messages_conv ON ai_messages (conversation_id, seq);

ALTER TABLE ai_agents
    ALTER COLUMN conversation_id SET NOT NULL,
    ALTER COLUMN status SET NOT NULL,
    ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN updated_at SET NOT NULL,
    ADD CONSTRAINT ck_agent_type CHECK (type IN ('planner', 'coder', 'critic', 'tester', 'executor')),
    ADD CONSTRAINT ck_agent_status CHECK (status IN ('active', 'paused', 'terminated'));
CREATE INDEX idx_ai_agents_conv ON ai_agents (conversation_id);

ALTER TABLE ai_memory
    ALTER COLUMN user_id SET NOT NULL,
    ALTER COLUMN importance_score SET NOT NULL,
    ALTER COLUMN created_at SET NOT NULL,
    ADD COLUMN conversation_id uuid REFERENCES ai_conversations(id) ON DELETE CASCADE,
    ADD COLUMN content text,
    ADD COLUMN embedding_model varchar(100),
    ADD COLUMN embedding_dims integer,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN fts tsvector GENERATED ALWAYS AS (to_tsvector('english', key || ' ' || coalesce(content, ''))) STORED,
    ADD CONSTRAINT ck_mem_type CHECK (memory_type IN ('session', 'project', 'global')),
    ADD CONSTRAINT ck_mem_score CHECK (importance_score BETWEEN 0 AND 1),
    ADD CONSTRAINT ck_mem_scope CHECK (CASE memory_type
        WHEN 'global' THEN sandbox_id IS NULL AND conversation_id IS NULL
        WHEN 'project' THEN sandbox_id IS NOT NULL AND conversation_id IS NULL
        ELSE true END),
    ADD CONSTRAINT ck_mem_embedding CHECK (embedding IS NULL OR embedding_model IS NOT NULL),
    ADD CONSTRAINT uq_ai_memory UNIQUE NULLS NOT DISTINCT (user_id, sandbox_id, conversation_id, memory_type, key);
CREATE INDEX idx_ai_memory_conv ON ai_memory (conversation_id);
CREATE INDEX idx_ai_memory_sandbox ON ai_memory (sandbox_id);
CREATE INDEX idx_ai_memory_fts ON ai_memory USING gin (fts);
CREATE INDEX idx_ai_memory_expires ON ai_memory (expires_at) WHERE expires_at IS NOT NULL;
-- The seed's ivfflat index stays under its name; on an empty table it has no useful lists, so searches
-- use this one by casting: `embedding::halfvec(1536) <=> $1`. It needs pgvector 0.7, safely 0.8.4.
CREATE INDEX idx_ai_memory_embedding_hnsw ON ai_memory
    USING hnsw ((embedding::halfvec(1536)) halfvec_cosine_ops) WHERE embedding IS NOT NULL;

-- ---- commands & audit -----------------------------------------------------------------------------
-- `archived` is named by the seed's retention policy and was never declared.
ALTER TABLE command_executions
    ALTER COLUMN sandbox_id SET NOT NULL,
    ALTER COLUMN user_id SET NOT NULL,
    ALTER COLUMN status SET NOT NULL,
    ALTER COLUMN execution_mode SET NOT NULL,
    ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN working_directory TYPE text,
    ADD COLUMN archived boolean NOT NULL DEFAULT false,
    ADD COLUMN stdout_url text,
    ADD COLUMN stderr_url text,
    ADD COLUMN stdout_bytes bigint,
    ADD COLUMN stderr_bytes bigint,
    ADD COLUMN truncated boolean NOT NULL DEFAULT false,
    ADD COLUMN idempotency_key varchar(255),
    ADD CONSTRAINT ck_ce_status CHECK (status IN ('pending', 'running', 'completed', 'failed', 'killed')),
    ADD CONSTRAINT ck_ce_mode CHECK (execution_mode IN ('manual', 'auto', 'scheduled')),
    ADD CONSTRAINT ck_ce_completed CHECK (status <> 'completed' OR exit_code IS NOT NULL),
    ADD CONSTRAINT ck_ce_out CHECK (
        octet_length(coalesce(stdout, '')) <= 262144 AND octet_length(coalesce(stderr, '')) <= 262144);
CREATE UNIQUE INDEX uq_ce_idempotency ON command_executions (user_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX idx_ce_sandbox_created ON command_executions (sandbox_id, created_at DESC);
CREATE INDEX idx_ce_user_created ON command_executions (user_id, created_at DESC);
CREATE INDEX idx_ce_archive ON command_executions (created_at) WHERE NOT archived;
CREATE INDEX idx_ce_open ON command_executions (sandbox_id) WHERE status IN ('pending', 'running');

-- A command's end is written once: pending → running → an end, and an end never changes.
CREATE FUNCTION check_execution_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status IN ('completed', 'failed', 'killed') OR NEW.status = 'pending' THEN
        RAISE EXCEPTION 'a command cannot go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_ce_transition';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER trg_command_executions_status BEFORE UPDATE OF status ON command_executions
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION check_execution_status();

ALTER TABLE audit_logs ALTER COLUMN created_at SET NOT NULL;
CREATE INDEX idx_audit_created ON audit_logs USING brin (created_at);
CREATE INDEX idx_audit_sandbox_created ON audit_logs (sandbox_id, created_at DESC);
CREATE INDEX idx_audit_user_created ON audit_logs (user_id, created_at DESC);
-- Append-only, with two doors: a foreign key may set its own column to NULL when its target goes, and a
-- purge after export says so for its transaction (SET LOCAL terminalpp.audit_purge = 'on').
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE'
        AND (to_jsonb(NEW) - 'user_id' - 'sandbox_id') = (to_jsonb(OLD) - 'user_id' - 'sandbox_id')
        AND (NEW.user_id IS NULL OR NEW.user_id = OLD.user_id)
        AND (NEW.sandbox_id IS NULL OR NEW.sandbox_id = OLD.sandbox_id) THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' AND current_setting('terminalpp.audit_purge', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'audit_logs is append-only' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER trg_audit_append BEFORE UPDATE OR DELETE ON audit_logs
    FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER trg_audit_truncate BEFORE TRUNCATE ON audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();

-- ---- GitHub ---------------------------------------------------------------------------------------
ALTER TABLE github_connections
    ALTER COLUMN user_id SET NOT NULL,
    ALTER COLUMN access_token_hash TYPE text,
    ALTER COLUMN refresh_token_hash TYPE text,
    ADD COLUMN refresh_expires_at timestamptz,
    ADD COLUMN key_version integer,
    ADD CONSTRAINT uq_github_user UNIQUE (github_user_id);
COMMENT ON COLUMN github_connections.access_token_hash IS 'Ciphertext of the token (the seed''s name is kept; a hash could not be used).';
COMMENT ON COLUMN github_connections.refresh_token_hash IS 'Ciphertext of the refresh token (the seed''s name is kept).';

ALTER TABLE repository_links
    ALTER COLUMN sandbox_id SET NOT NULL,
    ALTER COLUMN sync_status SET NOT NULL,
    ADD COLUMN path text NOT NULL DEFAULT '.',
    ADD COLUMN last_error text,
    ADD COLUMN webhook_id bigint,
    ADD CONSTRAINT ck_sync CHECK (sync_status IN ('synced', 'pending', 'error')),
    ADD CONSTRAINT ck_repo_clone_url CHECK (clone_url !~ '^[A-Za-z][A-Za-z0-9+.-]*://[^/@]*:[^/@]*@'),
    ADD CONSTRAINT uq_repo_link UNIQUE (sandbox_id, repository_full_name, path);
CREATE INDEX idx_repo_links_conn ON repository_links (github_connection_id);
CREATE INDEX idx_repo_links_name ON repository_links (lower(repository_full_name));

CREATE TABLE webhook_deliveries (
    delivery_id uuid PRIMARY KEY,
    event varchar(50) NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    status varchar(20) NOT NULL DEFAULT 'pending'
        CONSTRAINT ck_webhook_status CHECK (status IN ('pending', 'done', 'failed'))
);

-- ---- secrets --------------------------------------------------------------------------------------
ALTER TABLE secrets
    ALTER COLUMN user_id SET NOT NULL,
    ALTER COLUMN secret_type SET NOT NULL,
    ADD COLUMN key_version integer,
    ADD CONSTRAINT ck_secret_type CHECK (secret_type IN ('env_var', 'api_key', 'ssh_key', 'certificate'));
CREATE UNIQUE INDEX uq_secrets_global ON secrets (user_id, name) WHERE sandbox_id IS NULL;
CREATE INDEX idx_secrets_user ON secrets (user_id);

-- ---- plugins --------------------------------------------------------------------------------------
ALTER TABLE plugins
    ALTER COLUMN status SET NOT NULL,
    ALTER COLUMN install_count SET NOT NULL,
    ALTER COLUMN rating_average SET NOT NULL,
    ALTER COLUMN rating_count SET NOT NULL,
    ADD COLUMN sha256 varchar(64),
    ADD COLUMN signature text,
    ADD CONSTRAINT ck_plugin_status CHECK (status IN ('pending', 'approved', 'rejected')),
    ADD CONSTRAINT ck_plugin_rating CHECK (rating_average BETWEEN 0 AND 5 AND rating_count >= 0 AND install_count >= 0),
    DROP CONSTRAINT plugins_author_id_fkey,
    ADD CONSTRAINT plugins_author_id_fkey FOREIGN KEY (author_id) REFERENCES users(id) ON DELETE SET NULL;
CREATE INDEX idx_plugins_tags ON plugins USING gin (tags);

ALTER TABLE user_plugins
    ALTER COLUMN user_id SET NOT NULL,
    ALTER COLUMN plugin_id SET NOT NULL,
    ALTER COLUMN enabled SET NOT NULL;
CREATE UNIQUE INDEX uq_user_plugins_global ON user_plugins (user_id, plugin_id) WHERE sandbox_id IS NULL;
CREATE INDEX idx_user_plugins_plugin ON user_plugins (plugin_id);
CREATE INDEX idx_user_plugins_sandbox ON user_plugins (sandbox_id);

CREATE TABLE plugin_versions (
    plugin_id uuid NOT NULL REFERENCES plugins(id) ON DELETE CASCADE,
    version varchar(50) NOT NULL,
    manifest jsonb NOT NULL,
    download_url text,
    sha256 varchar(64) NOT NULL,
    signature text,
    created_at timestamptz NOT NULL DEFAULT now(),
    yanked_at timestamptz,
    PRIMARY KEY (plugin_id, version)
);
CREATE TABLE plugin_ratings (
    plugin_id uuid NOT NULL REFERENCES plugins(id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    stars smallint NOT NULL CONSTRAINT ck_plugin_ratings_stars CHECK (stars BETWEEN 1 AND 5),
    PRIMARY KEY (plugin_id, user_id)
);

-- ---- updated_at, one trigger per table; an update that changes nothing moves no clock --------------
CREATE TRIGGER trg_users_updated_at BEFORE UPDATE ON users
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER trg_sandboxes_updated_at BEFORE UPDATE ON sandboxes
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER trg_fs_entries_updated_at BEFORE UPDATE ON fs_entries
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER trg_ai_conversations_updated_at BEFORE UPDATE ON ai_conversations
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER trg_ai_agents_updated_at BEFORE UPDATE ON ai_agents
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION set_updated_at();
-- Not for access_count and last_accessed_at: being recalled is not being changed.
CREATE TRIGGER trg_ai_memory_updated_at
    BEFORE UPDATE OF key, value, content, embedding, importance_score, expires_at ON ai_memory
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER trg_github_connections_updated_at BEFORE UPDATE ON github_connections
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER trg_secrets_updated_at BEFORE UPDATE ON secrets
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER trg_plugins_updated_at BEFORE UPDATE ON plugins
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION set_updated_at();

-- ---- view: same name, same columns, same rows; counts only the rows it shows -----------------------
CREATE OR REPLACE VIEW active_sandboxes AS
SELECT s.id, s.user_id, s.name, s.description, s.container_id, s.image, s.status, s.resource_limits,
    s.environment_vars, s.exposed_ports, s.last_activity_at, s.auto_sleep_after_minutes, s.created_at,
    s.updated_at, u.username, u.email, ce.command_count, ce.last_command_at
FROM sandboxes s
JOIN users u ON u.id = s.user_id
LEFT JOIN LATERAL (
    SELECT count(*) AS command_count, max(c.created_at) AS last_command_at
    FROM command_executions c WHERE c.sandbox_id = s.id
) ce ON true
WHERE s.status IN ('running', 'starting');
