-- These incidents were told of, and may be again from then on.
-- incident_ids: bigint[], tell_at: timestamptz[], one for each
UPDATE alert_incidents
SET untold = 0, told = told + 1, tell_at = telling.tell_at
FROM unnest(%(incident_ids)s::bigint[], %(tell_at)s::timestamptz[]) AS telling (id, tell_at)
WHERE alert_incidents.id = telling.id
RETURNING alert_incidents.id
