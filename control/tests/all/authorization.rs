//! Who may call what: every operation of the document, for every role, for a stranger and for nobody.

use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::ApplicationId;
use authsome_core::key::{ApiKey, KeyMode, KeyType};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::name_server::NameServer;
use crate::service::{Person, Service};

const EVERYBODY: &[&str] = &["owner", "admin", "developer", "billing", "viewer"];
const ADMINS: &[&str] = &["owner", "admin"];
const BUILDERS: &[&str] = &["owner", "admin", "developer"];

/// Somebody in the workspace who plays no other part.
const MEMBER: &str = "mem_01h455vb4pex5vsknk084sn02q";

/// A service token that nobody uses.
const TOKEN: &str = "tok_01h455vb4pex5vsknk084sn02q";

enum Who {
    /// No token is needed.
    Anybody,
    /// Anybody with a token.
    SignedIn,
    /// Members of the workspace with one of these roles; other members are told 403, strangers 404.
    Members(&'static [&'static str]),
}

/// An operation without a case fails the test below.
fn case(operation: &str) -> Option<(Who, u16, Option<Value>)> {
    let case = match operation {
        "login" => (
            Who::Anybody,
            200,
            Some(json!({ "email": "owner@x.io", "password": crate::service::PASSWORD })),
        ),
        "signUp" => {
            let body = json!({ "email": "new@x.io", "name": "New", "password": crate::service::PASSWORD });
            (Who::Anybody, 202, Some(body))
        }
        "forgotPassword" => (Who::Anybody, 202, Some(json!({ "email": "owner@x.io" }))),
        // What a link or a token holds decides, not who brings it; here it holds nothing.
        "verifyEmail" => (Who::Anybody, 400, Some(json!({ "token": "x" }))),
        "resetPassword" => (
            Who::Anybody,
            400,
            Some(json!({ "token": "x", "password": crate::service::PASSWORD })),
        ),
        "refreshSession" => (Who::Anybody, 401, Some(json!({ "refreshToken": "x" }))),
        "logout" | "endOtherSessions" => (Who::SignedIn, 204, None),
        "endSession" | "unlinkIdentity" => (Who::SignedIn, 404, None),
        "resendVerification" => (Who::SignedIn, 202, None),
        "changePassword" => (
            Who::SignedIn,
            403,
            Some(json!({ "password": "not it", "newPassword": crate::service::PASSWORD })),
        ),
        "me" | "listSessions" | "listIdentities" | "listWorkspaces" | "listEdges" => (Who::SignedIn, 200, None),
        // No issuer is set up.
        "acceptInvitation" | "linkIdentity" => (Who::SignedIn, 400, Some(json!({ "token": "x" }))),
        "updateWorkspace" => (Who::Members(ADMINS), 200, Some(json!({ "name": "New" }))),
        "deleteWorkspace" => (Who::Members(&["owner"]), 204, None),
        // It is not deleted.
        "restoreWorkspace" => (Who::Members(&["owner"]), 409, None),
        "transferWorkspace" => (Who::Members(&["owner"]), 200, Some(json!({ "memberId": MEMBER }))),
        "beginSecondFactor" => (Who::SignedIn, 403, Some(json!({ "password": "not it" }))),
        // It is off for everybody here.
        "confirmSecondFactor" | "removeSecondFactor" | "renewRecoveryCodes" => {
            (Who::SignedIn, 409, Some(json!({ "code": "123456" })))
        }
        "listServiceTokens" | "listAuditEvents" | "exportAuditEvents" | "getAuditHead" => (Who::Members(ADMINS), 200, None),
        "createServiceToken" => (
            Who::Members(ADMINS),
            201,
            Some(json!({ "name": "New", "scopes": ["applications:read"] })),
        ),
        "listMembers" | "getMember" | "watchOperation" | "listHosts" => (Who::Members(EVERYBODY), 200, None),
        "leaveWorkspace" => (Who::Members(EVERYBODY), 204, None),
        "inviteMember" => (
            Who::Members(ADMINS),
            201,
            Some(json!({ "email": "invited@x.io", "role": "viewer" })),
        ),
        "updateMember" => (Who::Members(ADMINS), 200, Some(json!({ "status": "suspended" }))),
        "removeMember" | "revokeServiceToken" => (Who::Members(ADMINS), 204, None),
        // The member has accepted.
        "resendInvitation" => (Who::Members(ADMINS), 409, None),
        "createWorkspace" => (Who::SignedIn, 201, Some(json!({ "name": "New" }))),
        "getWorkspace" | "listApplications" | "getApplication" | "listWebhooks" | "getWebhook" | "listApplicationWebhooks" | "listWebhookDeliveries" | "getApplicationMetrics" | "getOperation" | "listOperations" | "listWorkspaceOperations" => {
            (Who::Members(EVERYBODY), 200, None)
        }
        "createApplication" => (
            Who::Members(BUILDERS),
            202,
            Some(json!({ "name": "New", "environment": "staging" })),
        ),
        "updateApplication" => (
            Who::Members(BUILDERS),
            200,
            Some(json!({ "edge": { "strictSeconds": 30 } })),
        ),
        "listApplicationSecrets" => (Who::Members(BUILDERS), 200, None),
        "setApplicationSecret" => (Who::Members(BUILDERS), 200, Some(json!({ "value": "x" }))),
        // Nobody answers for the instances here.
        "getApplicationLogs" => (Who::Members(BUILDERS), 503, None),
        "purgeApplicationCache" => (Who::Members(BUILDERS), 202, Some(json!({ "tags": ["catalogue"] }))),
        "listPlans" | "listRegions" => (Who::Anybody, 200, None),
        // Asked of an application that is being destroyed, and of its operation, which has ended.
        "restartApplication" | "rotateApplicationCredentials" | "suspendApplication" | "resumeApplication" | "retryApplication" | "deleteApplication"
        | "undeleteApplication" | "cancelOperation"
        // The record is not published.
        | "verifyHost" => (Who::Members(BUILDERS), 409, None),
        "createWebhook" | "createApplicationWebhook" => (Who::Members(BUILDERS), 201, Some(json!({ "url": "https://hooks.example/x" }))),
        "updateWebhook" => (Who::Members(BUILDERS), 200, Some(json!({ "enabled": true }))),
        "rotateWebhookSecret" => (Who::Members(BUILDERS), 200, Some(json!({}))),
        // One that is not there; other members are refused before it is looked for.
        "removeApplicationSecret" | "removeWebhook" | "replayWebhookDelivery" => (Who::Members(BUILDERS), 404, None),
        "addHost" => (
            Who::Members(BUILDERS),
            200,
            Some(json!({ "host": "login.shop.example" })),
        ),
        "reportLeakedKey" => (Who::Anybody, 200, Some(json!({ "key": leaked_key() }))),
        "updateKey" => (Who::Members(BUILDERS), 200, Some(json!({ "name": "New" }))),
        "rollKey" => (Who::Members(BUILDERS), 201, Some(json!({ "overlapSeconds": 3600 }))),
        "getKey" | "listKeys" => (Who::Members(&["owner", "admin", "developer", "viewer"]), 200, None),
        "createKey" => (
            Who::Members(BUILDERS),
            201,
            Some(json!({ "name": "New", "type": "secret" })),
        ),
        "removeHost" | "revokeKey" => (Who::Members(BUILDERS), 204, None),
        _ => return None,
    };
    Some(case)
}

