-- The image that an application is pinned to; NULL is the installation's own.
ALTER TABLE applications ADD COLUMN image text CHECK (length(image) BETWEEN 1 AND 255);
