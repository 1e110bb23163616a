-- Migration 15: links that open one port of a sandbox to whoever has them.

CREATE TABLE port_shares (
    id UUID PRIMARY KEY,
    sandbox_id UUID NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
    port INTEGER NOT NULL,
    name TEXT NOT NULL,
    secret_sha256 VARCHAR(64) NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    expires_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT ck_port_shares_port CHECK (port BETWEEN 1 AND 65535),
    CONSTRAINT ck_port_shares_secret CHECK (secret_sha256 ~ '^[0-9a-f]{64}$')
);
CREATE UNIQUE INDEX uq_port_shares_secret ON port_shares (secret_sha256);
CREATE INDEX idx_port_shares_sandbox ON port_shares (sandbox_id, created_at DESC, id DESC);
CREATE INDEX idx_port_shares_expires ON port_shares (expires_at);
