-- Proofs of host names are looked at again, since domains change hands: when next, and since when the record is missing.
ALTER TABLE hosts
    ADD COLUMN next_check_at timestamptz NOT NULL DEFAULT now() + interval '1 day',
    ADD COLUMN missing_since timestamptz;
CREATE INDEX idx_hosts_next_check_at ON hosts (next_check_at) WHERE verified_at IS NOT NULL;
