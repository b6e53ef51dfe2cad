-- Remember how far this look saw, and when to look again at the latest.
-- open: text, newest_id: bigint, now: timestamptz, look_at: timestamptz
UPDATE alert_state
SET seen = %(open)s::xid8, newest_id = %(newest_id)s, looked_at = %(now)s::timestamptz,
    look_at = %(look_at)s::timestamptz
RETURNING looked_at
