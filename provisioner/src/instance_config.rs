//! The configuration that an instance is given: what its team chose, under what the platform decides. Pure.
//!
//! Every runtime gives an instance the same document. It holds no secret: those are environment variables.

use authsome_core::id::ApplicationId;
use serde_json::{Map, Value, json};

use crate::plan::Intent;

/// The address under which clients reach an application. `edge` is the public address of the edge.
pub fn public_base_url(edge: &str, application: ApplicationId) -> String {
    format!("{}/v1/{application}", edge.trim_end_matches('/'))
}

/// What identity providers are to send people back to: paths below the public address that need no key. Braces are literal; the
/// image puts the name of its provider or connection there.
fn oauth(address: &str) -> Value {
    json!({
        "issuer": address,
        "redirect_base_url": address,
        "redirect_urls": {
            "social": format!("{address}/v1/social/{{provider}}/callback"),
            "sso": format!("{address}/v1/sso/{{connection}}/callback"),
        },
    })
}

/// The keys that are the platform's: where the instance is, and what would break or open it. Nobody becomes an owner of the
/// instance by signing up first, its routes and migrations stay on, and it does not run in debug mode.
pub fn owned(intent: &Intent, edge: &str) -> Value {
    let address = public_base_url(edge, intent.application_id);
    json!({
        "base_path": intent.base_path,
        "public_base_url": address,
        "oauth": oauth(&address),
        "disable_routes": false,
        "disable_migrate": false,
        "debug": false,
        "bootstrap": {
            "enabled": true,
            "app_name": intent.name,
            "environments": [intent.environment],
            "initial_owners": [],
            "initial_owner_count": 0,
        },
    })
}

/// `chosen` with `owned` over it: objects are merged member by member, and everything else that is owned replaces what was
/// chosen.
pub fn merged(chosen: &Value, owned: &Value) -> Value {
    match (chosen, owned) {
        (Value::Object(chosen), Value::Object(owned)) => {
            let mut all: Map<String, Value> = chosen.clone();
            for (name, value) in owned {
                let under = all.remove(name).unwrap_or(Value::Null);
                all.insert(name.clone(), merged(&under, value));
            }
            Value::Object(all)
        }
        _ => owned.clone(),
    }
}

/// What the instances of an application are given.
pub fn effective(intent: &Intent, edge: &str) -> Value {
    merged(&intent.config, &owned(intent, edge))
}

#[cfg(test)]
mod tests {
    use authsome_contract::model::PathClass;
    use authsome_contract::model::path_class::classify;
    use proptest::prelude::*;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Every owned member is in `all` as it is owned.
    fn holds(all: &Value, owned: &Value) -> bool {
        match owned {
            Value::Object(members) => members
                .iter()
                .all(|(name, value)| all.get(name).is_some_and(|found| holds(found, value))),
            other => all == other,
        }
    }

    #[test]
    fn what_a_team_chose_stays_beside_what_is_owned() {
        let chosen = json!({
            "session": { "token_ttl": "2h" }, "debug": true, "base_path": "/evil",
            "bootstrap": { "initial_owner_count": 3, "extra": 1 }, "oauth": "none",
        });
        let owned = json!({
            "base_path": "", "debug": false, "bootstrap": { "initial_owner_count": 0 }, "oauth": { "issuer": "https://x" },
        });
        let expected = json!({
            "session": { "token_ttl": "2h" }, "debug": false, "base_path": "",
            "bootstrap": { "initial_owner_count": 0, "extra": 1 }, "oauth": { "issuer": "https://x" },
        });
        assert_eq!(merged(&chosen, &owned), expected);
    }

    proptest! {
        #[test]
        fn what_is_owned_always_wins(chosen in any_json(), owned in any_json()) {
            let all = merged(&chosen, &owned);
            prop_assert!(holds(&all, &owned), "{all}");
            // Twice is once.
            prop_assert_eq!(merged(&all, &owned), all);
        }

        #[test]
        fn what_is_not_owned_stays(chosen in proptest::collection::btree_map("[d-f]", any_json(), 0..4)) {
            let chosen = Value::Object(chosen.into_iter().collect());
            let all = merged(&chosen, &json!({ "a": 1 }));
            for (name, value) in chosen.as_object().unwrap() {
                prop_assert_eq!(&all[name], value);
            }
        }
    }

    #[test]
    fn redirect_urls_lie_below_the_public_address_where_the_edge_asks_for_no_key_and_a_team_cannot_move_them() {
        let address = "https://edge.example/v1/app_x";
        let chosen = json!({ "oauth": {
            "redirect_base_url": "https://evil", "redirect_urls": { "social": "https://evil", "more": 1 }, "pkce": true,
        }});
        let given = merged(&chosen, &json!({ "oauth": oauth(address) }));
        assert_eq!(given["oauth"]["pkce"], true);
        assert_eq!(given["oauth"]["redirect_base_url"], address);
        for (kind, methods) in [("social", &["GET"][..]), ("sso", &["GET", "POST"])] {
            let url = given["oauth"]["redirect_urls"][kind].as_str().unwrap();
            let path = url.strip_prefix(address).unwrap().replace(['{', '}'], "");
            for method in methods {
                assert_eq!(classify(&[], method, &path), PathClass::Open, "{method} {path}");
            }
        }
    }

    #[test]
    fn the_address_does_not_depend_on_a_slash_at_the_end() {
        let id = ApplicationId::from_uuid(uuid::Uuid::nil());
        assert_eq!(
            public_base_url("https://edge.example/", id),
            public_base_url("https://edge.example", id)
        );
    }
}
