//! What `rctl` prints is what `kubectl` prints, line by line.
//!
//! Both are asked in turn, and again when they differ, as an age may have grown in between. A kubectl older than 1.36 prints a few things as it
//! did then: those, and nothing else, are taken out of both sides first.

use crate::cluster::Cluster;
use crate::report::say;
use crate::tool::Tool;
use anyhow::ensure;

/// What both are asked.
const ASKED: &[&[&str]] = &[
    &["get", "pods"],
    &["get", "pods", "-o", "wide"],
    &["get", "pods", "-A", "--show-labels"],
    &["get", "all"],
    &["get", "all", "-A", "-o", "wide"],
    &["get", "nodes", "-o", "wide"],
    &[
        "get",
        "deployments,replicasets,services,endpointslices",
        "-o",
        "wide",
    ],
    &["get", "pods,services,deployments", "--no-headers"],
    &["get", "pods", "--sort-by=.metadata.creationTimestamp"],
    &["get", "pods", "-L", "app,pod-template-hash"],
    &["get", "pods", "-l", "app=echo", "-o", "yaml"],
    &["get", "deployment", "echo", "-o", "yaml", "--show-managed-fields"],
    &["get", "deployment", "echo", "-o", "json"],
    &[
        "get",
        "deployment",
        "echo",
        "-o",
        "jsonpath={.spec.template.spec.containers[*].ports}",
    ],
    &[
        "get",
        "deployment",
        "echo",
        "-o",
        "jsonpath-as-json={.metadata.labels}",
    ],
    &[
        "get",
        "pods",
        "-o",
        "custom-columns=NAME:.metadata.name,IMAGES:.spec.containers[*].image,NODE:.spec.nodeName",
    ],
    &[
        "get",
        "pods",
        "-o",
        "go-template={{range .items}}{{.metadata.name}} {{.status.podIP}}{{\"\\n\"}}{{end}}",
    ],
    &["get", "pods,services", "-o", "name"],
    &["get", "events"],
    &[
        "get",
        "namespaces,serviceaccounts,configmaps,secrets,leases",
        "-A",
    ],
    &["get", "clusterroles,clusterrolebindings,roles,rolebindings", "-A"],
    &["get", "priorityclasses,apiservices,flowschemas,csinodes"],
    &["get", "--raw", "/readyz"],
    &["describe", "deployment", "echo"],
    &["describe", "replicasets"],
    &["describe", "pods", "--show-events=true"],
    &["describe", "service", "echo"],
    &["describe", "endpointslices", "--show-events=true"],
    &["describe", "nodes", "--show-events=true"],
    &["describe", "node", "node-1"],
    &["describe", "namespace", "default"],
    &["describe", "serviceaccount", "default"],
    &["describe", "configmap", "kube-root-ca.crt"],
    &["describe", "clusterrole", "view"],
    &["describe", "lease", "-n", "kube-node-lease", "node-1"],
    &["api-resources"],
    &["api-resources", "-o", "wide"],
    &["api-resources", "--namespaced=false", "-o", "name"],
    &["api-versions"],
    &["explain", "deployment"],
    &["explain", "deployment.spec.strategy"],
    &["explain", "deployment.spec.strategy", "--recursive"],
    &["explain", "pod.spec.containers", "--recursive"],
    &["auth", "can-i", "--list"],
    &[
        "auth",
        "can-i",
        "--list",
        "--as=system:serviceaccount:default:default",
    ],
    &["rollout", "history", "deployment/echo"],
    &["rollout", "history", "deployment/echo", "--revision=1"],
    &["config", "view"],
    &["config", "get-contexts"],
];

/// What a kubectl of 1.36 or newer is asked as well: events of several objects are not shown unasked from then on.
const ASKED_SINCE_36: &[&[&str]] = &[
    &["describe", "pods"],
    &["describe", "pods", "echo-"],
    &["describe", "nodes"],
    &["describe", "endpointslices"],
    &["describe", "deployments,services"],
];

/// A line that a kubectl of an older minor version prints otherwise.
struct Older {
    /// The first version that prints it as `rctl` does.
    until: u32,
    change: fn(&str) -> Option<String>,
}

