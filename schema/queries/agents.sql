-- create --
-- Adds the agents of a team, once per id; $1 ids, $3 types and $4 names belong together by position.
INSERT INTO ai_agents (id, conversation_id, type, name)
SELECT a.id, $2, a.type, a.name FROM unnest($1::uuid[], $3::text[], $4::text[]) AS a(id, type, name)
ON CONFLICT (id) DO NOTHING

-- get --
-- One agent.
SELECT * FROM ai_agents WHERE id = $1

-- list_agents --
-- Agents of a user (everyone's when $1 is NULL), or of one conversation, behind a place: the newest team first, each
-- in the order of the team.
SELECT a.* FROM ai_agents a JOIN ai_conversations v ON v.id = a.conversation_id,
    array_position(ARRAY['executor', 'critic', 'tester', 'coder', 'planner'], a.type::text) AS rank
WHERE ($1::uuid IS NULL OR v.user_id = $1) AND v.status <> 'deleted'
    AND ($2::uuid IS NULL OR a.conversation_id = $2) AND ($3::text IS NULL OR a.status = $3)
    AND a.created_at <= $4 AND (a.created_at, rank, a.id) < ($4, $5, $6)
ORDER BY a.created_at DESC, rank DESC, a.id DESC LIMIT $7

-- set_status --
-- active, paused or terminated; $3 is merged into the context.
UPDATE ai_agents SET status = $2, context = coalesce(context, '{}') || $3::jsonb WHERE id = $1 RETURNING *
