//! Where pods with volumes go.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Cluster, UNHELPFUL, both, on, pod};
use rutter_scheduler::framework::PreBindAction;
use rutter_scheduler::scheduler::{Bound, Decision};
use serde_json::{Value, json};

fn claims(names: &[&str]) -> Value {
    let volumes: Vec<Value> = names
        .iter()
        .map(|n| json!({"name": n, "persistentVolumeClaim": {"claimName": n}}))
        .collect();
    json!({"spec": {"volumes": volumes}})
}

fn claim(name: &str, rest: Value) -> Value {
    let base = json!({
        "metadata": {"name": name, "uid": name, "resourceVersion": "5"},
        "spec": {"storageClassName": "late", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    both(base, rest)
}

fn bound(name: &str, volume: &str) -> Value {
    let annotations = json!({"annotations": {"pv.kubernetes.io/bind-completed": "yes"}});
    claim(
        name,
        json!({"metadata": annotations, "spec": {"volumeName": volume}}),
    )
}

fn volume(name: &str, host: &str, size: &str) -> Value {
    json!({
        "metadata": {"name": name, "resourceVersion": "7"},
        "spec": {
            "storageClassName": "late", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}},
        },
        "status": {"phase": "Available"},
    })
}

fn class(name: &str, provisioner: &str, mode: &str) -> Value {
    json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode})
}

fn late(provisioner: &str) -> Cluster {
    Cluster::new()
        .nodes(&["a", "b"])
        .class(class("late", provisioner, "WaitForFirstConsumer"))
}

const STATIC: &str = "kubernetes.io/no-provisioner";

#[test]
fn a_pod_follows_its_bound_volume() {
    let mut cluster = late(STATIC)
        .claim(bound("data", "v"))
        .volume(volume("v", "b", "1Gi"));
    assert_eq!(cluster.place("p", claims(&["data"])), Ok("b".to_owned()));
}

#[test]
fn claims_that_bar_a_pod_from_every_node_are_named() {
    let cluster = || Cluster::new().nodes(&["a"]).class(class("now", "x", "Immediate"));
    let immediate = claim("data", json!({"spec": {"storageClassName": "now"}}));
    let leaving = claim(
        "data",
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    );
    let lost = claim(
        "data",
        json!({"spec": {"volumeName": "v"}, "status": {"phase": "Lost"}}),
    );
    for (cluster, want) in [
        (cluster(), "persistentvolumeclaim \"data\" not found"),
        (
            cluster().claim(immediate),
            "pod has unbound immediate PersistentVolumeClaims",
        ),
        (
            cluster().claim(leaving),
            "persistentvolumeclaim \"data\" is being deleted",
        ),
        (
            cluster().claim(lost),
            "persistentvolumeclaim \"data\" bound to non-existent persistentvolume \"v\"",
        ),
    ] {
        let mut cluster = cluster;
        let want = format!("0/1 nodes are available: {want}. {UNHELPFUL}");
        assert_eq!(cluster.place("p", claims(&["data"])), Err(want));
    }
}

#[test]
fn a_late_claim_takes_the_smallest_volume_that_will_do_and_nobody_else_gets_it() {
    let mut cluster = late(STATIC)
        .claim(claim("one", json!({})))
        .claim(claim("two", json!({})))
        .volume(volume("tiny", "a", "1Mi"))
        .volume(volume("large", "b", "9Gi"))
        .volume(volume("small", "b", "2Gi"));
    let Decision::Bind(binding) = cluster.decide(&pod("p", claims(&["one"]))) else {
        panic!("it is placed");
    };
    assert_eq!(binding.node, "b");
    let [
        PreBindAction::BindVolume { volume, claim },
        PreBindAction::AwaitBound { .. },
    ] = binding.actions.as_slice()
    else {
        panic!("{:?}", binding.actions);
    };
    assert_eq!((volume.name.as_str(), claim.name.as_str()), ("small", "one"));
    let Decision::Bind(second) = cluster.decide(&pod("q", claims(&["two"]))) else {
        panic!("it is placed");
    };
    assert!(matches!(&second.actions[0], PreBindAction::BindVolume { volume, .. } if volume.name == "large"));
    // What was set aside is given back when binding fails.
    cluster.0.bound(&binding.pod.uid, Bound::Moot, 0);
    assert!(
        cluster
            .0
            .snapshot()
            .storage
            .volume(&"small".into())
            .is_some_and(|v| v.claim.is_none())
    );
}

#[test]
fn a_late_claim_is_given_to_its_provisioner_with_the_node() {
    let mut cluster = late("csi.example.com").claim(claim("data", json!({})));
    let Decision::Bind(binding) = cluster.decide(&pod("p", claims(&["data"]))) else {
        panic!("it is placed");
    };
    assert!(matches!(&binding.actions[0], PreBindAction::SelectNode { node, .. } if *node == binding.node));
}

