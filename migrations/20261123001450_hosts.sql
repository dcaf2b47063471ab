-- Host names of applications. A name leads to its application only once its owner was seen to control it.

-- Versions of one name must grow past a deletion, since a name can be given again: they are drawn here, not counted by row.
-- Still compared for one name only, never read as a global order.
CREATE SEQUENCE host_versions;

CREATE TABLE hosts (
    host           text        PRIMARY KEY CHECK (is_host_name(host) AND host LIKE '%.%'),
    application_id text        NOT NULL REFERENCES applications (id),
    -- What the owner publishes below the name; not a secret.
    challenge      text        NOT NULL CHECK (challenge ~ '^[A-Za-z0-9_-]{20,64}$'),
    -- When it was found there. NULL: the name leads nowhere.
    verified_at    timestamptz,
    created_by     text        REFERENCES users (id),
    epoch          bigint      NOT NULL DEFAULT 1,
    version        bigint      NOT NULL DEFAULT 1,
    created_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_hosts_application_id ON hosts (application_id);

-- A name that is given again waits for the transaction that takes it away: its version is drawn after that of the tombstone.
CREATE FUNCTION lock_host() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('host:' || CASE WHEN TG_OP = 'DELETE' THEN OLD.host ELSE NEW.host END, 0));
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE FUNCTION draw_host_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.epoch := (SELECT epoch FROM platform);
    -- A restored sequence may be behind a row; the row never goes back.
    NEW.version := greatest(nextval('host_versions'), CASE WHEN TG_OP = 'INSERT' THEN 1 ELSE OLD.version + 1 END);
    RETURN NEW;
END $$;
-- Triggers of one kind run by name: the lock comes first.
CREATE TRIGGER hosts_a_lock BEFORE INSERT OR DELETE ON hosts FOR EACH ROW EXECUTE FUNCTION lock_host();
CREATE TRIGGER hosts_version_insert BEFORE INSERT ON hosts FOR EACH ROW EXECUTE FUNCTION draw_host_version();
CREATE TRIGGER hosts_version_update BEFORE UPDATE ON hosts FOR EACH ROW
    WHEN ((OLD.application_id, OLD.verified_at IS NULL, OLD.version)
          IS DISTINCT FROM (NEW.application_id, NEW.verified_at IS NULL, NEW.version))
    EXECUTE FUNCTION draw_host_version();
-- The name is the row's name everywhere; a changed one would leave the old record alive at the edges.
CREATE FUNCTION hosts_name_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a host name never changes' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER hosts_final BEFORE UPDATE ON hosts FOR EACH ROW
    WHEN (OLD.host <> NEW.host) EXECUTE FUNCTION hosts_name_is_final();

ALTER TABLE edge_tombstones DROP CONSTRAINT edge_tombstones_topic_check;
ALTER TABLE edge_tombstones ADD CONSTRAINT edge_tombstones_topic_check CHECK (topic IN ('app', 'key', 'host'));

CREATE FUNCTION publish_host() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    gone bigint;
BEGIN
    IF TG_OP = 'DELETE' THEN
        gone := greatest(nextval('host_versions'), OLD.version + 1);
        INSERT INTO outbox (topic, ref, epoch, version)
        SELECT 'host', OLD.host, platform.epoch, gone FROM platform;
        -- It stands for the version that `bury` is one above of.
        PERFORM bury('host', OLD.host, gone - 1);
    ELSE
        INSERT INTO outbox (topic, ref, epoch, version) VALUES ('host', NEW.host, NEW.epoch, NEW.version);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER hosts_publish_new AFTER INSERT OR DELETE ON hosts FOR EACH ROW EXECUTE FUNCTION publish_host();
CREATE TRIGGER hosts_publish_change AFTER UPDATE ON hosts FOR EACH ROW
    WHEN (OLD.version <> NEW.version OR OLD.epoch <> NEW.epoch) EXECUTE FUNCTION publish_host();

-- The names of an application that is gone for good may be given again.
CREATE FUNCTION release_hosts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM hosts WHERE application_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER applications_release_hosts AFTER UPDATE ON applications FOR EACH ROW
    WHEN (OLD.status <> NEW.status AND NEW.status = 'deleted') EXECUTE FUNCTION release_hosts();

-- What the edge is told: a name that is not proved is one that is not there.
CREATE VIEW edge_hosts AS
SELECT h.host, h.application_id, h.epoch, h.version FROM hosts h WHERE h.verified_at IS NOT NULL;
