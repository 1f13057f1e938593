//! Decides which nodes count as dead, and what taints nodes carry.
//!
//! A node lives as long as its Lease or its status is renewed, by this process' own clock: what counts is when a renewal was seen, not when
//! it says it was made.

use crate::common::owners::{labels, name};
use crate::common::time::time;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Taint of nodes that say that they are not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Taint of nodes that say nothing.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NO_EXECUTE: &str = "NoExecute";
const NO_SCHEDULE: &str = "NoSchedule";

/// How long nodes may be silent.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Before their first status.
    pub starting: SignedDuration,
    /// Afterwards.
    pub running: SignedDuration,
}

/// What is remembered of a node between looks.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    seen: Timestamp,
    heartbeat: Option<Time>,
    renewal: Option<Timestamp>,
    // What the Ready condition said last, to see it change.
    ready: Option<String>,
}

/// What a look at one node led to.
#[derive(Debug, PartialEq)]
pub struct Look {
    /// To be remembered.
    pub record: Record,
    /// The status to write, when the node has fallen silent.
    pub status: Option<Node>,
    /// `True`, `False` or `Unknown`.
    pub ready: String,
    /// Whether it has stopped being ready since the last look.
    pub fell: bool,
}

/// A node's condition.
pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == kind)
}

/// Looks at one node.
pub fn look(
    node: &Node,
    lease: Option<&Lease>,
    before: Option<&Record>,
    patience: Patience,
    now: Timestamp,
) -> Look {
    let current = condition(node, "Ready");
    let created = node.metadata.creation_timestamp.clone().map_or(now, |t| t.0);
    let heartbeat = current.and_then(|c| c.last_heartbeat_time.clone());
    let renewal = lease
        .and_then(|l| l.spec.as_ref()?.renew_time.as_ref())
        .map(|t| t.0);
    let seen = match before {
        None if current.is_none() => created,
        None => now,
        Some(before) if before.heartbeat != heartbeat || renewal > before.renewal => now,
        Some(before) => before.seen,
    };
    let limit = if current.is_some() {
        patience.running
    } else {
        patience.starting
    };
    let silent = now.duration_since(seen) > limit;
    let status = silent.then(|| silenced(node, now)).flatten();
    let judged = status.as_ref().unwrap_or(node);
    let ready = condition(judged, "Ready")
        .map_or("Unknown", |c| c.status.as_str())
        .to_owned();
    let was = before.and_then(|b| b.ready.as_deref());
    let fell = was == Some("True") && ready != "True";
    // The heartbeat that was written here must not pass for the node's own.
    let record = Record {
        seen,
        heartbeat,
        renewal,
        ready: current.map(|_| ready.clone()),
    };
    Look {
        record,
        status,
        ready,
        fell,
    }
}

fn silenced(node: &Node, now: Timestamp) -> Option<Node> {
    let mut after = node.clone();
    let conditions = after
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    let mut changed = false;
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            None => {
                changed = true;
                conditions.push(NodeCondition {
                    type_: kind.to_owned(),
                    status: "Unknown".to_owned(),
                    reason: Some("NodeStatusNeverUpdated".to_owned()),
                    message: Some("Kubelet never posted node status.".to_owned()),
                    last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                    last_transition_time: Some(time(now)),
                });
            }
            Some(condition) if condition.status != "Unknown" => {
                changed = true;
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(time(now));
            }
            Some(_) => {}
        }
    }
    changed.then_some(after)
}

/// The taints that follow from a node's conditions and its being cordoned, in place of those that don't.
pub fn schedule_taints(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let is = |kind: &str, value: &str| condition(node, kind).is_some_and(|c| c.status == value);
    let cordoned = node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true);
    let wanted = [
        (NOT_READY, is("Ready", "False")),
        (UNREACHABLE, is("Ready", "Unknown")),
        ("node.kubernetes.io/memory-pressure", is("MemoryPressure", "True")),
        ("node.kubernetes.io/disk-pressure", is("DiskPressure", "True")),
        ("node.kubernetes.io/pid-pressure", is("PIDPressure", "True")),
        (
            "node.kubernetes.io/network-unavailable",
            is("NetworkUnavailable", "True"),
        ),
        ("node.kubernetes.io/unschedulable", cordoned),
    ];
    set_taints(node, NO_SCHEDULE, &wanted, now)
}

/// The taints by which pods leave a node that is not ready.
pub fn execute_taints(node: &Node, ready: &str, now: Timestamp) -> Option<Vec<Taint>> {
    set_taints(
        node,
        NO_EXECUTE,
        &[(NOT_READY, ready == "False"), (UNREACHABLE, ready == "Unknown")],
        now,
    )
}

