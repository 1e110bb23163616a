-- append --
-- Takes the next numbers and writes the events. The conversation's row stays locked until the transaction
-- ends, so no reader can see event n+1 before event n: the log has no gaps, not even for a moment.
-- The first event of a type and key carries the key.
WITH head AS (
    UPDATE ai_conversations SET event_seq = event_seq + jsonb_array_length($2::jsonb)
    WHERE id = $1 RETURNING event_seq - jsonb_array_length($2::jsonb) AS before
), written AS (
    INSERT INTO events (conversation_id, seq, type, actor, payload, key)
    SELECT $1, head.before + item.n, item.value ->> 0, item.value ->> 1, item.value -> 2,
        CASE WHEN NOT EXISTS (SELECT 1 FROM events e WHERE e.conversation_id = $1
            AND e.type = item.value ->> 0 AND e.key = item.value ->> 3) THEN item.value ->> 3 END
    FROM head, jsonb_array_elements($2::jsonb) WITH ORDINALITY AS item(value, n)
)
SELECT before + 1 FROM head

-- read --
-- Events after a number, in order.
SELECT * FROM events WHERE conversation_id = $1 AND seq > $2 ORDER BY seq LIMIT $3

-- page --
-- Events between two numbers, in order, their payloads as text: at most $4, and so many that those before the
-- last are stored in less than $5 bytes. Nothing is decoded only to be encoded again.
SELECT seq, type, actor, created_at, payload FROM (
    SELECT seq, type, actor, created_at, payload::text AS payload,
        sum(pg_column_size(payload)) OVER (ORDER BY seq) - pg_column_size(payload) AS before
    FROM (
        SELECT * FROM events WHERE conversation_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4
    ) AS next
) AS counted WHERE before < $5 ORDER BY seq

-- last_seq --
-- The number of the last event; 0 when there is none.
SELECT event_seq FROM ai_conversations WHERE id = $1

-- find --
-- The event of a type that carries the key.
SELECT * FROM events WHERE conversation_id = $1 AND type = $2 AND key = $3

-- read_types --
-- Events of some types after a number, in order.
SELECT * FROM events WHERE conversation_id = $1 AND type = ANY($2::text[]) AND seq > $3 ORDER BY seq LIMIT $4

-- written_paths --
-- The paths that agents named in accepted calls of the tools that write files.
SELECT DISTINCT payload -> 'arguments' ->> 'path' AS path FROM events
WHERE conversation_id = $1 AND type = 'tool.called' AND payload ->> 'tool' IN ('write', 'edit')
    AND NOT payload -> 'effect' ? 'refused' AND payload -> 'arguments' ->> 'path' IS NOT NULL

-- copy --
-- The events of one conversation ($1) within ranges of numbers, in another, numbered anew; rewinds are left out.
WITH found AS (
    INSERT INTO events (conversation_id, seq, type, actor, payload, created_at, key)
    SELECT $2, row_number() OVER (ORDER BY e.seq), e.type, e.actor, e.payload, e.created_at, e.key FROM events e
    WHERE e.conversation_id = $1 AND e.type <> 'conversation.rewound'
        AND EXISTS (SELECT 1 FROM unnest($3::bigint[], $4::bigint[]) AS r(first, last)
            WHERE e.seq BETWEEN r.first AND r.last)
    RETURNING 1
)
UPDATE ai_conversations SET event_seq = (SELECT count(*) FROM found) WHERE id = $2
