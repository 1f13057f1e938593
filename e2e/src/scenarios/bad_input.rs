//! Input that is wrong: refused with the status, reason and message that a Kubernetes user knows, by both programs alike.

use super::{BUSYBOX, text};
use crate::cluster::{Cluster, SOON};
use crate::report::{eventually, say, step, until};
use crate::tool::Tool;
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::time::Duration;

/// How long a container may take to have failed twice.
const BACK_OFF: Duration = Duration::from_secs(90);

/// A manifest that is refused.
struct Refused {
    what: &'static str,
    manifest: fn() -> String,
    /// All of these are on standard error.
    wanted: &'static [&'static str],
}

const GOOD: &str = "  containers:\n  - name: a\n    image: rutter.example/busybox:1\n";

fn pod(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n{spec}")
}

fn large(bytes: usize) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: large\ndata:\n  x: {}\n",
        "x".repeat(bytes)
    )
}

const REFUSED: &[Refused] = &[
    Refused {
        what: "broken YAML",
        manifest: || "a: [\n".to_owned(),
        wanted: &[
            "error: error parsing ",
            ": error converting YAML to JSON: yaml: line ",
        ],
    },
    Refused {
        what: "a tab in YAML",
        manifest: || "apiVersion: v1\nkind: Pod\nmetadata:\n\tname: x\n".to_owned(),
        wanted: &[
            "error: error parsing ",
            ": error converting YAML to JSON: yaml: line 4: ",
        ],
    },
    Refused {
        what: "no apiVersion",
        manifest: || "kind: Pod\nmetadata:\n  name: x\n".to_owned(),
        wanted: &["error validating data: apiVersion not set"],
    },
    Refused {
        what: "no kind",
        manifest: || "apiVersion: v1\nmetadata:\n  name: x\n".to_owned(),
        wanted: &["error validating data: kind not set"],
    },
    Refused {
        what: "no name",
        manifest: || "apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n".to_owned(),
        wanted: &[
            "The ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required\n",
        ],
    },
    Refused {
        what: "a number for a text",
        manifest: || pod("bad", "  containers:\n  - name: a\n    image: 5\n"),
        wanted: &[
            "Error from server (BadRequest): error when creating ",
            ": Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string\n",
        ],
    },
    Refused {
        what: "a text for a number",
        manifest: || pod("bad", &format!("{GOOD}    ports:\n    - containerPort: eighty\n")),
        wanted: &[
            "Error from server (BadRequest): ",
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32\n",
        ],
    },
    Refused {
        what: "an unknown field",
        manifest: || pod("bad", &format!("{GOOD}    colour: red\n")),
        wanted: &[
            "Error from server (BadRequest): ",
            ": Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.containers[0].colour\"\n",
        ],
    },
    Refused {
        what: "an invalid name",
        manifest: || pod("Bad_Name", GOOD),
        wanted: &[
            "The Pod \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')\n",
        ],
    },
    Refused {
        what: "no containers",
        manifest: || pod("bad", "  containers: []\n"),
        wanted: &["The Pod \"bad\" is invalid: spec.containers: Required value\n"],
    },
    Refused {
        what: "a value that there isn't",
        manifest: || pod("bad", &format!("{GOOD}  restartPolicy: Sometimes\n")),
        wanted: &[
            "The Pod \"bad\" is invalid: spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"\n",
        ],
    },
    Refused {
        what: "several wrong values",
        manifest: || {
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: bad\nspec:\n  ports:\n  - port: 99999\n"
                .to_owned()
        },
        wanted: &[
            "The Service \"bad\" is invalid: \n",
            "* spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive\n",
            "* spec.ports[0].targetPort: Invalid value: 99999: must be between 1 and 65535, inclusive\n",
        ],
    },
    Refused {
        what: "a selector that selects something else",
        manifest: || {
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: bad\nspec:\n  selector:\n    matchLabels: {a: b}\n  template:\n    metadata:\n      labels: {a: c}\n    spec:\n      containers:\n      - name: a\n        image: b\n".to_owned()
        },
        wanted: &[
            "The Deployment \"bad\" is invalid: spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`\n",
        ],
    },
    Refused {
        what: "a namespace that there isn't",
        manifest: || {
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  namespace: nowhere\n".to_owned()
        },
        wanted: &[
            "Error from server (NotFound): error when creating ",
            ": namespaces \"nowhere\" not found\n",
        ],
    },
    Refused {
        what: "what exists already",
        manifest: || "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: default\n".to_owned(),
        wanted: &[
            "Error from server (AlreadyExists): error when creating ",
            ": namespaces \"default\" already exists\n",
        ],
    },
    Refused {
        what: "a ConfigMap of more than 1 MiB",
        manifest: || large(1_100_000),
        wanted: &["The ConfigMap \"large\" is invalid: []: Too long: may not be more than 1048576 bytes\n"],
    },
    Refused {
        what: "a request of more than 3 MB",
        manifest: || large(3_300_000),
        wanted: &[
            "Error from server (RequestEntityTooLarge): error when creating ",
            ": Request entity is too large: limit is 3145728\n",
        ],
    },
];

