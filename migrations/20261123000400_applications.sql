-- An application is the intent: what should exist. The provisioner makes it so and writes back what it observed.
CREATE TABLE applications (
    id                  text        PRIMARY KEY CHECK (is_typeid('app', id)),
    workspace_id        text        NOT NULL REFERENCES workspaces (id),
    name                text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    slug                text        NOT NULL CHECK (is_slug(slug)),
    environment         text        NOT NULL CHECK (environment IN ('production', 'staging', 'development')),
    status              text        NOT NULL DEFAULT 'provisioning' CHECK (status IN
        ('provisioning', 'active', 'updating', 'restarting', 'suspended', 'failed', 'deleting', 'purging', 'deleted')),
    -- The end of the present transitional state; past it the reconciler acts. No state is without a way out.
    status_deadline     timestamptz,
    region              text        NOT NULL CHECK (region ~ '^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$'),
    -- Raised by every change of intent; a job of an older generation is superseded.
    generation          bigint      NOT NULL DEFAULT 1 CHECK (generation > 0),
    observed_generation bigint      NOT NULL DEFAULT 0,
    -- Set when the application first served; decides whether `failed` is an outage.
    activated_at        timestamptz,

    -- Where it runs. Names derive from the id; URLs hold passwords and are sealed (AES-256-GCM).
    k8s_namespace       text        NOT NULL UNIQUE,
    database_url        bytea,
    redis_url           bytea,
    internal_url        text,
    endpoints           text[]      NOT NULL DEFAULT '{}',
    base_path           text        NOT NULL DEFAULT '' CHECK (base_path = '' OR base_path ~ '^(/[A-Za-z0-9._~-]+)+$'),
    -- Credentials of the instance that the edge injects, sealed under the edge's own ring.
    edge_credentials    bytea,

    -- What the edge enforces.
    origins             text[]      NOT NULL DEFAULT '{}',
    path_policy         jsonb       NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(path_policy) = 'array'),
    quota_exhausted     boolean     NOT NULL DEFAULT false,

    config              jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(config) = 'object'),
    cpu_limit           text        NOT NULL,
    memory_limit        text        NOT NULL,
    storage_limit       text        NOT NULL,
    metadata            jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),

    -- The public reason and remediation of the last failure, and the internal log for operators.
    failure_reason      text,
    failure_remediation text,
    error_log           text,

    epoch               bigint      NOT NULL DEFAULT 1,
    version             bigint      NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz,
    purge_after         timestamptz,
    CHECK ((deleted_at IS NOT NULL) = (status IN ('deleting', 'purging', 'deleted'))),
    CHECK (purge_after IS NULL OR deleted_at IS NOT NULL)
);
CREATE INDEX idx_applications_workspace_id ON applications (workspace_id);
CREATE INDEX idx_applications_status ON applications (status);
-- A slug stays reserved until purge.
CREATE UNIQUE INDEX idx_applications_workspace_slug ON applications (workspace_id, slug) WHERE status <> 'deleted';
CREATE INDEX idx_applications_unsettled ON applications (status_deadline)
    WHERE status IN ('provisioning', 'updating', 'restarting', 'deleting', 'purging');

-- Which columns the edge sees. A forced bump (version + 1 in the statement) is how another table makes this row travel.
CREATE FUNCTION applications_edge_changed(o applications, n applications) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN (o.status, o.activated_at IS NULL, o.endpoints, o.base_path, o.edge_credentials, o.origins, o.path_policy,
            o.quota_exhausted, o.environment, o.region, o.version)
        IS DISTINCT FROM
           (n.status, n.activated_at IS NULL, n.endpoints, n.base_path, n.edge_credentials, n.origins, n.path_policy,
            n.quota_exhausted, n.environment, n.region, n.version);

CREATE TRIGGER applications_updated_at BEFORE UPDATE ON applications FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER applications_version_insert BEFORE INSERT ON applications FOR EACH ROW EXECUTE FUNCTION bump_version();
CREATE TRIGGER applications_version_update BEFORE UPDATE ON applications FOR EACH ROW
    WHEN (applications_edge_changed(OLD, NEW)) EXECUTE FUNCTION bump_version();

CREATE FUNCTION publish_application() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO outbox (topic, ref, epoch, version)
        SELECT 'app', OLD.id, platform.epoch, OLD.version + 1 FROM platform;
    ELSE
        INSERT INTO outbox (topic, ref, epoch, version) VALUES ('app', NEW.id, NEW.epoch, NEW.version);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER applications_publish_new AFTER INSERT OR DELETE ON applications
    FOR EACH ROW EXECUTE FUNCTION publish_application();
