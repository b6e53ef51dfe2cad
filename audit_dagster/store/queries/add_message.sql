-- A message that waits for its target; the same key is there once for each.
-- key, target, kind, subject, text: text, now, due: timestamptz
INSERT INTO alert_messages (key, target, kind, subject, text, created_at, due)
VALUES (%(key)s, %(target)s, %(kind)s, %(subject)s, %(text)s, %(now)s, %(due)s)
ON CONFLICT (key, target) DO NOTHING
RETURNING id
