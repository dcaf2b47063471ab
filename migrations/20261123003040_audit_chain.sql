-- The audit trail is a chain for each workspace (and one for what belongs to none): every event holds the hash of itself and
-- of the one before, so that an event that is altered, taken away or put in shows.
CREATE TABLE audit_chains (
    -- Workspace id, or 'platform'.
    chain        text   PRIMARY KEY,
    seq          bigint NOT NULL DEFAULT 0 CHECK (seq >= 0),
    hash         bytea  NOT NULL DEFAULT sha256('authsome.audit.v1'::bytea) CHECK (length(hash) = 32),
    -- Events up to this one were dropped by retention; its hash is where the chain now begins.
    dropped_seq  bigint NOT NULL DEFAULT 0 CHECK (dropped_seq >= 0),
    dropped_hash bytea  NOT NULL DEFAULT sha256('authsome.audit.v1'::bytea) CHECK (length(dropped_hash) = 32)
);

-- The head of a chain at a moment, signed (Ed25519) by the platform's audit key.
CREATE TABLE audit_checkpoints (
    chain      text        NOT NULL REFERENCES audit_chains (chain),
    seq        bigint      NOT NULL,
    hash       bytea       NOT NULL CHECK (length(hash) = 32),
    signed_at  timestamptz NOT NULL,
    public_key bytea       NOT NULL CHECK (length(public_key) = 32),
    signature  bytea       NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (chain, seq)
);

ALTER TABLE audit_events ADD COLUMN chain text, ADD COLUMN seq bigint, ADD COLUMN hash bytea;

-- What is hashed of a field: its length in bytes and its text, so that no two rows give the same bytes; `~` for none.
CREATE FUNCTION audit_field(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(octet_length(value) || ':' || value, '~') || ',';

CREATE FUNCTION audit_hash(before bytea, e audit_events) RETURNS bytea
    LANGUAGE sql IMMUTABLE
    RETURN sha256(before || convert_to(
        audit_field(e.chain) || audit_field(e.seq::text) || audit_field(e.id) || audit_field(e.workspace_id)
        || audit_field(e.application_id) || audit_field(e.actor_id) || audit_field(e.actor_type) || audit_field(e.action)
        || audit_field(e.resource) || audit_field(e.resource_id) || audit_field(e.changes::text)
        || audit_field(host(e.ip_address)) || audit_field(e.user_agent) || audit_field(e.status)
        || audit_field(e.request_id) || audit_field(e.metadata::text)
        || audit_field(((extract(epoch FROM e.created_at) * 1000000)::bigint)::text), 'UTF8'));

-- The row of the chain is locked until the transaction ends, so events of a workspace are numbered as they are committed.
CREATE FUNCTION chain_audit_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    head audit_chains;
BEGIN
    NEW.chain := coalesce(NEW.workspace_id, 'platform');
    INSERT INTO audit_chains (chain) VALUES (NEW.chain) ON CONFLICT (chain) DO NOTHING;
    SELECT * INTO head FROM audit_chains WHERE chain = NEW.chain FOR UPDATE;
    NEW.seq := head.seq + 1;
    NEW.hash := audit_hash(head.hash, NEW);
    UPDATE audit_chains SET seq = NEW.seq, hash = NEW.hash WHERE chain = NEW.chain;
    RETURN NEW;
END $$;

-- What was there before begins the chains.
ALTER TABLE audit_events DISABLE TRIGGER audit_events_no_update;
DO $$
DECLARE
    event audit_events;
    head audit_chains;
BEGIN
    FOR event IN SELECT * FROM audit_events ORDER BY created_at, id LOOP
        event.chain := coalesce(event.workspace_id, 'platform');
        INSERT INTO audit_chains (chain) VALUES (event.chain) ON CONFLICT (chain) DO NOTHING;
        SELECT * INTO head FROM audit_chains WHERE chain = event.chain;
        event.seq := head.seq + 1;
        event.hash := audit_hash(head.hash, event);
        UPDATE audit_chains SET seq = event.seq, hash = event.hash WHERE chain = event.chain;
        UPDATE audit_events SET chain = event.chain, seq = event.seq, hash = event.hash WHERE id = event.id;
    END LOOP;
END $$;
ALTER TABLE audit_events ENABLE TRIGGER audit_events_no_update;
ALTER TABLE audit_events ALTER COLUMN chain SET NOT NULL, ALTER COLUMN seq SET NOT NULL, ALTER COLUMN hash SET NOT NULL;
CREATE UNIQUE INDEX idx_audit_events_chain ON audit_events (chain, seq);
CREATE TRIGGER audit_events_chain BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION chain_audit_event();
