-- Upgrades of the instance image over all applications of a region, wave by wave.

-- The image that the last upgrade gave to the application. Which image it runs: the one it is pinned to (`image`), else this, else
-- the region's (`fleet_images`), else the installation's own from the provisioner's configuration.
ALTER TABLE applications ADD COLUMN fleet_image text CHECK (length(fleet_image) BETWEEN 1 AND 255);

-- The image of a region since its last upgrade that went through: what new applications get.
CREATE TABLE fleet_images (
    region text        PRIMARY KEY CHECK (region ~ '^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$'),
    image  text        NOT NULL CHECK (length(image) BETWEEN 1 AND 255),
    since  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE image_upgrades (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    region          text        NOT NULL CHECK (region ~ '^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$'),
    image           text        NOT NULL CHECK (length(image) BETWEEN 1 AND 255),
    status          text        NOT NULL DEFAULT 'running' CHECK (status IN
        ('running', 'paused', 'halted', 'taking_back', 'succeeded', 'taken_back', 'aborted')),
    -- How many applications are to be upgraded when each wave is over: numbers, or shares of `total` such as 5%. The last is 100%.
    waves           text[]      NOT NULL CHECK (cardinality(waves) BETWEEN 1 AND 20),
    -- The present one, from 0.
    wave            integer     NOT NULL DEFAULT 0 CHECK (wave >= 0),
    -- Since when nothing of the present wave is under way.
    settled_at      timestamptz,
    -- How long a wave that is settled is watched before the next one begins.
    soak_seconds    integer     NOT NULL CHECK (soak_seconds BETWEEN 0 AND 86400),
    -- Applications that are upgraded at a time.
    parallel        integer     NOT NULL CHECK (parallel BETWEEN 1 AND 64),
    -- More failures than these halt the upgrade; those that an operator has accepted by resuming do not count.
    max_failures    integer     NOT NULL CHECK (max_failures >= 0),
    forgiven        integer     NOT NULL DEFAULT 0 CHECK (forgiven >= 0),
    -- Applications that it concerned when it was begun.
    total           integer     NOT NULL CHECK (total >= 0),
    -- Why it halted, for operators.
    reason          text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    CHECK ((finished_at IS NOT NULL) = (status IN ('succeeded', 'taken_back', 'aborted')))
);
-- One at a time in a region.
CREATE UNIQUE INDEX idx_image_upgrades_open ON image_upgrades (region)
    WHERE status IN ('running', 'paused', 'halted', 'taking_back');

CREATE TABLE image_upgrade_members (
    upgrade_id     bigint      NOT NULL REFERENCES image_upgrades (id) ON DELETE CASCADE,
    application_id text        NOT NULL REFERENCES applications (id) ON DELETE CASCADE,
    wave           integer     NOT NULL,
    -- `set`: stopped, and starts with the new image. `left`: not touched; the reason says why. `stuck`: neither image runs.
    state          text        NOT NULL CHECK (state IN
        ('updating', 'updated', 'set', 'left', 'taking_back', 'taken_back', 'stuck')),
    failed         boolean     NOT NULL DEFAULT false,
    -- What it goes back to; NULL is the installation's own.
    previous       text,
    -- Of the operation that was last begun for it.
    generation     bigint,
    operation_id   text        REFERENCES operations (id) ON DELETE SET NULL,
    reason         text,
    changed_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (upgrade_id, application_id)
);
CREATE INDEX idx_image_upgrade_members_state ON image_upgrade_members (upgrade_id, state);