fn set_taints(node: &Node, effect: &str, wanted: &[(&str, bool)], now: Timestamp) -> Option<Vec<Taint>> {
    let current = node
        .spec
        .as_ref()
        .and_then(|s| s.taints.clone())
        .unwrap_or_default();
    let mut taints = current.clone();
    for (key, there) in wanted {
        let found = taints.iter().position(|t| t.key == *key && t.effect == effect);
        match (found, there) {
            (None, true) => taints.push(Taint {
                key: (*key).to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(time(now)),
            }),
            (Some(at), false) => drop(taints.remove(at)),
            _ => {}
        }
    }
    (taints != current).then_some(taints)
}

/// The older spellings of a node's operating system and architecture, where they don't agree with the newer ones.
pub fn label_changes(node: &Node) -> BTreeMap<String, String> {
    let labels = labels(&node.metadata);
    [
        ("kubernetes.io/os", "beta.kubernetes.io/os"),
        ("kubernetes.io/arch", "beta.kubernetes.io/arch"),
    ]
    .into_iter()
    .filter_map(|(new, old)| {
        let value = labels.get(new)?;
        (labels.get(old) != Some(value)).then(|| (old.to_owned(), value.clone()))
    })
    .collect()
}

/// How badly a zone is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneState {
    /// Most nodes are ready.
    Normal,
    /// Most nodes, and at least three, are not.
    Partial,
    /// None is ready.
    Full,
}

/// A node's zone: region and zone as one text.
pub fn zone(node: &Node) -> String {
    let labels = labels(&node.metadata);
    let get = |key: &str| labels.get(key).cloned().unwrap_or_default();
    format!(
        "{}:\0:{}",
        get("topology.kubernetes.io/region"),
        get("topology.kubernetes.io/zone")
    )
}

/// Judges a zone by how many of its nodes are ready.
pub fn zone_state(ready: usize, not_ready: usize, threshold: f32) -> ZoneState {
    match (ready, not_ready) {
        (0, n) if n > 0 => ZoneState::Full,
        (r, n) if n > 2 && n as f32 / (r + n) as f32 >= threshold => ZoneState::Partial,
        _ => ZoneState::Normal,
    }
}

/// The eviction rates, by flags.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Nodes a second.
    pub usual: f32,
    /// Nodes a second in a large zone that is failing.
    pub failing: f32,
    /// From which part of failed nodes on a zone is failing.
    pub threshold: f32,
    /// A zone larger than this is large.
    pub large: usize,
}

/// How fast nodes of each zone may lose their pods. When no zone has a ready node, the trouble is more likely here than there, and nobody loses anything.
pub fn eviction_rates(readiness: &[(Arc<Node>, String)], rates: Rates) -> HashMap<String, f32> {
    let mut zones: HashMap<String, (usize, usize)> = HashMap::new();
    for (node, ready) in readiness {
        let counts = zones.entry(zone(node)).or_default();
        if ready == "True" {
            counts.0 += 1
        } else {
            counts.1 += 1
        }
    }
    let states: HashMap<String, (ZoneState, usize)> = zones
        .into_iter()
        .map(|(zone, (r, n))| (zone, (zone_state(r, n, rates.threshold), r + n)))
        .collect();
    let all_dark = !states.is_empty() && states.values().all(|(s, _)| *s == ZoneState::Full);
    states
        .into_iter()
        .map(|(zone, (state, size))| {
            let rate = match state {
                _ if all_dark => 0.0,
                ZoneState::Partial if size <= rates.large => 0.0,
                ZoneState::Partial => rates.failing,
                ZoneState::Normal | ZoneState::Full => rates.usual,
            };
            (zone, rate)
        })
        .collect()
}

/// A bucket that lets one through at once and then as many a second as its rate.
#[derive(Clone, Debug)]
pub struct Bucket {
    tokens: f32,
    at: Timestamp,
}

impl Bucket {
    /// A full bucket.
    pub fn new(now: Timestamp) -> Self {
        Self { tokens: 1.0, at: now }
    }

    /// Whether one may pass now.
    pub fn pass(&mut self, rate: f32, now: Timestamp) -> bool {
        let passed = now.duration_since(self.at).as_secs_f32().max(0.0);
        self.tokens = (self.tokens + passed * rate).min(1.0);
        self.at = now;
        let pass = rate > 0.0 && self.tokens >= 1.0;
        if pass {
            self.tokens -= 1.0;
        }
        pass
    }
}

