//! The kinds of ids there are, each with its prefix.

use super::Id;

/// What an id is an id of. Implemented by names only, never by values.
pub trait Kind: Send + Sync + 'static {
    /// The text before the underscore: one to three lower-case letters.
    const PREFIX: &'static str;
    /// The kind with its article, for messages: "an application".
    const NOUN: &'static str;
}

macro_rules! kinds {
    ($($kind:ident $alias:ident $prefix:literal $noun:literal;)*) => {$(
        #[doc = concat!("Names the ids of ", $noun, "; never a value.")]
        #[derive(Debug)]
        pub enum $kind {}

        impl Kind for $kind {
            const PREFIX: &'static str = $prefix;
            const NOUN: &'static str = $noun;
        }

        #[doc = concat!("The id of ", $noun, ": `", $prefix, "_` and 26 characters.")]
        pub type $alias = Id<$kind>;
    )*};
}

kinds! {
    Workspace   WorkspaceId   "ws"  "a workspace";
    Application ApplicationId "app" "an application";
    User        UserId        "usr" "a user";
    Member      MemberId      "mem" "a team member";
    Key         KeyId         "key" "an API key";
    Invitation  InvitationId  "inv" "an invitation";
    Session     SessionId     "ses" "a session";
    Token       TokenId       "tok" "a service token";
    Operation   OperationId   "op"  "an operation";
    Event       EventId       "evt" "an event";
    Webhook     WebhookId     "whk" "a webhook endpoint";
    Request     RequestId     "req" "a request";
}
