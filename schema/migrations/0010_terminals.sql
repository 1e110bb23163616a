-- Migration 10: terminals.

CREATE TABLE terminals (
    id UUID PRIMARY KEY,
    sandbox_id UUID NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    conversation_id UUID REFERENCES ai_conversations (id) ON DELETE SET NULL,
    agent VARCHAR(20),
    name TEXT NOT NULL,
    command TEXT NOT NULL,
    cwd TEXT NOT NULL,
    cols INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    status VARCHAR(20) NOT NULL DEFAULT 'starting',
    exit_code INTEGER,
    signal INTEGER,
    reason TEXT,
    output_bytes BIGINT NOT NULL DEFAULT 0,
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    started_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    CONSTRAINT ck_terminals_status CHECK (status IN ('starting', 'running', 'ended', 'failed', 'lost')),
    CONSTRAINT ck_terminals_size CHECK (cols BETWEEN 1 AND 1000 AND rows BETWEEN 1 AND 1000),
    CONSTRAINT ck_terminals_ended CHECK ((ended_at IS NOT NULL) = (status IN ('ended', 'failed', 'lost')))
);
CREATE INDEX idx_terminals_sandbox ON terminals (sandbox_id, created_at DESC, id DESC);
CREATE INDEX idx_terminals_user ON terminals (user_id, created_at DESC, id DESC);
CREATE INDEX idx_terminals_conversation ON terminals (conversation_id) WHERE conversation_id IS NOT NULL;
