-- End a mute.
-- what: text
DELETE FROM alert_mutes WHERE what = %(what)s RETURNING what