/// Well-formed, and nobody's.
fn leaked_key() -> String {
    let entropy = SystemEntropy::new();
    let application = ApplicationId::generate(&SystemClock, &entropy);
    let key = ApiKey::generate(KeyType::Secret, KeyMode::Live, &application, &entropy);
    key.expose().to_owned()
}

struct World {
    service: Service,
    workspace: String,
    application: String,
    operation: String,
    webhook: String,
    /// An application that is being destroyed, and its operation.
    doomed: (String, String),
    key: String,
    /// Not used for anything else, since it is revoked on the way.
    revoked: String,
    members: Vec<(&'static str, Person)>,
    stranger: Person,
    _names: NameServer,
}

impl World {
    async fn new() -> Self {
        let names = NameServer::start().await;
        let service = Service::asking(names.address).await;
        let owner = service.person("owner@x.io").await;
        let workspace = service.workspace(&owner, "pro").await;
        let created = service.application(&owner, &workspace, "shop").await;
        let application = created.string("id");
        let keys = service
            .get(&format!("/api/v1/applications/{application}/keys"), &owner)
            .await;
        sqlx::query(
            "INSERT INTO host_claims (application_id, host, challenge)
             SELECT $1, name || '.shop.example', repeat('x', 32)
             FROM (SELECT 'login' AS name UNION ALL SELECT 'h' || n FROM generate_series(1, 999) AS n) AS names",
        )
        .bind(&application)
        .execute(&service.pool)
        .await
        .unwrap();
        let webhooks = format!("/api/v1/workspaces/{workspace}/webhooks");
        let webhook = service
            .post(&webhooks, &owner, json!({ "url": "https://hooks.example/" }))
            .await
            .string("id");
        let doomed = service.application(&owner, &workspace, "doomed").await;
        for statement in [
            "UPDATE applications SET status = 'purging', deleted_at = now() WHERE slug = 'doomed'",
            "UPDATE operations SET status = 'failed', finished_at = now()
             WHERE application_id = (SELECT id FROM applications WHERE slug = 'doomed')",
        ] {
            sqlx::query(statement).execute(&service.pool).await.unwrap();
        }
        let mut members = vec![("owner", owner)];
        for role in &EVERYBODY[1..] {
            let person = service.person(&format!("{role}@x.io")).await;
            service.join(&workspace, &person, role).await;
            members.push((role, person));
        }
        let bystander = service.person("bystander@x.io").await;
        service.join(&workspace, &bystander, "viewer").await;
        let as_known = "UPDATE team_members SET id = $1 WHERE user_id = $2";
        sqlx::query(as_known)
            .bind(MEMBER)
            .bind(&bystander.id)
            .execute(&service.pool)
            .await
            .unwrap();
        sqlx::query(
            "INSERT INTO service_tokens (id, workspace_id, name, digest, masked, scopes, created_by, expires_at, created_at)
             VALUES ($1, $2, 'x', sha256('x'), 'ast_', '{workspace:read}', $3, now() + interval '1 day', now())",
        )
        .bind(TOKEN)
        .bind(&workspace)
        .bind(&bystander.id)
        .execute(&service.pool)
        .await
        .unwrap();
        // A workspace has more than one owner where one may leave.
        let second = service.person("second@x.io").await;
        service.join(&workspace, &second, "owner").await;
        let keep = "CREATE TABLE kept_members AS SELECT * FROM team_members";
        sqlx::query(keep).execute(&service.pool).await.unwrap();
        let stranger = service.person("stranger@x.io").await;
        service.workspace(&stranger, "free").await;
        Self {
            workspace,
            operation: created.string("operationId"),
            webhook,
            doomed: (doomed.string("id"), doomed.string("operationId")),
            key: keys.json["data"][0]["id"].as_str().unwrap().to_owned(),
            revoked: keys.json["data"][1]["id"].as_str().unwrap().to_owned(),
            application,
            members,
            stranger,
            service,
            _names: names,
        }
    }

