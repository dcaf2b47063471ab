-- Who a person is to an identity provider: the pair of issuer and subject never changes hands, an e-mail address may.
CREATE TABLE identities (
    id           text        PRIMARY KEY CHECK (is_typeid('idn', id)),
    issuer       text        NOT NULL CHECK (length(issuer) <= 2048),
    subject      text        NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
    user_id      text        NOT NULL REFERENCES users (id),
    -- As the issuer had it when the identity was linked.
    email        text,
    linked_at    timestamptz NOT NULL,
    UNIQUE (issuer, subject)
);
CREATE INDEX idx_identities_user_id ON identities (user_id, linked_at, id);
