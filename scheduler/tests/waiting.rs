//! When pods that found no node are tried again. Time is a number.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Cluster, both, cpu, node, on, pod};
use rutter_scheduler::model::volume::Claim;
use rutter_scheduler::queue::{Depths, Queue, Timing, Waiting};
use rutter_scheduler::scheduler::{Bound, Decision};
use serde_json::json;

fn depths(cluster: &Cluster) -> (usize, usize, usize, usize) {
    let Depths {
        active,
        backoff,
        unschedulable,
        gated,
    } = cluster.0.queue().depths();
    (active, backoff, unschedulable, gated)
}

#[test]
fn a_higher_priority_goes_first_and_then_who_has_waited_longer() {
    let mut queue = Queue::new(Timing::default());
    let ranked = |name: &str, priority: i32| pod(name, json!({"spec": {"priority": priority}}));
    for (at, pod) in [
        (1, ranked("b", 0)),
        (2, ranked("c", 0)),
        (3, ranked("a", 5)),
        (3, ranked("d", 0)),
    ] {
        queue.activate(Waiting::new(pod, at), at);
    }
    let order: Vec<String> = std::iter::from_fn(|| queue.pop(9))
        .map(|w| w.pod.name.to_string())
        .collect();
    assert_eq!(order, ["a", "b", "c", "d"]);
}

#[test]
fn pauses_double_from_one_second_to_ten() {
    let mut queue = Queue::new(Timing::default());
    let mut waiting = Waiting::new(pod("p", json!({})), 0);
    let mut pauses = Vec::new();
    for errors in 1..=6 {
        waiting.errors = errors;
        queue.retry(waiting, 0);
        pauses.push(queue.next_wake().unwrap());
        assert!(
            queue.pop(pauses[pauses.len() - 1] - 1).is_none(),
            "errors aren't tried early"
        );
        waiting = queue.pop(u64::from(u32::MAX)).unwrap();
        waiting.since = 0;
    }
    assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
}

#[test]
fn a_pod_that_pauses_because_no_node_would_do_comes_early_when_nothing_else_is_to_do() {
    let mut queue = Queue::new(Timing::default());
    let mut waiting = Waiting::new(pod("p", json!({})), 0);
    waiting.unschedulable = 3;
    queue.retry(waiting, 0);
    queue.activate(Waiting::new(pod("q", json!({})), 1), 1);
    let names: Vec<String> = (0..2)
        .filter_map(|_| queue.pop(1))
        .map(|w| w.pod.name.to_string())
        .collect();
    assert_eq!(names, ["q", "p"]);
}

#[test]
fn a_pod_is_let_out_after_five_minutes_without_an_event() {
    let mut cluster = Cluster::new().nodes(&["n"]);
    cluster.fail(&pod("p", cpu("9")));
    assert_eq!(depths(&cluster), (0, 0, 1, 0));
    assert!(cluster.0.decide(299_999).is_none());
    assert!(matches!(cluster.0.decide(300_000), Some(Decision::Fail(_))));
}

#[test]
fn only_events_that_may_help_wake_a_pod() {
    // Turned down by NodeResourcesFit on a full node.
    let start = || {
        let mut cluster = Cluster::new().nodes(&["n"]);
        let there = pod("there", both(cpu("4"), on("n")));
        cluster.add(&there, 0);
        cluster.fail(&pod("p", cpu("2")));
        (cluster, there)
    };
    let (mut cluster, there) = start();
    cluster.0.node_changed(
        None,
        Some(node("small", json!({"status": {"allocatable": {"cpu": "1"}}}))),
        1,
    );
    assert_eq!(depths(&cluster).2, 1, "a node that is too small");
    let labelled = node("n", json!({"metadata": {"labels": {"a": "b"}}}));
    cluster
        .0
        .node_changed(Some(node("n", json!({}))), Some(labelled), 1);
    assert_eq!(depths(&cluster).2, 1, "a label");
    let claim = Claim::default();
    cluster
        .0
        .event(&rutter_scheduler::framework::ClusterEvent::Claim(None, &claim), 1);
    assert_eq!(depths(&cluster).2, 1, "a claim");
    cluster.add(&pod("other", both(cpu("0"), on("n"))), 1);
    assert_eq!(depths(&cluster).2, 1, "another pod comes");
    cluster.remove(&there, 2_000);
    assert_eq!(depths(&cluster), (1, 0, 0, 0), "a pod goes");
    let (mut cluster, _) = start();
    cluster.0.node_changed(None, Some(node("large", json!({}))), 1);
    assert_eq!(
        depths(&cluster),
        (0, 1, 0, 0),
        "a node that is large enough, after a pause"
    );
    assert!(matches!(cluster.0.decide(1), Some(Decision::Bind(b)) if b.node == "large"));
}

