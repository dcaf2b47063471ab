-- What lists, searches and the audit trail are read by at a million applications and ten million events.

-- A workspace's applications by age; status and environment so that counting them reads the index only.
CREATE INDEX idx_applications_workspace_created ON applications (workspace_id, created_at, id) INCLUDE (status, environment);
DROP INDEX idx_applications_workspace_id;
-- Searches by the beginning of a name or slug, which only an order by bytes can be asked for.
CREATE INDEX idx_applications_workspace_name ON applications (workspace_id, (lower(name)) COLLATE "C");
CREATE INDEX idx_applications_workspace_slug_bytes ON applications (workspace_id, slug COLLATE "C");

-- The trail is read by its chains since events are numbered in them.
CREATE INDEX idx_audit_events_chain_action ON audit_events (chain, action, seq);
CREATE INDEX idx_audit_events_chain_actor ON audit_events (chain, actor_id, seq) WHERE actor_id IS NOT NULL;
CREATE INDEX idx_audit_events_chain_application ON audit_events (chain, application_id, seq) WHERE application_id IS NOT NULL;
CREATE INDEX idx_audit_events_chain_resource ON audit_events (chain, resource_id, seq) WHERE resource_id IS NOT NULL;
CREATE INDEX idx_audit_events_chain_time ON audit_events (chain, created_at, seq);
DROP INDEX idx_audit_events_workspace;
DROP INDEX idx_audit_events_application;
