-- Take a target that has a message and that nobody is sending to: nobody else gets it before the lease ends.
-- target: text, now: timestamptz, lease: interval
UPDATE alert_targets
SET busy_until = %(now)s::timestamptz + %(lease)s::interval
WHERE name = %(target)s AND busy_until <= %(now)s::timestamptz
  AND EXISTS (
      SELECT FROM alert_messages WHERE target = name AND sent_at IS NULL AND due <= %(now)s::timestamptz
  )
RETURNING busy_until, failed_in_a_row
