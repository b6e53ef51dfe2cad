-- Targets whose last attempt failed: what went wrong, how many messages wait and since when, and the next attempt.
SELECT name, last_error, failed_in_a_row, waiting, waiting_since, greatest(busy_until, due) AS next_attempt
FROM alert_targets
CROSS JOIN LATERAL (
    SELECT count(*) AS waiting, min(created_at) AS waiting_since, min(due) AS due
    FROM alert_messages
    WHERE target = name AND sent_at IS NULL
) AS queue
WHERE in_use AND failed_in_a_row > 0 AND waiting > 0
ORDER BY name
