-- What became of an operation, event by event, so that a stream that was cut off goes on where it ended.
CREATE TABLE operation_events (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operation_id text        NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    kind         text        NOT NULL CHECK (kind IN ('operation', 'step')),
    data         jsonb       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX idx_operation_events_operation ON operation_events (operation_id, id);

CREATE FUNCTION record_operation_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO operation_events (operation_id, kind, data)
    VALUES (NEW.id, 'operation', jsonb_build_object('status', NEW.status, 'attempts', NEW.attempts, 'reason', NEW.reason,
        'remediation', NEW.remediation));
    RETURN NULL;
END $$;
CREATE TRIGGER operations_event_new AFTER INSERT ON operations FOR EACH ROW EXECUTE FUNCTION record_operation_event();
CREATE TRIGGER operations_event_change AFTER UPDATE ON operations FOR EACH ROW
    WHEN ((OLD.status, OLD.attempts, OLD.reason) IS DISTINCT FROM (NEW.status, NEW.attempts, NEW.reason))
    EXECUTE FUNCTION record_operation_event();

CREATE FUNCTION record_step_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Numbers of one operation become visible in their order: its row is locked while one is drawn.
    PERFORM 1 FROM operations WHERE id = NEW.operation_id FOR NO KEY UPDATE;
    INSERT INTO operation_events (operation_id, kind, data)
    VALUES (NEW.operation_id, 'step', jsonb_build_object('name', NEW.step, 'status', NEW.status, 'attempts', NEW.attempts,
        'detail', NEW.detail));
    RETURN NULL;
END $$;
CREATE TRIGGER provisioning_steps_event AFTER UPDATE ON provisioning_steps FOR EACH ROW
    WHEN ((OLD.status, OLD.attempts, OLD.detail) IS DISTINCT FROM (NEW.status, NEW.attempts, NEW.detail))
    EXECUTE FUNCTION record_step_event();
