-- check_fence --
-- Locks the entity's row until the transaction ends and answers only if the epoch is the present one.
-- NO KEY UPDATE conflicts with the UPDATE of a claim and with other fenced writers, not with readers.
SELECT 1 FROM entities WHERE kind = $1 AND id = $2 AND epoch = $3 AND owner IS NOT NULL FOR NO KEY UPDATE
