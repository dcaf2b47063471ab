-- Sign-ins. An access token (JWT) names its session and is refused once the session is revoked; a refresh token is used once.
CREATE TABLE sessions (
    id              text        PRIMARY KEY CHECK (is_typeid('ses', id)),
    user_id         text        NOT NULL REFERENCES users (id),
    -- SHA-256 of the refresh token that is good now, and of the one before it: that one coming back means that two parties
    -- hold the session, so it ends.
    refresh_digest  bytea       NOT NULL CHECK (length(refresh_digest) = 32),
    previous_digest bytea       CHECK (length(previous_digest) = 32),
    rotated_at      timestamptz,
    address         inet,
    user_agent      text,
    created_at      timestamptz NOT NULL,
    last_used_at    timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    revoked_at      timestamptz
);
CREATE INDEX idx_sessions_user_id ON sessions (user_id, created_at DESC) WHERE revoked_at IS NULL;
CREATE INDEX idx_sessions_expires_at ON sessions (expires_at);
