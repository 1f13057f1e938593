//! Finding pods: the pod behind a workload or a service, and a container in it.

use crate::cli::Call;
use crate::context::Ctx;
use crate::error::{Error, Result};
use crate::resource::builder::{Query, info_of, list};
use crate::resource::{Info, selector};
use crate::rest::Rest;
use serde_json::Value;
use std::time::Duration;

/// The annotation that names the container that commands mean.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The kinds of containers in a pod's spec.
pub const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// All containers of a pod, with the list each is in.
pub fn containers(pod: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    LISTS.into_iter().flat_map(|list| {
        pod["spec"][list]
            .as_array()
            .into_iter()
            .flatten()
            .map(move |c| (list, c))
    })
}

/// `a, b, c (init), d (ephem)`
pub fn names(pod: &Value) -> String {
    let mut out: Vec<String> = Vec::new();
    for (list, suffix) in [
        ("containers", ""),
        ("ephemeralContainers", " (ephem)"),
        ("initContainers", " (init)"),
    ] {
        for c in pod["spec"][list].as_array().into_iter().flatten() {
            out.push(format!("{}{suffix}", c["name"].as_str().unwrap_or("")));
        }
    }
    out.join(", ")
}

/// The container that a command means: the one asked for, the annotated one, or the first.
pub fn container(pod: &Value, asked: &str, quiet: bool) -> Result<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or("");
    let has = |wanted: &str| containers(pod).any(|(_, c)| c["name"] == wanted);
    if !asked.is_empty() {
        if has(asked) {
            return Ok(asked.to_owned());
        }
        return Err(Error::new(format!(
            "container {asked} is not valid for pod {name} out of: {}",
            names(pod)
        )));
    }
    if let Some(default) = pod["metadata"]["annotations"][DEFAULT_CONTAINER]
        .as_str()
        .filter(|d| !d.is_empty())
    {
        if has(default) {
            return Ok(default.to_owned());
        }
        crate::errln!("Default container name {default:?} not found in pod {name}");
    }
    let first = pod["spec"]["containers"][0]["name"]
        .as_str()
        .unwrap_or("")
        .to_owned();
    if !quiet && containers(pod).count() > 1 {
        crate::errln!("Defaulted container {first:?} out of: {}", names(pod));
    }
    Ok(first)
}

/// Whether a pod is ready, and since when.
fn readiness(pod: &Value) -> (bool, &str) {
    for c in pod["status"]["conditions"].as_array().into_iter().flatten() {
        if c["type"] == "Ready" {
            return (
                c["status"] == "True",
                c["lastTransitionTime"].as_str().unwrap_or(""),
            );
        }
    }
    (false, "")
}

fn restarts(pod: &Value) -> i64 {
    pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|s| s["restartCount"].as_i64())
        .max()
        .unwrap_or(0)
}

fn phase(pod: &Value) -> u8 {
    match pod["status"]["phase"].as_str() {
        Some("Pending") => 0,
        Some("Unknown") => 1,
        _ => 2,
    }
}

/// Orders pods so that the most useful one for attaching or logs comes first.
pub fn sort(pods: &mut [Value], for_logs: bool) {
    let assigned = |p: &Value| p["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty());
    let created = |p: &Value| {
        p["metadata"]["creationTimestamp"]
            .as_str()
            .unwrap_or("")
            .to_owned()
    };
    let key = |p: &Value| {
        let (ready, since) = readiness(p);
        (
            std::cmp::Reverse((assigned(p), phase(p), ready)),
            since.to_owned(),
            restarts(p),
            created(p),
        )
    };
    pods.sort_by(|a, b| {
        let (x, y) = (key(a), key(b));
        let head = x.0.cmp(&y.0);
        // For logs the latest is the interesting one, for attaching the one that has been up longest.
        let since = if for_logs { y.1.cmp(&x.1) } else { x.1.cmp(&y.1) };
        let count = if for_logs { y.2.cmp(&x.2) } else { x.2.cmp(&y.2) };
        head.then(since)
            .then(count)
            .then_with(|| if for_logs { y.3.cmp(&x.3) } else { x.3.cmp(&y.3) })
    });
}

/// The pods of an object: itself, or those that its selector finds.
pub async fn of(ctx: &Ctx, rest: &Rest, info: &Info, for_logs: bool) -> Result<Vec<Info>> {
    if info.mapping.is("", "pods") {
        return Ok(vec![info.clone()]);
    }
    let Some(text) = selector::of_pods(&info.object) else {
        if info.mapping.is("batch", "cronjobs") || !info.object["spec"]["selector"].is_object() {
            return Err(Error::new(format!(
                "cannot attach to *{}.{}: selector for {} not implemented",
                info.mapping.version, info.mapping.kind, info.mapping.kind
            )));
        }
        return Err(Error::new(format!(
            "invalid {} '{}': no selector",
            info.mapping.kind.to_lowercase(),
            info.name
        )));
    };
    let mapping = ctx.discovery().await?.resolve("pods")?;
    let mut pods = list(rest, &mapping, &info.namespace, &[("labelSelector", text)], 500).await?;
    sort(&mut pods, for_logs);
    Ok(pods.into_iter().map(|p| info_of(&mapping, p)).collect())
}

/// The one pod that a command such as `exec` acts on; waits for one to appear.
pub async fn attachable(call: &Call, argument: &str) -> Result<Info> {
    let timeout = match call.flags.opt("pod-running-timeout") {
        Some(_) => call.flags.duration("pod-running-timeout"),
        None => Duration::from_secs(60),
    };
    if timeout.is_zero() {
        return Err(call.usage("--pod-running-timeout must be higher than zero"));
    }
    let args = if argument.contains('/') {
        vec![argument.to_owned()]
    } else {
        vec!["pods".to_owned(), argument.to_owned()]
    };
    let query = Query {
        args,
        ..Query::default()
    };
    let info = query.one(&call.ctx).await?;
    if info.mapping.is("", "pods") {
        return Ok(info);
    }
    let rest = call.ctx.rest().await?;
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        let mut pods = of(&call.ctx, &rest, &info, false).await?;
        if !pods.is_empty() {
            return Ok(pods.remove(0));
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(Error::new("timed out waiting for the condition"));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_container_is_the_one_asked_for_the_annotated_or_the_first() {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(container(&pod, "", true).unwrap(), "a");
        assert_eq!(container(&pod, "i", true).unwrap(), "i");
        assert_eq!(
            container(&pod, "z", true).unwrap_err().report(),
            "error: container z is not valid for pod p out of: a, b, i (init)"
        );
        pod["metadata"]["annotations"][DEFAULT_CONTAINER] = json!("b");
        assert_eq!(container(&pod, "", true).unwrap(), "b");
    }

    #[test]
    fn ready_pods_come_first() {
        let pod = |name: &str, phase: &str, ready: &str| {
            json!({"metadata": {"name": name}, "spec": {"nodeName": "n"},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}})
        };
        let mut pods = vec![
            pod("pending", "Pending", "False"),
            pod("unready", "Running", "False"),
            pod("ready", "Running", "True"),
        ];
        sort(&mut pods, false);
        let names: Vec<_> = pods
            .iter()
            .map(|p| p["metadata"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["ready", "unready", "pending"]);
    }
}
