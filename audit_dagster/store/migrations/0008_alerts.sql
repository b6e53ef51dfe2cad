-- What people are told: failures of one cause are one incident, incidents become messages, and each target gets its
-- messages in order.

SET LOCAL ROLE audit_owner;

CREATE TABLE alert_incidents (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('failing', 'slow', 'silent')),
    fingerprint text NOT NULL,
    tool_name text NOT NULL,
    operation text NOT NULL,
    error_message text,
    facts jsonb NOT NULL DEFAULT '{}',
    example uuid,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    happened bigint NOT NULL,
    untold bigint NOT NULL,
    told integer NOT NULL DEFAULT 0,
    tell_at timestamptz NOT NULL,
    counted_at timestamptz NOT NULL,
    succeeded_at timestamptz,
    acknowledged_at timestamptz,
    resolved_at timestamptz
);
COMMENT ON COLUMN alert_incidents.example IS 'operation_id of the latest';
COMMENT ON COLUMN alert_incidents.happened IS 'How often it happened; untold of these are in no message yet';
COMMENT ON COLUMN alert_incidents.told IS 'How many messages told of it: the step of the back-off';
COMMENT ON COLUMN alert_incidents.succeeded_at IS 'Start of the latest success of the tool''s operation';

-- One open incident per cause: count_failures, open_incident
CREATE UNIQUE INDEX alert_incidents_open ON alert_incidents (fingerprint) WHERE resolved_at IS NULL;
-- alerts_due, incidents_to_tell
CREATE INDEX alert_incidents_untold ON alert_incidents (tell_at)
    WHERE resolved_at IS NULL AND untold > 0 AND acknowledged_at IS NULL;

-- A failure is counted in its incident (sent_at, which was the time of its own message, is when that happened), and
-- then told in a digest: the messages of one round about one kind have one key.
ALTER TABLE alert_outbox
    ADD COLUMN incident_id bigint REFERENCES alert_incidents (id),
    ADD COLUMN digest text;
-- note_digest
CREATE INDEX alert_outbox_untold ON alert_outbox (incident_id) WHERE incident_id IS NOT NULL AND digest IS NULL;

CREATE TABLE alert_targets (
    name text PRIMARY KEY,
    in_use boolean NOT NULL,
    busy_until timestamptz NOT NULL DEFAULT 'epoch',
    failed_in_a_row integer NOT NULL DEFAULT 0,
    last_error text
);
COMMENT ON COLUMN alert_targets.name IS 'A label: never the address, which may hold a credential';
COMMENT ON COLUMN alert_targets.busy_until IS 'End of the sender''s lease, or of the back-off after a failure';

CREATE TABLE alert_messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL,
    target text NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    text text NOT NULL,
    created_at timestamptz NOT NULL,
    due timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    sent_at timestamptz,
    UNIQUE (key, target)
);
-- alerts_due, next_message
CREATE INDEX alert_messages_unsent ON alert_messages (target, id) WHERE sent_at IS NULL;

CREATE TABLE alert_mutes (
    what text PRIMARY KEY,
    until timestamptz NOT NULL
);
COMMENT ON COLUMN alert_mutes.what IS 'A pattern of tool names, or = and a fingerprint';

-- The one memory of what is looked at now and then. `seen` is the oldest transaction that was still open at the last
-- look: rows of later ones are new, in whatever order they were committed.
CREATE TABLE alert_state (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seen xid8 NOT NULL DEFAULT pg_snapshot_xmin(pg_current_snapshot()),
    newest_id bigint NOT NULL DEFAULT 0,
    looked_at timestamptz NOT NULL DEFAULT now(),
    look_at timestamptz NOT NULL DEFAULT now() + interval '1 hour',
    new_causes_at timestamptz NOT NULL DEFAULT 'epoch',
    heart_beat_at timestamptz NOT NULL DEFAULT 'epoch'
);
COMMENT ON COLUMN alert_state.new_causes_at IS 'When causes never seen before may be told of again';
INSERT INTO alert_state (newest_id) SELECT coalesce(max(id), 0) FROM audit_logs;

-- The reader is who tells. It can remove nothing but a mute.
GRANT SELECT, UPDATE (sent_at, incident_id, digest) ON alert_outbox TO audit_reader;
GRANT SELECT, INSERT, UPDATE ON alert_incidents, alert_targets, alert_messages, alert_mutes TO audit_reader;
GRANT SELECT, UPDATE ON alert_state TO audit_reader;
GRANT DELETE ON alert_mutes TO audit_reader;
