//! Where pods go: one table for each plugin that bars nodes, over clusters of few nodes.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Cluster, UNHELPFUL, both, cpu, on};
use serde_json::{Value, json};

/// The pod goes to `Ok(node)`, or is turned down with `Err(reason)` by one node.
fn check(what: &str, mut cluster: Cluster, pod: Value, want: Result<&str, &str>) {
    let got = cluster.place("new", pod);
    let want = want
        .map(str::to_owned)
        .map_err(|reason| format!("0/1 nodes are available: 1 {reason}. {UNHELPFUL}"));
    assert_eq!(got, want, "{what}");
}

fn one() -> Cluster {
    Cluster::new().nodes(&["n"])
}

fn container(requests: Value) -> Value {
    json!({"name": "c", "image": "web", "resources": {"requests": requests}})
}

fn spec(spec: Value) -> Value {
    json!({ "spec": spec })
}

#[test]
fn a_node_must_have_what_a_pod_asks_for() {
    let sidecar = json!({"name": "s", "image": "x", "restartPolicy": "Always", "resources": {"requests": {"cpu": "2"}}});
    let init = json!({"name": "i", "image": "x", "resources": {"requests": {"cpu": "3"}}});
    for (what, cluster, pod, want) in [
        ("what fits", one(), cpu("4"), Ok("n")),
        ("too much", one(), cpu("4001m"), Err("Insufficient cpu")),
        (
            "an unknown extended resource",
            one(),
            spec(json!({"containers": [container(json!({"example.com/gpu": "1"}))]})),
            Err("Insufficient example.com/gpu"),
        ),
        (
            "an extended resource",
            Cluster::new().node("n", json!({"status": {"allocatable": {"example.com/gpu": "2"}}})),
            spec(json!({"containers": [container(json!({"example.com/gpu": "2"}))]})),
            Ok("n"),
        ),
        (
            "init containers at their peak",
            one(),
            spec(json!({"initContainers": [init], "containers": [container(json!({"cpu": "1"}))]})),
            Ok("n"),
        ),
        (
            "sidecars under init containers",
            one(),
            spec(json!({"initContainers": [sidecar, init], "containers": [container(json!({"cpu": "1"}))]})),
            Err("Insufficient cpu"),
        ),
        (
            "overhead",
            one(),
            both(cpu("4"), spec(json!({"overhead": {"cpu": "1m"}}))),
            Err("Insufficient cpu"),
        ),
        (
            "requests of the pod as a whole in place of its containers'",
            one(),
            both(
                cpu("100m"),
                spec(json!({"resources": {"requests": {"cpu": "5"}}})),
            ),
            Err("Insufficient cpu"),
        ),
    ] {
        check(what, cluster, pod, want);
    }
}

#[test]
fn a_node_runs_as_many_pods_as_it_says() {
    let mut cluster = Cluster::new().node("n", json!({"status": {"allocatable": {"pods": "1"}}}));
    assert_eq!(cluster.place("1", json!({})), Ok("n".to_owned()));
    let told = "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    let want = format!("0/1 nodes are available: 1 Too many pods. {told}");
    assert_eq!(cluster.place("2", json!({})), Err(want));
}

#[test]
fn all_shortages_of_a_node_are_told() {
    let pod = spec(
        json!({"containers": [container(json!({"cpu": "5", "memory": "9Gi", "ephemeral-storage": "1Ti"}))]}),
    );
    let want = "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient ephemeral-storage, 1 Insufficient memory.";
    assert_eq!(one().place("p", pod), Err(format!("{want} {UNHELPFUL}")));
}

#[test]
fn an_emptier_node_is_better() {
    let mut cluster = Cluster::new().nodes(&["a", "b", "c"]);
    for (name, node) in [("1", "a"), ("2", "c")] {
        cluster = cluster.pod(name, both(cpu("2"), on(node)));
    }
    assert_eq!(cluster.place("new", cpu("1")), Ok("b".to_owned()));
}

#[test]
fn a_fuller_node_is_better_when_configured_so() {
    let profile = "profiles:\n- pluginConfig:\n  - name: NodeResourcesFit\n    args:\n      scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 100}]}\n  plugins: {multiPoint: {disabled: [{name: NodeResourcesBalancedAllocation}]}}\n";
    let mut cluster = Cluster::configured(profile)
        .nodes(&["a", "b", "c"])
        .pod("1", both(cpu("2"), on("b")));
    assert_eq!(cluster.place("new", cpu("1")), Ok("b".to_owned()));
}

