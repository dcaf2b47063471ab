-- Sign-ins that were tried with a password, counted by address of the account and by where they come from, so that guessing is slow
-- and its victim is not locked out. A row is there for addresses without an account as well.
CREATE TABLE sign_in_attempts (
    -- SHA-256 of what is counted together.
    subject  bytea       PRIMARY KEY CHECK (length(subject) = 32),
    -- Attempts since the last right password.
    attempts integer     NOT NULL CHECK (attempts >= 0),
    last_at  timestamptz NOT NULL,
    -- None is looked at before.
    next_at  timestamptz NOT NULL
);
CREATE INDEX idx_sign_in_attempts_last_at ON sign_in_attempts (last_at);

-- Networks that a person has signed in from, or proved to read their mail from: what is tried from elsewhere does not slow them.
CREATE TABLE sign_in_places (
    user_id text        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- An IPv4 address, or the /64 of an IPv6 address.
    network cidr        NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, network)
);
CREATE INDEX idx_sign_in_places_seen_at ON sign_in_places (seen_at);
