-- What /metrics asks for again and again: what has ended since it last asked.
CREATE INDEX idx_ce_completed ON command_executions (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX idx_events_figures ON events (created_at) WHERE type IN ('turn.finished', 'model.finished');
