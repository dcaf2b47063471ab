//! Is there room for what an application may grow to: in every quota of its namespace, and on the nodes of the cluster.
//!
//! What is compared is what is certain. A quota holds all instances that the plan allows, one more while a change rolls, and
//! dedicated servers. Of the nodes it is asked that one of them takes an instance at all, and that together they have what
//! our applications and this one ask for; what others run there is not known and not counted, so nodes may still turn out too
//! full, which the roll-out says. Where nodes may not be listed, or the cluster grows by itself, that is not looked at.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::kind::Kind;
use super::manifest::{self, DedicatedServers, Limits, Spec};
use super::quantity::Quantity;
use crate::runtime::RuntimeError;

/// For how long what the nodes have is taken for true.
const FRESH: Duration = Duration::from_secs(30);

/// CPU and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Demand {
    pub cpu: Quantity,
    pub memory: Quantity,
}

impl Demand {
    const NOTHING: Self = Self {
        cpu: Quantity::ZERO,
        memory: Quantity::ZERO,
    };

    fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.plus(other.cpu),
            memory: self.memory.plus(other.memory),
        }
    }

    fn times(self, factor: u32) -> Self {
        Self {
            cpu: self.cpu.times(factor),
            memory: self.memory.times(factor),
        }
    }

    /// What of it is more than `room`.
    fn beyond(self, room: Self) -> Vec<&'static str> {
        let beyond = |name, wanted, has| (wanted > has).then_some(name);
        [
            beyond("CPU", self.cpu, room.cpu),
            beyond("memory", self.memory, room.memory),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// What nodes together have, and the one that has most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nodes {
    all: Demand,
    /// The most CPU and the most memory of one node, perhaps not of the same.
    largest: Demand,
    count: u32,
}

impl Nodes {
    /// Those that take pods of ours: ready, not closed, and without a taint that keeps them away. `None` where a number is not
    /// understood.
    pub(super) fn of(nodes: &[Value]) -> Option<Self> {
        let mut found = Self {
            all: Demand::NOTHING,
            largest: Demand::NOTHING,
            count: 0,
        };
        for node in nodes.iter().filter(|node| takes_pods(node)) {
            let amount = |name: &str| Quantity::parse(node["status"]["allocatable"][name].as_str()?).ok();
            let has = Demand {
                cpu: amount("cpu")?,
                memory: amount("memory")?,
            };
            found.all = found.all.plus(has);
            found.largest.cpu = found.largest.cpu.max(has.cpu);
            found.largest.memory = found.largest.memory.max(has.memory);
            found.count += 1;
        }
        Some(found)
    }
}

fn takes_pods(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    let ready = conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"));
    let taints = node["spec"]["taints"].as_array();
    let kept_away = taints.is_some_and(|all| all.iter().any(|taint| taint["effect"] != "PreferNoSchedule"));
    ready && node["spec"]["unschedulable"] != true && !kept_away
}

/// What the last list of nodes said; `None` within where they may not be listed or are not understood.
#[derive(Default)]
pub(super) struct LastNodes(Mutex<Option<(Instant, Option<Nodes>)>>);

impl LastNodes {
    async fn get(&self, cluster: &Cluster) -> Result<Option<Nodes>, RuntimeError> {
        let known = *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((at, nodes)) = known
            && at.elapsed() < FRESH
        {
            return Ok(nodes);
        }
        let nodes = cluster.nodes().await?.and_then(|nodes| Nodes::of(&nodes));
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some((Instant::now(), nodes));
        Ok(nodes)
    }
}

