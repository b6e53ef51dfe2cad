-- These incidents are over.
-- incident_ids: bigint[], now: timestamptz
UPDATE alert_incidents SET resolved_at = %(now)s::timestamptz, untold = 0 WHERE id = ANY (%(incident_ids)s::bigint[])
RETURNING id
