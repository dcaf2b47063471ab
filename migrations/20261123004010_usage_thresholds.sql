-- What a team was told of an application's requests in a month: each threshold once.
CREATE TABLE usage_thresholds (
    application_id text        NOT NULL REFERENCES applications (id),
    period         text        NOT NULL CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    -- Of what the plan, or the contract, allows in a month.
    percent        integer     NOT NULL CHECK (percent IN (80, 100)),
    requests       bigint      NOT NULL,
    allowed        bigint      NOT NULL,
    crossed_at     timestamptz NOT NULL,
    PRIMARY KEY (application_id, period, percent)
);
