-- Tokens of a workspace, for programs. The token itself is shown once; here is its SHA-256.
CREATE TABLE service_tokens (
    id           text        PRIMARY KEY CHECK (is_typeid('tok', id)),
    workspace_id text        NOT NULL REFERENCES workspaces (id),
    name         text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    digest       bytea       NOT NULL UNIQUE CHECK (length(digest) = 32),
    masked       text        NOT NULL,
    -- Names of the table in control/src/identity/permission.rs.
    scopes       text[]      NOT NULL CHECK (cardinality(scopes) BETWEEN 1 AND 32),
    -- Whoever made it; what the token does is recorded as the token's.
    created_by   text        NOT NULL REFERENCES users (id),
    -- To the minute.
    last_used_at timestamptz,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    created_at   timestamptz NOT NULL
);
CREATE INDEX idx_service_tokens_workspace ON service_tokens (workspace_id, created_at, id);
