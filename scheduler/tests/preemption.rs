//! Who has to go for whom.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Cluster, both, cpu, node, on, pod};
use rutter_scheduler::model::{Pod, Str};
use rutter_scheduler::scheduler::{Decision, Failure};
use rutter_scheduler::snapshot::Budget;
use serde_json::{Value, json};
use std::sync::Arc;

fn ranked(priority: i32, rest: Value) -> Value {
    both(json!({"spec": {"priority": priority}}), rest)
}

fn there(name: &str, node: &str, priority: i32, amount: &str) -> Arc<Pod> {
    pod(name, ranked(priority, both(cpu(amount), on(node))))
}

fn cluster(pods: &[Arc<Pod>]) -> Cluster {
    let mut cluster = Cluster::new().nodes(&["a", "b"]);
    for pod in pods {
        cluster.add(pod, 0);
    }
    cluster
}

fn victims(failure: &Failure) -> Vec<String> {
    failure.victims.iter().map(|p| p.name.to_string()).collect()
}

#[test]
fn the_least_important_go_and_as_few_as_will_do() {
    for (what, pods, want_node, want) in [
        (
            "lower priority",
            vec![there("1", "a", 5, "4"), there("2", "b", 3, "4")],
            "b",
            vec!["2"],
        ),
        (
            "as few as will do",
            vec![
                there("1", "a", 5, "4"),
                there("2", "b", 1, "1"),
                there("3", "b", 1, "3"),
            ],
            "b",
            vec!["3"],
        ),
        (
            "the lowest highest priority before the number",
            vec![
                there("1", "a", 2, "4"),
                there("2", "b", 1, "2"),
                there("3", "b", 1, "2"),
            ],
            "b",
            vec!["2", "3"],
        ),
        (
            "the fewest when priorities are the same",
            vec![
                there("1", "a", 1, "4"),
                there("2", "b", 1, "2"),
                there("3", "b", 1, "2"),
            ],
            "a",
            vec!["1"],
        ),
    ] {
        let failure = cluster(&pods).fail(&pod("new", ranked(10, cpu("3"))));
        let mut got = victims(&failure);
        got.sort();
        assert_eq!(got, want, "{what}");
        assert_eq!(failure.nominate, Some(Some(Str::new(want_node))), "{what}");
        assert_eq!(
            failure.message, "0/2 nodes are available: 2 Insufficient cpu.",
            "{what}"
        );
    }
}

#[test]
fn who_started_last_goes_when_all_else_is_equal() {
    let started = |name: &str, node: &str, at: &str| {
        pod(
            name,
            ranked(
                1,
                both(both(cpu("4"), on(node)), json!({"status": {"startTime": at}})),
            ),
        )
    };
    let pods = [
        started("old", "a", "2026-01-01T00:00:00Z"),
        started("young", "b", "2026-01-02T00:00:00Z"),
    ];
    assert_eq!(
        victims(&cluster(&pods).fail(&pod("new", ranked(10, cpu("3"))))),
        ["young"]
    );
}

#[test]
fn a_budget_protects_its_pods_where_there_is_a_choice() {
    let guarded = pod(
        "guarded",
        both(
            json!({"metadata": {"labels": {"app": "db"}}}),
            ranked(1, both(cpu("4"), on("a"))),
        ),
    );
    let mut cluster = cluster(&[guarded, there("free", "b", 5, "4")]);
    let selector = serde_json::from_value(json!({"matchLabels": {"app": "db"}})).unwrap();
    let budget = Budget::new("default", Some(&selector), 0, Vec::new());
    cluster
        .0
        .snapshot_mut()
        .budgets
        .insert(("default".into(), "db".into()), budget);
    let failure = cluster.fail(&pod("new", ranked(10, cpu("3"))));
    assert_eq!(victims(&failure), ["free"]);
}

