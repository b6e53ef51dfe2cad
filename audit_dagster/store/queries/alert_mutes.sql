-- What is muted, and until when.
SELECT what, until FROM alert_mutes ORDER BY what
