-- New causes were told of: those that come now are told together, then.
-- until: timestamptz
UPDATE alert_state SET new_causes_at = greatest(new_causes_at, %(until)s::timestamptz)
RETURNING new_causes_at