#[test]
fn taints_and_cordons_keep_pods_away_that_dont_tolerate_them() {
    let tainted = |effect: &str| {
        Cluster::new().node(
            "n",
            json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": effect}]}}),
        )
    };
    let tolerates = |toleration: Value| spec(json!({"tolerations": [toleration]}));
    let cordoned = || Cluster::new().node("n", json!({"spec": {"unschedulable": true}}));
    let barred = Err("node(s) had untolerated taint(s)");
    for (what, cluster, pod, want) in [
        ("NoSchedule", tainted("NoSchedule"), json!({}), barred),
        ("NoExecute", tainted("NoExecute"), json!({}), barred),
        (
            "PreferNoSchedule",
            tainted("PreferNoSchedule"),
            json!({}),
            Ok("n"),
        ),
        (
            "tolerated",
            tainted("NoSchedule"),
            tolerates(json!({"key": "k", "value": "v"})),
            Ok("n"),
        ),
        (
            "another value",
            tainted("NoSchedule"),
            tolerates(json!({"key": "k", "value": "w"})),
            barred,
        ),
        (
            "another effect",
            tainted("NoSchedule"),
            tolerates(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"})),
            barred,
        ),
        (
            "all tolerated",
            tainted("NoSchedule"),
            tolerates(json!({"operator": "Exists"})),
            Ok("n"),
        ),
        (
            "cordoned",
            cordoned(),
            json!({}),
            Err("node(s) were unschedulable"),
        ),
        (
            "a tolerated cordon",
            cordoned(),
            tolerates(json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists"})),
            Ok("n"),
        ),
    ] {
        check(what, cluster, pod, want);
    }
}

#[test]
fn an_untainted_node_is_preferred() {
    let taint = json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}});
    let mut cluster = Cluster::new()
        .node("a", taint.clone())
        .nodes(&["b"])
        .node("c", taint);
    assert_eq!(cluster.place("new", json!({})), Ok("b".to_owned()));
}

#[test]
fn node_selectors_and_node_affinity_choose_nodes() {
    let labelled = || Cluster::new().node("n", json!({"metadata": {"labels": {"disk": "ssd", "size": "7"}}}));
    let required = |term: Value| {
        spec(json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}))
    };
    let expression = |key: &str, operator: &str, values: Value| {
        required(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
    };
    let barred = Err("node(s) didn't match Pod's node affinity/selector");
    for (what, pod, want) in [
        (
            "a selector",
            spec(json!({"nodeSelector": {"disk": "ssd"}})),
            Ok("n"),
        ),
        (
            "another selector",
            spec(json!({"nodeSelector": {"disk": "hdd"}})),
            barred,
        ),
        ("In", expression("disk", "In", json!(["hdd", "ssd"])), Ok("n")),
        ("NotIn", expression("disk", "NotIn", json!(["ssd"])), barred),
        ("Exists", expression("gpu", "Exists", json!([])), barred),
        (
            "DoesNotExist",
            expression("gpu", "DoesNotExist", json!([])),
            Ok("n"),
        ),
        ("Gt", expression("size", "Gt", json!(["6"])), Ok("n")),
        ("Lt", expression("size", "Lt", json!(["7"])), barred),
        ("an empty term", required(json!({})), barred),
    ] {
        check(what, labelled(), pod, want);
    }
}

#[test]
fn a_pod_that_names_a_node_by_field_looks_at_no_other() {
    let pod = |name: &str| {
        spec(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]}}}}),
        )
    };
    let mut cluster = Cluster::new().nodes(&["a", "b", "c"]);
    assert_eq!(cluster.place("1", pod("b")), Ok("b".to_owned()));
    let want = "0/3 nodes are available: 3 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";
    assert_eq!(cluster.place("2", pod("d")), Err(want.to_owned()));
}

#[test]
fn preferred_node_affinity_decides_between_nodes() {
    let pod = spec(
        json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 10, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]}}}),
    );
    let mut cluster = Cluster::new()
        .nodes(&["a"])
        .node("b", json!({"metadata": {"labels": {"disk": "ssd"}}}))
        .nodes(&["c"]);
    assert_eq!(cluster.place("new", pod), Ok("b".to_owned()));
}

