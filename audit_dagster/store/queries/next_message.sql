-- The oldest message that this target, which is claimed, is to get; one more attempt is counted.
-- target: text, now: timestamptz
UPDATE alert_messages
SET attempts = attempts + 1
WHERE id = (
    SELECT id FROM alert_messages
    WHERE target = %(target)s AND sent_at IS NULL AND due <= %(now)s::timestamptz
    ORDER BY id
    LIMIT 1
)
RETURNING id, key, kind, subject, text, attempts
