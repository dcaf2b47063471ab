-- What was answered to a POST with an Idempotency-Key, so that the same request sent again does nothing again. The key itself
-- is not kept: its digest finds the row, and the reply is sealed under a key that is derived from it.
CREATE TABLE idempotency_keys (
    -- Whose keys: one caller never meets another's.
    caller       text        NOT NULL,
    digest       bytea       NOT NULL CHECK (length(digest) = 32),
    -- Of method, path and body.
    fingerprint  bytea       NOT NULL CHECK (length(fingerprint) = 32),
    -- The id of what the request creates: should the process die between doing and recording, doing again is a conflict.
    first_id     uuid        NOT NULL,
    -- While nothing is recorded: until when the request counts as under way.
    locked_until timestamptz NOT NULL,
    sealed       bytea,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (caller, digest)
);
CREATE INDEX idx_idempotency_keys_expires_at ON idempotency_keys (expires_at);
