-- People were told of these failures.
-- operation_ids: uuid[]
UPDATE alert_outbox SET sent_at = now() WHERE operation_id = ANY (%(operation_ids)s::uuid[])
RETURNING operation_id
