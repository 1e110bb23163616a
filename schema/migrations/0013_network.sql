-- Migration 13: the network `allowlist`: what a sandbox may reach, and what it was refused.

ALTER TABLE sandboxes DROP CONSTRAINT ck_sandboxes_network;
ALTER TABLE sandboxes ADD COLUMN network_policy JSONB,
    ADD CONSTRAINT ck_sandboxes_network CHECK (network IN ('none', 'allowlist', 'open')),
    ADD CONSTRAINT ck_sandboxes_network_policy CHECK (jsonb_typeof(network_policy) = 'object');
CREATE INDEX idx_sandboxes_allowlist ON sandboxes (node_id) WHERE network = 'allowlist';

CREATE TABLE network_refusals (
    sandbox_id UUID NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
    host VARCHAR(253) NOT NULL,
    port INTEGER NOT NULL,
    reason VARCHAR(40) NOT NULL,
    detail TEXT NOT NULL,
    count BIGINT NOT NULL DEFAULT 1,
    first_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    last_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (sandbox_id, host, port, reason)
);
CREATE INDEX idx_network_refusals_last ON network_refusals (sandbox_id, last_at DESC);
