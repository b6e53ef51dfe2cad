-- These failures are counted in these incidents.
-- operation_ids: uuid[], incident_ids: bigint[], one for each, now: timestamptz
UPDATE alert_outbox
SET sent_at = %(now)s::timestamptz, attempts = attempts + 1, incident_id = counted.incident_id
FROM unnest(%(operation_ids)s::uuid[], %(incident_ids)s::bigint[]) AS counted (operation_id, incident_id)
WHERE alert_outbox.operation_id = counted.operation_id
RETURNING alert_outbox.operation_id