/// What the customer reads of the answer. `grows`: the cluster gets more nodes by itself when pods find none.
pub(super) async fn check(
    cluster: &Cluster,
    spec: &Spec<'_>,
    last: &LastNodes,
    grows: bool,
) -> Result<&'static str, RuntimeError> {
    let limits = Limits::of(spec.site)?;
    let servers = DedicatedServers::of(spec)?;
    let own = manifest::namespace(spec)?;
    let own = own.iter().filter(|one| one.kind == Kind::ResourceQuota);
    let own = own.map(|one| (one.name.clone(), one.body["spec"].clone()));
    let others = cluster.quotas(&spec.site.namespace).await?;
    // Ours will be as its manifest says.
    let others = others.into_iter().filter(|(name, _)| name != manifest::NAME);
    for (name, quota) in own.chain(others) {
        let over = over(&quota, &limits, &servers);
        if !over.is_empty() {
            return Err(RuntimeError::Unfit {
                public: "The application's quota in the cluster is smaller than what its plan lets it grow to."
                    .to_owned(),
                detail: format!("ResourceQuota {name}: {}", over.join(", ")),
            });
        }
    }
    if grows {
        return Ok("Its quota holds what it may grow to; the cluster grows with what it is asked for.");
    }
    let Some(nodes) = last.get(cluster).await? else {
        return Ok(
            "Its quota holds what it may grow to. Whether the cluster has room was not checked: its nodes may not be listed.",
        );
    };
    let one = Demand {
        cpu: limits.cpu.half(),
        memory: limits.memory.half(),
    };
    let lacking = one.beyond(nodes.largest);
    if !lacking.is_empty() {
        return Err(RuntimeError::Full {
            public: format!(
                "No node of this region's cluster has the {} that an instance asks for.",
                lacking.join(" and ")
            ),
            detail: format!(
                "{} nodes take pods; an instance asks for {one:?}, the most of one node is {:?}",
                nodes.count, nodes.largest
            ),
        });
    }
    let (others, own) = asked(cluster, &spec.site.namespace);
    // What runs of it is counted once; while a change rolls there is one more.
    let least = one.times(limits.min_replicas).plus(servers.requests);
    let own = Demand {
        cpu: own.cpu.max(least.cpu),
        memory: own.memory.max(least.memory),
    };
    let wanted = others.plus(own);
    let lacking = wanted.beyond(nodes.all);
    if !lacking.is_empty() {
        return Err(RuntimeError::Full {
            public: format!(
                "The cluster of this region has not enough {} left.",
                lacking.join(" and ")
            ),
            detail: format!(
                "{} nodes have {:?} for pods; applications, this one included, ask for {wanted:?}",
                nodes.count, nodes.all
            ),
        });
    }
    Ok("Its quota holds what it may grow to, and the cluster has room for it.")
}

/// What all applications but one ask for with the pods that they have now, and what that one does.
fn asked(cluster: &Cluster, namespace: &str) -> (Demand, Demand) {
    let mut sums = (Demand::NOTHING, Demand::NOTHING);
    for kind in [Kind::Deployment, Kind::StatefulSet] {
        for (of, seen) in cluster.store.all(kind) {
            let sum = if of == namespace { &mut sums.1 } else { &mut sums.0 };
            *sum = sum.plus(requests(&seen.body));
        }
    }
    sums
}

/// What a workload's pods ask for together.
fn requests(workload: &Value) -> Demand {
    let replicas = workload["spec"]["replicas"].as_u64().unwrap_or(1);
    let containers = workload["spec"]["template"]["spec"]["containers"].as_array();
    let amount = |container: &Value, name: &str| {
        let text = container["resources"]["requests"][name].as_str();
        text.and_then(|text| Quantity::parse(text).ok())
            .unwrap_or(Quantity::ZERO)
    };
    let pod = containers
        .into_iter()
        .flatten()
        .fold(Demand::NOTHING, |sum, container| {
            sum.plus(Demand {
                cpu: amount(container, "cpu"),
                memory: amount(container, "memory"),
            })
        });
    pod.times(u32::try_from(replicas).unwrap_or(u32::MAX))
}