/// Commands that fail, and what is on standard error.
const FAILING: &[(&[&str], &str)] = &[
    (
        &["get", "pod", "nobody"],
        "Error from server (NotFound): pods \"nobody\" not found\n",
    ),
    (
        &["get", "socks"],
        "error: the server doesn't have a resource type \"socks\"\n",
    ),
    (
        &["get", "secrets", "--as=jane"],
        "Error from server (Forbidden): secrets is forbidden: User \"jane\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"\n",
    ),
    (
        &["delete", "namespace", "default"],
        "Error from server (Forbidden): namespaces \"default\" is forbidden: this namespace may not be deleted\n",
    ),
    (
        &[
            "patch",
            "deployment",
            "rutter-dns",
            "-n",
            "kube-system",
            "-p",
            "{\"spec\":{\"replicas\":\"many\"}}",
        ],
        "Error from server (BadRequest): Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32\n",
    ),
    (
        &[
            "rollout",
            "undo",
            "deployment/rutter-dns",
            "-n",
            "kube-system",
            "--to-revision=99",
        ],
        "error: unable to find specified revision 99 in history\n",
    ),
    (
        &["get", "pods", "-o", "jsonpath={"],
        "error: error parsing jsonpath {, unclosed action\n",
    ),
    (
        &["apply", "-f", "missing.yaml"],
        "error: the path \"missing.yaml\" does not exist\n",
    ),
];

/// The scenario.
pub(super) fn run(cluster: &Cluster) -> anyhow::Result<()> {
    // What both programs are shown, and what only time shows, go on at once.
    cluster.rctl.ok_file(&["create"], &unlucky())?;
    let outcome = all(cluster);
    cluster
        .rctl
        .ok(&["delete", "pods", "-l", "app=unlucky", "--now"])?;
    outcome
}

fn all(cluster: &Cluster) -> anyhow::Result<()> {
    for tool in cluster.tools() {
        step(&format!("{}: what is wrong is refused", tool.name), || {
            refused(tool)
        })?;
    }
    let unknown = "apiVersion: v1\nkind: Sock\nmetadata:\n  name: x\n";
    let told = cluster.rctl.fails_file(&["create"], unknown)?;
    ensure!(
        told.contains("no matches for kind \"Sock\" in version \"v1\"\n"),
        "{told}"
    );
    unschedulable(cluster)?;
    no_image(cluster)?;
    crashing(cluster)
}

fn refused(tool: &Tool) -> anyhow::Result<()> {
    for Refused {
        what,
        manifest,
        wanted,
    } in REFUSED
    {
        let told = tool
            .fails_file(&["create"], &manifest())
            .with_context(|| (*what).to_owned())?;
        for text in *wanted {
            ensure!(told.contains(text), "{what}: no {text:?} in {told:?}");
        }
    }
    for (arguments, wanted) in FAILING {
        let told = tool.fails(arguments)?;
        ensure!(
            told == *wanted,
            "{}: {told:?} is not {wanted:?}",
            arguments.join(" ")
        );
    }
    say(&format!(
        "    {} manifests and {} commands were refused as they should be",
        REFUSED.len(),
        FAILING.len()
    ));
    Ok(())
}

/// Pods that don't come to run.
fn unlucky() -> String {
    let pod = |name: &str, more: &str, container: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: {{app: unlucky}}\nspec:\n  terminationGracePeriodSeconds: 1\n{more}  containers:\n  - name: main\n{container}---\n"
        )
    };
    let busybox = format!("    image: {BUSYBOX}\n");
    [
        pod(
            "huge",
            "",
            &format!("{busybox}    resources: {{requests: {{cpu: \"1000\"}}}}\n"),
        ),
        pod("picky", "  nodeSelector: {disk: ssd}\n", &busybox),
        pod("absent", "", "    image: rutter.example/nothing:9\n"),
        pod(
            "crashing",
            "",
            &format!("{busybox}    command: [sh, -c, \"echo last words; exit 3\"]\n"),
        ),
        pod(
            "lacking",
            "",
            &format!("{busybox}    envFrom: [{{configMapRef: {{name: missing}}}}]\n"),
        ),
    ]
    .concat()
}

