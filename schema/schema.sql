-- The result of all migrations, written by `python -m schema.dump`.

CREATE EXTENSION vector;

CREATE OR REPLACE FUNCTION public.audit_append_only()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION public.check_execution_status()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    IF OLD.status IN ('completed', 'failed', 'killed') OR NEW.status = 'pending' THEN
        RAISE EXCEPTION 'a command cannot go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_ce_transition';
    END IF;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION public.check_sandbox_status()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    IF NOT sandbox_may_become(OLD.status, NEW.status) THEN
        RAISE EXCEPTION 'a sandbox cannot go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_sandboxes_transition';
    END IF;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION public.forget_graph()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    DELETE FROM graph_writes WHERE thread_id = OLD.id::text;
    DELETE FROM graph_checkpoints WHERE thread_id = OLD.id::text;
    RETURN NULL;
END $function$;

CREATE OR REPLACE FUNCTION public.number_snapshot()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    IF NEW.seq IS NULL THEN
        NEW.seq := (SELECT COALESCE(max(seq), 0) + 1 FROM snapshots WHERE sandbox_id = NEW.sandbox_id);
    END IF;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION public.sandbox_may_become(before text, after text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
AS $function$
SELECT after = before OR after = 'error' OR (before, after) IN (
    ('stopped', 'starting'), ('starting', 'running'), ('running', 'stopped'), ('error', 'starting')
) $function$;

CREATE OR REPLACE FUNCTION public.set_updated_at()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $function$;

CREATE TABLE ai_agents (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    conversation_id uuid NOT NULL,
    type character varying(20) NOT NULL,
    name character varying(100) NOT NULL,
    status character varying(20) NOT NULL DEFAULT 'active'::character varying,
    context jsonb DEFAULT '{}'::jsonb,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT ai_agents_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES ai_conversations(id) ON DELETE CASCADE,
    CONSTRAINT ai_agents_pkey PRIMARY KEY (id),
    CONSTRAINT ck_agent_status CHECK (((status)::text = ANY ((ARRAY['active'::character varying, 'paused'::character varying, 'terminated'::character varying])::text[]))),
    CONSTRAINT ck_agent_type CHECK (((type)::text = ANY ((ARRAY['planner'::character varying, 'coder'::character varying, 'critic'::character varying, 'tester'::character varying, 'executor'::character varying])::text[])))
);
CREATE INDEX idx_ai_agents_conv ON public.ai_agents USING btree (conversation_id);
CREATE INDEX idx_ai_agents_created ON public.ai_agents USING btree (created_at DESC);
CREATE TRIGGER trg_ai_agents_updated_at BEFORE UPDATE ON public.ai_agents FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION set_updated_at();

CREATE TABLE ai_conversations (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    sandbox_id uuid,
    title character varying(255),
    model_used text,
    total_tokens bigint NOT NULL DEFAULT 0,
    status character varying(20) NOT NULL DEFAULT 'active'::character varying,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    event_seq bigint NOT NULL DEFAULT 0,
    settings jsonb NOT NULL DEFAULT '{}'::jsonb,
    cost_usd numeric NOT NULL DEFAULT 0,
    CONSTRAINT ai_conversations_pkey PRIMARY KEY (id),
    CONSTRAINT ai_conversations_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes(id) ON DELETE CASCADE,
    CONSTRAINT ai_conversations_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE,
    CONSTRAINT ck_conv_event_seq CHECK ((event_seq >= 0)),
    CONSTRAINT ck_conv_status CHECK (((status)::text = ANY ((ARRAY['active'::character varying, 'archived'::character varying, 'deleted'::character varying])::text[])))
) WITH (fillfactor=70);
CREATE INDEX idx_ai_conv_sandbox ON public.ai_conversations USING btree (sandbox_id);
CREATE INDEX idx_ai_conversations_user_created ON public.ai_conversations USING btree (user_id, created_at DESC, id DESC);
CREATE INDEX idx_ai_conversations_user_sandbox ON public.ai_conversations USING btree (user_id, sandbox_id);
CREATE TRIGGER trg_ai_conversations_forget_graph AFTER DELETE ON public.ai_conversations FOR EACH ROW EXECUTE FUNCTION forget_graph();
CREATE TRIGGER trg_ai_conversations_updated_at BEFORE UPDATE ON public.ai_conversations FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION set_updated_at();

CREATE TABLE ai_memory (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    sandbox_id uuid,
    memory_type character varying(20) NOT NULL,
    key character varying(255) NOT NULL,
    value jsonb NOT NULL,
    embedding vector(1536),
    importance_score double precision NOT NULL DEFAULT 0.5,
    access_count integer DEFAULT 0,
    last_accessed_at timestamp with time zone DEFAULT now(),
    expires_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    conversation_id uuid,
    content text,
    embedding_model character varying(100),
    embedding_dims integer,
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    fts tsvector GENERATED ALWAYS AS (to_tsvector('english'::regconfig, (((key)::text || ' '::text) || COALESCE(content, ''::text)))) STORED,
    CONSTRAINT ai_memory_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES ai_conversations(id) ON DELETE CASCADE,
    CONSTRAINT ai_memory_pkey PRIMARY KEY (id),
    CONSTRAINT ai_memory_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes(id) ON DELETE CASCADE,
    CONSTRAINT ai_memory_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE,
    CONSTRAINT ck_mem_embedding CHECK (((embedding IS NULL) OR (embedding_model IS NOT NULL))),
    CONSTRAINT ck_mem_scope CHECK (
CASE memory_type
    WHEN 'global'::text THEN ((sandbox_id IS NULL) AND (conversation_id IS NULL))
    WHEN 'project'::text THEN ((sandbox_id IS NOT NULL) AND (conversation_id IS NULL))
    ELSE true
END),
    CONSTRAINT ck_mem_score CHECK (((importance_score >= (0)::double precision) AND (importance_score <= (1)::double precision))),
    CONSTRAINT ck_mem_type CHECK (((memory_type)::text = ANY ((ARRAY['session'::character varying, 'project'::character varying, 'global'::character varying])::text[]))),
    CONSTRAINT uq_ai_memory UNIQUE NULLS NOT DISTINCT (user_id, sandbox_id, conversation_id, memory_type, key)
);
CREATE INDEX idx_ai_memory_conv ON public.ai_memory USING btree (conversation_id);
CREATE INDEX idx_ai_memory_embedding ON public.ai_memory USING ivfflat (embedding vector_cosine_ops);
CREATE INDEX idx_ai_memory_embedding_hnsw ON public.ai_memory USING hnsw (((embedding)::halfvec(1536)) halfvec_cosine_ops) WHERE (embedding IS NOT NULL);
CREATE INDEX idx_ai_memory_expires ON public.ai_memory USING btree (expires_at) WHERE (expires_at IS NOT NULL);
CREATE INDEX idx_ai_memory_fts ON public.ai_memory USING gin (fts);
CREATE INDEX idx_ai_memory_sandbox ON public.ai_memory USING btree (sandbox_id);
CREATE TRIGGER trg_ai_memory_updated_at BEFORE UPDATE OF key, value, content, embedding, importance_score, expires_at ON public.ai_memory FOR EACH ROW EXECUTE FUNCTION set_updated_at();

CREATE TABLE ai_messages (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    conversation_id uuid NOT NULL,
    role character varying(20) NOT NULL,
    content text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    CONSTRAINT ai_messages_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES ai_conversations(id) ON DELETE CASCADE,
    CONSTRAINT ai_messages_pkey PRIMARY KEY (id),
    CONSTRAINT ck_msg_role CHECK (((role)::text = ANY ((ARRAY['user'::character varying, 'assistant'::character varying, 'system'::character varying, 'tool'::character varying])::text[])))
);
CREATE INDEX idx_ai_messages_conv ON public.ai_messages USING btree (conversation_id, seq);

CREATE TABLE api_keys (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    name character varying(100) NOT NULL,
    token_sha256 character varying(64) NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    last_used_at timestamp with time zone,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE,
    CONSTRAINT ck_api_keys_token CHECK (((token_sha256)::text ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT uq_api_keys_token UNIQUE (token_sha256)
);
CREATE INDEX idx_api_keys_user ON public.api_keys USING btree (user_id);

CREATE TABLE audit_logs (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id uuid,
    sandbox_id uuid,
    action character varying(50) NOT NULL,
    resource_type character varying(50) NOT NULL,
    resource_id uuid,
    details jsonb DEFAULT '{}'::jsonb,
    ip_address inet,
    user_agent text,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT audit_logs_pkey PRIMARY KEY (id),
    CONSTRAINT audit_logs_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes(id) ON DELETE SET NULL,
    CONSTRAINT audit_logs_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE SET NULL
);
CREATE INDEX idx_audit_created ON public.audit_logs USING brin (created_at);
CREATE INDEX idx_audit_logs_user_action ON public.audit_logs USING btree (user_id, action);
CREATE INDEX idx_audit_sandbox_created ON public.audit_logs USING btree (sandbox_id, created_at DESC);
CREATE INDEX idx_audit_user_created ON public.audit_logs USING btree (user_id, created_at DESC);
CREATE TRIGGER trg_audit_append BEFORE DELETE OR UPDATE ON public.audit_logs FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER trg_audit_truncate BEFORE TRUNCATE ON public.audit_logs FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();

CREATE TABLE blobs (
    content_hash character varying(64) NOT NULL,
    size_bytes bigint NOT NULL,
    stored_bytes bigint NOT NULL,
    codec character varying(10) NOT NULL,
    url text NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    last_seen_at timestamp with time zone NOT NULL DEFAULT now(),
    "position" bigint NOT NULL DEFAULT 0,
    CONSTRAINT blobs_pkey PRIMARY KEY (content_hash),
    CONSTRAINT ck_blobs_codec CHECK (((codec)::text = ANY ((ARRAY['raw'::character varying, 'zstd'::character varying])::text[]))),
    CONSTRAINT ck_blobs_hash CHECK (((content_hash)::text ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT ck_blobs_position CHECK (("position" >= 0)),
    CONSTRAINT ck_blobs_size CHECK (((size_bytes >= 0) AND (stored_bytes >= 0)))
);
CREATE INDEX idx_blobs_url ON public.blobs USING btree (url);

CREATE TABLE command_executions (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    sandbox_id uuid NOT NULL,
    user_id uuid NOT NULL,
    command text NOT NULL,
    working_directory text DEFAULT '/home/user'::character varying,
    environment_vars jsonb DEFAULT '{}'::jsonb,
    execution_mode character varying(20) NOT NULL DEFAULT 'manual'::character varying,
    status character varying(20) NOT NULL DEFAULT 'pending'::character varying,
    exit_code integer,
    stdout text,
    stderr text,
    execution_time_ms integer,
    started_at timestamp with time zone,
    completed_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    archived boolean NOT NULL DEFAULT false,
    stdout_url text,
    stderr_url text,
    stdout_bytes bigint,
    stderr_bytes bigint,
    truncated boolean NOT NULL DEFAULT false,
    idempotency_key character varying(255),
    reason text,
    agent character varying(20),
    conversation_id uuid,
    streams_open boolean NOT NULL DEFAULT false,
    CONSTRAINT ck_ce_completed CHECK ((((status)::text <> 'completed'::text) OR (exit_code IS NOT NULL))),
    CONSTRAINT ck_ce_mode CHECK (((execution_mode)::text = ANY ((ARRAY['manual'::character varying, 'auto'::character varying, 'scheduled'::character varying])::text[]))),
    CONSTRAINT ck_ce_out CHECK (((octet_length(COALESCE(stdout, ''::text)) <= 262144) AND (octet_length(COALESCE(stderr, ''::text)) <= 262144))),
    CONSTRAINT ck_ce_status CHECK (((status)::text = ANY ((ARRAY['pending'::character varying, 'running'::character varying, 'completed'::character varying, 'failed'::character varying, 'killed'::character varying])::text[]))),
    CONSTRAINT command_executions_pkey PRIMARY KEY (id),
    CONSTRAINT command_executions_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes(id) ON DELETE CASCADE,
    CONSTRAINT command_executions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);
CREATE INDEX idx_ce_archive ON public.command_executions USING btree (created_at) WHERE (NOT archived);
CREATE INDEX idx_ce_completed ON public.command_executions USING btree (completed_at) WHERE (completed_at IS NOT NULL);
CREATE INDEX idx_ce_conversation ON public.command_executions USING btree (conversation_id) WHERE (conversation_id IS NOT NULL);
CREATE INDEX idx_ce_open ON public.command_executions USING btree (sandbox_id) WHERE ((status)::text = ANY ((ARRAY['pending'::character varying, 'running'::character varying])::text[]));
CREATE INDEX idx_ce_sandbox_created ON public.command_executions USING btree (sandbox_id, created_at DESC, id DESC);
CREATE INDEX idx_ce_unclosed ON public.command_executions USING btree (sandbox_id) WHERE streams_open;
CREATE INDEX idx_ce_user_created ON public.command_executions USING btree (user_id, created_at DESC);
CREATE INDEX idx_command_executions_sandbox_user ON public.command_executions USING btree (sandbox_id, user_id);
CREATE UNIQUE INDEX uq_ce_idempotency ON public.command_executions USING btree (user_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);
CREATE TRIGGER trg_command_executions_status BEFORE UPDATE OF status ON public.command_executions FOR EACH ROW WHEN (((old.status)::text IS DISTINCT FROM (new.status)::text)) EXECUTE FUNCTION check_execution_status();

CREATE TABLE dead_letters (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    source character varying(10) NOT NULL,
    source_id text NOT NULL,
    kind character varying(20) NOT NULL,
    entity_id text NOT NULL,
    name character varying(100) NOT NULL,
    payload jsonb NOT NULL,
    error jsonb NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    replayed_at timestamp with time zone,
    CONSTRAINT ck_dead_letters_source CHECK (((source)::text = ANY ((ARRAY['mailbox'::character varying, 'outbox'::character varying])::text[]))),
    CONSTRAINT dead_letters_pkey PRIMARY KEY (id)
);
CREATE INDEX idx_dead_letters_created ON public.dead_letters USING btree (created_at DESC);
CREATE UNIQUE INDEX uq_dead_letters_open ON public.dead_letters USING btree (source, source_id) WHERE (replayed_at IS NULL);

CREATE TABLE entities (
    kind character varying(20) NOT NULL,
    id text NOT NULL,
    state jsonb NOT NULL DEFAULT '{}'::jsonb,
    owner text,
    epoch bigint NOT NULL DEFAULT 0,
    lease_expires_at timestamp with time zone,
    failures integer NOT NULL DEFAULT 0,
    first_failure_at timestamp with time zone,
    last_error jsonb,
    retry_at timestamp with time zone,
    quarantined_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT ck_entities_epoch CHECK ((epoch >= 0)),
    CONSTRAINT ck_entities_lease CHECK (((owner IS NULL) = (lease_expires_at IS NULL))),
    CONSTRAINT entities_pkey PRIMARY KEY (kind, id)
) WITH (fillfactor=70);
CREATE INDEX idx_entities_owner ON public.entities USING btree (owner) WHERE (owner IS NOT NULL);
CREATE INDEX idx_entities_quarantined ON public.entities USING btree (kind, id) WHERE (quarantined_at IS NOT NULL);

CREATE TABLE events (
    conversation_id uuid NOT NULL,
    seq bigint NOT NULL,
    type character varying(50) NOT NULL,
    actor character varying(50) NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    key text,
    CONSTRAINT ck_events_seq CHECK ((seq > 0)),
    CONSTRAINT events_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES ai_conversations(id) ON DELETE CASCADE,
    CONSTRAINT events_pkey PRIMARY KEY (conversation_id, seq)
);
CREATE INDEX idx_events_figures ON public.events USING btree (created_at) WHERE ((type)::text = ANY ((ARRAY['turn.finished'::character varying, 'model.finished'::character varying])::text[]));
CREATE INDEX idx_events_type ON public.events USING btree (conversation_id, type, seq);
CREATE UNIQUE INDEX uq_events_key ON public.events USING btree (conversation_id, type, key) WHERE (key IS NOT NULL);

CREATE TABLE file_versions (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    fs_entry_id uuid NOT NULL,
    version_number integer NOT NULL,
    content_url text,
    content_preview text,
    size_bytes bigint NOT NULL,
    change_type character varying(20),
    created_by uuid,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    commit_message text,
    content_hash character varying(64),
    path text,
    CONSTRAINT ck_fv_change CHECK (((change_type)::text = ANY ((ARRAY['created'::character varying, 'modified'::character varying, 'deleted'::character varying, 'renamed'::character varying])::text[]))),
    CONSTRAINT ck_fv_size CHECK ((size_bytes >= 0)),
    CONSTRAINT file_versions_created_by_fkey FOREIGN KEY (created_by) REFERENCES users(id) ON DELETE SET NULL,
    CONSTRAINT file_versions_fs_entry_id_fkey FOREIGN KEY (fs_entry_id) REFERENCES fs_entries(id) ON DELETE CASCADE,
    CONSTRAINT file_versions_pkey PRIMARY KEY (id),
    CONSTRAINT fk_fv_blob FOREIGN KEY (content_hash) REFERENCES blobs(content_hash),
    CONSTRAINT uq_file_versions UNIQUE (fs_entry_id, version_number)
);
CREATE INDEX idx_file_versions_fs_entry ON public.file_versions USING btree (fs_entry_id);
CREATE INDEX idx_fv_entry_created ON public.file_versions USING btree (fs_entry_id, created_at DESC);
CREATE INDEX idx_fv_hash ON public.file_versions USING btree (content_hash);

CREATE TABLE fs_entries (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    sandbox_id uuid NOT NULL,
    path text NOT NULL,
    name text NOT NULL,
    type character varying(20) NOT NULL,
    size_bytes bigint NOT NULL DEFAULT 0,
    mime_type character varying(255),
    content_hash character varying(64),
    permissions character varying(10) DEFAULT '644'::character varying,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    deleted_at timestamp with time zone,
    symlink_target text,
    stamp bytea,
    CONSTRAINT ck_fs_hash CHECK (((content_hash IS NULL) OR ((content_hash)::text ~ '^[0-9a-f]{64}$'::text))),
    CONSTRAINT ck_fs_path CHECK (((path ~ '^/'::text) AND (path !~ '//|/\.\.?(/|$)'::text) AND (path !~ './$'::text))),
    CONSTRAINT ck_fs_path_length CHECK ((octet_length(path) <= 2560)),
    CONSTRAINT ck_fs_size CHECK ((size_bytes >= 0)),
    CONSTRAINT ck_fs_stamp CHECK ((octet_length(stamp) = 24)),
    CONSTRAINT ck_fs_symlink CHECK (((symlink_target IS NULL) OR ((type)::text = 'symlink'::text))),
    CONSTRAINT ck_fs_type CHECK (((type)::text = ANY ((ARRAY['file'::character varying, 'directory'::character varying, 'symlink'::character varying])::text[]))),
    CONSTRAINT fs_entries_pkey PRIMARY KEY (id),
    CONSTRAINT fs_entries_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes(id) ON DELETE CASCADE,
    CONSTRAINT fs_entries_sandbox_id_path_key UNIQUE (sandbox_id, path)
);
CREATE INDEX idx_fs_entries_live ON public.fs_entries USING btree (sandbox_id, path text_pattern_ops) INCLUDE (size_bytes) WHERE (deleted_at IS NULL);
CREATE INDEX idx_fs_entries_sandbox_path ON public.fs_entries USING btree (sandbox_id, path);
CREATE TRIGGER trg_fs_entries_updated_at BEFORE UPDATE ON public.fs_entries FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION set_updated_at();

CREATE TABLE github_connections (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    github_user_id bigint NOT NULL,
    username character varying(255) NOT NULL,
    access_token_hash text NOT NULL,
    refresh_token_hash text,
    scope text NOT NULL,
    expires_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now(),
    updated_at timestamp with time zone DEFAULT now(),
    refresh_expires_at timestamp with time zone,
    key_version integer,
    CONSTRAINT github_connections_pkey PRIMARY KEY (id),
    CONSTRAINT github_connections_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE,
    CONSTRAINT github_connections_user_id_key UNIQUE (user_id),
    CONSTRAINT uq_github_user UNIQUE (github_user_id)
);
CREATE TRIGGER trg_github_connections_updated_at BEFORE UPDATE ON public.github_connections FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION set_updated_at();
COMMENT ON COLUMN github_connections.access_token_hash IS 'Ciphertext of the token (the seed''s name is kept; a hash could not be used).';
COMMENT ON COLUMN github_connections.refresh_token_hash IS 'Ciphertext of the refresh token (the seed''s name is kept).';

CREATE TABLE graph_checkpoints (
    thread_id text NOT NULL,
    checkpoint_ns text NOT NULL DEFAULT ''::text,
    checkpoint_id text NOT NULL,
    parent_id text,
    checkpoint jsonb NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT graph_checkpoints_pkey PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id)
);

CREATE TABLE graph_writes (
    thread_id text NOT NULL,
    checkpoint_ns text NOT NULL DEFAULT ''::text,
    checkpoint_id text NOT NULL,
    task_id text NOT NULL,
    idx integer NOT NULL,
    task_path text NOT NULL DEFAULT ''::text,
    channel text NOT NULL,
    value jsonb NOT NULL,
    CONSTRAINT graph_writes_pkey PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
);

CREATE TABLE idempotency_keys (
    user_id uuid NOT NULL,
    key character varying(255) NOT NULL,
    method character varying(10) NOT NULL,
    path text NOT NULL,
    body_sha256 character varying(64) NOT NULL,
    locked_at timestamp with time zone NOT NULL DEFAULT now(),
    response_status integer,
    response_headers jsonb,
    response_body bytea,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    finished_at timestamp with time zone,
    CONSTRAINT ck_idempotency_finished CHECK (((finished_at IS NULL) = (response_status IS NULL))),
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (user_id, key),
    CONSTRAINT idempotency_keys_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);
CREATE INDEX idx_idempotency_created ON public.idempotency_keys USING btree (created_at);

CREATE TABLE mailbox (
    message_id text NOT NULL,
    seq bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY,
    kind character varying(20) NOT NULL,
    id text NOT NULL,
    method character varying(100) NOT NULL,
    payload jsonb NOT NULL,
    sender text,
    status character varying(10) NOT NULL DEFAULT 'pending'::character varying,
    attempts integer NOT NULL DEFAULT 0,
    result jsonb,
    error jsonb,
    enqueued_at timestamp with time zone NOT NULL DEFAULT now(),
    finished_at timestamp with time zone,
    CONSTRAINT ck_mailbox_finished CHECK ((((status)::text = 'pending'::text) = (finished_at IS NULL))),
    CONSTRAINT ck_mailbox_message_id CHECK (((length(message_id) >= 1) AND (length(message_id) <= 300))),
    CONSTRAINT ck_mailbox_status CHECK (((status)::text = ANY ((ARRAY['pending'::character varying, 'done'::character varying, 'failed'::character varying, 'dead'::character varying])::text[]))),
    CONSTRAINT mailbox_pkey PRIMARY KEY (message_id)
);
CREATE INDEX idx_mailbox_finished ON public.mailbox USING btree (finished_at) WHERE (finished_at IS NOT NULL);
CREATE INDEX idx_mailbox_pending ON public.mailbox USING btree (kind, id, seq) WHERE ((status)::text = 'pending'::text);

CREATE TABLE network_refusals (
    sandbox_id uuid NOT NULL,
    host character varying(253) NOT NULL,
    port integer NOT NULL,
    reason character varying(40) NOT NULL,
    detail text NOT NULL,
    count bigint NOT NULL DEFAULT 1,
    first_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    last_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT network_refusals_pkey PRIMARY KEY (sandbox_id, host, port, reason),
    CONSTRAINT network_refusals_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes(id) ON DELETE CASCADE
);
CREATE INDEX idx_network_refusals_last ON public.network_refusals USING btree (sandbox_id, last_at DESC);

CREATE TABLE outbox (
    action_id text NOT NULL,
    seq bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY,
    kind character varying(20) NOT NULL,
    id text NOT NULL,
    name character varying(100) NOT NULL,
    payload jsonb NOT NULL,
    epoch bigint NOT NULL,
    status character varying(10) NOT NULL DEFAULT 'pending'::character varying,
    attempts integer NOT NULL DEFAULT 0,
    error jsonb,
    retry_at timestamp with time zone NOT NULL DEFAULT now(),
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    finished_at timestamp with time zone,
    CONSTRAINT ck_outbox_action_id CHECK (((length(action_id) >= 1) AND (length(action_id) <= 300))),
    CONSTRAINT ck_outbox_finished CHECK ((((status)::text = 'pending'::text) = (finished_at IS NULL))),
    CONSTRAINT ck_outbox_status CHECK (((status)::text = ANY ((ARRAY['pending'::character varying, 'done'::character varying, 'dead'::character varying])::text[]))),
    CONSTRAINT outbox_pkey PRIMARY KEY (action_id)
);
CREATE INDEX idx_outbox_finished ON public.outbox USING btree (finished_at) WHERE (finished_at IS NOT NULL);
CREATE INDEX idx_outbox_pending ON public.outbox USING btree (kind, id, seq) WHERE ((status)::text = 'pending'::text);

CREATE TABLE plugin_ratings (
    plugin_id uuid NOT NULL,
    user_id uuid NOT NULL,
    stars smallint NOT NULL,
    CONSTRAINT ck_plugin_ratings_stars CHECK (((stars >= 1) AND (stars <= 5))),
    CONSTRAINT plugin_ratings_pkey PRIMARY KEY (plugin_id, user_id),
    CONSTRAINT plugin_ratings_plugin_id_fkey FOREIGN KEY (plugin_id) REFERENCES plugins(id) ON DELETE CASCADE,
    CONSTRAINT plugin_ratings_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);

CREATE TABLE plugin_versions (
    plugin_id uuid NOT NULL,
    version character varying(50) NOT NULL,
    manifest jsonb NOT NULL,
    download_url text,
    sha256 character varying(64) NOT NULL,
    signature text,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    yanked_at timestamp with time zone,
    CONSTRAINT plugin_versions_pkey PRIMARY KEY (plugin_id, version),
    CONSTRAINT plugin_versions_plugin_id_fkey FOREIGN KEY (plugin_id) REFERENCES plugins(id) ON DELETE CASCADE
);

CREATE TABLE plugins (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    name character varying(255) NOT NULL,
    display_name character varying(255) NOT NULL,
    description text,
    version character varying(50) NOT NULL,
    author_id uuid,
    category character varying(100),
    tags text[],
    manifest jsonb NOT NULL,
    download_url text,
    install_count integer NOT NULL DEFAULT 0,
    rating_average double precision NOT NULL DEFAULT 0,
    rating_count integer NOT NULL DEFAULT 0,
    status character varying(20) NOT NULL DEFAULT 'pending'::character varying,
    created_at timestamp with time zone DEFAULT now(),
    updated_at timestamp with time zone DEFAULT now(),
    sha256 character varying(64),
    signature text,
    CONSTRAINT ck_plugin_rating CHECK ((((rating_average >= (0)::double precision) AND (rating_average <= (5)::double precision)) AND (rating_count >= 0) AND (install_count >= 0))),
    CONSTRAINT ck_plugin_status CHECK (((status)::text = ANY ((ARRAY['pending'::character varying, 'approved'::character varying, 'rejected'::character varying])::text[]))),
    CONSTRAINT plugins_author_id_fkey FOREIGN KEY (author_id) REFERENCES users(id) ON DELETE SET NULL,
    CONSTRAINT plugins_name_key UNIQUE (name),
    CONSTRAINT plugins_pkey PRIMARY KEY (id)
);
CREATE INDEX idx_plugins_tags ON public.plugins USING gin (tags);
CREATE TRIGGER trg_plugins_updated_at BEFORE UPDATE ON public.plugins FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION set_updated_at();

CREATE TABLE port_shares (
    id uuid NOT NULL,
    sandbox_id uuid NOT NULL,
    port integer NOT NULL,
    name text NOT NULL,
    secret_sha256 character varying(64) NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT ck_port_shares_port CHECK (((port >= 1) AND (port <= 65535))),
    CONSTRAINT ck_port_shares_secret CHECK (((secret_sha256)::text ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT port_shares_pkey PRIMARY KEY (id),
    CONSTRAINT port_shares_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes(id) ON DELETE CASCADE
);
CREATE INDEX idx_port_shares_expires ON public.port_shares USING btree (expires_at);
CREATE INDEX idx_port_shares_sandbox ON public.port_shares USING btree (sandbox_id, created_at DESC, id DESC);
CREATE UNIQUE INDEX uq_port_shares_secret ON public.port_shares USING btree (secret_sha256);

CREATE TABLE reminders (
    kind character varying(20) NOT NULL,
    id text NOT NULL,
    name character varying(100) NOT NULL,
    setting uuid NOT NULL DEFAULT gen_random_uuid(),
    slot bigint NOT NULL DEFAULT 0,
    due_at timestamp with time zone NOT NULL,
    every_seconds double precision,
    CONSTRAINT ck_reminders_every CHECK (((every_seconds IS NULL) OR (every_seconds > (0)::double precision))),
    CONSTRAINT reminders_pkey PRIMARY KEY (kind, id, name)
);
CREATE INDEX idx_reminders_due ON public.reminders USING btree (due_at);

CREATE TABLE repository_links (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    sandbox_id uuid NOT NULL,
    github_connection_id uuid,
    repository_full_name character varying(255) NOT NULL,
    clone_url text NOT NULL,
    default_branch character varying(255) DEFAULT 'main'::character varying,
    current_branch character varying(255),
    sync_status character varying(20) NOT NULL DEFAULT 'synced'::character varying,
    last_sync_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now(),
    path text NOT NULL DEFAULT '.'::text,
    last_error text,
    webhook_id bigint,
    CONSTRAINT ck_repo_clone_url CHECK ((clone_url !~ '^[A-Za-z][A-Za-z0-9+.-]*://[^/@]*:[^/@]*@'::text)),
    CONSTRAINT ck_sync CHECK (((sync_status)::text = ANY ((ARRAY['synced'::character varying, 'pending'::character varying, 'error'::character varying])::text[]))),
    CONSTRAINT repository_links_github_connection_id_fkey FOREIGN KEY (github_connection_id) REFERENCES github_connections(id) ON DELETE CASCADE,
    CONSTRAINT repository_links_pkey PRIMARY KEY (id),
    CONSTRAINT repository_links_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes(id) ON DELETE CASCADE,
    CONSTRAINT uq_repo_link UNIQUE (sandbox_id, repository_full_name, path)
);
CREATE INDEX idx_repo_links_conn ON public.repository_links USING btree (github_connection_id);
CREATE INDEX idx_repo_links_name ON public.repository_links USING btree (lower((repository_full_name)::text));

CREATE TABLE rewind_points (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    conversation_id uuid NOT NULL,
    event_seq bigint NOT NULL,
    checkpoint_ns text NOT NULL DEFAULT ''::text,
    checkpoint_id text NOT NULL,
    tree text,
    snapshot_id uuid,
    label text NOT NULL DEFAULT ''::text,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    state jsonb,
    CONSTRAINT rewind_points_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES ai_conversations(id) ON DELETE CASCADE,
    CONSTRAINT rewind_points_pkey PRIMARY KEY (id),
    CONSTRAINT rewind_points_snapshot_id_fkey FOREIGN KEY (snapshot_id) REFERENCES snapshots(id) ON DELETE SET NULL,
    CONSTRAINT uq_rewind_points UNIQUE (conversation_id, checkpoint_ns, checkpoint_id)
);
CREATE INDEX idx_rewind_points_seq ON public.rewind_points USING btree (conversation_id, event_seq);
CREATE INDEX idx_rewind_points_snapshot ON public.rewind_points USING btree (snapshot_id);

CREATE TABLE sandbox_collaborators (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    sandbox_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role character varying(20) NOT NULL DEFAULT 'viewer'::character varying,
    invited_by uuid,
    invited_at timestamp with time zone DEFAULT now(),
    accepted_at timestamp with time zone,
    CONSTRAINT ck_collab_role CHECK (((role)::text = ANY ((ARRAY['owner'::character varying, 'editor'::character varying, 'viewer'::character varying])::text[]))),
    CONSTRAINT sandbox_collaborators_invited_by_fkey FOREIGN KEY (invited_by) REFERENCES users(id) ON DELETE SET NULL,
    CONSTRAINT sandbox_collaborators_pkey PRIMARY KEY (id),
    CONSTRAINT sandbox_collaborators_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes(id) ON DELETE CASCADE,
    CONSTRAINT sandbox_collaborators_sandbox_id_user_id_key UNIQUE (sandbox_id, user_id),
    CONSTRAINT sandbox_collaborators_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);
CREATE INDEX idx_collab_user ON public.sandbox_collaborators USING btree (user_id);
CREATE UNIQUE INDEX uq_collab_one_owner ON public.sandbox_collaborators USING btree (sandbox_id) WHERE ((role)::text = 'owner'::text);

CREATE TABLE sandboxes (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    name character varying(255) NOT NULL,
    description text,
    container_id character varying(255),
    image character varying(255) DEFAULT 'ubuntu:22.04'::character varying,
    status character varying(20) NOT NULL DEFAULT 'stopped'::character varying,
    resource_limits jsonb DEFAULT '{"cpu": "1", "disk": "10GB", "memory": "1GB"}'::jsonb,
    environment_vars jsonb DEFAULT '{}'::jsonb,
    exposed_ports jsonb DEFAULT '[]'::jsonb,
    last_activity_at timestamp with time zone NOT NULL DEFAULT now(),
    auto_sleep_after_minutes integer DEFAULT 60,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    node_id text,
    driver character varying(20),
    isolation character varying(20),
    network character varying(20) NOT NULL DEFAULT 'none'::character varying,
    generation integer NOT NULL DEFAULT 0,
    status_detail text,
    workspace text,
    started_as jsonb,
    network_policy jsonb,
    paused boolean NOT NULL DEFAULT false,
    CONSTRAINT ck_sandboxes_autosleep CHECK (((auto_sleep_after_minutes IS NULL) OR (auto_sleep_after_minutes >= 0))),
    CONSTRAINT ck_sandboxes_generation CHECK ((generation >= 0)),
    CONSTRAINT ck_sandboxes_isolation CHECK (((isolation)::text = ANY ((ARRAY['runc'::character varying, 'runsc'::character varying, 'kata'::character varying, 'bwrap'::character varying])::text[]))),
    CONSTRAINT ck_sandboxes_network CHECK (((network)::text = ANY ((ARRAY['none'::character varying, 'allowlist'::character varying, 'open'::character varying])::text[]))),
    CONSTRAINT ck_sandboxes_network_policy CHECK ((jsonb_typeof(network_policy) = 'object'::text)),
    CONSTRAINT ck_sandboxes_paused CHECK (((NOT paused) OR ((status)::text = 'running'::text))),
    CONSTRAINT ck_sandboxes_status CHECK (((status)::text = ANY ((ARRAY['stopped'::character varying, 'starting'::character varying, 'running'::character varying, 'error'::character varying])::text[]))),
    CONSTRAINT sandboxes_pkey PRIMARY KEY (id),
    CONSTRAINT sandboxes_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);
CREATE INDEX idx_sandboxes_allowlist ON public.sandboxes USING btree (node_id) WHERE ((network)::text = 'allowlist'::text);
CREATE INDEX idx_sandboxes_autosleep ON public.sandboxes USING btree (last_activity_at) WHERE ((status)::text = 'running'::text);
CREATE INDEX idx_sandboxes_status ON public.sandboxes USING btree (status);
CREATE INDEX idx_sandboxes_user_created ON public.sandboxes USING btree (user_id, created_at DESC, id DESC);
CREATE INDEX idx_sandboxes_user_id ON public.sandboxes USING btree (user_id);
CREATE UNIQUE INDEX uq_sandboxes_container ON public.sandboxes USING btree (container_id) WHERE (container_id IS NOT NULL);
CREATE TRIGGER trg_sandboxes_status BEFORE UPDATE OF status ON public.sandboxes FOR EACH ROW WHEN (((old.status)::text IS DISTINCT FROM (new.status)::text)) EXECUTE FUNCTION check_sandbox_status();
CREATE TRIGGER trg_sandboxes_updated_at BEFORE UPDATE ON public.sandboxes FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION set_updated_at();

CREATE TABLE schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    sha256 character varying(64) NOT NULL,
    applied_at timestamp with time zone NOT NULL DEFAULT now(),
    ms integer NOT NULL,
    CONSTRAINT schema_migrations_pkey PRIMARY KEY (version)
);

CREATE TABLE secrets (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    sandbox_id uuid,
    name character varying(255) NOT NULL,
    description text,
    encrypted_value text NOT NULL,
    secret_type character varying(50) NOT NULL DEFAULT 'env_var'::character varying,
    metadata jsonb DEFAULT '{}'::jsonb,
    last_used_at timestamp with time zone,
    expires_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now(),
    updated_at timestamp with time zone DEFAULT now(),
    key_version integer,
    CONSTRAINT ck_secret_type CHECK (((secret_type)::text = ANY ((ARRAY['env_var'::character varying, 'api_key'::character varying, 'ssh_key'::character varying, 'certificate'::character varying])::text[]))),
    CONSTRAINT secrets_pkey PRIMARY KEY (id),
    CONSTRAINT secrets_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes(id) ON DELETE CASCADE,
    CONSTRAINT secrets_sandbox_id_name_key UNIQUE (sandbox_id, name),
    CONSTRAINT secrets_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);
CREATE INDEX idx_secrets_user ON public.secrets USING btree (user_id);
CREATE UNIQUE INDEX uq_secrets_global ON public.secrets USING btree (user_id, name) WHERE (sandbox_id IS NULL);
CREATE TRIGGER trg_secrets_updated_at BEFORE UPDATE ON public.secrets FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION set_updated_at();

CREATE TABLE snapshot_entries (
    snapshot_id uuid NOT NULL,
    path text NOT NULL,
    type character varying(20) NOT NULL,
    permissions character varying(10),
    size_bytes bigint NOT NULL DEFAULT 0,
    content_hash character varying(64),
    symlink_target text,
    CONSTRAINT ck_snapshot_entries_type CHECK (((type)::text = ANY ((ARRAY['file'::character varying, 'directory'::character varying, 'symlink'::character varying, 'absent'::character varying])::text[]))),
    CONSTRAINT snapshot_entries_content_hash_fkey FOREIGN KEY (content_hash) REFERENCES blobs(content_hash),
    CONSTRAINT snapshot_entries_pkey PRIMARY KEY (snapshot_id, path),
    CONSTRAINT snapshot_entries_snapshot_id_fkey FOREIGN KEY (snapshot_id) REFERENCES snapshots(id) ON DELETE CASCADE
);
CREATE INDEX idx_snapshot_entries_hash ON public.snapshot_entries USING btree (content_hash);

CREATE TABLE snapshots (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    sandbox_id uuid NOT NULL,
    name character varying(255) NOT NULL,
    description text,
    snapshot_type character varying(20) NOT NULL DEFAULT 'manual'::character varying,
    file_count integer DEFAULT 0,
    total_size_bytes bigint DEFAULT 0,
    metadata jsonb DEFAULT '{}'::jsonb,
    created_by uuid,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    seq bigint NOT NULL,
    whole boolean NOT NULL DEFAULT true,
    tree_hash character varying(64),
    CONSTRAINT ck_snap_type CHECK (((snapshot_type)::text = ANY ((ARRAY['manual'::character varying, 'auto'::character varying, 'scheduled'::character varying])::text[]))),
    CONSTRAINT snapshots_created_by_fkey FOREIGN KEY (created_by) REFERENCES users(id) ON DELETE SET NULL,
    CONSTRAINT snapshots_pkey PRIMARY KEY (id),
    CONSTRAINT snapshots_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes(id) ON DELETE CASCADE,
    CONSTRAINT uq_snapshots_seq UNIQUE (sandbox_id, seq)
);
CREATE INDEX idx_snapshots_sandbox ON public.snapshots USING btree (sandbox_id, created_at DESC);
CREATE TRIGGER trg_snapshots_seq BEFORE INSERT ON public.snapshots FOR EACH ROW EXECUTE FUNCTION number_snapshot();

CREATE TABLE terminals (
    id uuid NOT NULL,
    sandbox_id uuid NOT NULL,
    user_id uuid NOT NULL,
    conversation_id uuid,
    agent character varying(20),
    name text NOT NULL,
    command text NOT NULL,
    cwd text NOT NULL,
    cols integer NOT NULL,
    rows integer NOT NULL,
    status character varying(20) NOT NULL DEFAULT 'starting'::character varying,
    exit_code integer,
    signal integer,
    reason text,
    output_bytes bigint NOT NULL DEFAULT 0,
    created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    CONSTRAINT ck_terminals_ended CHECK (((ended_at IS NOT NULL) = ((status)::text = ANY ((ARRAY['ended'::character varying, 'failed'::character varying, 'lost'::character varying])::text[])))),
    CONSTRAINT ck_terminals_size CHECK ((((cols >= 1) AND (cols <= 1000)) AND ((rows >= 1) AND (rows <= 1000)))),
    CONSTRAINT ck_terminals_status CHECK (((status)::text = ANY ((ARRAY['starting'::character varying, 'running'::character varying, 'ended'::character varying, 'failed'::character varying, 'lost'::character varying])::text[]))),
    CONSTRAINT terminals_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES ai_conversations(id) ON DELETE SET NULL,
    CONSTRAINT terminals_pkey PRIMARY KEY (id),
    CONSTRAINT terminals_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes(id) ON DELETE CASCADE,
    CONSTRAINT terminals_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);
CREATE INDEX idx_terminals_conversation ON public.terminals USING btree (conversation_id) WHERE (conversation_id IS NOT NULL);
CREATE INDEX idx_terminals_sandbox ON public.terminals USING btree (sandbox_id, created_at DESC, id DESC);
CREATE INDEX idx_terminals_user ON public.terminals USING btree (user_id, created_at DESC, id DESC);

CREATE TABLE user_credentials (
    user_id uuid NOT NULL,
    password_hash text NOT NULL,
    changed_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT user_credentials_pkey PRIMARY KEY (user_id),
    CONSTRAINT user_credentials_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);

CREATE TABLE user_keys (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    version integer NOT NULL,
    kek_id text NOT NULL,
    wrapped_dek bytea NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    retired_at timestamp with time zone,
    CONSTRAINT uq_user_keys UNIQUE (user_id, version),
    CONSTRAINT user_keys_pkey PRIMARY KEY (id),
    CONSTRAINT user_keys_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);

CREATE TABLE user_plugins (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    plugin_id uuid NOT NULL,
    sandbox_id uuid,
    version character varying(50) NOT NULL,
    config jsonb DEFAULT '{}'::jsonb,
    enabled boolean NOT NULL DEFAULT true,
    installed_at timestamp with time zone DEFAULT now(),
    CONSTRAINT user_plugins_pkey PRIMARY KEY (id),
    CONSTRAINT user_plugins_plugin_id_fkey FOREIGN KEY (plugin_id) REFERENCES plugins(id) ON DELETE CASCADE,
    CONSTRAINT user_plugins_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes(id) ON DELETE CASCADE,
    CONSTRAINT user_plugins_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE,
    CONSTRAINT user_plugins_user_id_plugin_id_sandbox_id_key UNIQUE (user_id, plugin_id, sandbox_id)
);
CREATE INDEX idx_user_plugins_plugin ON public.user_plugins USING btree (plugin_id);
CREATE INDEX idx_user_plugins_sandbox ON public.user_plugins USING btree (sandbox_id);
CREATE UNIQUE INDEX uq_user_plugins_global ON public.user_plugins USING btree (user_id, plugin_id) WHERE (sandbox_id IS NULL);

CREATE TABLE user_sessions (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    token_hash character varying(255) NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    last_used_at timestamp with time zone DEFAULT now(),
    user_agent text,
    ip_address inet,
    CONSTRAINT uq_user_sessions_token_hash UNIQUE (token_hash),
    CONSTRAINT user_sessions_pkey PRIMARY KEY (id),
    CONSTRAINT user_sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);
CREATE INDEX idx_user_sessions_expires ON public.user_sessions USING btree (expires_at);
CREATE INDEX idx_user_sessions_user ON public.user_sessions USING btree (user_id);

CREATE TABLE users (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    email character varying(255) NOT NULL,
    username character varying(50) NOT NULL,
    full_name character varying(255),
    avatar_url text,
    preferences jsonb DEFAULT '{}'::jsonb,
    subscription_tier character varying(20) DEFAULT 'free'::character varying,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    last_active_at timestamp with time zone DEFAULT now(),
    role character varying(20) NOT NULL DEFAULT 'user'::character varying,
    disabled_at timestamp with time zone,
    CONSTRAINT ck_users_role CHECK (((role)::text = ANY ((ARRAY['user'::character varying, 'admin'::character varying])::text[]))),
    CONSTRAINT users_email_key UNIQUE (email),
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_username_key UNIQUE (username)
);
CREATE INDEX idx_users_email ON public.users USING btree (email);
CREATE INDEX idx_users_username ON public.users USING btree (username);
CREATE UNIQUE INDEX uq_users_email_ci ON public.users USING btree (lower((email)::text));
CREATE UNIQUE INDEX uq_users_username_ci ON public.users USING btree (lower((username)::text));
CREATE TRIGGER trg_users_updated_at BEFORE UPDATE ON public.users FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION set_updated_at();

CREATE TABLE webhook_deliveries (
    delivery_id uuid NOT NULL,
    event character varying(50) NOT NULL,
    received_at timestamp with time zone NOT NULL DEFAULT now(),
    status character varying(20) NOT NULL DEFAULT 'pending'::character varying,
    CONSTRAINT ck_webhook_status CHECK (((status)::text = ANY ((ARRAY['pending'::character varying, 'done'::character varying, 'failed'::character varying])::text[]))),
    CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (delivery_id)
);

CREATE VIEW active_sandboxes AS
 SELECT s.id,
    s.user_id,
    s.name,
    s.description,
    s.container_id,
    s.image,
    s.status,
    s.resource_limits,
    s.environment_vars,
    s.exposed_ports,
    s.last_activity_at,
    s.auto_sleep_after_minutes,
    s.created_at,
    s.updated_at,
    u.username,
    u.email,
    ce.command_count,
    ce.last_command_at
   FROM sandboxes s
     JOIN users u ON u.id = s.user_id
     LEFT JOIN LATERAL ( SELECT count(*) AS command_count,
            max(c.created_at) AS last_command_at
           FROM command_executions c
          WHERE c.sandbox_id = s.id) ce ON true
  WHERE s.status::text = ANY (ARRAY['running'::character varying, 'starting'::character varying]::text[]);

CREATE VIEW user_storage_usage AS
 SELECT u.id AS user_id,
    u.username,
    count(s.id) AS sandbox_count,
    COALESCE(sum(fs.total_size), 0::numeric) AS total_storage_bytes
   FROM users u
     LEFT JOIN sandboxes s ON u.id = s.user_id
     LEFT JOIN ( SELECT fs_entries.sandbox_id,
            sum(fs_entries.size_bytes) AS total_size
           FROM fs_entries
          WHERE fs_entries.deleted_at IS NULL
          GROUP BY fs_entries.sandbox_id) fs ON s.id = fs.sandbox_id
  GROUP BY u.id, u.username;