const OLDER: &[Older] = &[
    // Ports are shown with their names.
    Older {
        until: 35,
        change: |line| {
            let shows_port = ["Port:", "Ports:", "Host Port:", "Host Ports:"]
                .iter()
                .any(|name| line.trim_start().starts_with(name));
            Some(match line.rsplit_once(" (") {
                Some((before, name)) if shows_port && name.ends_with(')') => before.to_owned(),
                _ => line.to_owned(),
            })
        },
    },
    // Events say which container they are about.
    Older {
        until: 35,
        change: |line| {
            Some(match line.split_once("spec.containers{") {
                Some((before, rest)) => match rest.split_once("}: ") {
                    Some((_, after)) => format!("{before}{after}"),
                    None => line.to_owned(),
                },
                None => line.to_owned(),
            })
        },
    },
    // What is no longer shown.
    Older {
        until: 36,
        change: |line| {
            let gone = [
                "Kube-Proxy Version:",
                "Mountable secrets:",
                "Tokens:",
                "preferences: {}",
            ];
            let starts = |text: &&str| line.trim_start().starts_with(text);
            (!gone.iter().any(starts)).then(|| line.to_owned())
        },
    },
    // A projected ConfigMap's being optional.
    Older {
        until: 33,
        change: |line| {
            let line = line.replace("ConfigMapOptional:", "Optional:         ");
            Some(match line.strip_suffix("<nil>") {
                Some(before) if line.trim_start().starts_with("Optional:") => format!("{before}false"),
                _ => line,
            })
        },
    },
];

/// Kubectl before this one aligned a revision's template otherwise.
const ALIGNED: u32 = 36;

/// How often both are asked until they agree.
const TRIES: usize = 4;

/// That both print the same.
pub(super) fn same(cluster: &Cluster, kubectl: &Tool) -> anyhow::Result<()> {
    let minor = kubectl.minor()?;
    let mut different = Vec::new();
    let since_36 = ASKED_SINCE_36.iter().filter(|_| minor >= 36);
    let asked: Vec<_> = ASKED.iter().chain(since_36).collect();
    for arguments in &asked {
        let mut outcome = Ok(());
        for _ in 0..TRIES {
            let theirs = as_of(minor, arguments, &kubectl.ok(arguments)?);
            let ours = as_of(minor, arguments, &cluster.rctl.ok(arguments)?);
            outcome = compare(&ours, &theirs);
            if outcome.is_ok() {
                break;
            }
        }
        if let Err(what) = outcome {
            say(&format!("    differs: {}\n{what}", arguments.join(" ")));
            different.push(arguments.join(" "));
        }
    }
    say(&format!("    {} commands were compared", asked.len()));
    ensure!(
        different.is_empty(),
        "{} print something else than kubectl: {}",
        different.len(),
        different.join("; ")
    );
    Ok(())
}

/// Without what an older kubectl prints otherwise.
fn as_of(minor: u32, arguments: &[&str], text: &str) -> Vec<String> {
    let changes: Vec<_> = OLDER.iter().filter(|older| minor < older.until).collect();
    let change = |line: &str| {
        let start = Some(line.to_owned());
        changes
            .iter()
            .fold(start, |line, older| line.and_then(|line| (older.change)(&line)))
    };
    let loose = minor < ALIGNED && arguments.iter().any(|a| a.starts_with("--revision"));
    let lines = text.lines().filter_map(change);
    lines
        .map(|line| match loose {
            true => line.split_whitespace().collect::<Vec<_>>().join(" "),
            false => line,
        })
        .collect()
}

/// The first lines that differ.
fn compare(ours: &[String], theirs: &[String]) -> Result<(), String> {
    let longest = ours.len().max(theirs.len());
    for n in 0..longest {
        let (a, b) = (ours.get(n), theirs.get(n));
        if a != b {
            let show =
                |line: Option<&String>| line.map_or("(nothing)".to_owned(), |line| format!("{line:?}"));
            return Err(format!(
                "      line {}: rctl    {}\n      line {}: kubectl {}",
                n + 1,
                show(a),
                n + 1,
                show(b)
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_kubectl_prints_otherwise_does_not_count() {
        let ours = "    Port:          8080/TCP (http)\n    Optional:                false\n  Normal  Started    4s    kubelet            spec.containers{echo}: Container started\n";
        let theirs = "    Port:          8080/TCP\n  Kube-Proxy Version:  \n    ConfigMapOptional:       <nil>\n  Normal  Started    4s    kubelet            Container started\n";
        let both = |minor| compare(&as_of(minor, &[], ours), &as_of(minor, &[], theirs));
        assert_eq!(both(32), Ok(()));
        assert!(both(33).is_err() && both(36).is_err());
        let (a, b) = ("Labels:  a=b\n         c=d\n", "Labels:\ta=b\n\tc=d\n");
        let history = ["rollout", "history", "x", "--revision=1"];
        assert_eq!(compare(&as_of(32, &history, a), &as_of(32, &history, b)), Ok(()));
        assert!(compare(&as_of(32, &["get"], a), &as_of(32, &["get"], b)).is_err());
    }

    #[test]
    fn a_line_too_many_is_a_difference() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert!(compare(&lines("a\nb"), &lines("a")).is_err());
        assert!(compare(&lines("a"), &lines("a\nb")).is_err());
        assert_eq!(compare(&lines("a\nb"), &lines("a\nb")), Ok(()));
    }
}
