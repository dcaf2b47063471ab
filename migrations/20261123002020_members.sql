-- Members are invited, change roles and leave; workspaces are deleted with a time to think again.

-- For ETags: counts the changes of a row.
CREATE FUNCTION count_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := OLD.revision + 1;
    RETURN NEW;
END $$;

ALTER TABLE workspaces
    ADD COLUMN revision bigint NOT NULL DEFAULT 1,
    -- What a restored workspace is again.
    ADD COLUMN status_before_deletion text CHECK (status_before_deletion IN ('active', 'suspended')),
    ADD CHECK (status_before_deletion IS NULL OR status = 'deleted');
CREATE TRIGGER workspaces_revision BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION count_revision();

ALTER TABLE team_members
    ADD COLUMN revision      bigint NOT NULL DEFAULT 1,
    -- Drawn anew with every invitation, so that only the newest letter's link is good.
    ADD COLUMN invitation_id text CHECK (is_typeid('inv', invitation_id)),
    ADD CHECK (status <> 'invited' OR invitation_id IS NOT NULL);
CREATE TRIGGER team_members_revision BEFORE UPDATE ON team_members FOR EACH ROW EXECUTE FUNCTION count_revision();
CREATE INDEX idx_team_members_workspace_created ON team_members (workspace_id, created_at, id);
