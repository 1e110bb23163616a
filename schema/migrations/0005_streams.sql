-- A command ends when its own process does; what that left behind may print for longer. Until those streams have
-- ended the row's extract is not whole.
ALTER TABLE command_executions ADD COLUMN streams_open boolean NOT NULL DEFAULT false;
CREATE INDEX idx_ce_unclosed ON command_executions (sandbox_id) WHERE streams_open;