/// What of a quota is less than what the application may come to. A quota for some pods only is not ours to judge.
fn over(quota: &Value, limits: &Limits, servers: &DedicatedServers) -> Vec<String> {
    if quota.get("scopes").is_some() || quota.get("scopeSelector").is_some() {
        return Vec::new();
    }
    let instances = limits.max_replicas + 1;
    let most = [
        (
            "requests.cpu",
            limits.cpu.half().times(instances).plus(servers.requests.cpu),
        ),
        (
            "requests.memory",
            limits.memory.half().times(instances).plus(servers.requests.memory),
        ),
        ("limits.cpu", limits.cpu.times(instances).plus(servers.limits.cpu)),
        (
            "limits.memory",
            limits.memory.times(instances).plus(servers.limits.memory),
        ),
        ("requests.storage", limits.storage.times(servers.count)),
        ("persistentvolumeclaims", Quantity::whole(servers.count)),
        ("pods", Quantity::whole(instances + servers.count)),
    ];
    most.into_iter()
        .filter_map(|(name, wanted)| {
            // Some have a short name as well.
            let short = name.strip_prefix("requests.");
            let hard = &quota["hard"];
            let has = hard[name].as_str().or_else(|| hard[short?].as_str())?;
            let enough = Quantity::parse(has).is_ok_and(|has| has >= wanted);
            (!enough).then(|| format!("{name} is {has}, and {wanted} may be needed"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn amount(text: &str) -> Quantity {
        Quantity::parse(text).unwrap()
    }

    fn node(cpu: &str, memory: &str) -> Value {
        json!({ "spec": {}, "status": {
            "allocatable": { "cpu": cpu, "memory": memory, "pods": "110" },
            "conditions": [{ "type": "Ready", "status": "True" }],
        }})
    }

    #[test]
    fn only_nodes_that_take_pods_are_counted() {
        let mut closed = node("64", "256Gi");
        closed["spec"]["unschedulable"] = true.into();
        let mut tainted = node("64", "256Gi");
        tainted["spec"]["taints"] = json!([{ "key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule" }]);
        let mut away = node("64", "256Gi");
        away["status"]["conditions"][0]["status"] = "Unknown".into();
        let mut unloved = node("2", "4Gi");
        unloved["spec"]["taints"] = json!([{ "key": "x", "effect": "PreferNoSchedule" }]);
        let found = Nodes::of(&[node("3920m", "16393244Ki"), unloved, closed, tainted, away]).unwrap();
        assert_eq!((found.count, found.all.cpu), (2, amount("5920m")));
        assert_eq!(found.largest.memory, amount("16393244Ki"));
        assert_eq!(
            Nodes::of(&[node("1e3", "1Gi")]),
            None,
            "a number that is not understood is no zero"
        );
        assert_eq!(Nodes::of(&[]).unwrap().count, 0);
    }

    #[test]
    fn what_a_workload_asks_for_is_its_pods_times_their_containers() {
        let container = |cpu: &str| json!({ "resources": { "requests": { "cpu": cpu, "memory": "1Gi" } } });
        let workload = json!({ "spec": {
            "replicas": 3, "template": { "spec": { "containers": [container("250m"), container("250m"), {}] } },
        }});
        let asks = requests(&workload);
        assert_eq!((asks.cpu, asks.memory), (amount("1500m"), amount("6Gi")));
        let stopped = json!({ "spec": { "replicas": 0, "template": { "spec": { "containers": [container("1")] } } } });
        assert_eq!(requests(&stopped).cpu, Quantity::ZERO);
    }

    #[test]
    fn a_quota_that_is_too_small_is_told_by_what_is_too_small_in_it() {
        let limits = Limits {
            min_replicas: 2,
            max_replicas: 6,
            cpu: amount("1"),
            memory: amount("2Gi"),
            storage: amount("20Gi"),
        };
        let none = DedicatedServers {
            count: 0,
            requests: Demand::NOTHING,
            limits: Demand::NOTHING,
        };
        let of = |hard: Value| over(&json!({ "hard": hard }), &limits, &none);
        assert_eq!(
            of(json!({ "limits.cpu": "7", "limits.memory": "14Gi", "pods": "7" })),
            Vec::<String>::new()
        );
        assert_eq!(
            of(json!({ "limits.cpu": "6" })),
            ["limits.cpu is 6, and 7 may be needed"]
        );
        assert_eq!(
            of(json!({ "cpu": "3" })),
            ["requests.cpu is 3, and 3500m may be needed"]
        );
        assert_eq!(
            of(json!({ "pods": "6", "count/jobs.batch": "0" })),
            ["pods is 6, and 7 may be needed"]
        );
        assert_eq!(
            of(json!({ "memory": "lots" })).len(),
            1,
            "what is not understood is not enough"
        );
        let scoped = json!({ "hard": { "pods": "0" }, "scopes": ["BestEffort"] });
        assert_eq!(over(&scoped, &limits, &none), Vec::<String>::new());
    }
}
