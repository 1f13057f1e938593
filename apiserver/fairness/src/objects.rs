//! The configuration objects that every server makes and maintains: two mandatory ones of each kind, and the suggested ones.
//!
//! The annotation `apf.kubernetes.io/autoupdate-spec` says whether a suggested object follows the server's version; a mandatory one
//! always does (of `exempt`, people may set shares and lending). An object that has it and is none of these any longer goes.

use rutter_api::Value;
use rutter_api::object::ObjectExt;
use serde_json::json;

const ANNOTATION: &str = "apf.kubernetes.io/autoupdate-spec";
const VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";

/// What to do with a stored object.
#[derive(Clone, Debug, PartialEq)]
pub enum Upkeep {
    /// Nothing.
    Keep,
    /// Make it.
    Create(Value),
    /// Bring it to this.
    Update(Value),
}

/// Whether an object is one of the mandatory ones, by its name.
pub fn is_mandatory(object: &Value) -> bool {
    matches!(object.name(), "exempt" | "catch-all")
}

/// What to do so that a stored object (none when it is missing) is as `wanted`.
pub fn maintain(stored: Option<&Value>, wanted: &Value) -> Upkeep {
    let Some(stored) = stored else {
        return Upkeep::Create(wanted.clone());
    };
    let follows = is_mandatory(wanted) || follows(stored);
    let marked = stored.annotation(ANNOTATION).and_then(parse_bool) == Some(follows);
    let differs = follows && !same_spec(stored, wanted);
    if marked && !differs {
        return Upkeep::Keep;
    }
    let mut revised = stored.clone();
    if differs {
        revised.set("spec", wanted.at("spec").clone());
    }
    if !marked {
        let mut annotations = stored.map_at("metadata.annotations").cloned().unwrap_or_default();
        annotations.insert(ANNOTATION.to_owned(), Value::from(follows.to_string()));
        revised.set("metadata.annotations", annotations);
    }
    Upkeep::Update(revised)
}

/// Whether a stored object was made by a server and is none of `wanted`.
pub fn is_left_over(stored: &Value, wanted: &[Value]) -> bool {
    stored.annotation(ANNOTATION).and_then(parse_bool) == Some(true)
        && !wanted.iter().any(|known| known.name() == stored.name())
}

/// Whether the spec of a suggested object follows the server's: as its annotation says, or while nobody changed it.
fn follows(stored: &Value) -> bool {
    stored
        .annotation(ANNOTATION)
        .and_then(parse_bool)
        .unwrap_or_else(|| stored.int_at("metadata.generation") == Some(1))
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn same_spec(stored: &Value, wanted: &Value) -> bool {
    let mut wanted = wanted.at("spec").clone();
    if wanted.str_at("type") == "Exempt" {
        let own = stored.at("spec.exempt");
        if own.is_null() {
            return false;
        }
        wanted.set("exempt", own.clone());
    }
    *stored.at("spec") == wanted
}

fn level(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": VERSION, "kind": "PriorityLevelConfiguration",
        "metadata": {"name": name, "annotations": {ANNOTATION: "true"}}, "spec": spec,
    })
}

fn limited(name: &str, shares: u32, lendable: u32, queues: u32, hand: u32) -> Value {
    level(
        name,
        json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": {"type": "Queue", "queuing": {
                "queues": queues, "handSize": hand, "queueLengthLimit": 50,
            }},
        }}),
    )
}

/// The PriorityLevelConfigurations.
pub fn levels() -> Vec<Value> {
    vec![
        level(
            "exempt",
            json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
        ),
        level(
            "catch-all",
            json!({"type": "Limited", "limited": {
                "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"},
            }}),
        ),
        limited("system", 30, 33, 64, 6),
        limited("node-high", 40, 25, 64, 6),
        limited("leader-election", 10, 0, 16, 4),
        limited("workload-high", 40, 50, 128, 6),
        limited("workload-low", 100, 90, 128, 6),
        limited("global-default", 20, 50, 128, 6),
    ]
}

fn groups(names: &[&str]) -> Vec<Value> {
    names
        .iter()
        .map(|name| json!({"kind": "Group", "group": {"name": name}}))
        .collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names
        .iter()
        .map(|name| json!({"kind": "User", "user": {"name": name}}))
        .collect()
}

fn system_accounts() -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}})
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({
        "verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"],
    });
    if cluster {
        rule.set("clusterScope", true);
    }
    rule
}

