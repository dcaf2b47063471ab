//! Members: invited by a letter, changed, suspended, gone; an owner is always left.

use std::time::Duration;

use authsome_testkit::SmtpServer;
use axum::body::Body;
use futures::future::join_all;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use crate::service::{Answer, Person, Service};

const SOON: Duration = Duration::from_secs(30);

struct Team {
    service: Service,
    smtp: SmtpServer,
    owner: Person,
    path: String,
    workspace: String,
    _mailer: tokio_util::sync::DropGuard,
}

impl Team {
    async fn new() -> Self {
        let service = Service::new().await;
        let smtp = SmtpServer::start().await.unwrap();
        let mailer = service.mailer(&smtp);
        let owner = service.person("owner@example.com").await;
        let workspace = service.workspace(&owner, "pro").await;
        Self {
            path: format!("/api/v1/workspaces/{workspace}/members"),
            workspace,
            owner,
            smtp,
            service,
            _mailer: mailer,
        }
    }

    async fn invite(&self, by: &Person, email: &str, role: &str) -> Answer {
        let body = json!({ "email": email, "role": role });
        self.service.post(&self.path, by, body).await
    }

    /// A member of the workspace, and their membership.
    async fn member(&self, email: &str, role: &str) -> (Person, String) {
        let person = self.service.person(email).await;
        self.service.join(&self.workspace, &person, role).await;
        let id = self.id_of(&person).await;
        (person, id)
    }

    async fn id_of(&self, person: &Person) -> String {
        sqlx::query_scalar("SELECT id FROM team_members WHERE user_id = $1 AND workspace_id = $2")
            .bind(&person.id)
            .bind(&self.workspace)
            .fetch_one(&self.service.pool)
            .await
            .unwrap()
    }

    async fn link(&self, to: &str, count: usize) -> String {
        let letter = self.smtp.letter_to(to, count, SOON).await.unwrap();
        let start = "https://dashboard.test/invitation?token=";
        let link = letter
            .word(start)
            .unwrap_or_else(|| panic!("no link in {}", letter.text()));
        link[start.len()..].to_owned()
    }

    async fn accept(&self, by: &Person, token: &str) -> Answer {
        let body = json!({ "token": token });
        self.service.post("/api/v1/invitations/accept", by, body).await
    }

    async fn patch(&self, by: &Person, id: &str, body: Value) -> Answer {
        let path = format!("{}/{id}", self.path);
        self.service
            .call(Method::PATCH, &path, Some(&by.token), Some(body))
            .await
    }

    async fn owners(&self) -> i64 {
        self.service
            .count("SELECT count(*) FROM team_members WHERE role = 'owner' AND status = 'active'")
            .await
    }
}

