//! Why a namespace that was deleted is still there, in the cluster's own words.

use serde_json::Value;

use super::kind::Kind;
use super::store::Store;
use crate::runtime::RuntimeError;

/// What the cluster says of a namespace that does not go away, the most telling first.
const TELLING: [&str; 5] = [
    "NamespaceFinalizersRemaining",
    "NamespaceContentRemaining",
    "NamespaceDeletionContentFailure",
    "NamespaceDeletionDiscoveryFailure",
    "NamespaceDeletionGroupVersionParsingFailure",
];
/// The longest that is told, in bytes.
const LONGEST: usize = 600;

/// The namespace is still there, and why, as far as the cluster has said.
pub(super) fn remains(store: &Store, namespace: &str) -> RuntimeError {
    let seen = store.get(Kind::Namespace, namespace, namespace);
    let why = seen.map(|seen| why(&seen.body)).unwrap_or_default();
    let public = if why.is_empty() {
        "The namespace is still there.".to_owned()
    } else {
        format!("The namespace is still there: {why}")
    };
    let detail = format!("namespace {namespace} is still being deleted");
    RuntimeError::Remains { public, detail }
}

/// Empty where the cluster says nothing.
fn why(namespace: &Value) -> String {
    let conditions = namespace["status"]["conditions"].as_array();
    let said = |name: &str| {
        let mut all = conditions.into_iter().flatten();
        let one = all.find(|one| one["type"] == name && one["status"] == "True")?;
        let message = one["message"].as_str().unwrap_or_default().trim();
        (!message.is_empty()).then(|| format!("{}.", message.trim_end_matches('.')))
    };
    let mut text = TELLING.into_iter().filter_map(said).collect::<Vec<_>>().join(" ");
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_that_is_so_is_told_and_what_is_not_so_is_not() {
        let condition =
            |name: &str, status: &str, message: &str| json!({ "type": name, "status": status, "message": message });
        let namespace = json!({ "status": { "phase": "Terminating", "conditions": [
            condition("NamespaceDeletionDiscoveryFailure", "False", "All resources successfully discovered"),
            condition("NamespaceContentRemaining", "True", "Some resources are remaining: pods. has 1 resource instances"),
            condition("NamespaceFinalizersRemaining", "True", "Some content has finalizers remaining: a/hold in 1 resource."),
            condition("NamespaceDeletionContentFailure", "True", ""),
        ] } });
        let told = "Some content has finalizers remaining: a/hold in 1 resource. \
                    Some resources are remaining: pods. has 1 resource instances.";
        assert_eq!(why(&namespace), told);
        assert_eq!(why(&json!({ "status": { "phase": "Active" } })), "");
        let long =
            json!({ "status": { "conditions": [condition("NamespaceContentRemaining", "True", &"ä".repeat(999))] } });
        assert!(why(&long).len() <= LONGEST);
    }
}