/// A rule that covers all that its subjects do.
fn everything(subjects: Vec<Value>) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [resources(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

fn schema(name: &str, level: &str, precedence: u32, distinguisher: &str, rule: Value) -> Value {
    let mut schema = json!({
        "apiVersion": VERSION, "kind": "FlowSchema",
        "metadata": {"name": name, "annotations": {ANNOTATION: "true"}},
        "spec": {
            "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule],
        },
    });
    if !distinguisher.is_empty() {
        schema.set("spec.distinguisherMethod", json!({"type": distinguisher}));
    }
    schema
}

/// The FlowSchemas.
pub fn schemas() -> Vec<Value> {
    const ANYBODY: &[&str] = &["system:unauthenticated", "system:authenticated"];
    const NODES: &[&str] = &["system:nodes"];
    const BY_USER: &str = "ByUser";
    const BY_NAMESPACE: &str = "ByNamespace";
    let leases = "coordination.k8s.io";
    let mut electors = users(&["system:kube-controller-manager", "system:kube-scheduler"]);
    electors.push(system_accounts());
    let probes = json!({
        "subjects": groups(ANYBODY),
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
    });
    let election = json!({
        "subjects": electors,
        "resourceRules": [resources(&["get", "create", "update"], leases, &["leases"], false)],
    });
    let heartbeats = json!({
        "subjects": groups(NODES),
        "resourceRules": [
            resources(&["*"], "", &["nodes", "nodes/status"], true),
            resources(&["*"], leases, &["leases"], false),
        ],
    });
    let manager = everything(users(&["system:kube-controller-manager"]));
    let scheduler = everything(users(&["system:kube-scheduler"]));
    let accounts = everything(groups(&["system:serviceaccounts"]));
    vec![
        schema("exempt", "exempt", 1, "", everything(groups(&["system:masters"]))),
        schema("probes", "exempt", 2, "", probes),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            BY_USER,
            election,
        ),
        schema("system-node-high", "node-high", 400, BY_USER, heartbeats),
        schema("system-nodes", "system", 500, BY_USER, everything(groups(NODES))),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            BY_NAMESPACE,
            manager,
        ),
        schema("kube-scheduler", "workload-high", 800, BY_NAMESPACE, scheduler),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            BY_NAMESPACE,
            everything(vec![system_accounts()]),
        ),
        schema("service-accounts", "workload-low", 9000, BY_USER, accounts),
        schema(
            "global-default",
            "global-default",
            9900,
            BY_USER,
            everything(groups(ANYBODY)),
        ),
        schema(
            "catch-all",
            "catch-all",
            10_000,
            BY_USER,
            everything(groups(ANYBODY)),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_made_and_follow_while_nobody_changed_them() {
        let named = |name: &str| {
            levels()
                .into_iter()
                .find(|l| l.name() == name)
                .unwrap_or_default()
        };
        let changed = |name: &str, annotation: Option<&str>, generation: i64| {
            let mut object = named(name);
            object.set("metadata.generation", generation);
            object.take_at("metadata.annotations");
            if let Some(text) = annotation {
                object.set("metadata.annotations", json!({ANNOTATION: text}));
            }
            if name != "exempt" {
                object.set("spec.limited.nominalConcurrencyShares", 77);
            } else {
                object.set("spec.exempt.nominalConcurrencyShares", 77);
            }
            object
        };
        assert_eq!(maintain(None, &named("system")), Upkeep::Create(named("system")));
        assert_eq!(maintain(Some(&named("system")), &named("system")), Upkeep::Keep);
        // name, annotation, generation -> shares afterwards and annotation afterwards; none where nothing is to do
        #[rustfmt::skip]
        let table = [
            ("system", Some("true"), 2, Some((30, "true"))),
            ("system", Some("false"), 2, None),
            ("system", None, 1, Some((30, "true"))),
            ("system", None, 2, Some((77, "false"))),
            ("system", Some("x"), 2, Some((77, "false"))),
            ("catch-all", Some("false"), 2, Some((5, "true"))),
            ("exempt", Some("true"), 2, None),
        ];
        for (name, annotation, generation, want) in table {
            let got = match maintain(Some(&changed(name, annotation, generation)), &named(name)) {
                Upkeep::Update(object) => {
                    let shares = object.int_at("spec.limited.nominalConcurrencyShares");
                    let says = object.annotation(ANNOTATION).unwrap_or_default().to_owned();
                    Some((shares.unwrap_or_default(), says))
                }
                _ => None,
            };
            let want = want.map(|(shares, says)| (shares, says.to_owned()));
            assert_eq!(got, want, "{name} {annotation:?} {generation}");
        }
    }

    #[test]
    fn only_what_a_server_made_and_no_longer_wants_goes() {
        let mut old = level("old", json!({}));
        assert!(is_left_over(&old, &levels()));
        assert!(!is_left_over(&levels().remove(2), &levels()));
        old.set("metadata.annotations", json!({}));
        assert!(!is_left_over(&old, &levels()));
    }
}