#[test]
fn what_keeps_late_claims_from_nodes_is_told() {
    let driver = json!({"metadata": {"name": "csi.example.com"}, "spec": {"storageCapacity": true}});
    let room = json!({"metadata": {"name": "r"}, "storageClassName": "late", "capacity": "500Mi",
        "nodeTopology": {"matchLabels": {"kubernetes.io/hostname": "a"}}});
    let elsewhere = claim(
        "data",
        json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "gone"}}}),
    );
    let plain = || claim("data", json!({}));
    for (cluster, want) in [
        (
            late(STATIC).claim(plain()),
            "node(s) didn't find available persistent volumes to bind",
        ),
        (
            late("csi.example.com").claim(elsewhere),
            "node(s) didn't find available persistent volumes to bind",
        ),
        (
            late("csi.example.com")
                .claim(plain())
                .csi_driver(driver)
                .capacity(room),
            "node(s) did not have enough free storage",
        ),
        (
            late(STATIC).claim(bound("data", "v")),
            "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
        ),
        (
            late(STATIC)
                .claim(bound("data", "v"))
                .volume(volume("v", "c", "1Gi")),
            "node(s) didn't match PersistentVolume's node affinity",
        ),
    ] {
        // Zones of volumes are another plugin's matter.
        let mut cluster = cluster;
        let message = cluster.place("p", claims(&["data"])).unwrap_err();
        let want = format!("0/2 nodes are available: 2 {want}. ");
        let alone = message.starts_with(&want) || message.contains("persistentvolume \"v\" not found");
        assert!(alone, "{message}");
    }
}

#[test]
fn a_volume_of_a_zone_keeps_its_pod_there() {
    let mut v = volume("v", "b", "1Gi");
    v["spec"]["nodeAffinity"] = Value::Null;
    v["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "z2__z3"});
    let node = |zone: &str| json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
    let mut cluster = Cluster::new()
        .node("a", node("z1"))
        .node("b", node("z3"))
        .claim(bound("data", "v"))
        .volume(v.clone());
    assert_eq!(cluster.place("p", claims(&["data"])), Ok("b".to_owned()));
    let mut cluster = Cluster::new()
        .node("a", node("z1"))
        .claim(bound("data", "v"))
        .volume(v);
    let want = format!("0/1 nodes are available: 1 node(s) had no available volume zone. {UNHELPFUL}");
    assert_eq!(cluster.place("p", claims(&["data"])), Err(want));
}

#[test]
fn a_claim_for_one_pod_is_used_by_one_pod() {
    let exclusive = both(
        bound("data", "v"),
        json!({"spec": {"accessModes": ["ReadWriteOncePod"]}}),
    );
    let mut cluster = late(STATIC)
        .claim(exclusive)
        .volume(volume("v", "b", "1Gi"))
        .pod("there", both(claims(&["data"]), on("b")));
    let message = cluster.place("p", claims(&["data"])).unwrap_err();
    let want = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
    assert!(message.contains(want), "{message}");
}

#[test]
fn a_disk_is_attached_to_a_node_once() {
    let disk = |read_only: bool| json!({"spec": {"volumes": [{"name": "d", "gcePersistentDisk": {"pdName": "x", "readOnly": read_only}}]}});
    let cluster = |read_only| {
        Cluster::new()
            .nodes(&["a"])
            .pod("there", both(disk(read_only), on("a")))
    };
    assert!(cluster(true).place("p", disk(true)).is_ok());
    let message = cluster(true).place("p", disk(false)).unwrap_err();
    assert!(message.contains("1 node(s) had no available disk."), "{message}");
}

#[test]
fn a_node_takes_as_many_volumes_as_its_driver_says() {
    let csi = |name: &str| {
        let mut v = volume(name, "a", "1Gi");
        v["spec"]["csi"] = json!({"driver": "csi.example.com", "volumeHandle": name});
        v
    };
    let limit = json!({"metadata": {"name": "a"}, "spec": {"drivers": [
        {"name": "csi.example.com", "nodeID": "a", "allocatable": {"count": 1}}]}});
    let mut cluster = Cluster::new()
        .nodes(&["a"])
        .csi_node(limit)
        .claim(bound("one", "v1"))
        .claim(bound("two", "v2"))
        .volume(csi("v1"))
        .volume(csi("v2"))
        .pod("there", both(claims(&["one"]), on("a")));
    assert_eq!(cluster.place("same", claims(&["one"])), Ok("a".to_owned()));
    let message = cluster.place("p", claims(&["two"])).unwrap_err();
    assert!(
        message.contains("1 node(s) exceed max volume count."),
        "{message}"
    );
}
