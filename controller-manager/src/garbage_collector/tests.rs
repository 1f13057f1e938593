//! Tables over the graph.

use super::graph::{Decision, FOREGROUND, Graph, Identity, ORPHAN, OwnerState, Propagation, Uid, Work};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use std::collections::HashMap;

fn identity(name: &str) -> Identity {
    Identity {
        resource: "things.x".into(),
        kind: "Thing".into(),
        namespace: "default".into(),
        name: name.into(),
    }
}

fn object(name: &str, owners: &[(&str, bool)], deleting: bool, finalizers: &[&str]) -> ObjectMeta {
    let owners: Vec<Value> = owners
        .iter()
        .map(|(o, blocks)| json!({"apiVersion": "x/v1", "kind": "Thing", "name": o, "uid": o, "blockOwnerDeletion": blocks}))
        .collect();
    let deleted = deleting.then_some("2026-01-01T00:00:00Z");
    serde_json::from_value(
        json!({"name": name, "uid": name, "namespace": "default", "ownerReferences": owners,
        "finalizers": finalizers, "deletionTimestamp": deleted, "resourceVersion": "1"}),
    )
    .unwrap()
}

fn see(
    graph: &mut Graph,
    name: &str,
    owners: &[(&str, bool)],
    deleting: bool,
    finalizers: &[&str],
) -> Vec<Work> {
    graph.observe(identity(name), &object(name, owners, deleting, finalizers))
}

fn delete(name: &str) -> Work {
    Work::Delete(Uid::from(name))
}

fn decide(graph: &Graph, name: &str) -> Decision {
    graph.decide(name, &HashMap::new())
}

const BACKGROUND: Decision = Decision::Delete {
    propagation: Propagation::Background,
    unblock: false,
};

#[test]
fn dependents_follow_an_owner_that_is_gone() {
    let mut graph = Graph::default();
    see(&mut graph, "set", &[], false, &[]);
    assert_eq!(
        see(&mut graph, "pod", &[("set", true)], false, &[]),
        [],
        "its owner is there"
    );
    assert_eq!(decide(&graph, "pod"), Decision::Nothing);
    assert_eq!(graph.forget("set"), [delete("pod")]);
    assert_eq!(decide(&graph, "pod"), BACKGROUND);
    assert_eq!(graph.forget("pod"), []);
    assert!(graph.is_empty());
}

#[test]
fn an_owner_that_was_never_seen_is_asked_for() {
    let mut graph = Graph::default();
    assert_eq!(
        see(&mut graph, "pod", &[("set", true)], false, &[]),
        [delete("pod")]
    );
    assert_eq!(decide(&graph, "pod"), Decision::Ask(0));
    for (answer, want) in [
        (OwnerState::Solid, Decision::Nothing),
        (OwnerState::Absent, BACKGROUND),
    ] {
        assert_eq!(
            graph.decide("pod", &HashMap::from([(Uid::from("set"), answer)])),
            want
        );
    }
}

#[test]
fn an_object_with_a_solid_owner_loses_only_its_dangling_references() {
    let mut graph = Graph::default();
    see(&mut graph, "alive", &[], false, &[]);
    see(&mut graph, "dead", &[], false, &[]);
    see(
        &mut graph,
        "pod",
        &[("alive", false), ("dead", false)],
        false,
        &[],
    );
    graph.forget("dead");
    assert_eq!(
        decide(&graph, "pod"),
        Decision::DropReferences(vec![Uid::from("dead")])
    );
}

#[test]
fn a_foreground_deletion_waits_for_blocking_dependents() {
    let mut graph = Graph::default();
    see(&mut graph, "set", &[], false, &[]);
    see(&mut graph, "blocking", &[("set", true)], false, &[]);
    see(&mut graph, "other", &[("set", false)], false, &[]);
    let work = see(&mut graph, "set", &[], true, &[FOREGROUND]);
    assert!(
        work.contains(&delete("blocking"))
            && work.contains(&delete("other"))
            && work.contains(&delete("set"))
    );
    assert_eq!(
        decide(&graph, "set"),
        Decision::LookAt(vec![Uid::from("blocking")])
    );
    assert_eq!(
        decide(&graph, "blocking"),
        BACKGROUND,
        "its only owner is on the way out"
    );
    assert_eq!(graph.forget("blocking"), [delete("set")]);
    assert_eq!(decide(&graph, "set"), Decision::FinishForeground);
}

#[test]
fn a_foreground_deletion_goes_down_level_by_level_and_a_circle_is_broken() {
    let mut graph = Graph::default();
    see(&mut graph, "top", &[("bottom", true)], true, &[FOREGROUND]);
    see(&mut graph, "middle", &[("top", true)], false, &[]);
    see(&mut graph, "bottom", &[("middle", true)], false, &[]);
    assert_eq!(
        decide(&graph, "middle"),
        Decision::Delete {
            propagation: Propagation::Foreground,
            unblock: false
        }
    );
    see(&mut graph, "middle", &[("top", true)], true, &[FOREGROUND]);
    assert_eq!(
        decide(&graph, "bottom"),
        Decision::Delete {
            propagation: Propagation::Foreground,
            unblock: true
        }
    );
}

#[test]
fn an_orphaning_deletion_asks_for_references_to_be_taken_out_once() {
    let mut graph = Graph::default();
    see(&mut graph, "set", &[], false, &[]);
    assert_eq!(
        see(&mut graph, "set", &[], true, &[ORPHAN]),
        [Work::Orphan(Uid::from("set"))]
    );
    assert_eq!(see(&mut graph, "set", &[], true, &[ORPHAN]), []);
}

#[test]
fn a_reference_that_names_another_object_is_looked_up_as_written() {
    let mut graph = Graph::default();
    see(&mut graph, "set", &[], false, &[]);
    let mut meta = object("pod", &[("set", true)], false, &[]);
    meta.owner_references.as_mut().unwrap()[0].name = "another".to_owned();
    assert_eq!(graph.observe(identity("pod"), &meta), [delete("pod")]);
    assert_eq!(decide(&graph, "pod"), Decision::Ask(0));
}

#[test]
fn an_owner_in_another_namespace_does_not_count() {
    let mut graph = Graph::default();
    let far = Identity {
        namespace: "elsewhere".into(),
        ..identity("set")
    };
    graph.observe(far, &object("set", &[], false, &[]));
    see(&mut graph, "pod", &[("set", true)], false, &[]);
    assert_eq!(decide(&graph, "pod"), Decision::Ask(0));
}

#[test]
fn a_dependent_that_stops_blocking_lets_its_owner_go() {
    let mut graph = Graph::default();
    see(&mut graph, "set", &[], true, &[FOREGROUND]);
    see(&mut graph, "pod", &[("set", true)], true, &["x"]);
    assert_eq!(decide(&graph, "set"), Decision::LookAt(vec![Uid::from("pod")]));
    assert!(see(&mut graph, "pod", &[("set", false)], true, &["x"]).contains(&delete("set")));
    assert_eq!(decide(&graph, "set"), Decision::FinishForeground);
}
