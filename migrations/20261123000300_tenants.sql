-- People, workspaces and who may do what in them.
CREATE TABLE users (
    id                text        PRIMARY KEY CHECK (is_typeid('usr', id)),
    email             text        NOT NULL CHECK (email LIKE '%_@_%' AND length(email) <= 254),
    name              text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- PHC string (argon2id). NULL for a person who signs in through an identity provider only.
    password_hash     text,
    status            text        NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deleted')),
    email_verified_at timestamptz,
    last_login_at     timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX idx_users_email ON users (lower(email));
CREATE TRIGGER users_updated_at BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

CREATE TABLE workspaces (
    id          text        PRIMARY KEY CHECK (is_typeid('ws', id)),
    name        text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- Reserved until purge, deleted workspaces included.
    slug        text        NOT NULL UNIQUE CHECK (is_slug(slug)),
    owner_id    text        NOT NULL REFERENCES users (id),
    plan        text        NOT NULL DEFAULT 'free' CHECK (plan IN ('free', 'pro', 'enterprise')),
    status      text        NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deleted')),
    metadata    jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz,
    purge_after timestamptz,
    CHECK ((deleted_at IS NULL) = (status <> 'deleted')),
    CHECK (purge_after IS NULL OR deleted_at IS NOT NULL)
);
CREATE INDEX idx_workspaces_owner_id ON workspaces (owner_id);
CREATE TRIGGER workspaces_updated_at BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

CREATE TABLE team_members (
    id           text        PRIMARY KEY CHECK (is_typeid('mem', id)),
    workspace_id text        NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    -- NULL until an invited person accepts.
    user_id      text        REFERENCES users (id),
    email        text        NOT NULL CHECK (length(email) <= 254),
    role         text        NOT NULL CHECK (role IN ('owner', 'admin', 'developer', 'billing', 'viewer')),
    status       text        NOT NULL CHECK (status IN ('active', 'invited', 'suspended')),
    invited_by   text        REFERENCES users (id),
    invited_at   timestamptz,
    joined_at    timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CHECK (status = 'invited' OR user_id IS NOT NULL)
);
CREATE UNIQUE INDEX idx_team_members_workspace_email ON team_members (workspace_id, lower(email));
CREATE UNIQUE INDEX idx_team_members_workspace_user ON team_members (workspace_id, user_id) WHERE user_id IS NOT NULL;
CREATE INDEX idx_team_members_user_id ON team_members (user_id);
CREATE TRIGGER team_members_updated_at BEFORE UPDATE ON team_members FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
