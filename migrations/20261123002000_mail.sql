-- Mail waiting to be sent. Written in the transaction of what it tells of; sent, and tried again, by a task of control. A row
-- says what the letter is about and never holds a link: links are signed when the letter is sent, so that the queue holds
-- no secret and a letter that waited for its server comes with a link that is still good.
CREATE TABLE mails (
    id              uuid        PRIMARY KEY,
    -- What it is, and whom or what it is about (ids only): see control/src/mail.
    kind            text        NOT NULL CHECK (kind ~ '^[a-z_]{1,40}$'),
    params          jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(params) = 'object'),
    recipient       text        NOT NULL CHECK (length(recipient) BETWEEN 3 AND 254),
    status          text        NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'sent', 'dropped')),
    attempts        integer     NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    -- For operators: what the mail server said last, or why the letter was dropped.
    last_error      text,
    created_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    CHECK ((status = 'queued') = (ended_at IS NULL))
);
CREATE INDEX idx_mails_due ON mails (next_attempt_at) WHERE status = 'queued';
CREATE INDEX idx_mails_recipient ON mails (lower(recipient), kind, created_at);
CREATE INDEX idx_mails_ended_at ON mails (ended_at) WHERE status <> 'queued';