#[test]
fn nobody_goes_when_it_would_not_help_and_the_message_says_so() {
    let unhelpful = "preemption: 0/2 nodes are available: ";
    for (what, pods, new, want) in [
        (
            "the same priority",
            vec![there("1", "a", 5, "4"), there("2", "b", 5, "4")],
            ranked(5, cpu("3")),
            format!("{unhelpful}2 No preemption victims found for incoming pod."),
        ),
        (
            "no node is large enough",
            vec![there("1", "a", 0, "4")],
            ranked(5, cpu("5")),
            format!("{unhelpful}2 Preemption is not helpful for scheduling."),
        ),
        (
            "others stay that are too large",
            vec![
                there("1", "a", 9, "3"),
                there("2", "a", 0, "1"),
                there("3", "b", 9, "4"),
            ],
            ranked(5, cpu("3")),
            format!("{unhelpful}1 Insufficient cpu, 1 No preemption victims found for incoming pod."),
        ),
        (
            "it may not",
            vec![there("1", "a", 0, "4"), there("2", "b", 0, "4")],
            ranked(5, both(cpu("3"), json!({"spec": {"preemptionPolicy": "Never"}}))),
            "preemption: not eligible due to preemptionPolicy=Never.".to_owned(),
        ),
    ] {
        let failure = cluster(&pods).fail(&pod("new", new));
        assert_eq!(victims(&failure), Vec::<String>::new(), "{what}");
        assert!(failure.message.ends_with(&want), "{what}: {}", failure.message);
    }
}

#[test]
fn room_that_is_made_for_one_pod_is_not_given_to_a_less_important_one() {
    let old = there("old", "a", 0, "4");
    let mut cluster = Cluster::new().nodes(&["a"]);
    cluster.add(&old, 0);
    let important = pod("important", ranked(10, cpu("3")));
    assert_eq!(victims(&cluster.fail(&important)), ["old"]);
    cluster.remove(&old, 2_000);
    let rival = pod("rival", ranked(5, cpu("3")));
    cluster.add(&rival, 2_000);
    let mut got = Vec::new();
    while let Some(decision) = cluster.0.decide(2_000) {
        got.push(match decision {
            Decision::Bind(b) => format!("{} on {}", b.pod.name, b.node),
            Decision::Fail(f) => format!("{} waits", f.pod.name),
        });
    }
    assert_eq!(got, ["important on a", "rival waits"]);
}

#[test]
fn a_pod_waits_while_others_go_for_it() {
    let leaving = |preempted: bool| {
        let reason = if preempted {
            "PreemptionByScheduler"
        } else {
            "DeletionByTaintManager"
        };
        pod(
            "old",
            both(
                ranked(0, both(cpu("4"), on("a"))),
                json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
                    "status": {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason}]}}),
            ),
        )
    };
    let new = || {
        let nominated = json!({"status": {"nominatedNodeName": "a"}});
        pod("new", ranked(10, both(cpu("3"), nominated)))
    };
    let run = |preempted| {
        let mut cluster = Cluster::new().nodes(&["a"]);
        cluster.add(&leaving(preempted), 0);
        cluster.fail(&new())
    };
    let waits = run(true);
    let want = "preemption: not eligible due to a terminating pod on the nominated node.";
    assert!(waits.message.ends_with(want), "{}", waits.message);
    assert_eq!(waits.nominate, None);
    assert_eq!(victims(&run(false)), ["old"]);
}

#[test]
fn a_pod_goes_that_keeps_its_like_away() {
    let apart = |rest: Value| {
        both(
            json!({"metadata": {"labels": {"app": "x"}}, "spec": {"affinity": {"podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"}]}}}}),
            rest,
        )
    };
    let mut cluster = Cluster::new();
    cluster.0.node_changed(None, Some(node("a", json!({}))), 0);
    cluster.add(&pod("old", apart(ranked(0, on("a")))), 0);
    let failure = cluster.fail(&pod("new", apart(ranked(10, json!({})))));
    assert_eq!(victims(&failure), ["old"]);
}
