-- Who says that a host name is theirs. A claim becomes a row of `hosts` once its challenge was found in the DNS, so that a
-- name can be claimed by anybody and blocks nobody until it is proved.
CREATE TABLE host_claims (
    application_id text        NOT NULL REFERENCES applications (id),
    host           text        NOT NULL CHECK (is_host_name(host) AND host LIKE '%.%'),
    challenge      text        NOT NULL CHECK (challenge ~ '^[A-Za-z0-9_-]{20,64}$'),
    created_by     text        REFERENCES users (id),
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (application_id, host)
);

-- The names of an application that is gone for good may be given again.
CREATE OR REPLACE FUNCTION release_hosts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM hosts WHERE application_id = NEW.id;
    DELETE FROM host_claims WHERE application_id = NEW.id;
    RETURN NULL;
END $$;
