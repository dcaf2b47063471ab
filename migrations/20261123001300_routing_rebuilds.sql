-- Operators' requests to write the routing table anew, one row a target; the relay's leader fulfils them and says how far
-- it is.
CREATE TABLE relay_rebuilds (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target       text        NOT NULL CHECK (target IN ('redis', 'stream')),
    requested_at timestamptz NOT NULL DEFAULT now(),
    -- Records that the attempt under way has written.
    records      bigint      NOT NULL DEFAULT 0 CHECK (records >= 0),
    -- Why the last attempt failed; it is tried again.
    failure      text,
    finished_at  timestamptz
);
CREATE INDEX idx_relay_rebuilds_open ON relay_rebuilds (target, id) WHERE finished_at IS NULL;
-- On the channel of the outbox: the same process listens for both.
CREATE TRIGGER relay_rebuilds_notify AFTER INSERT ON relay_rebuilds FOR EACH STATEMENT EXECUTE FUNCTION notify_outbox();

-- Rows that are gone, for as long as a copy of them may be somewhere: a rewrite of the routing table carries them, so that
-- nothing older comes back by a writer that was paused.
CREATE TABLE edge_tombstones (
    topic     text        NOT NULL CHECK (topic IN ('app', 'key')),
    ref       text        NOT NULL,
    epoch     bigint      NOT NULL,
    version   bigint      NOT NULL,
    buried_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, ref)
);
CREATE INDEX idx_edge_tombstones_buried_at ON edge_tombstones (buried_at);

CREATE FUNCTION bury(gone_topic text, gone_ref text, gone_version bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO edge_tombstones (topic, ref, epoch, version)
    SELECT gone_topic, gone_ref, platform.epoch, gone_version + 1 FROM platform
    ON CONFLICT (topic, ref) DO UPDATE
        SET epoch = excluded.epoch, version = excluded.version, buried_at = excluded.buried_at;
$$;
CREATE FUNCTION bury_application() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM bury('app', OLD.id, OLD.version);
    RETURN NULL;
END $$;
CREATE FUNCTION bury_api_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM bury('key', encode(OLD.digest, 'hex'), OLD.version);
    RETURN NULL;
END $$;
CREATE TRIGGER applications_bury AFTER DELETE ON applications FOR EACH ROW EXECUTE FUNCTION bury_application();
CREATE TRIGGER api_keys_bury AFTER DELETE ON api_keys FOR EACH ROW EXECUTE FUNCTION bury_api_key();
