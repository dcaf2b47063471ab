-- The end of applications and workspaces: what was stopped because its workspace was deleted, and what is gone for good.
ALTER TABLE applications ADD COLUMN stopped_with_workspace boolean NOT NULL DEFAULT false;
CREATE INDEX idx_applications_stopped_with_workspace ON applications (workspace_id) WHERE stopped_with_workspace;

ALTER TABLE workspaces ADD COLUMN purged_at timestamptz;
CREATE INDEX idx_workspaces_deleted ON workspaces (purge_after) WHERE status = 'deleted' AND purged_at IS NULL;
