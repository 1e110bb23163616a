-- gone --
-- Sandboxes, terminals, conversations and agents whose own row was deleted more than $1 seconds ago, that nobody owns, and
-- that have nothing left to do. A sandbox whose removal failed (its dead letter is open) or that is in quarantine is
-- still somebody's business.
SELECT e.kind, e.id FROM entities e
WHERE e.kind IN ('sandbox', 'terminal', 'conversation', 'agent')
    AND (e.owner IS NULL OR e.lease_expires_at < clock_timestamp())
    AND e.updated_at < clock_timestamp() - make_interval(secs => $1)
    AND NOT EXISTS (SELECT 1 FROM sandboxes s WHERE e.kind = 'sandbox' AND s.id::text = e.id)
    AND NOT EXISTS (SELECT 1 FROM terminals t WHERE e.kind = 'terminal' AND t.id::text = e.id)
    AND NOT EXISTS (SELECT 1 FROM ai_conversations c WHERE e.kind = 'conversation' AND c.id::text = e.id)
    AND NOT EXISTS (SELECT 1 FROM ai_agents a WHERE e.kind = 'agent' AND a.id::text = e.id)
    AND NOT EXISTS (SELECT 1 FROM mailbox m WHERE m.kind = e.kind AND m.id = e.id AND m.status = 'pending')
    AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.kind = e.kind AND o.id = e.id AND o.status = 'pending')
    AND NOT (e.kind = 'sandbox' AND (e.quarantined_at IS NOT NULL OR EXISTS (SELECT 1 FROM dead_letters d
        WHERE d.kind = e.kind AND d.entity_id = e.id AND d.replayed_at IS NULL)))
ORDER BY e.kind, e.id LIMIT $2

-- entities --
-- Forgets those of $1, $2 (kinds and ids side by side) that nobody has claimed meanwhile.
DELETE FROM entities e USING unnest($1::text[], $2::text[]) AS gone (kind, id)
WHERE e.kind = gone.kind AND e.id = gone.id AND (e.owner IS NULL OR e.lease_expires_at < clock_timestamp())
RETURNING e.kind, e.id

-- mailbox --
-- Forgets their messages; one that came just now waits for its entity.
DELETE FROM mailbox m USING unnest($1::text[], $2::text[]) AS gone (kind, id)
WHERE m.kind = gone.kind AND m.id = gone.id AND m.status <> 'pending'

-- outbox --
-- Forgets their effects.
DELETE FROM outbox o USING unnest($1::text[], $2::text[]) AS gone (kind, id)
WHERE o.kind = gone.kind AND o.id = gone.id AND o.status <> 'pending'

-- reminders --
-- Forgets their reminders.
DELETE FROM reminders r USING unnest($1::text[], $2::text[]) AS gone (kind, id)
WHERE r.kind = gone.kind AND r.id = gone.id

-- dead_letters --
-- Forgets their dead letters: there is nobody left to send them to.
DELETE FROM dead_letters d USING unnest($1::text[], $2::text[]) AS gone (kind, id)
WHERE d.kind = gone.kind AND d.entity_id = gone.id