#[test]
fn a_port_of_the_host_is_given_once() {
    let pod = |port: i32, protocol: &str, ip: &str| {
        spec(json!({"containers": [{"name": "c", "image": "web",
            "ports": [{"containerPort": 80, "hostPort": port, "protocol": protocol, "hostIP": ip}]}]}))
    };
    let taken = Err("node(s) didn't have free ports for the requested pod ports");
    for (what, pod, want) in [
        ("the same", pod(80, "TCP", ""), taken),
        ("another port", pod(81, "TCP", ""), Ok("n")),
        ("another protocol", pod(80, "UDP", ""), Ok("n")),
        ("one address of all", pod(80, "TCP", "10.0.0.1"), taken),
    ] {
        let there = self::spec(
            json!({"nodeName": "n", "priority": 1, "containers": [{"name": "c", "image": "web",
            "ports": [{"containerPort": 80, "hostPort": 80}]}]}),
        );
        let mut cluster = one().pod("there", there);
        let got = cluster.place("new", pod);
        let told = "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
        let want = want
            .map(str::to_owned)
            .map_err(|reason| format!("0/1 nodes are available: 1 {reason}. {told}"));
        assert_eq!(got, want, "{what}");
    }
}

fn zoned(names: &[(&str, &str)]) -> Cluster {
    names.iter().fold(Cluster::new(), |all, (name, zone)| {
        all.node(name, json!({"metadata": {"labels": {"zone": zone}}}))
    })
}

fn labelled(app: &str, rest: Value) -> Value {
    both(json!({"metadata": {"labels": {"app": app}}}), rest)
}

fn term(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

#[test]
fn pod_affinity_wants_pods_near_and_anti_affinity_apart() {
    let affinity = |kind: &str, term: Value| {
        spec(json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}))
    };
    let cluster = || {
        zoned(&[("a", "1"), ("b", "2")])
            .namespace("default", &[("team", "x")])
            .pod("there", labelled("db", on("a")))
    };
    let near = |app| affinity("podAffinity", term(app, "zone"));
    assert_eq!(cluster().place("p", near("db")), Ok("a".to_owned()), "near");
    assert_eq!(
        cluster().place("p", affinity("podAntiAffinity", term("db", "zone"))),
        Ok("b".to_owned()),
        "apart"
    );
    assert_eq!(
        cluster().place("p", near("web")),
        Err("0/2 nodes are available: 2 node(s) didn't match pod affinity rules. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.".to_owned()),
        "near nobody"
    );
    let first = cluster().place("p", labelled("web", near("web")));
    assert!(
        first.is_ok(),
        "the first of a group that wants to be together: {first:?}"
    );
    let mut selector = term("db", "zone");
    selector["namespaceSelector"] = json!({"matchLabels": {"team": "x"}});
    assert_eq!(
        cluster().place(
            "p",
            both(
                affinity("podAffinity", selector),
                json!({"metadata": {"namespace": "other"}})
            )
        ),
        Ok("a".to_owned()),
        "in namespaces chosen by labels"
    );
}

