-- Take failures that are due: nobody else gets them before the lease ends, and never two claimers the same one.
-- limit: integer, lease: interval after which an unmarked claim is due again
UPDATE alert_outbox
SET attempts = attempts + 1, due = now() + %(lease)s::interval
FROM (
    SELECT operation_id
    FROM alert_outbox
    WHERE sent_at IS NULL AND due <= now()
    ORDER BY due
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) AS claimed
WHERE alert_outbox.operation_id = claimed.operation_id
RETURNING alert_outbox.operation_id, alert_outbox.attempts