#[test]
fn a_taint_that_goes_wakes_the_pods_it_kept_away() {
    let tainted = node(
        "n",
        json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
    );
    let mut cluster = Cluster::new();
    cluster.0.node_changed(None, Some(tainted.clone()), 0);
    cluster.fail(&pod("p", json!({})));
    cluster
        .0
        .node_changed(Some(tainted), Some(node("n", json!({}))), 2_000);
    assert!(matches!(cluster.0.decide(2_000), Some(Decision::Bind(_))));
}

#[test]
fn without_nodes_any_event_wakes_a_pod() {
    let mut cluster = Cluster::new();
    cluster.fail(&pod("p", json!({})));
    cluster.0.node_changed(None, Some(node("n", json!({}))), 2_000);
    assert!(matches!(cluster.0.decide(2_000), Some(Decision::Bind(_))));
}

#[test]
fn a_gated_pod_waits_until_its_gates_are_gone() {
    let mut cluster = Cluster::new().nodes(&["n"]);
    let gated = pod("p", json!({"spec": {"schedulingGates": [{"name": "g"}]}}));
    cluster.add(&gated, 0);
    assert_eq!(depths(&cluster), (0, 0, 0, 1));
    assert!(cluster.0.decide(1).is_none());
    let open = pod("p", json!({"metadata": {"uid": gated.uid.to_string()}}));
    cluster.0.pod_changed(&gated, Some(open), 2);
    assert!(matches!(cluster.0.decide(2), Some(Decision::Bind(_))));
}

#[test]
fn what_an_assumed_pod_takes_counts_before_its_binding_ends_and_is_given_back_when_it_fails() {
    let mut cluster = Cluster::new().nodes(&["n"]);
    let Decision::Bind(binding) = cluster.decide(&pod("first", cpu("3"))) else {
        panic!("it fits");
    };
    cluster.fail(&pod("second", cpu("3")));
    let told = cluster.0.bound(
        &binding.pod.uid,
        Bound::Failed("binding rejected: no".to_owned()),
        2_000,
    );
    assert!(
        matches!(told, Some(Decision::Fail(f)) if f.reason == "SchedulerError" && f.message == "binding rejected: no")
    );
    let Some(Decision::Bind(next)) = cluster.0.decide(2_000) else {
        panic!("the second one fits now");
    };
    assert_eq!(&*next.pod.name, "second");
    assert_eq!(depths(&cluster), (0, 1, 0, 0), "the first one pauses");
}

#[test]
fn a_bound_pod_that_is_never_seen_expires() {
    let mut cluster = Cluster::new().nodes(&["n"]);
    assert_eq!(cluster.place("p", cpu("3")), Ok("n".to_owned()));
    cluster.0.expire(299_999);
    assert_eq!((cluster.0.assumed(), cluster.0.snapshot().pod_count()), (1, 1));
    cluster.0.expire(300_000);
    assert_eq!((cluster.0.assumed(), cluster.0.snapshot().pod_count()), (0, 0));
}

#[test]
fn a_pod_deleted_or_bound_by_another_leaves_the_queue() {
    let mut cluster = Cluster::new().nodes(&["n"]);
    let (a, b) = (pod("a", json!({})), pod("b", json!({})));
    cluster.add(&a, 0);
    cluster.add(&b, 0);
    cluster.remove(&a, 1);
    let bound = pod(
        "b",
        both(on("n"), json!({"metadata": {"uid": b.uid.to_string()}})),
    );
    cluster.0.pod_changed(&b, Some(bound), 1);
    assert_eq!(depths(&cluster), (0, 0, 0, 0));
    assert!(cluster.0.decide(1).is_none());
}

#[test]
fn a_pod_of_another_scheduler_is_left_alone() {
    let mut cluster = Cluster::new().nodes(&["n"]);
    cluster.add(&pod("p", json!({"spec": {"schedulerName": "other"}})), 0);
    assert!(cluster.0.decide(0).is_none());
}
