-- create --
-- Adds the agents of a team, once per id; $1 ids, $3 types and $4 names belong together by position.
INSERT INTO ai_agents (id, conversation_id, type, name)
SELECT a.id, $2, a.type, a.name FROM unnest($1::uuid[], $3::text[], $4::text[]) AS a(id, type, name)
ON CONFLICT (id) DO NOTHING

-- get --
-- One agent.
SELECT * FROM ai_agents WHERE id = $1

-- list_agents --
-- The agents of a conversation, in the order of the team.
SELECT * FROM ai_agents WHERE conversation_id = $1
ORDER BY array_position(ARRAY['planner', 'coder', 'tester', 'critic', 'executor'], type::text), id

-- list_all --
-- Agents of all conversations of a user (everyone's when $1 is NULL), the last changed first.
SELECT a.* FROM ai_agents a JOIN ai_conversations v ON v.id = a.conversation_id
WHERE ($1::uuid IS NULL OR v.user_id = $1) AND v.status <> 'deleted'
ORDER BY a.updated_at DESC, a.id LIMIT $2

-- set_status --
-- active, paused or terminated; $3 is merged into the context.
UPDATE ai_agents SET status = $2, context = coalesce(context, '{}') || $3::jsonb WHERE id = $1 RETURNING *
