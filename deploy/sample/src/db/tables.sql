CREATE TABLE IF NOT EXISTS users (
    id            text PRIMARY KEY,
    -- Lower case: one person, one account.
    email         text NOT NULL UNIQUE,
    name          text NOT NULL DEFAULT '',
    password_hash text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS sessions (
    id                 text PRIMARY KEY,
    user_id            text NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_hash         bytea NOT NULL UNIQUE,
    refresh_hash       bytea NOT NULL UNIQUE,
    expires_at         timestamptz NOT NULL,
    refresh_expires_at timestamptz NOT NULL,
    user_agent         text NOT NULL DEFAULT '',
    ip_address         text NOT NULL DEFAULT '',
    created_at         timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS sessions_of_user ON sessions (user_id, created_at DESC);

CREATE TABLE IF NOT EXISTS signing_keys (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    private    bytea NOT NULL,
    public     jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
