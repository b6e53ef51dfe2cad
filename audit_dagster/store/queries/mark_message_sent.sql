-- The target has this message, and is free again unless somebody else has taken it.
-- id: bigint, target: text, now: timestamptz, leased_until: timestamptz, as the sender claimed it
WITH sent AS (UPDATE alert_messages SET sent_at = %(now)s::timestamptz WHERE id = %(id)s)
UPDATE alert_targets
SET busy_until = %(now)s::timestamptz, failed_in_a_row = 0, last_error = NULL
WHERE name = %(target)s AND busy_until = %(leased_until)s::timestamptz
RETURNING name
