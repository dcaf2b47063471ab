-- What happened, by whom, from where. Written in the transaction of the change it records.
CREATE TABLE audit_events (
    id             text        PRIMARY KEY CHECK (is_typeid('evt', id)),
    -- NULL for what concerns no workspace (a login).
    workspace_id   text        REFERENCES workspaces (id),
    application_id text        REFERENCES applications (id),
    actor_id       text,
    actor_type     text        NOT NULL CHECK (actor_type IN ('user', 'api_key', 'service')),
    action         text        NOT NULL CHECK (action ~ '^[a-z_]+(\.[a-z_]+)+$'),
    resource       text        NOT NULL,
    resource_id    text,
    -- Secrets are redacted before they come here.
    changes        jsonb       NOT NULL DEFAULT '{}',
    ip_address     inet,
    user_agent     text,
    status         text        NOT NULL CHECK (status IN ('success', 'failure')),
    request_id     text,
    metadata       jsonb       NOT NULL DEFAULT '{}',
    created_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_audit_events_workspace ON audit_events (workspace_id, created_at DESC, id);
CREATE INDEX idx_audit_events_application ON audit_events (application_id, created_at DESC) WHERE application_id IS NOT NULL;

CREATE FUNCTION audit_events_are_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit events are never changed' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER audit_events_no_update BEFORE UPDATE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION audit_events_are_final();