/// That an event about an object has this reason and a message with this.
fn event(cluster: &Cluster, object: &str, kind: &str, reason: &str, message: &str) -> anyhow::Result<()> {
    let field = format!("--field-selector=involvedObject.name={object},reason={reason},type={kind}");
    until(SOON, || {
        let events = cluster.get(&["events", &field])?;
        let mut messages = events["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|event| text(&event["message"]));
        ensure!(
            messages.any(|told| told.contains(message)),
            "no {kind} event {reason} about {object} with {message:?}: {}",
            events["items"]
        );
        Ok(())
    })
}

fn unschedulable(cluster: &Cluster) -> anyhow::Result<()> {
    for (name, why) in [
        ("huge", "0/3 nodes are available: 3 Insufficient cpu. "),
        (
            "picky",
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. ",
        ),
    ] {
        eventually(&format!("the pod {name} is Pending: {why}"), SOON, || {
            let pod = cluster.get(&["pod", name])?;
            let all = pod["status"]["conditions"].as_array();
            let scheduled = all.into_iter().flatten().find(|c| c["type"] == "PodScheduled");
            let condition = scheduled.context("no PodScheduled condition")?;
            ensure!(
                condition["status"] == "False"
                    && condition["reason"] == "Unschedulable"
                    && text(&condition["message"]).starts_with(why)
                    && text(&condition["message"]).contains(
                        "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
                    ),
                "{condition}"
            );
            Ok(())
        })?;
        event(cluster, name, "Warning", "FailedScheduling", why)?;
        shown(cluster, name, "Pending")?;
    }
    Ok(())
}

fn no_image(cluster: &Cluster) -> anyhow::Result<()> {
    eventually("the pod absent backs off pulling its image", BACK_OFF, || {
        let waiting = &container(cluster, "absent")?["state"]["waiting"];
        ensure!(
            waiting["reason"] == "ImagePullBackOff"
                && text(&waiting["message"])
                    .starts_with("Back-off pulling image \"rutter.example/nothing:9\": ErrImagePull: "),
            "{waiting}"
        );
        Ok(())
    })?;
    shown(cluster, "absent", "ImagePullBackOff")?;
    for (kind, reason, message) in [
        ("Normal", "Pulling", "Pulling image \"rutter.example/nothing:9\""),
        (
            "Warning",
            "Failed",
            "Failed to pull image \"rutter.example/nothing:9\": ",
        ),
        ("Warning", "Failed", "Error: ErrImagePull"),
        (
            "Normal",
            "BackOff",
            "Back-off pulling image \"rutter.example/nothing:9\"",
        ),
        ("Warning", "Failed", "Error: ImagePullBackOff"),
    ] {
        event(cluster, "absent", kind, reason, message)?;
    }
    let waiting = &container(cluster, "lacking")?["state"]["waiting"];
    ensure!(
        waiting["reason"] == "CreateContainerConfigError"
            && waiting["message"] == "configmap \"missing\" not found",
        "{waiting}"
    );
    event(
        cluster,
        "lacking",
        "Warning",
        "Failed",
        "Error: configmap \"missing\" not found",
    )
}

fn crashing(cluster: &Cluster) -> anyhow::Result<()> {
    eventually("the pod crashing is in CrashLoopBackOff", BACK_OFF, || {
        let status = container(cluster, "crashing")?;
        let waiting = &status["state"]["waiting"];
        ensure!(
            waiting["reason"] == "CrashLoopBackOff"
                && text(&waiting["message"]).starts_with("back-off ")
                && text(&waiting["message"])
                    .contains(" restarting failed container=main pod=crashing_default("),
            "{status}"
        );
        let last = &status["lastState"]["terminated"];
        ensure!(
            last["exitCode"] == 3 && last["reason"] == "Error" && status["restartCount"].as_i64() >= Some(1),
            "{status}"
        );
        Ok(())
    })?;
    shown(cluster, "crashing", "CrashLoopBackOff")?;
    event(
        cluster,
        "crashing",
        "Warning",
        "BackOff",
        "Back-off restarting failed container main in pod crashing_default(",
    )?;
    for tool in cluster.tools() {
        let told = tool.ok(&["logs", "crashing", "--previous"])?;
        ensure!(told == "last words\n", "{told}");
    }
    Ok(())
}

fn container(cluster: &Cluster, pod: &str) -> anyhow::Result<Value> {
    let pod = cluster.get(&["pod", pod])?;
    let statuses = pod["status"]["containerStatuses"].as_array();
    statuses
        .and_then(|all| all.first())
        .cloned()
        .context("the container has no status")
}

/// That the table shows this status.
fn shown(cluster: &Cluster, pod: &str, status: &str) -> anyhow::Result<()> {
    let told = cluster.rctl.ok(&["get", "pod", pod, "--no-headers"])?;
    ensure!(told.split_whitespace().nth(2) == Some(status), "{told}");
    Ok(())
}
