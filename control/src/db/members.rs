//! The members of a workspace, invited ones included. What a person may do is in [`super::memberships`].

use authsome_core::id::{InvitationId, MemberId, UserId, WorkspaceId};
use authsome_db::DbError;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::identity::Role;

/// Whether a member takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the column")]
pub enum MemberStatus {
    Active,
    Invited,
    Suspended,
}

impl MemberStatus {
    /// The name in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Invited => "invited",
            Self::Suspended => "suspended",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Active, Self::Invited, Self::Suspended]
            .into_iter()
            .find(|status| status.as_str() == name)
    }
}

/// A member.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Member {
    pub id: MemberId,
    pub workspace_id: WorkspaceId,
    pub user_id: Option<UserId>,
    /// That of the account; before there is one, where the invitation went.
    pub email: String,
    pub name: Option<String>,
    pub role: Role,
    pub status: MemberStatus,
    pub invitation: Option<InvitationId>,
    pub invited_by: Option<UserId>,
    pub invited_at: Option<OffsetDateTime>,
    pub joined_at: Option<OffsetDateTime>,
    pub created_at: OffsetDateTime,
    pub revision: i64,
}

struct Row {
    id: MemberId,
    workspace_id: WorkspaceId,
    user_id: Option<UserId>,
    email: String,
    name: Option<String>,
    role: String,
    status: String,
    invitation: Option<InvitationId>,
    invited_by: Option<UserId>,
    invited_at: Option<OffsetDateTime>,
    joined_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
    revision: i64,
}

impl Row {
    fn into_member(self) -> Result<Member, DbError> {
        let unknown = |column: &'static str, value: &str| DbError::Inconsistent {
            table: "team_members",
            column,
            row: self.id.to_string(),
            detail: format!("unknown name {value:?}"),
        };
        Ok(Member {
            role: Role::named(&self.role).ok_or_else(|| unknown("role", &self.role))?,
            status: MemberStatus::named(&self.status).ok_or_else(|| unknown("status", &self.status))?,
            id: self.id,
            workspace_id: self.workspace_id,
            user_id: self.user_id,
            email: self.email,
            name: self.name,
            invitation: self.invitation,
            invited_by: self.invited_by,
            invited_at: self.invited_at,
            joined_at: self.joined_at,
            created_at: self.created_at,
            revision: self.revision,
        })
    }
}

/// A new member who has yet to accept.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Invited<'a> {
    pub id: MemberId,
    pub workspace: WorkspaceId,
    pub email: &'a str,
    pub role: Role,
    pub by: UserId,
    pub invitation: InvitationId,
    pub at: OffsetDateTime,
}

