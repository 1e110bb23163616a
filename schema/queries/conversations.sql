-- create --
-- Adds a conversation once per id.
INSERT INTO ai_conversations (id, user_id, sandbox_id, title, model_used, settings)
VALUES ($1, $2, $3, left($4, 255), $5, $6)
ON CONFLICT (id) DO NOTHING RETURNING *

-- get --
-- One conversation, with the reason of its entity's quarantine.
SELECT *, (SELECT coalesce(e.last_error ->> 'detail', '') FROM entities e
    WHERE e.kind = 'conversation' AND e.id = c.id::text AND e.quarantined_at IS NOT NULL) AS quarantined
FROM ai_conversations c WHERE id = $1

-- list_conversations --
-- A user's conversations (everyone's when $1 is NULL) behind a place, newest first; deleted ones never.
SELECT *, (SELECT coalesce(e.last_error ->> 'detail', '') FROM entities e
    WHERE e.kind = 'conversation' AND e.id = c.id::text AND e.quarantined_at IS NOT NULL) AS quarantined
FROM ai_conversations c WHERE ($1::uuid IS NULL OR user_id = $1)
    AND ($2::uuid IS NULL OR sandbox_id = $2) AND status <> 'deleted' AND ($3::text IS NULL OR status = $3)
    AND ($4::timestamptz IS NULL OR created_at >= $4) AND (created_at, id) < ($5, $6)
ORDER BY created_at DESC, id DESC LIMIT $7

-- update_settings --
-- Merges keys into the settings; the model is also kept in the seed's column.
UPDATE ai_conversations SET settings = settings || $2::jsonb,
    model_used = coalesce($2::jsonb ->> 'model', model_used)
WHERE id = $1 RETURNING *

-- add_usage --
-- Adds tokens and money to the totals.
UPDATE ai_conversations SET total_tokens = total_tokens + $2, cost_usd = cost_usd + coalesce($3::text::numeric, 0)
WHERE id = $1 RETURNING *

-- set_title --
-- Names the conversation, if it has no name yet or $3 says so.
UPDATE ai_conversations SET title = left($2, 255) WHERE id = $1 AND (title IS NULL OR $3)

-- change --
-- Another name, another status, or both; nothing is done to one that is being deleted.
UPDATE ai_conversations SET title = coalesce(left($2, 255), title), status = coalesce($3, status)
WHERE id = $1 AND status <> 'deleted'

-- delete --
-- Deletes a conversation with what refers to it: messages, events, agents, memories, rewind points. The commands
-- stay with their sandbox; that they were run for it is forgotten.
WITH loosed AS (UPDATE command_executions SET conversation_id = NULL WHERE conversation_id = $1)
DELETE FROM ai_conversations WHERE id = $1

-- set_status --
-- active, archived or deleted (hidden).
UPDATE ai_conversations SET status = $2 WHERE id = $1 RETURNING *
