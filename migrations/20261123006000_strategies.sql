-- How an application's database and Redis are kept apart from others'. Recorded before anything is made, and kept: another
-- choice of the installation, or another plan, moves no data.
ALTER TABLE applications
    ADD COLUMN database_strategy text CHECK (database_strategy IN ('database', 'schema', 'dedicated')),
    ADD COLUMN redis_strategy text CHECK (redis_strategy IN ('acl', 'dedicated'));
UPDATE applications a SET database_strategy = 'database', redis_strategy = 'acl'
WHERE EXISTS (SELECT FROM application_credentials c WHERE c.application_id = a.id);
