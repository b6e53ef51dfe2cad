-- Whether the alerts have anything to do at this moment: a few index probes, however many rows there are.
-- now: timestamptz or null (the server's clock)
WITH clock (now) AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()))
SELECT EXISTS (SELECT FROM alert_outbox WHERE sent_at IS NULL AND due <= (SELECT now FROM clock))
    OR EXISTS (
        SELECT FROM alert_incidents
        WHERE resolved_at IS NULL AND untold > 0 AND acknowledged_at IS NULL AND tell_at <= (SELECT now FROM clock)
    )
    OR EXISTS (
        SELECT FROM alert_targets
        WHERE in_use AND busy_until <= (SELECT now FROM clock) AND EXISTS (
            SELECT FROM alert_messages
            WHERE target = name AND sent_at IS NULL AND due <= (SELECT now FROM clock)
        )
    )
    OR EXISTS (
        SELECT FROM alert_state
        WHERE look_at <= (SELECT now FROM clock)
           OR (looked_at <= (SELECT now FROM clock) - interval '5 minutes'
               AND newest_id < (SELECT id FROM audit_logs ORDER BY id DESC LIMIT 1))
    ) AS due
