-- Migration 14: a sandbox can be paused.

ALTER TABLE sandboxes ADD COLUMN paused boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT ck_sandboxes_paused CHECK (NOT paused OR status = 'running');
