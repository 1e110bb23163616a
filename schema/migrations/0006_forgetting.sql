-- Migration 6: a conversation's graph goes with it.

-- Checkpoints name their conversation as text (LangGraph's thread), so no foreign key can do this.
CREATE FUNCTION forget_graph() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM graph_writes WHERE thread_id = OLD.id::text;
    DELETE FROM graph_checkpoints WHERE thread_id = OLD.id::text;
    RETURN NULL;
END $$;
CREATE TRIGGER trg_ai_conversations_forget_graph AFTER DELETE ON ai_conversations
    FOR EACH ROW EXECUTE FUNCTION forget_graph();

-- What was left by conversations that are gone already.
DELETE FROM graph_writes w WHERE NOT EXISTS (SELECT 1 FROM ai_conversations c WHERE c.id::text = w.thread_id);
DELETE FROM graph_checkpoints g WHERE NOT EXISTS (SELECT 1 FROM ai_conversations c WHERE c.id::text = g.thread_id);
