-- Something happened that audit_logs does not show: the next look is due.
UPDATE alert_state SET look_at = least(look_at, clock_timestamp())
RETURNING look_at
