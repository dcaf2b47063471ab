-- The transactional outbox: every change that another system must learn of is a row written in the transaction that made
-- the change. The relay gives committed rows dense positions and delivers them to each target on its own cursor.
CREATE TABLE outbox (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic      text        NOT NULL CHECK (topic IN ('app', 'key', 'host', 'job')),
    -- app: application id; key: digest in hex; host: host name; job: operation id.
    ref        text        NOT NULL,
    -- The row version that this entry announces. The relay sends the row as it then is, so a later version may travel
    -- with an earlier entry; receivers keep the newest.
    epoch      bigint      NOT NULL,
    version    bigint      NOT NULL,
    -- Jobs only (ids and a generation). Route records are read when they are delivered, never stored here.
    payload    jsonb       CHECK ((topic = 'job') = (payload IS NOT NULL)),
    -- Rows become visible in commit order only below the snapshot's xmin; ids alone can commit out of order.
    xid        xid8        NOT NULL DEFAULT pg_current_xact_id(),
    position   bigint      UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_outbox_unpositioned ON outbox (id) WHERE position IS NULL;

-- The last position given out. Only the relay's leader writes it.
CREATE TABLE outbox_position (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    last      bigint  NOT NULL DEFAULT 0 CHECK (last >= 0)
);
INSERT INTO outbox_position DEFAULT VALUES;

-- How far each target has received the outbox. Independent, so that a dead Redis never delays JetStream.
CREATE TABLE relay_cursors (
    target     text        PRIMARY KEY CHECK (target IN ('redis', 'stream', 'jobs')),
    position   bigint      NOT NULL DEFAULT 0 CHECK (position >= 0),
    updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO relay_cursors (target) VALUES ('redis'), ('stream'), ('jobs');

-- Wakes the relay; one notification a transaction, since Postgres folds equal ones.
CREATE FUNCTION notify_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('outbox', '');
    RETURN NULL;
END $$;
CREATE TRIGGER outbox_notify AFTER INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION notify_outbox();
