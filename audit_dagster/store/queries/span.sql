-- The start of the earliest and of the latest operation; nulls where there are none.
SELECT (SELECT timestamp FROM audit_logs ORDER BY timestamp, id LIMIT 1) AS earliest,
       (SELECT timestamp FROM audit_logs ORDER BY timestamp DESC, id DESC LIMIT 1) AS latest
