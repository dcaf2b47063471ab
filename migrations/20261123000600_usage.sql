-- Metering. The edge publishes absolute, monotonic counters; the aggregator keeps the maximum of each and adds the growth to
-- the month's record, so duplicates, reordering and retries change nothing.
CREATE TABLE usage_counters (
    -- Random id of the counter file that the edge writes; a restarted edge has another.
    writer         uuid        NOT NULL,
    application_id text        NOT NULL REFERENCES applications (id),
    hour           timestamptz NOT NULL CHECK (hour = date_trunc('hour', hour, 'UTC')),
    requests       bigint      NOT NULL DEFAULT 0 CHECK (requests >= 0),
    errors         bigint      NOT NULL DEFAULT 0 CHECK (errors >= 0),
    bytes_in       bigint      NOT NULL DEFAULT 0 CHECK (bytes_in >= 0),
    bytes_out      bigint      NOT NULL DEFAULT 0 CHECK (bytes_out >= 0),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (writer, application_id, hour)
);
CREATE INDEX idx_usage_counters_application_hour ON usage_counters (application_id, hour);

CREATE TABLE usage_records (
    id              uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    application_id  text        NOT NULL REFERENCES applications (id),
    workspace_id    text        NOT NULL REFERENCES workspaces (id),
    -- Calendar month in UTC, YYYY-MM.
    period          text        NOT NULL CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    mau             bigint      NOT NULL DEFAULT 0 CHECK (mau >= 0),
    api_requests    bigint      NOT NULL DEFAULT 0 CHECK (api_requests >= 0),
    errors          bigint      NOT NULL DEFAULT 0 CHECK (errors >= 0),
    storage_bytes   bigint      NOT NULL DEFAULT 0 CHECK (storage_bytes >= 0),
    -- Network egress: bytes sent to clients. bytes_in is kept for capacity planning and not billed.
    bandwidth_bytes bigint      NOT NULL DEFAULT 0 CHECK (bandwidth_bytes >= 0),
    bytes_in        bigint      NOT NULL DEFAULT 0 CHECK (bytes_in >= 0),
    -- Micro-dollars, set at the end of the period.
    cost_micros     bigint      CHECK (cost_micros >= 0),
    billable        boolean     NOT NULL DEFAULT true,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX idx_usage_records_application_period ON usage_records (application_id, period);
CREATE INDEX idx_usage_records_workspace_period ON usage_records (workspace_id, period);
CREATE TRIGGER usage_records_updated_at BEFORE UPDATE ON usage_records FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
