-- Rotation: a login role or password that is replaced stays recorded, and opens nothing any more.
ALTER TABLE application_credentials
    -- The generation of the intent that made the password; 0 is the first of all.
    ADD COLUMN generation bigint NOT NULL DEFAULT 0 CHECK (generation >= 0),
    ADD COLUMN open boolean NOT NULL DEFAULT true,
    ADD CHECK (open OR NOT active);

ALTER TABLE provisioning_steps DROP CONSTRAINT provisioning_steps_step_check;
ALTER TABLE provisioning_steps ADD CONSTRAINT provisioning_steps_step_check CHECK (step IN ('preflight', 'namespace',
    'renew', 'database', 'redis', 'secrets', 'instance', 'rollout', 'migrate', 'bootstrap', 'monitoring', 'activate', 'retire'));
