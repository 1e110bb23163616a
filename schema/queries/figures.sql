-- present --
-- How much there is of what just now, by a word of ours: (figure, word, n). Small tables or partial indexes only.
SELECT 'sandboxes' AS figure, status::text AS word, count(*) AS n FROM sandboxes GROUP BY status
UNION ALL SELECT 'commands', status, count(*) FROM command_executions
    WHERE status IN ('pending', 'running') GROUP BY status
UNION ALL SELECT 'entities', kind, count(*) FROM entities WHERE owner IS NOT NULL GROUP BY kind
UNION ALL SELECT 'cells', 'serving', count(DISTINCT owner) FROM entities
    WHERE owner IS NOT NULL AND lease_expires_at > now()
UNION ALL SELECT 'quarantined', kind, count(*) FROM entities WHERE quarantined_at IS NOT NULL GROUP BY kind
UNION ALL SELECT 'mailbox', kind, count(*) FROM mailbox WHERE status = 'pending' GROUP BY kind
UNION ALL SELECT 'dead_letters', source, count(*) FROM dead_letters WHERE replayed_at IS NULL GROUP BY source

-- commands --
-- Commands that ended after $1, or then with an id after $2, the first $3 of them.
SELECT id::text, status, exit_code, reason, execution_time_ms, completed_at AS at FROM command_executions
WHERE completed_at >= $1 AND (completed_at, id) > ($1, $2::uuid) ORDER BY completed_at, id LIMIT $3

-- events --
-- Turns and model calls that ended after $1, or then in a conversation after $2, the first $3 of them.
SELECT conversation_id::text AS id, seq, type, payload ->> 'outcome' AS outcome,
    payload ->> 'model' AS model, (payload ->> 'duration_ms')::float8 AS duration_ms,
    (payload #>> '{usage,input_tokens}')::int8 AS input_tokens,
    (payload #>> '{usage,output_tokens}')::int8 AS output_tokens,
    (payload ->> 'cost_usd')::float8 AS cost_usd, created_at AS at FROM events
WHERE type IN ('turn.finished', 'model.finished') AND created_at >= $1
    AND (created_at, conversation_id, seq) > ($1, $2::uuid, $4) ORDER BY created_at, conversation_id, seq LIMIT $3

-- clock --
-- The database's time.
SELECT clock_timestamp()
