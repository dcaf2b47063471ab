-- The edges that a revocation must reach. Every replica of control listens to their reports; this table is how the set
-- survives a restart of control, and how replicas agree on it. Not written for each report: see control/src/tasks/edges.
CREATE TABLE edges (
    -- Random for each start of an edge's process, so an edge that left never comes back under the same id.
    id             uuid        PRIMARY KEY,
    name           text        NOT NULL,
    region         text        NOT NULL,
    version        text        NOT NULL,
    epoch          bigint      NOT NULL,
    position       bigint      NOT NULL,
    keys           bigint      NOT NULL,
    apps           bigint      NOT NULL,
    bytes          bigint      NOT NULL,
    -- Behind by up to the pace of writing.
    last_report_at timestamptz NOT NULL,
    -- It said goodbye. The row stays for a while, so that a replica that has not heard of it cannot bring it back.
    left_at        timestamptz
);

-- For how many seconds the edge may decide about secret keys without a heartbeat; past them they fail closed. NULL: not strict.
ALTER TABLE applications ADD COLUMN strict_seconds integer CHECK (strict_seconds BETWEEN 5 AND 86400);

CREATE OR REPLACE FUNCTION applications_edge_changed(o applications, n applications) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN (o.status, o.activated_at IS NULL, o.endpoints, o.base_path, o.edge_credentials, o.origins, o.path_policy,
            o.quota_exhausted, o.environment, o.region, o.strict_seconds, o.version)
        IS DISTINCT FROM
           (n.status, n.activated_at IS NULL, n.endpoints, n.base_path, n.edge_credentials, n.origins, n.path_policy,
            n.quota_exhausted, n.environment, n.region, n.strict_seconds, n.version);

CREATE OR REPLACE VIEW edge_apps AS
SELECT a.id, a.workspace_id, a.epoch, a.version, a.environment, a.region, a.status,
       a.activated_at IS NOT NULL AS activated, a.endpoints, a.base_path, a.edge_credentials, a.origins, a.path_policy,
       a.quota_exhausted, w.plan, w.status AS workspace_status, a.strict_seconds
FROM applications a JOIN workspaces w ON w.id = a.workspace_id;
