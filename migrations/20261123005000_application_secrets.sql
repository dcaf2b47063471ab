-- Secrets that a team gives to its application's instance. Sealed by the platform's ring; never shown again.
CREATE TABLE application_secrets (
    application_id text        NOT NULL REFERENCES applications (id) ON DELETE CASCADE,
    -- The environment variable of the instance.
    name           text        NOT NULL CHECK (name ~ '^[A-Z][A-Z0-9_]{0,63}$'),
    sealed         bytea       NOT NULL,
    -- The end of a long API key, by which its team knows it again. NULL for everything shorter.
    last_four      text        CHECK (length(last_four) = 4),
    set_at         timestamptz NOT NULL,
    PRIMARY KEY (application_id, name)
);
