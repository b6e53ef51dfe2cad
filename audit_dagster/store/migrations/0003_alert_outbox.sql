-- Every new failure waits here until somebody was told. A trigger fills it: a sensor that remembers the highest id
-- misses rows that commit out of order.

SET LOCAL ROLE audit_owner;

CREATE TABLE alert_outbox (
    operation_id uuid PRIMARY KEY REFERENCES audit_logs (operation_id),
    due timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    sent_at timestamptz
);

-- alerts_due, claim_alerts
CREATE INDEX alert_outbox_due ON alert_outbox (due) WHERE sent_at IS NULL;

CREATE FUNCTION audit_queue_alert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO public.alert_outbox (operation_id) VALUES (NEW.operation_id);
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION audit_queue_alert() FROM PUBLIC;

-- Imported history failed long ago: nobody wants to be woken for it.
CREATE TRIGGER audit_logs_queue_alert AFTER INSERT ON audit_logs
    FOR EACH ROW WHEN (NOT NEW.success AND NOT NEW.context ? 'imported_from')
    EXECUTE FUNCTION audit_queue_alert();
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_queue_alert;

-- The reader is who sends: it claims and marks, and can neither add nor remove.
GRANT SELECT, UPDATE (due, attempts, sent_at) ON alert_outbox TO audit_reader;
