-- What every other migration stands on: the check for identifiers, the restore epoch, and row versions.

-- TypeID: prefix, underscore, 26 characters of Crockford base32 (a UUIDv7; the first character holds two bits less).
CREATE FUNCTION is_typeid(prefix text, value text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN value ~ ('^' || prefix || '_[0-7][0-9a-hjkmnp-tv-z]{25}$');

-- Slugs appear in URLs and in names people type: a DNS label.
CREATE FUNCTION is_slug(value text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN value ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$';

-- A point-in-time restore lowers row versions. `authsome-control admin restored` raises the epoch, and (epoch, version)
-- still only grows, so no cache keeps a record that the restored database does not have.
CREATE TABLE platform (
    singleton   boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch       bigint      NOT NULL DEFAULT 1 CHECK (epoch > 0),
    restored_at timestamptz
);
INSERT INTO platform DEFAULT VALUES;

-- BEFORE trigger of every table whose rows are copied to the edges. The row lock orders the versions of one row; they are
-- never read as a global sequence.
CREATE FUNCTION bump_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.epoch := (SELECT epoch FROM platform);
    NEW.version := CASE WHEN TG_OP = 'INSERT' THEN 1 ELSE OLD.version + 1 END;
    RETURN NEW;
END $$;

CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;