fn reason(answer: &Answer) -> &str {
    answer.json["error"]["reason"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn no_name_in_an_invitation_becomes_a_link() {
    let team = Team::new().await;
    let path = format!("/api/v1/workspaces/{}", team.workspace);
    let named = team
        .service
        .patch(&path, &team.owner, json!({ "name": "Claim it at evil.example" }))
        .await;
    assert_eq!(named.status, StatusCode::OK, "{}", named.text);
    team.invite(&team.owner, "grace@example.com", "viewer").await;
    let letter = team.smtp.letter_to("grace@example.com", 1, SOON).await.unwrap();
    let text = letter.text();
    assert!(text.contains("Claim it at evil"), "{text}");
    assert!(!text.contains("evil.example"), "{text}");
    assert!(
        letter
            .header("Subject")
            .is_some_and(|subject| !subject.contains("evil.example"))
    );
}

#[tokio::test]
async fn who_is_invited_accepts_by_the_link_in_the_letter_and_is_a_member() {
    let team = Team::new().await;
    let invited = team.invite(&team.owner, "Grace@example.com", "developer").await;
    assert_eq!(invited.status, StatusCode::CREATED, "{}", invited.text);
    assert_eq!(
        (&invited.json["status"], &invited.json["role"]),
        (&json!("invited"), &json!("developer"))
    );
    let id = invited.string("id");
    assert_eq!(
        invited.headers[header::LOCATION],
        format!("https://api.test{}/{id}", team.path)
    );
    let token = team.link("Grace@example.com", 1).await;
    let letter = team.smtp.letter_to("Grace@example.com", 1, SOON).await.unwrap();
    assert!(letter.text().contains("Ada (owner@example.com)"), "{}", letter.text());

    let grace = team.service.person("grace@example.com").await;
    let stranger = team.service.person("stranger@example.com").await;
    let refused = team.accept(&stranger, &token).await;
    refused.assert_error(403, "forbidden");
    assert_eq!(reason(&refused), "other_address");

    let accepted = team.accept(&grace, &token).await;
    assert_eq!(accepted.status, StatusCode::OK, "{}", accepted.text);
    assert_eq!(
        (&accepted.json["id"], &accepted.json["role"]),
        (&json!(team.workspace), &json!("developer"))
    );
    assert_eq!(reason(&team.accept(&grace, &token).await), "link_expired");

    let list = team.service.get(&team.path, &grace).await;
    let seen: Vec<_> = list.json["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| (member["email"].as_str().unwrap(), member["status"].as_str().unwrap()))
        .collect();
    assert_eq!(seen, [("owner@example.com", "active"), ("grace@example.com", "active")]);
    let actions: Vec<String> =
        sqlx::query_scalar("SELECT action FROM audit_events WHERE resource = 'member' ORDER BY id")
            .fetch_all(&team.service.pool)
            .await
            .unwrap();
    assert_eq!(actions, ["member.invite", "member.accept"]);
}

#[tokio::test]
async fn accepting_proves_the_address_of_a_new_account() {
    let team = Team::new().await;
    let body = json!({ "email": "grace@example.com", "name": "Grace", "password": crate::service::PASSWORD });
    team.service
        .call(Method::POST, "/api/v1/auth/signup", None, Some(body))
        .await;
    let login = team.service.login("grace@example.com", crate::service::PASSWORD).await;
    let grace = Person {
        id: login.json["user"]["id"].as_str().unwrap().to_owned(),
        token: login.string("token"),
    };
    // Not before that: letters to others are not sent for an address that nobody may read.
    let own = team.service.workspace(&grace, "free").await;
    let body = json!({ "email": "x@example.com", "role": "viewer" });
    let path = format!("/api/v1/workspaces/{own}/members");
    let refused = team.service.post(&path, &grace, body).await;
    assert_eq!(reason(&refused), "email_not_verified");

    team.smtp.letter_to("grace@example.com", 1, SOON).await.unwrap();
    team.invite(&team.owner, "grace@example.com", "viewer").await;
    let token = team.link("grace@example.com", 2).await;
    assert_eq!(team.accept(&grace, &token).await.status, StatusCode::OK);
    let me = team.service.get("/api/v1/auth/me", &grace).await;
    assert_eq!(me.json["emailVerified"], true);
}

#[tokio::test]
async fn a_link_is_void_once_another_was_sent_the_invitation_withdrawn_or_a_week_has_passed() {
    let team = Team::new().await;
    let grace = team.service.person("grace@example.com").await;
    let id = team
        .invite(&team.owner, "grace@example.com", "viewer")
        .await
        .string("id");
    let first = team.link("grace@example.com", 1).await;
    let again = format!("{}/{id}/invitation", team.path);
    let sent = team
        .service
        .call(Method::POST, &again, Some(&team.owner.token), None)
        .await;
    assert_eq!(sent.status, StatusCode::ACCEPTED, "{}", sent.text);
    let second = team.link("grace@example.com", 2).await;
    assert_eq!(reason(&team.accept(&grace, &first).await), "link_expired");

    team.service.clock.advance(Duration::from_hours(7 * 24));
    let grace_later = Person {
        token: team
            .service
            .login("grace@example.com", crate::service::PASSWORD)
            .await
            .string("token"),
        id: grace.id,
    };
    assert_eq!(reason(&team.accept(&grace_later, &second).await), "link_expired");

    let owner = Person {
        token: team
            .service
            .login("owner@example.com", crate::service::PASSWORD)
            .await
            .string("token"),
        id: team.owner.id.clone(),
    };
    team.service.call(Method::POST, &again, Some(&owner.token), None).await;
    let third = team.link("grace@example.com", 3).await;
    let withdrawn = team.service.delete(&format!("{}/{id}", team.path), &owner).await;
    assert_eq!(withdrawn.status, StatusCode::NO_CONTENT, "{}", withdrawn.text);
    assert_eq!(reason(&team.accept(&grace_later, &third).await), "link_expired");
}

#[tokio::test]
async fn an_address_is_invited_once_and_not_flooded() {
    let team = Team::new().await;
    assert_eq!(
        team.invite(&team.owner, "grace@example.com", "viewer").await.status,
        StatusCode::CREATED
    );
    let twice = team.invite(&team.owner, "GRACE@example.com", "admin").await;
    twice.assert_error(409, "conflict");
    assert_eq!(twice.field("email"), "is taken");
    for (email, role) in [("x", "viewer"), ("", "admin")] {
        let answer = team.invite(&team.owner, email, role).await;
        answer.assert_error(400, "invalid_request");
        assert!(!answer.field("email").is_empty(), "{}", answer.text);
    }
    team.invite(&team.owner, "a@example.com", "root")
        .await
        .assert_error(400, "invalid_request");

    for number in 0..9 {
        let slug = format!("w{number}");
        let body = json!({ "name": "More", "slug": slug });
        let other = team.service.post("/api/v1/workspaces", &team.owner, body).await;
        let path = format!("/api/v1/workspaces/{}/members", other.string("id"));
        let body = json!({ "email": "grace@example.com", "role": "viewer" });
        let answer = team.service.post(&path, &team.owner, body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    }
    let body = json!({ "name": "More", "slug": "last" });
    let other = team.service.post("/api/v1/workspaces", &team.owner, body).await;
    let path = format!("/api/v1/workspaces/{}/members", other.string("id"));
    let body = json!({ "email": "grace@example.com", "role": "viewer" });
    let answer = team.service.post(&path, &team.owner, body).await;
    answer.assert_error(429, "rate_limit_exceeded");
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn only_owners_make_change_and_remove_owners() {
    let team = Team::new().await;
    let (admin, _) = team.member("admin@example.com", "admin").await;
    let (_, viewer) = team.member("viewer@example.com", "viewer").await;
    let owner = team.id_of(&team.owner).await;
    for refused in [
        team.invite(&admin, "x@example.com", "owner").await,
        team.patch(&admin, &viewer, json!({ "role": "owner" })).await,
        team.patch(&admin, &owner, json!({ "role": "viewer" })).await,
        team.patch(&admin, &owner, json!({ "status": "suspended" })).await,
        team.service.delete(&format!("{}/{owner}", team.path), &admin).await,
    ] {
        refused.assert_error(403, "forbidden");
        assert_eq!(reason(&refused), "role");
    }
    let made = team.patch(&admin, &viewer, json!({ "role": "developer" })).await;
    assert_eq!(
        (made.status, &made.json["role"]),
        (StatusCode::OK, &json!("developer")),
        "{}",
        made.text
    );
}

#[tokio::test]
async fn the_last_owner_stays() {
    let team = Team::new().await;
    let owner = team.id_of(&team.owner).await;
    let leave = format!("/api/v1/workspaces/{}/leave", team.workspace);
    let (second, second_id) = team.member("second@example.com", "admin").await;
    for refused in [
        team.patch(&team.owner, &owner, json!({ "role": "admin" })).await,
        team.patch(&team.owner, &owner, json!({ "status": "suspended" })).await,
        team.service
            .delete(&format!("{}/{owner}", team.path), &team.owner)
            .await,
        team.service
            .call(Method::POST, &leave, Some(&team.owner.token), None)
            .await,
    ] {
        refused.assert_error(409, "conflict");
        assert_eq!(reason(&refused), "last_owner");
    }

    team.patch(&team.owner, &second_id, json!({ "role": "owner" })).await;
    let left = team
        .service
        .call(Method::POST, &leave, Some(&team.owner.token), None)
        .await;
    assert_eq!(left.status, StatusCode::NO_CONTENT, "{}", left.text);
    let path = format!("/api/v1/workspaces/{}", team.workspace);
    team.service
        .get(&path, &team.owner)
        .await
        .assert_error(404, "not_found");
    // The workspace is on the name of whoever is left.
    assert_eq!(team.service.get(&path, &second).await.json["ownerId"], second.id);
}

#[tokio::test]
async fn owners_who_take_each_others_role_at_the_same_moment_leave_one_of_them() {
    let team = Team::new().await;
    let first = team.id_of(&team.owner).await;
    for round in 0..5 {
        let (other, second) = team.member(&format!("other{round}@example.com"), "owner").await;
        let answers = join_all([
            team.patch(&team.owner, &second, json!({ "role": "viewer" })),
            team.patch(&other, &first, json!({ "role": "viewer" })),
        ])
        .await;
        let done = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
        assert_eq!(
            done, 1,
            "the second is no owner any longer when its turn comes: {} {}",
            answers[0].text, answers[1].text
        );
        assert_eq!(team.owners().await, 1);
        sqlx::query("UPDATE team_members SET role = CASE WHEN id = $1 THEN 'owner' ELSE 'viewer' END")
            .bind(&first)
            .execute(&team.service.pool)
            .await
            .unwrap();
    }
    let (one, one_id) = team.member("one@example.com", "owner").await;
    // Everybody leaves at once: the last one cannot.
    let leave = format!("/api/v1/workspaces/{}/leave", team.workspace);
    let leaving = [&team.owner, &one].map(|person| team.service.call(Method::POST, &leave, Some(&person.token), None));
    let answers = join_all(leaving).await;
    assert_eq!(team.owners().await, 1, "{one_id}");
    assert!(answers.iter().any(|answer| reason(answer) == "last_owner"));
}

#[tokio::test]
async fn a_suspended_member_is_a_stranger_until_they_are_let_in_again() {
    let team = Team::new().await;
    let (viewer, id) = team.member("viewer@example.com", "viewer").await;
    let path = format!("/api/v1/workspaces/{}", team.workspace);
    let suspended = team.patch(&team.owner, &id, json!({ "status": "suspended" })).await;
    assert_eq!(suspended.json["status"], "suspended", "{}", suspended.text);
    team.service.get(&path, &viewer).await.assert_error(404, "not_found");
    team.patch(&team.owner, &id, json!({ "status": "active" })).await;
    assert_eq!(team.service.get(&path, &viewer).await.status, StatusCode::OK);
    team.patch(&team.owner, &id, json!({ "status": "invited" }))
        .await
        .assert_error(400, "invalid_request");
    let unknown = team.patch(&team.owner, &id, json!({ "roll": "viewer" })).await;
    unknown.assert_error(400, "invalid_request");
    assert!(unknown.message().contains("roll"));
}

#[tokio::test]
async fn a_change_of_a_member_who_has_changed_since_is_refused() {
    let team = Team::new().await;
    let (_, id) = team.member("viewer@example.com", "viewer").await;
    let path = format!("{}/{id}", team.path);
    let tag = team.service.get(&path, &team.owner).await.headers[header::ETAG].clone();
    let change = async |role: &str| {
        let request = Request::patch(&path)
            .header(header::AUTHORIZATION, format!("Bearer {}", team.owner.token))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::IF_MATCH, &tag)
            .body(Body::from(json!({ "role": role }).to_string()))
            .unwrap();
        team.service.send(request).await
    };
    let changed = change("developer").await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    assert_ne!(changed.headers[header::ETAG], tag);
    let refused = change("billing").await;
    assert_eq!(refused.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(team.service.get(&path, &team.owner).await.json["role"], "developer");
}

#[tokio::test]
async fn a_member_of_another_workspace_is_nobody_here() {
    let team = Team::new().await;
    let other = team.service.person("other@example.com").await;
    let elsewhere = team.service.workspace(&other, "free").await;
    let id: String = sqlx::query_scalar("SELECT id FROM team_members WHERE workspace_id = $1")
        .bind(&elsewhere)
        .fetch_one(&team.service.pool)
        .await
        .unwrap();
    let path = format!("{}/{id}", team.path);
    team.service
        .get(&path, &team.owner)
        .await
        .assert_error(404, "not_found");
    team.service
        .delete(&path, &team.owner)
        .await
        .assert_error(404, "not_found");
    team.patch(&team.owner, &id, json!({ "role": "viewer" }))
        .await
        .assert_error(404, "not_found");
}
