-- Migration 4: what the operator's door reads, and events that exist once.

-- The few entities in quarantine are asked for with every page of sandboxes and conversations.
CREATE INDEX idx_entities_quarantined ON entities (kind, id) WHERE quarantined_at IS NOT NULL;

-- ---- events that a turn writes once --------------------------------------------------------------------
-- A step that runs again finds its event by its key, however long the log is, and cannot write a second one.
ALTER TABLE events ADD COLUMN key text;
UPDATE events e SET key = first.key FROM (
    SELECT DISTINCT ON (conversation_id, type, name) conversation_id, seq, name AS key FROM (
        SELECT conversation_id, type, seq, payload ->> CASE type
            WHEN 'message.accepted' THEN 'message_id' WHEN 'model.finished' THEN 'call_id' ELSE 'exec_id'
        END AS name
        FROM events WHERE type IN ('message.accepted', 'model.finished', 'command.started',
            'command.finished', 'tests.finished', 'setup.finished')
    ) AS named WHERE name IS NOT NULL ORDER BY conversation_id, type, name, seq
) AS first WHERE e.conversation_id = first.conversation_id AND e.seq = first.seq;
CREATE UNIQUE INDEX uq_events_key ON events (conversation_id, type, key) WHERE key IS NOT NULL;
