//! Closed sets of names as the API's document shows them: made of what the code decides by, so that generated clients have the same
//! names and a new one reaches them by itself.

use authsome_contract::model::{self, AppStatus};
use authsome_contract::wire::{self, job::JobKind};
use authsome_core::error::ErrorCode as Code;
use authsome_core::key;
use authsome_db::audit;
use authsome_db::operation;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::db::members;

macro_rules! sets {
    ($($(#[doc = $doc:literal])+ $name:ident = $values:expr;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug)]
        pub enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let values: Vec<&'static str> = $values;
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some(concat!($($doc),+).trim()))
                    .enum_values(Some(values))
                    .into()
            }
        }

        impl ToSchema for $name {}
    )+};
}

macro_rules! all {
    ($set:ty) => {
        <$set>::ALL.iter().map(|member| member.as_str()).collect()
    };
}

sets! {
    /// A plan.
    Plan = all!(model::Plan);
    /// What an application is for.
    Environment = all!(model::Environment);
    /// Where an application is in its life.
    ApplicationStatus = all!(AppStatus);
    /// Where a workspace is in its life.
    WorkspaceStatus = all!(model::WorkspaceStatus);
    /// What an operation does.
    OperationKind = all!(JobKind);
    /// How far an operation has come.
    OperationStatus = all!(operation::OperationStatus);
    /// A step of an operation.
    StepName = all!(model::Step);
    /// How far a step has come.
    StepStatus = vec!["pending", "running", "done", "skipped", "failed", "undone"];
    /// Who may hold a key.
    KeyType = [key::KeyType::Public, key::KeyType::Secret].map(key::KeyType::as_str).to_vec();
    /// What a secret key may do; `*` is everything.
    KeyScope = std::iter::once("*").chain(model::Scope::ALL.iter().map(|scope| scope.as_str())).collect();
    /// What a service token may do.
    ServiceTokenScope = crate::identity::scopes();
    /// Whether a member takes part.
    MemberStatus = {
        use members::MemberStatus as Status;
        [Status::Active, Status::Invited, Status::Suspended].map(Status::as_str).to_vec()
    };
    /// What the status of a member can be changed to.
    MemberStatusChange = [members::MemberStatus::Active, members::MemberStatus::Suspended]
        .map(members::MemberStatus::as_str)
        .to_vec();
    /// Whether a host name was proved.
    HostStatus = vec!["pending", "verified"];
    /// An event that webhooks are told of.
    WebhookEvent = crate::webhook::EVENTS.to_vec();
    /// How a delivery went.
    DeliveryStatus = vec!["pending", "succeeded", "failed"];
    /// What became of a report of a key.
    LeakResult = vec!["revoked", "inactive", "public"];
    /// Who did something.
    ActorType = [audit::ActorType::User, audit::ActorType::ApiKey, audit::ActorType::Service]
        .map(audit::ActorType::as_str)
        .to_vec();
    /// Whether what was tried was done.
    AuditStatus = vec!["success", "failure"];
    /// How grave a line is.
    LogLevel = all!(wire::LogLevel);
    /// An event of the stream of an operation.
    OperationEventName = vec!["operation", "step"];
    /// Why a request was refused, in general.
    ErrorCode = all!(Code);
    /// How passwords of end users are kept.
    PasswordAlgorithm = vec!["bcrypt", "argon2id"];
    /// Who sends the instance's mail.
    MailProvider = vec!["noop", "smtp", "resend"];
}
