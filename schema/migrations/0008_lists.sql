-- Migration 8: lists by key. Each is read in its own order, the newest first, from any place on.

CREATE INDEX idx_sandboxes_user_created ON sandboxes (user_id, created_at DESC, id DESC);
CREATE INDEX idx_ai_conversations_user_created ON ai_conversations (user_id, created_at DESC, id DESC);
CREATE INDEX idx_ai_agents_created ON ai_agents (created_at DESC);
DROP INDEX idx_ce_sandbox_created;
CREATE INDEX idx_ce_sandbox_created ON command_executions (sandbox_id, created_at DESC, id DESC);
