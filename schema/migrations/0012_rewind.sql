-- Migration 12: a rewind point between two turns keeps what the conversation knew then.

ALTER TABLE rewind_points ADD COLUMN state jsonb;
