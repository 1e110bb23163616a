-- add --
-- Adds a message once per id.
INSERT INTO ai_messages (id, conversation_id, role, content, metadata) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (id) DO NOTHING

-- get --
-- One message.
SELECT * FROM ai_messages WHERE id = $1

-- mark --
-- Marks the messages that are on no branch but a left one, and unmarks those of the present one ($2).
UPDATE ai_messages SET metadata = CASE WHEN id = ANY($2::uuid[]) THEN coalesce(metadata, '{}') - 'abandoned'
    ELSE coalesce(metadata, '{}') || '{"abandoned": true}' END
WHERE conversation_id = $1 AND (id = ANY($2::uuid[])) = coalesce((metadata ->> 'abandoned')::boolean, false)

-- list_messages --
-- A conversation's messages after a number, in order.
SELECT * FROM ai_messages WHERE conversation_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
