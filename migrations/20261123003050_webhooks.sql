-- Webhooks: what a team is told of by a request to a server of its own.
CREATE TABLE webhook_endpoints (
    id              text        PRIMARY KEY CHECK (is_typeid('whk', id)),
    workspace_id    text        NOT NULL REFERENCES workspaces (id),
    -- NULL: events of every application of the workspace.
    application_id  text        REFERENCES applications (id),
    url             text        NOT NULL CHECK (length(url) <= 2048),
    -- Empty: all events.
    events          text[]      NOT NULL DEFAULT '{}',
    enabled         boolean     NOT NULL DEFAULT true,
    -- Why the platform disabled it.
    disabled_reason text,
    -- Signing secrets, sealed by the platform's ring; the previous one signs as well until its end.
    secret          bytea       NOT NULL,
    previous_secret bytea,
    previous_until  timestamptz,
    created_by      text        REFERENCES users (id),
    created_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((previous_secret IS NULL) = (previous_until IS NULL))
);
CREATE INDEX idx_webhook_endpoints_workspace ON webhook_endpoints (workspace_id, created_at, id);

CREATE TABLE webhook_messages (
    id             text        PRIMARY KEY CHECK (id ~ '^msg_[0-9a-f]{32}$'),
    workspace_id   text        NOT NULL REFERENCES workspaces (id),
    application_id text        REFERENCES applications (id),
    event          text        NOT NULL CHECK (event ~ '^[a-z_]+\.[a-z_]+$'),
    data           jsonb       NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_webhook_messages_created_at ON webhook_messages (created_at);

CREATE TABLE webhook_deliveries (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint_id     text        NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    message_id      text        NOT NULL REFERENCES webhook_messages (id) ON DELETE CASCADE,
    status          text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'succeeded', 'failed')),
    attempts        integer     NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    -- Of the last attempt.
    response_status integer,
    error           text,
    duration_ms     integer,
    attempted_at    timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_webhook_deliveries_endpoint ON webhook_deliveries (endpoint_id, id DESC);
CREATE INDEX idx_webhook_deliveries_due ON webhook_deliveries (next_attempt_at) WHERE status = 'pending';
CREATE INDEX idx_webhook_deliveries_message ON webhook_deliveries (message_id);

-- In the transaction of what happened: a message and a delivery for each endpoint that wants to know; nothing where none does.
CREATE FUNCTION emit_webhook(workspace text, application text, name text, data jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    message text;
BEGIN
    IF NOT EXISTS (SELECT 1 FROM webhook_endpoints e WHERE e.workspace_id = workspace AND e.enabled
                   AND (e.application_id IS NULL OR e.application_id = application)
                   AND (e.events = '{}' OR name = ANY (e.events))) THEN
        RETURN;
    END IF;
    message := 'msg_' || replace(gen_random_uuid()::text, '-', '');
    INSERT INTO webhook_messages (id, workspace_id, application_id, event, data)
    VALUES (message, workspace, application, name, data);
    INSERT INTO webhook_deliveries (endpoint_id, message_id)
    SELECT e.id, message FROM webhook_endpoints e
    WHERE e.workspace_id = workspace AND e.enabled AND (e.application_id IS NULL OR e.application_id = application)
      AND (e.events = '{}' OR name = ANY (e.events));
    PERFORM pg_notify('webhooks', '');
END $$;

-- The end of an operation.
CREATE FUNCTION operation_reaches_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    name text := CASE WHEN NEW.status = 'failed' THEN 'application.failed' ELSE CASE NEW.kind
        WHEN 'provision' THEN 'application.provisioned' WHEN 'update' THEN 'application.updated'
        WHEN 'restart' THEN 'application.restarted' WHEN 'suspend' THEN 'application.suspended'
        WHEN 'resume' THEN 'application.resumed' WHEN 'delete' THEN 'application.deleted'
        WHEN 'undelete' THEN 'application.undeleted' END END;
BEGIN
    IF name IS NOT NULL THEN
        PERFORM emit_webhook(NEW.workspace_id, NEW.application_id, name, jsonb_strip_nulls(jsonb_build_object(
            'applicationId', NEW.application_id, 'workspaceId', NEW.workspace_id, 'operationId', NEW.id, 'kind', NEW.kind,
            'error', NEW.reason, 'retryCount', CASE WHEN NEW.status = 'failed' THEN greatest(NEW.attempts - 1, 0) END)));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER operations_reach_webhooks AFTER UPDATE ON operations FOR EACH ROW
    WHEN (OLD.status <> NEW.status AND NEW.status IN ('succeeded', 'failed'))
    EXECUTE FUNCTION operation_reaches_webhooks();

-- What is told of keys and names, as the audit trail has it.
CREATE FUNCTION deed_reaches_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM emit_webhook(NEW.workspace_id, NEW.application_id,
        CASE NEW.action WHEN 'key.leaked' THEN 'key.leaked' WHEN 'host.verify' THEN 'host.verified' ELSE 'host.lost' END,
        jsonb_strip_nulls(jsonb_build_object('applicationId', NEW.application_id, 'workspaceId', NEW.workspace_id,
            'keyId', CASE WHEN NEW.resource = 'api_key' THEN NEW.resource_id END, 'host', NEW.changes -> 'host',
            'foundAt', NEW.changes -> 'foundAt')));
    RETURN NULL;
END $$;
CREATE TRIGGER audit_events_reach_webhooks AFTER INSERT ON audit_events FOR EACH ROW
    WHEN (NEW.workspace_id IS NOT NULL AND NEW.action IN ('key.leaked', 'host.verify', 'host.lose'))
    EXECUTE FUNCTION deed_reaches_webhooks();
