//! Tables over the plan.

use super::plan::{MANAGED_BY, MANAGER, Plan, SERVICE_NAME, Snapshot, plan};
use crate::common::owners::name;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use std::sync::Arc;

fn service(more: Value) -> Service {
    let mut spec = json!({"clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"], "ports": [{"name": "http", "port": 80, "targetPort": "web"}]});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default", "uid": "s", "labels": {"a": "b"}}, "spec": spec})).unwrap()
}

fn pod(number: usize, ready: bool, deleting: bool) -> Arc<Pod> {
    let ip = format!("10.0.{}.{}", number / 200, number % 200 + 1);
    let deleted = deleting.then_some("2026-01-01T00:00:00Z");
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": format!("p{number:04}"), "uid": format!("u{number}"), "namespace": "default", "deletionTimestamp": deleted},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": ip}, {"ip": format!("fd00::{number:x}")}],
                       "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
        .unwrap(),
    )
}

fn step(service: &Service, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>]) -> Plan {
    let node: Node = serde_json::from_value(
        json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z"}}}),
    )
    .unwrap();
    let node = Arc::new(node);
    let find = |name: &str| (name == "n1").then(|| node.clone());
    plan(&Snapshot {
        service,
        pods,
        slices,
        node: &find,
        max_per_slice: 100,
    })
}

/// The slices after a plan was carried out.
fn after(plan: Plan, slices: &[Arc<EndpointSlice>]) -> Vec<Arc<EndpointSlice>> {
    let gone: Vec<&str> = plan.delete.iter().chain([]).map(|s| name(&s.metadata)).collect();
    let changed: Vec<&str> = plan.update.iter().map(|s| name(&s.metadata)).collect();
    let kept = slices
        .iter()
        .filter(|s| !gone.contains(&name(&s.metadata)) && !changed.contains(&name(&s.metadata)))
        .cloned();
    let mut all: Vec<Arc<EndpointSlice>> = kept.collect();
    all.extend(plan.update.iter().cloned().map(Arc::new));
    for (at, mut made) in plan.create.into_iter().enumerate() {
        made.metadata.name = Some(format!("web-{}-{at}", slices.len()));
        all.push(Arc::new(made));
    }
    all
}

fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
    let mut sizes: Vec<usize> = slices
        .iter()
        .map(|s| s.endpoints.as_ref().map_or(0, Vec::len))
        .collect();
    sizes.sort();
    sizes
}

fn is_empty(plan: &Plan) -> bool {
    plan.create.is_empty() && plan.update.is_empty() && plan.delete.is_empty()
}

#[test]
fn endpoints_say_whether_they_are_ready_serving_and_terminating() {
    let pods = [
        pod(0, true, false),
        pod(1, false, false),
        pod(2, true, true),
        pod(3, false, true),
    ];
    for (what, more, want) in [
        (
            "usual",
            json!({}),
            [
                (true, true, false),
                (false, false, false),
                (false, true, true),
                (false, false, true),
            ],
        ),
        (
            "not ready ones published",
            json!({"publishNotReadyAddresses": true}),
            [
                (true, true, false),
                (true, false, false),
                (true, true, true),
                (true, false, true),
            ],
        ),
    ] {
        let plan = step(&service(more), &pods, &[]);
        let conditions = plan.create[0].endpoints.as_ref().unwrap().iter().map(|e| {
            let c = e.conditions.as_ref().unwrap();
            (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())
        });
        assert_eq!(conditions.collect::<Vec<_>>(), want, "{what}");
    }
}

#[test]
fn a_slice_carries_its_service_its_manager_its_zone_and_its_port() {
    let plan = step(
        &service(json!({"clusterIP": "None"})),
        &[pod(0, true, false)],
        &[],
    );
    let slice = &plan.create[0];
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!(
        (
            labels[SERVICE_NAME].as_str(),
            labels[MANAGED_BY].as_str(),
            labels["a"].as_str()
        ),
        ("web", MANAGER, "b")
    );
    assert!(labels.contains_key("service.kubernetes.io/headless"));
    let endpoint = &slice.endpoints.as_ref().unwrap()[0];
    assert_eq!(
        (endpoint.zone.as_deref(), endpoint.node_name.as_deref()),
        (Some("z"), Some("n1"))
    );
    assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(8080));
}

#[test]
fn slices_fill_up_and_are_left_alone_when_nothing_changes() {
    let service = service(json!({}));
    let pods: Vec<_> = (0..250).map(|n| pod(n, true, false)).collect();
    let slices = after(step(&service, &pods, &[]), &[]);
    assert_eq!(sizes(&slices), [50, 100, 100]);
    assert!(is_empty(&step(&service, &pods, &slices)));
    let more: Vec<_> = (0..260).map(|n| pod(n, true, false)).collect();
    let plan = step(&service, &more, &slices);
    assert_eq!(
        (plan.create.len(), plan.update.len(), plan.delete.len()),
        (0, 1, 0),
        "ten more fit into the last slice"
    );
    let fewer = step(&service, &pods[..249], &slices);
    assert_eq!(
        (fewer.create.len(), fewer.update.len(), fewer.delete.len()),
        (0, 1, 0)
    );
}

#[test]
fn a_service_without_endpoints_keeps_one_empty_slice() {
    let service = service(json!({}));
    let empty = after(step(&service, &[], &[]), &[]);
    assert_eq!(sizes(&empty), [0]);
    assert!(is_empty(&step(&service, &[], &empty)));
    let filled = after(step(&service, &[pod(0, true, false)], &empty), &empty);
    assert_eq!(sizes(&filled), [1], "the empty slice is used");
    assert_eq!(sizes(&after(step(&service, &[], &filled), &filled)), [0]);
}

#[test]
fn each_address_family_has_slices_of_its_own() {
    let both = service(json!({"ipFamilies": ["IPv4", "IPv6"]}));
    let slices = after(step(&both, &[pod(1, true, false)], &[]), &[]);
    let types: Vec<&str> = slices.iter().map(|s| s.address_type.as_str()).collect();
    assert_eq!(types, ["IPv4", "IPv6"]);
    let one = step(&service(json!({})), &[pod(1, true, false)], &slices);
    assert_eq!(
        one.delete
            .iter()
            .map(|s| s.address_type.as_str())
            .collect::<Vec<_>>(),
        ["IPv6"]
    );
}

#[test]
fn traffic_distribution_becomes_hints_for_ready_endpoints() {
    for (distribution, zones, nodes) in [
        ("PreferClose", true, false),
        ("PreferSameZone", true, false),
        ("PreferSameNode", true, true),
    ] {
        let plan = step(
            &service(json!({"trafficDistribution": distribution})),
            &[pod(0, true, false), pod(1, false, false)],
            &[],
        );
        let endpoints = plan.create[0].endpoints.clone().unwrap();
        let hints = endpoints[0].hints.as_ref().unwrap();
        assert_eq!(
            (hints.for_zones.is_some(), hints.for_nodes.is_some()),
            (zones, nodes),
            "{distribution}"
        );
        assert_eq!(endpoints[1].hints, None);
    }
}

#[test]
fn a_pod_on_an_unknown_node_waits() {
    let mut lost = Pod::clone(&pod(0, true, false));
    lost.spec.as_mut().unwrap().node_name = Some("n2".to_owned());
    let plan = step(&service(json!({})), &[Arc::new(lost)], &[]);
    assert_eq!(plan.without_node, ["p0000"]);
    assert_eq!(sizes(&after(plan, &[])), [0]);
}
