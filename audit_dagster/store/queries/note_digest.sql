-- The failures of these incidents that were in no digest are in this one.
-- incident_ids: bigint[], digest: text
UPDATE alert_outbox
SET digest = %(digest)s
WHERE incident_id IS NOT NULL AND digest IS NULL AND incident_id = ANY (%(incident_ids)s::bigint[])
RETURNING operation_id
