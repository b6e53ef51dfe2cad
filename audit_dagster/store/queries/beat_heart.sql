-- The heartbeat was sent.
-- now: timestamptz
UPDATE alert_state SET heart_beat_at = %(now)s::timestamptz
RETURNING heart_beat_at
