-- What the driver made at a sandbox's last start: how each limit is enforced, whose account the helper has, which
-- image it really is.
ALTER TABLE sandboxes ADD COLUMN started_as jsonb;
