-- Whether a message waits for over an hour, though its target is not at rest by the clock.
-- now: timestamptz
SELECT EXISTS (
    SELECT FROM alert_targets
    WHERE in_use AND failed_in_a_row > 0 AND EXISTS (
        SELECT FROM alert_messages
        WHERE target = name AND sent_at IS NULL AND due <= %(now)s::timestamptz - interval '1 hour'
    )
) AS stuck