/// The name, for logs and events.
pub fn name_of(node: &Node) -> &str {
    name(&node.metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(ready: Option<&str>, heartbeat: &str) -> Node {
        let conditions: Vec<Value> = ready
            .iter()
            .map(|r| json!({"type": "Ready", "status": r, "lastHeartbeatTime": heartbeat}))
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": "n1", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    fn lease(renewed: &str) -> Lease {
        serde_json::from_value(json!({"spec": {"renewTime": renewed}})).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(second)
    }

    const PATIENCE: Patience = Patience {
        starting: SignedDuration::from_secs(60),
        running: SignedDuration::from_secs(50),
    };

    #[test]
    fn a_node_is_unknown_after_its_silence_and_not_before() {
        let running = node(Some("True"), "2026-01-01T00:00:00Z");
        let first = look(&running, None, None, PATIENCE, at(100));
        assert!(
            first.status.is_none() && first.ready == "True",
            "what it was before is not known"
        );
        let later = |now, lease: Option<&Lease>| look(&running, lease, Some(&first.record), PATIENCE, now);
        assert!(later(at(150), None).status.is_none());
        let silent = later(at(151), None);
        assert!(silent.fell && silent.ready == "Unknown");
        let status = silent.status.unwrap();
        assert_eq!(
            condition(&status, "Ready").unwrap().reason.as_deref(),
            Some("NodeStatusUnknown")
        );
        assert_eq!(
            condition(&status, "DiskPressure").unwrap().reason.as_deref(),
            Some("NodeStatusNeverUpdated")
        );
        let renewed = later(at(151), Some(&lease("2026-01-01T00:02:20.000000Z")));
        assert!(
            renewed.status.is_none() && renewed.ready == "True",
            "its Lease was renewed"
        );
        let written = look(&status, None, Some(&silent.record), PATIENCE, at(160));
        assert!(
            written.status.is_none() && !written.fell,
            "nothing is written twice"
        );
    }

    #[test]
    fn a_node_that_never_spoke_gets_its_time_from_its_creation() {
        let silent = node(None, "");
        assert!(look(&silent, None, None, PATIENCE, at(60)).status.is_none());
        assert!(look(&silent, None, None, PATIENCE, at(61)).status.is_some());
    }

    #[test]
    fn taints_follow_conditions_and_leave_others_alone() {
        let mut node = node(Some("Unknown"), "2026-01-01T00:00:00Z");
        node.spec.get_or_insert_default().unschedulable = Some(true);
        node.spec.get_or_insert_default().taints = Some(vec![Taint {
            key: "mine".to_owned(),
            effect: NO_SCHEDULE.to_owned(),
            ..Taint::default()
        }]);
        let keys = |taints: Vec<Taint>| taints.into_iter().map(|t| t.key).collect::<Vec<_>>();
        let taints = schedule_taints(&node, at(0)).unwrap();
        assert_eq!(
            keys(taints.clone()),
            ["mine", UNREACHABLE, "node.kubernetes.io/unschedulable"]
        );
        node.spec.get_or_insert_default().taints = Some(taints);
        assert_eq!(schedule_taints(&node, at(0)), None);
        let both = execute_taints(&node, "False", at(0)).unwrap();
        assert_eq!(
            both.last().map(|t| (t.key.as_str(), t.effect.as_str())),
            Some((NOT_READY, NO_EXECUTE))
        );
        assert_eq!(execute_taints(&node, "True", at(0)), None);
    }

    #[test]
    fn evictions_slow_down_or_stop_when_much_has_failed() {
        let rates = Rates {
            usual: 0.1,
            failing: 0.01,
            threshold: 0.55,
            large: 50,
        };
        let zone = |ready: usize, failed: usize, zone: &str| {
            let mut node = node(None, "");
            node.metadata.labels = Some([("topology.kubernetes.io/zone".to_owned(), zone.to_owned())].into());
            let node = Arc::new(node);
            let ready = (0..ready)
                .map(|_| (node.clone(), "True".to_owned()))
                .collect::<Vec<_>>();
            let failed = (0..failed)
                .map(|_| (node.clone(), "Unknown".to_owned()))
                .collect::<Vec<_>>();
            [ready, failed].concat()
        };
        for (what, nodes, want) in [
            ("one of three", zone(2, 1, "a"), 0.1),
            ("all of one zone, the only one", zone(0, 3, "a"), 0.0),
            ("most of a small zone", zone(2, 4, "a"), 0.0),
            ("most of a large zone", zone(20, 40, "a"), 0.01),
            (
                "all of one zone of two",
                [zone(0, 3, "a"), zone(3, 0, "b")].concat(),
                0.1,
            ),
        ] {
            let first = super::zone(&nodes[0].0);
            assert_eq!(eviction_rates(&nodes, rates)[&first], want, "{what}");
        }
    }

    #[test]
    fn a_bucket_lets_one_through_and_then_as_many_as_its_rate() {
        let mut bucket = Bucket::new(at(0));
        assert!(bucket.pass(0.1, at(0)));
        assert!(!bucket.pass(0.1, at(9)));
        assert!(bucket.pass(0.1, at(10)));
        assert!(!bucket.pass(0.0, at(1000)));
    }
}
