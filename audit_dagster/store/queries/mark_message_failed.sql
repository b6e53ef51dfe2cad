-- The target did not take this message: it rests, and the message may step aside.
-- id: bigint, target, error: text, due: timestamptz or null (as it was), retry_at: timestamptz, leased_until: timestamptz,
-- as the sender claimed it
WITH failed AS (
    UPDATE alert_messages SET due = %(due)s::timestamptz WHERE id = %(id)s AND %(due)s::timestamptz IS NOT NULL
)
UPDATE alert_targets
SET busy_until = %(retry_at)s::timestamptz, failed_in_a_row = failed_in_a_row + 1, last_error = %(error)s
WHERE name = %(target)s AND busy_until = %(leased_until)s::timestamptz
RETURNING name
