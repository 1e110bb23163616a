-- add --
-- Adds a message once per id.
INSERT INTO ai_messages (id, conversation_id, role, content, metadata) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (id) DO NOTHING

-- get --
-- One message.
SELECT * FROM ai_messages WHERE id = $1

-- mark --
-- Marks the messages that are on no branch but a left one, and unmarks those of the present one ($2).
UPDATE ai_messages SET metadata = CASE WHEN coalesce(metadata ->> 'origin', id::text) = ANY($2::text[])
    THEN coalesce(metadata, '{}') - 'abandoned' ELSE coalesce(metadata, '{}') || '{"abandoned": true}' END
WHERE conversation_id = $1 AND (coalesce(metadata ->> 'origin', id::text) = ANY($2::text[]))
    = coalesce((metadata ->> 'abandoned')::boolean, false)

-- copy --
-- Messages of one conversation ($1) in another: those of $3, in order, under ids of their own.
INSERT INTO ai_messages (conversation_id, role, content, metadata, created_at)
SELECT $2, role, content,
    (coalesce(metadata, '{}') - 'abandoned') || jsonb_build_object('origin', coalesce(metadata ->> 'origin', id::text)),
    created_at
FROM ai_messages WHERE conversation_id = $1 AND coalesce(metadata ->> 'origin', id::text) = ANY($3::text[])
ORDER BY seq

-- list_messages --
-- A conversation's messages after a number, in order.
SELECT * FROM ai_messages WHERE conversation_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