    /// The status for this caller. Names are made different, so that no slug is taken.
    async fn status(
        &self,
        method: &str,
        template: &str,
        token: Option<&str>,
        body: Option<Value>,
        unique: usize,
    ) -> u16 {
        let is_final = (method, template) == ("delete", "/applications/{applicationId}")
            || [
                "/restart",
                "/suspend",
                "/resume",
                "/retry",
                "/undelete",
                "/cancel",
                "/events",
            ]
            .iter()
            .any(|action| template.ends_with(action));
        let path = template
            .replace("{workspaceId}", &self.workspace)
            .replace(
                "{webhookId}",
                if method == "delete" {
                    "whk_01h455vb4pex5vsknk084sn02q"
                } else {
                    &self.webhook
                },
            )
            .replace("{deliveryId}", "999999999")
            .replace(
                "{applicationId}",
                if is_final { &self.doomed.0 } else { &self.application },
            )
            .replace("{operationId}", if is_final { &self.doomed.1 } else { &self.operation })
            .replace("{host}", &format!("h{unique}.shop.example"))
            .replace("{keyId}", if method == "delete" { &self.revoked } else { &self.key })
            .replace("{memberId}", MEMBER)
            .replace(
                "{secretName}",
                if method == "delete" {
                    "CUSTOM_NOT_THERE"
                } else {
                    "CUSTOM_TOKEN"
                },
            )
            .replace("{tokenId}", TOKEN)
            .replace("{sessionId}", "ses_01h455vb4pex5vsknk084sn02q")
            .replace("{identityId}", "idn_01h455vb4pex5vsknk084sn02q");
        assert!(!path.contains('{'), "no value for a parameter of {template}");
        let mut body = body;
        if let Some(name) = body.as_mut().and_then(|body| body.get_mut("name")) {
            *name = json!(format!("New {unique}"));
        }
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let answer = self.service.call(method, &format!("/api/v1{path}"), token, body).await;
        self.mend().await;
        answer.status.as_u16()
    }

