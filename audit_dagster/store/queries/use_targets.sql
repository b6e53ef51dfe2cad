-- These are the targets now; messages for others wait until they are back.
-- names: text[]
WITH unused AS (
    UPDATE alert_targets SET in_use = false WHERE in_use AND name <> ALL (%(names)s::text[])
)
INSERT INTO alert_targets AS known (name, in_use)
SELECT name, true FROM unnest(%(names)s::text[]) AS name ORDER BY name
ON CONFLICT (name) DO UPDATE SET in_use = true WHERE NOT known.in_use
RETURNING name
