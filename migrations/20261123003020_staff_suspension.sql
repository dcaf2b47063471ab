-- Why the platform's staff stopped an application; its team reads it and cannot start the application again.
ALTER TABLE applications ADD COLUMN staff_suspension text CHECK (length(staff_suspension) BETWEEN 1 AND 500);
-- The end of the grace periods.
CREATE INDEX idx_applications_purge_after ON applications (purge_after) WHERE purge_after IS NOT NULL AND status = 'deleting';
