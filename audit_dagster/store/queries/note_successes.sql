-- Open incidents whose tool's operation succeeded since; a silent tool is not silent whatever it did.
-- tool_names, operations: text[], timestamps: timestamptz[], one for each
UPDATE alert_incidents AS incident
SET succeeded_at = greatest(succeeded_at, success.timestamp)
FROM unnest(%(tool_names)s::text[], %(operations)s::text[], %(timestamps)s::timestamptz[])
    AS success (tool_name, operation, timestamp)
WHERE resolved_at IS NULL AND kind <> 'slow' AND incident.tool_name = success.tool_name
  AND (kind = 'silent' OR incident.operation = success.operation)
  AND success.timestamp > last_seen
RETURNING incident.id
