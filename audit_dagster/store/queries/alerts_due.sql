-- Whether anybody has to be told of a failure now.
SELECT EXISTS (SELECT FROM alert_outbox WHERE sent_at IS NULL AND due <= now()) AS due
