-- Mute a pattern of tools, or a cause, until then.
-- what: text, until: timestamptz
INSERT INTO alert_mutes (what, until) VALUES (%(what)s, %(until)s)
ON CONFLICT (what) DO UPDATE SET until = excluded.until
RETURNING what
