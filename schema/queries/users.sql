-- ensure_owner --
-- Makes the owner's account if there is none.
INSERT INTO users (id, email, username, full_name, role) VALUES ($1, 'owner@localhost', 'owner', 'Owner', 'admin')
ON CONFLICT DO NOTHING

-- owner_id --
-- The owner's id.
SELECT id FROM users WHERE username = 'owner'

-- get --
-- One user.
SELECT * FROM users WHERE id = $1

-- ensure_token --
-- Registers the hash of a token for a user, once; a token that is already known keeps its row.
INSERT INTO api_keys (user_id, name, token_sha256, expires_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (token_sha256) DO NOTHING

-- user_of_token --
-- Whose token it is, if it is neither revoked nor expired and the account is not disabled.
SELECT k.user_id FROM api_keys k JOIN users u ON u.id = k.user_id
WHERE k.token_sha256 = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
    AND u.disabled_at IS NULL

-- touch_token --
-- The token was used; written at most once a minute.
UPDATE api_keys SET last_used_at = now()
WHERE token_sha256 = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')

-- list_tokens --
-- A user's tokens, newest first (hashes only).
SELECT * FROM api_keys WHERE user_id = $1 ORDER BY created_at DESC, id

-- revoke_token --
-- Ends a token at once.
UPDATE api_keys SET revoked_at = now() WHERE token_sha256 = $1 AND revoked_at IS NULL

-- revoke_others --
-- Ends a user's tokens of one name except the given one (the owner's token file was replaced).
UPDATE api_keys SET revoked_at = now()
WHERE user_id = $1 AND name = $2 AND token_sha256 <> $3 AND revoked_at IS NULL