CREATE TRIGGER applications_publish_change AFTER UPDATE ON applications FOR EACH ROW
    WHEN (OLD.version <> NEW.version OR OLD.epoch <> NEW.epoch) EXECUTE FUNCTION publish_application();

-- Plan and suspension of a workspace are part of each of its applications' records.
CREATE FUNCTION workspace_reaches_applications() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE applications SET version = version + 1 WHERE workspace_id = NEW.id AND status <> 'deleted';
    RETURN NULL;
END $$;
CREATE TRIGGER workspaces_reach_applications AFTER UPDATE ON workspaces FOR EACH ROW
    WHEN (OLD.plan <> NEW.plan OR OLD.status <> NEW.status) EXECUTE FUNCTION workspace_reaches_applications();

-- API keys. A secret key exists only as SHA-256 and a masked form; a public key may be shown again and is kept clear.
CREATE TABLE api_keys (
    id             text        PRIMARY KEY CHECK (is_typeid('key', id)),
    application_id text        NOT NULL REFERENCES applications (id),
    type           text        NOT NULL CHECK (type IN ('public', 'secret')),
    name           text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    digest         bytea       NOT NULL UNIQUE CHECK (length(digest) = 32),
    masked         text        NOT NULL,
    public_key     text        UNIQUE CHECK ((type = 'public') = (public_key IS NOT NULL)),
    scopes         text[]      NOT NULL DEFAULT '{*}' CHECK (scopes <@ ARRAY['users:read', 'users:write',
        'sessions:manage', 'organizations:read', 'organizations:write', 'audit:read', '*']),
    -- CIDR blocks that may use the key (empty: any) and, for public keys, the browser origins.
    networks       text[]      NOT NULL DEFAULT '{}',
    origins        text[]      NOT NULL DEFAULT '{}',
    enabled        boolean     NOT NULL DEFAULT true,
    -- To the minute, written in batches; not part of the record at the edge.
    last_used_at   timestamptz,
    expires_at     timestamptz,
    revoked_at     timestamptz,
    created_by     text        REFERENCES users (id),
    epoch          bigint      NOT NULL DEFAULT 1,
    version        bigint      NOT NULL DEFAULT 1,
    created_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_api_keys_application_id ON api_keys (application_id);

CREATE FUNCTION api_keys_edge_changed(o api_keys, n api_keys) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN (o.type, o.scopes, o.networks, o.origins, o.enabled, o.expires_at, o.revoked_at, o.version)
        IS DISTINCT FROM (n.type, n.scopes, n.networks, n.origins, n.enabled, n.expires_at, n.revoked_at, n.version);
-- The digest is the key's name everywhere; a changed one would leave the old record alive at the edges.
CREATE FUNCTION api_keys_digest_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the digest and application of an API key never change' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER api_keys_final BEFORE UPDATE ON api_keys FOR EACH ROW
    WHEN (OLD.digest <> NEW.digest OR OLD.application_id <> NEW.application_id) EXECUTE FUNCTION api_keys_digest_is_final();
CREATE TRIGGER api_keys_version_insert BEFORE INSERT ON api_keys FOR EACH ROW EXECUTE FUNCTION bump_version();
CREATE TRIGGER api_keys_version_update BEFORE UPDATE ON api_keys FOR EACH ROW
    WHEN (api_keys_edge_changed(OLD, NEW)) EXECUTE FUNCTION bump_version();

CREATE FUNCTION publish_api_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO outbox (topic, ref, epoch, version)
        SELECT 'key', encode(OLD.digest, 'hex'), platform.epoch, OLD.version + 1 FROM platform;
    ELSE
        INSERT INTO outbox (topic, ref, epoch, version) VALUES ('key', encode(NEW.digest, 'hex'), NEW.epoch, NEW.version);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER api_keys_publish_new AFTER INSERT OR DELETE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION publish_api_key();
CREATE TRIGGER api_keys_publish_change AFTER UPDATE ON api_keys FOR EACH ROW
    WHEN (OLD.version <> NEW.version OR OLD.epoch <> NEW.epoch) EXECUTE FUNCTION publish_api_key();

-- What the edge is told, in one place: the relay and the edge's own fall-back read the same rows.
CREATE VIEW edge_apps AS
SELECT a.id, a.workspace_id, a.epoch, a.version, a.environment, a.region, a.status,
       a.activated_at IS NOT NULL AS activated, a.endpoints, a.base_path, a.edge_credentials, a.origins, a.path_policy,
       a.quota_exhausted, w.plan, w.status AS workspace_status
FROM applications a JOIN workspaces w ON w.id = a.workspace_id;

CREATE VIEW edge_keys AS
SELECT k.digest, k.id, k.application_id, k.type, k.epoch, k.version, k.scopes, k.networks, k.origins, k.enabled,
       k.expires_at, k.revoked_at
FROM api_keys k;
