-- Refresh tokens of one session share a secret, their family's: a token of it that is neither the present one nor was used a
-- moment ago was used before, however long ago, and ends the session. NULL for sessions that were last refreshed before this.
ALTER TABLE sessions ADD COLUMN family_digest bytea CHECK (length(family_digest) = 32);

-- The tokens of a session that were used in the last seconds, each with the salt by which the next one was made of it: a client
-- that asks again gets the token that is good now. Of no use without the token itself. The next refresh drops what is older.
CREATE TABLE refresh_uses (
    session_id text        NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    turn       bigint      GENERATED ALWAYS AS IDENTITY,
    digest     bytea       NOT NULL CHECK (length(digest) = 32),
    salt       bytea       NOT NULL CHECK (length(salt) = 32),
    used_at    timestamptz NOT NULL,
    PRIMARY KEY (session_id, turn)
);
