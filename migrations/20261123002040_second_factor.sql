-- A second factor: time-based codes (RFC 6238) and codes for when the device is gone.
CREATE TABLE second_factors (
    user_id      text        PRIMARY KEY REFERENCES users (id),
    -- Sealed (AES-256-GCM), since it must be known to check a code.
    secret       bytea       NOT NULL,
    -- When a first code was given. NULL: begun, and asked of nobody.
    confirmed_at timestamptz,
    -- The time step of the last code that was taken: none is taken twice.
    last_step    bigint      NOT NULL DEFAULT 0,
    -- Wrong codes in a row, and until when none is looked at.
    failures     integer     NOT NULL DEFAULT 0,
    locked_until timestamptz,
    created_at   timestamptz NOT NULL
);
CREATE TABLE recovery_codes (
    user_id text  NOT NULL REFERENCES second_factors (user_id) ON DELETE CASCADE,
    digest  bytea NOT NULL CHECK (length(digest) = 32),
    used_at timestamptz,
    PRIMARY KEY (user_id, digest)
);