/// Writes an invited member. An address that is in the workspace is [`DbError::Duplicate`].
pub async fn invite(connection: &mut PgConnection, new: &Invited<'_>) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO team_members (id, workspace_id, email, role, status, invited_by, invitation_id, invited_at)
         VALUES ($1, $2, $3, $4, 'invited', $5, $6, $7)",
        new.id as MemberId,
        new.workspace as WorkspaceId,
        new.email,
        new.role.as_str(),
        new.by as UserId,
        new.invitation as InvitationId,
        new.at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Voids the links that were sent so far.
pub async fn invite_again(
    connection: &mut PgConnection,
    id: MemberId,
    invitation: InvitationId,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE team_members SET invitation_id = $2, invited_at = $3 WHERE id = $1 AND status = 'invited'",
        id as MemberId,
        invitation as InvitationId,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes an invited member an active one.
pub async fn accept(
    connection: &mut PgConnection,
    id: MemberId,
    user: UserId,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE team_members SET user_id = $2, status = 'active', joined_at = $3, invitation_id = NULL WHERE id = $1",
        id as MemberId,
        user as UserId,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Changes role and status.
pub async fn update(
    connection: &mut PgConnection,
    id: MemberId,
    role: Role,
    status: MemberStatus,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE team_members SET role = $2, status = $3 WHERE id = $1",
        id as MemberId,
        role.as_str(),
        status.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a member out.
pub async fn remove(connection: &mut PgConnection, id: MemberId) -> Result<(), DbError> {
    sqlx::query!("DELETE FROM team_members WHERE id = $1", id as MemberId)
        .execute(connection)
        .await?;
    Ok(())
}

/// A member, of whatever workspace.
pub async fn find(connection: &mut PgConnection, id: MemberId) -> Result<Option<Member>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT m.id AS "id: MemberId", m.workspace_id AS "workspace_id: WorkspaceId", m.user_id AS "user_id: UserId",
                  coalesce(u.email, m.email) AS "email!", u.name AS "name?", m.role, m.status,
                  m.invitation_id AS "invitation: InvitationId", m.invited_by AS "invited_by: UserId", m.invited_at,
                  m.joined_at, m.created_at, m.revision
           FROM team_members m LEFT JOIN users u ON u.id = m.user_id WHERE m.id = $1"#,
        id as MemberId,
    )
    .fetch_optional(connection)
    .await?;
    row.map(Row::into_member).transpose()
}

/// A person's membership in a workspace.
pub async fn of_user(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    user: UserId,
) -> Result<Option<MemberId>, DbError> {
    let id = sqlx::query_scalar!(
        r#"SELECT id AS "id: MemberId" FROM team_members WHERE workspace_id = $1 AND user_id = $2"#,
        workspace as WorkspaceId,
        user as UserId,
    )
    .fetch_optional(connection)
    .await?;
    Ok(id)
}

/// The members of a workspace, in the order in which they came, and how many there are.
pub async fn of_workspace(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Member>, i64), DbError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT m.id AS "id: MemberId", m.workspace_id AS "workspace_id: WorkspaceId", m.user_id AS "user_id: UserId",
                  coalesce(u.email, m.email) AS "email!", u.name AS "name?", m.role, m.status,
                  m.invitation_id AS "invitation: InvitationId", m.invited_by AS "invited_by: UserId", m.invited_at,
                  m.joined_at, m.created_at, m.revision
           FROM team_members m LEFT JOIN users u ON u.id = m.user_id
           WHERE m.workspace_id = $1 ORDER BY m.created_at, m.id LIMIT $2 OFFSET $3"#,
        workspace as WorkspaceId,
        limit,
        offset,
    )
    .fetch_all(&mut *connection)
    .await?;
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM team_members WHERE workspace_id = $1"#,
        workspace as WorkspaceId,
    )
    .fetch_one(connection)
    .await?;
    Ok((rows.into_iter().map(Row::into_member).collect::<Result<_, _>>()?, total))
}

/// The active owners of a workspace who may use the platform, whoever has been one longest first.
pub async fn owners(connection: &mut PgConnection, workspace: WorkspaceId) -> Result<Vec<(MemberId, UserId)>, DbError> {
    let rows = sqlx::query!(
        r#"SELECT m.id AS "id: MemberId", u.id AS "user: UserId" FROM team_members m JOIN users u ON u.id = m.user_id
           WHERE m.workspace_id = $1 AND m.role = 'owner' AND m.status = 'active' AND u.status = 'active'
           ORDER BY m.created_at, m.id"#,
        workspace as WorkspaceId,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.user)).collect())
}

/// Which members a letter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Owners and admins.
    Security,
    /// Whoever has to do with money, too.
    Billing,
}

/// The addresses of active members with a say in this, as far as they were seen to read them.
pub async fn told(connection: &mut PgConnection, workspace: WorkspaceId, what: Told) -> Result<Vec<String>, DbError> {
    let roles: &[&str] = match what {
        Told::Security => &["owner", "admin"],
        Told::Billing => &["owner", "admin", "billing"],
    };
    let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    let addresses = sqlx::query_scalar!(
        "SELECT u.email FROM team_members m JOIN users u ON u.id = m.user_id
         WHERE m.workspace_id = $1 AND m.role = ANY ($2) AND m.status = 'active' AND u.status = 'active'
           AND u.email_verified_at IS NOT NULL
         ORDER BY m.created_at, m.id",
        workspace as WorkspaceId,
        &roles,
    )
    .fetch_all(connection)
    .await?;
    Ok(addresses)
}
