-- expired_sessions --
-- Clean up old sessions (the seed's words).
DELETE FROM user_sessions WHERE expires_at < NOW() - INTERVAL '7 days';

-- old_commands --
-- Archive old command executions (the seed's words).
UPDATE command_executions 
SET archived = true 
WHERE created_at < NOW() - INTERVAL '90 days';

-- expired_memory --
-- Clean up expired AI memory (the seed's words).
DELETE FROM ai_memory WHERE expires_at IS NOT NULL AND expires_at < NOW();

-- old_file_versions --
-- Remove old file versions (keep last 50 per file) (the seed's words).
WITH ranked_versions AS (
    SELECT id, ROW_NUMBER() OVER (PARTITION BY fs_entry_id ORDER BY created_at DESC) as rn
    FROM file_versions
)
DELETE FROM file_versions WHERE id IN (
    SELECT id FROM ranked_versions WHERE rn > 50
);