    /// Undoes what the next caller must not find.
    async fn mend(&self) {
        for statement in [
            "UPDATE sessions SET revoked_at = NULL WHERE revoked_at IS NOT NULL",
            "UPDATE workspaces SET status = 'active', status_before_deletion = NULL, deleted_at = NULL, purge_after = NULL
             WHERE status = 'deleted'",
            "DELETE FROM team_members t USING kept_members k WHERE k.id = t.id AND k IS DISTINCT FROM t",
            "DELETE FROM team_members WHERE status = 'invited'",
            "INSERT INTO team_members SELECT k.* FROM kept_members k WHERE NOT EXISTS (
                 SELECT FROM team_members t WHERE t.id = k.id)",
        ] {
            sqlx::query(statement).execute(&self.service.pool).await.unwrap();
        }
    }
}

#[tokio::test]
async fn every_operation_admits_exactly_whom_it_should() {
    let document: Value = serde_json::from_str(&authsome_control::api::document()).unwrap();
    let world = World::new().await;
    let mut unique = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let (who, success, body) = case(id).unwrap_or_else(|| panic!("{id} has no authorization case"));
            let mut ask = async |token: Option<&str>| {
                unique += 1;
                world.status(method, path, token, body.clone(), unique).await
            };
            let anonymous = if matches!(who, Who::Anybody) { success } else { 401 };
            assert_eq!(ask(None).await, anonymous, "{id} without a token");
            let stranger = if matches!(who, Who::Members(_)) { 404 } else { success };
            assert_eq!(ask(Some(&world.stranger.token)).await, stranger, "{id} as a stranger");
            for (role, person) in &world.members {
                let allowed = match &who {
                    Who::Anybody | Who::SignedIn => true,
                    Who::Members(roles) => roles.contains(role),
                };
                let expected = if allowed {
                    success
                } else {
                    StatusCode::FORBIDDEN.as_u16()
                };
                assert_eq!(ask(Some(&person.token)).await, expected, "{id} as {role}");
            }
        }
    }
}

#[tokio::test]
async fn a_member_who_is_suspended_or_removed_is_a_stranger_at_once() {
    let world = World::new().await;
    let (_, viewer) = &world.members[4];
    let path = format!("/api/v1/workspaces/{}", world.workspace);
    assert_eq!(world.service.get(&path, viewer).await.status, StatusCode::OK);
    let change = "UPDATE team_members SET status = 'suspended' WHERE user_id = $1";
    sqlx::query(change)
        .bind(&viewer.id)
        .execute(&world.service.pool)
        .await
        .unwrap();
    world.service.get(&path, viewer).await.assert_error(404, "not_found");
}
