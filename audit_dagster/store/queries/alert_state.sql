-- What is remembered from look to look.
-- now: timestamptz or null (the server's clock)
SELECT new_causes_at, heart_beat_at, look_at,
       looked_at <= coalesce(%(now)s::timestamptz, clock_timestamp()) - interval '5 minutes'
           AND newest_id < (SELECT id FROM audit_logs ORDER BY id DESC LIMIT 1) AS news,
       coalesce(%(now)s::timestamptz, clock_timestamp()) AS now
FROM alert_state
