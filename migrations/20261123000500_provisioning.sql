-- Long work: operations and their steps, the lease that keeps two workers apart, and generated credentials.
CREATE TABLE operations (
    id             text        PRIMARY KEY CHECK (is_typeid('op', id)),
    workspace_id   text        NOT NULL REFERENCES workspaces (id),
    application_id text        NOT NULL REFERENCES applications (id),
    kind           text        NOT NULL CHECK (kind IN
        ('provision', 'update', 'restart', 'suspend', 'resume', 'delete', 'undelete', 'purge', 'rotate')),
    status         text        NOT NULL DEFAULT 'queued' CHECK (status IN
        ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'superseded')),
    generation     bigint      NOT NULL CHECK (generation > 0),
    -- Executions begun, the present one included. Three, then failed.
    attempts       integer     NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    -- Public reason and remediation, fit for the customer; the internal detail.
    reason         text,
    remediation    text,
    error_log      text,
    requested_by   text        REFERENCES users (id),
    created_at     timestamptz NOT NULL DEFAULT now(),
    started_at     timestamptz,
    finished_at    timestamptz,
    deadline_at    timestamptz NOT NULL,
    CHECK ((finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'cancelled', 'superseded')))
);
CREATE INDEX idx_operations_application ON operations (application_id, created_at DESC);
CREATE INDEX idx_operations_workspace ON operations (workspace_id, created_at DESC);
CREATE INDEX idx_operations_open ON operations (next_attempt_at) WHERE status IN ('queued', 'running');
-- One unfinished operation for each generation of an application.
CREATE UNIQUE INDEX idx_operations_open_generation ON operations (application_id, generation)
    WHERE status IN ('queued', 'running');

CREATE TABLE provisioning_steps (
    operation_id text        NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    step         text        NOT NULL CHECK (step IN ('preflight', 'namespace', 'database', 'redis', 'secrets',
        'instance', 'rollout', 'migrate', 'bootstrap', 'monitoring', 'activate')),
    ordinal      integer     NOT NULL CHECK (ordinal >= 0),
    status       text        NOT NULL DEFAULT 'pending' CHECK (status IN
        ('pending', 'running', 'done', 'skipped', 'failed', 'undone')),
    attempts     integer     NOT NULL DEFAULT 0,
    -- Shown to the customer; never a secret.
    detail       text,
    started_at   timestamptz,
    finished_at  timestamptz,
    PRIMARY KEY (operation_id, step),
    UNIQUE (operation_id, ordinal)
);

-- Who works on an application. The epoch is the fencing token: it grows with every take-over, and a write that names an
-- older one is refused.
CREATE TABLE application_leases (
    application_id text        PRIMARY KEY REFERENCES applications (id) ON DELETE CASCADE,
    holder         text        NOT NULL,
    epoch          bigint      NOT NULL DEFAULT 1 CHECK (epoch > 0),
    expires_at     timestamptz NOT NULL
);

-- Generated credentials, sealed and recorded before they are first used, so that a killed worker's successor uses the same.
CREATE TABLE application_credentials (
    application_id text        NOT NULL REFERENCES applications (id) ON DELETE CASCADE,
    kind           text        NOT NULL CHECK (kind IN ('database_a', 'database_b', 'redis_a', 'redis_b')),
    username       text        NOT NULL,
    sealed         bytea       NOT NULL,
    active         boolean     NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (application_id, kind)
);

-- Wakes operation streams of the API; the payload is the operation id.
CREATE FUNCTION notify_operation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('operations', NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER operations_notify AFTER INSERT OR UPDATE ON operations FOR EACH ROW EXECUTE FUNCTION notify_operation();