#[test]
fn anti_affinity_of_pods_that_are_there_counts() {
    let jealous = spec(json!({"nodeName": "a", "affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term("web", "zone")]}}}));
    let mut cluster = zoned(&[("a", "1"), ("b", "1")]).pod("there", jealous);
    assert!(cluster.place("free", labelled("db", json!({}))).is_ok());
    let message = cluster.place("web", labelled("web", json!({}))).unwrap_err();
    let want =
        "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules. preemption:";
    assert!(message.starts_with(want), "{message}");
}

#[test]
fn preferred_pod_affinity_decides_between_nodes() {
    for (kind, want) in [("podAffinity", "a"), ("podAntiAffinity", "b")] {
        let wish = json!([{"weight": 100, "podAffinityTerm": term("db", "kubernetes.io/hostname")}]);
        let pod =
            spec(json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": wish}}}));
        let mut cluster = Cluster::new()
            .nodes(&["a", "b"])
            .pod("there", labelled("db", on("a")));
        assert_eq!(cluster.place("new", pod), Ok(want.to_owned()), "{kind}");
    }
}

#[test]
fn pods_are_spread_over_places() {
    let constraint = |skew: i32, how: &str, rest: Value| {
        let base = json!({"maxSkew": skew, "topologyKey": "zone", "whenUnsatisfiable": how,
            "labelSelector": {"matchLabels": {"app": "web"}}});
        labelled(
            "web",
            spec(json!({"topologySpreadConstraints": [both(base, rest)]})),
        )
    };
    let cluster = || {
        zoned(&[("a", "1"), ("b", "1"), ("c", "2")])
            .pod("1", labelled("web", on("a")))
            .pod("2", labelled("web", on("b")))
            .pod("3", labelled("other", on("c")))
    };
    let hard = |skew| constraint(skew, "DoNotSchedule", json!({}));
    assert_eq!(
        cluster().place("p", hard(1)),
        Ok("c".to_owned()),
        "the emptier zone"
    );
    assert!(cluster().place("p", hard(3)).is_ok(), "a skew that may be");
    let soft = constraint(1, "ScheduleAnyway", json!({}));
    assert_eq!(cluster().place("p", soft), Ok("c".to_owned()), "as a wish");
    let many = constraint(1, "DoNotSchedule", json!({"minDomains": 3}));
    assert_eq!(
        cluster().place("p", many),
        Ok("c".to_owned()),
        "fewer places than wanted: 0 is the minimum"
    );
    let keyed = both(
        constraint(1, "DoNotSchedule", json!({"matchLabelKeys": ["hash"]})),
        json!({"metadata": {"labels": {"hash": "new"}}}),
    );
    assert!(
        cluster().place("p", keyed).is_ok(),
        "only pods of the same revision count"
    );
}

#[test]
fn a_node_without_the_label_or_over_the_skew_is_told_apart() {
    let pod = labelled(
        "web",
        spec(
            json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]}),
        ),
    );
    let mut cluster = zoned(&[("a", "1"), ("b", "2")])
        .nodes(&["c"])
        .node(
            "d",
            json!({"metadata": {"labels": {"zone": "2"}}, "spec": {"unschedulable": true}}),
        )
        .node(
            "b",
            json!({"metadata": {"labels": {"zone": "2"}}, "spec": {"unschedulable": true}}),
        )
        .pod("1", labelled("web", on("a")));
    let want = "0/4 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) didn't match pod topology spread constraints (missing required label), 2 node(s) were unschedulable. ";
    let message = cluster.place("p", pod).unwrap_err();
    assert!(message.starts_with(want), "{message}");
}

#[test]
fn pods_of_a_service_are_spread_by_default() {
    let mut cluster = Cluster::new().nodes(&["a", "b", "c"]);
    let labels = rutter_scheduler::model::Labels::of(&[("app", "web")]);
    cluster
        .0
        .snapshot_mut()
        .owners
        .set_service("default".into(), "web".into(), Some(labels));
    // The pods of each round are on all nodes, wherever chance puts the first one; what else is there doesn't count.
    cluster = cluster.pod("db", labelled("db", on("a")));
    for round in 0..5 {
        let mut nodes: Vec<String> = (0..3)
            .map(|n| cluster.place(&format!("{round}-{n}"), labelled("web", json!({}))))
            .map(Result::unwrap)
            .collect();
        nodes.sort();
        assert_eq!(nodes, ["a", "b", "c"], "round {round}");
    }
}

#[test]
fn a_node_with_the_image_is_better() {
    let image = json!({"status": {"images": [{"names": ["web:latest"], "sizeBytes": 900_000_000}]}});
    let mut cluster = Cluster::new().nodes(&["a"]).node("b", image).nodes(&["c"]);
    assert_eq!(cluster.place("new", json!({})), Ok("b".to_owned()));
}

#[test]
fn without_nodes_nothing_can_be_said_of_them() {
    let want = "no nodes available to schedule pods".to_owned();
    assert_eq!(Cluster::new().place("p", json!({})), Err(want));
}

#[test]
fn a_configuration_can_switch_a_plugin_off() {
    let profile = "profiles: [{plugins: {filter: {disabled: [{name: TaintToleration}]}}}]\n";
    let taint = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    let mut cluster = Cluster::configured(profile).node("n", taint);
    assert_eq!(cluster.place("p", json!({})), Ok("n".to_owned()));
}
