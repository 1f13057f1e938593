//! `cordon`, `uncordon` and `drain`: take nodes out of use and back.

use super::common::DryRun;
use crate::cli::flags::{CHUNK, DRY_RUN, SELECTOR};
use crate::cli::{Args, Call, Command, bool, duration, int, text};
use crate::describe::writer::items;
use crate::error::{Error, Result, go_quote};
use crate::resource::Info;
use crate::resource::builder::{Query, Target, info_of, list};
use crate::rest::{Rest, patch, with_query};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// `cordon`
pub static CORDON: Command = Command {
    name: "cordon",
    short: "Mark node as unschedulable",
    examples: "
        # No more pods for a node
        {} cordon worker-1",
    usage: "NODE",
    flags: &[CHUNK, DRY_RUN, SELECTOR],
    args: Args::Names("nodes"),
    run: Some(|c| Box::pin(cordon(c, true))),
    ..Command::NEW
};

/// `uncordon`
pub static UNCORDON: Command = Command {
    name: "uncordon",
    short: "Mark node as schedulable",
    examples: "
        # Pods for it again
        {} uncordon worker-1",
    usage: "NODE",
    flags: &[CHUNK, DRY_RUN, SELECTOR],
    args: Args::Names("nodes"),
    run: Some(|c| Box::pin(cordon(c, false))),
    ..Command::NEW
};

/// `drain`
pub static DRAIN: Command = Command {
    name: "drain",
    short: "Drain node in preparation for maintenance",
    long: "Drain node in preparation for maintenance.\n\n The given node will be marked unschedulable to prevent new pods from arriving, and its pods are evicted, which honours disruption budgets. Pods of daemon sets stay (--ignore-daemonsets says that this is fine), and pods that nothing would make anew are only touched with --force.",
    examples: "
        # Before maintenance
        {} drain worker-1 --ignore-daemonsets --delete-emptydir-data

        # Also pods without a controller, with 15 minutes to end
        {} drain worker-1 --force --grace-period=900",
    usage: "NODE",
    flags: &[
        CHUNK,
        DRY_RUN,
        SELECTOR,
        &[
            bool(
                "delete-emptydir-data",
                "Continue even if there are pods using emptyDir (local data that will be deleted when the node is drained).",
            ),
            bool(
                "disable-eviction",
                "Force drain to use delete, even if eviction is supported. This will bypass checking PodDisruptionBudgets, use with caution.",
            ),
            bool(
                "force",
                "Continue even if there are pods that do not declare a controller.",
            ),
            int(
                "grace-period",
                "-1",
                "Period of time in seconds given to each pod to terminate gracefully. If negative, the default value specified in the pod will be used.",
            ),
            bool("ignore-daemonsets", "Ignore DaemonSet-managed pods."),
            text("pod-selector", "", "Label selector to filter pods on the node"),
            int(
                "skip-wait-for-delete-timeout",
                "0",
                "If pod DeletionTimestamp older than N seconds, skip waiting for the pod.  Seconds must be greater than 0 to skip.",
            ),
            duration(
                "timeout",
                "0s",
                "The length of time to wait before giving up, zero means infinite",
            ),
        ],
    ],
    args: Args::Names("nodes"),
    run: Some(|c| Box::pin(drain(c))),
    ..Command::NEW
};

async fn nodes(call: &Call) -> Result<Vec<Info>> {
    let selector = call.str("selector");
    if call.args.is_empty() && selector.is_empty() {
        return Err(call.usage(format!(
            "USAGE: {} {} [flags]",
            call.command.name, call.command.usage
        )));
    }
    if !call.args.is_empty() && !selector.is_empty() {
        return Err(call.usage("error: cannot specify both a node name and a --selector option"));
    }
    let mut args = Vec::new();
    if call.args.iter().any(|a| a.contains('/')) {
        args.extend(call.args.clone());
    } else {
        args.push("nodes".to_owned());
        args.extend(call.args.clone());
    }
    let query = Query {
        args,
        selector: selector.to_owned(),
        ..Query::default()
    };
    let targets = query.targets(&call.ctx).await?;
    let rest = call.ctx.rest().await?;
    let mut out = Vec::new();
    for target in targets.items {
        match target {
            Target::Object(i) | Target::Named(i) => {
                let object = rest.get(&i.path()).await?;
                out.push(i.with(object));
            }
            Target::List { mapping, namespace } => {
                let found = list(&rest, &mapping, &namespace, &query.params(), 500).await?;
                out.extend(found.into_iter().map(|o| info_of(&mapping, o)));
            }
        }
    }
    if let Some(other) = out.iter().find(|i| !i.mapping.is("", "nodes")) {
        return Err(Error::new(format!(
            "error: expected resource of type node, got {}",
            go_quote(&other.mapping.plural)
        )));
    }
    Ok(out)
}

async fn mark(rest: &Rest, info: &Info, on: bool, dry: DryRun) -> Result<()> {
    let word = if on { "cordoned" } else { "uncordoned" };
    if (info.object["spec"]["unschedulable"] == true) == on {
        crate::outln!("{} already {word}{}", info.display(), dry.suffix());
        return Ok(());
    }
    if dry != DryRun::Client {
        let mut params = vec![("fieldManager", "kubectl-cordon".to_owned())];
        if dry == DryRun::Server {
            params.push(("dryRun", "All".to_owned()));
        }
        let body = json!({"spec": {"unschedulable": if on { json!(true) } else { Value::Null }}});
        rest.patch(
            &with_query(&info.path(), &params),
            patch::STRATEGIC,
            serde_json::to_vec(&body)?,
        )
        .await?;
    }
    crate::outln!("{} {word}{}", info.display(), dry.suffix());
    Ok(())
}

async fn cordon(call: Call, on: bool) -> Result<()> {
    let dry = DryRun::from_call(&call)?;
    let infos = nodes(&call).await?;
    let rest = call.ctx.rest().await?;
    let mut errors = Vec::new();
    for info in infos {
        if let Err(e) = mark(&rest, &info, on, dry).await {
            errors.push(Error::new(format!(
                "unable to {} node {}: {}",
                if on { "cordon" } else { "uncordon" },
                go_quote(&info.name),
                e.message()
            )));
        }
    }
    Error::collect(errors)
}

/// What is to be done with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Delete,
    DeleteWith(&'static str),
    Skip(&'static str),
    Refuse(&'static str),
    Leave,
}

/// Decides about one pod. `daemon_set` tells whether its daemon set is there.
fn decide(pod: &Value, call: &Rules, daemon_set: Option<bool>) -> Verdict {
    let mirror = pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string();
    if mirror {
        return Verdict::Leave;
    }
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let controller = items(&pod["metadata"]["ownerReferences"])
        .iter()
        .find(|o| o["controller"] == true);
    if controller.is_some_and(|c| c["kind"] == "DaemonSet") && !ended {
        return match (daemon_set, call.ignore_daemonsets) {
            (Some(false), _) if call.force => {
                Verdict::DeleteWith("deleting DaemonSet-managed Pods whose DaemonSet is gone")
            }
            (_, true) => Verdict::Skip("ignoring DaemonSet-managed Pods"),
            _ => Verdict::Refuse("DaemonSet-managed Pods (use --ignore-daemonsets to ignore)"),
        };
    }
    if ended {
        return Verdict::Delete;
    }
    let local = items(&pod["spec"]["volumes"])
        .iter()
        .any(|v| v["emptyDir"].is_object());
    if local && !call.delete_data {
        return Verdict::Refuse("Pods with local storage (use --delete-emptydir-data to override)");
    }
    if controller.is_none() {
        return if call.force {
            Verdict::DeleteWith("deleting Pods that declare no controller")
        } else {
            Verdict::Refuse("Pods that declare no controller (use --force to override)")
        };
    }
    Verdict::Delete
}

struct Rules {
    force: bool,
    ignore_daemonsets: bool,
    delete_data: bool,
}

async fn drain(call: Call) -> Result<()> {
    let dry = DryRun::from_call(&call)?;
    let infos = nodes(&call).await?;
    let rest = call.ctx.rest().await?;
    for info in &infos {
        mark(&rest, info, true, dry).await.map_err(|e| {
            Error::new(format!(
                "unable to cordon node {}: {}",
                go_quote(&info.name),
                e.message()
            ))
        })?;
    }
    let timeout = call.flags.duration("timeout");
    let deadline = Instant::now()
        + if timeout.is_zero() {
            Duration::from_secs(7 * 86_400)
        } else {
            timeout
        };
    let mut failed: Vec<(String, Error)> = Vec::new();
    for info in &infos {
        match one(&call, &rest, info, dry, deadline).await {
            Ok(()) => crate::outln!("{} drained{}", info.display(), dry.suffix()),
            Err(e) => {
                crate::errln!(
                    "error: unable to drain node {} due to error: {}, continuing command...",
                    go_quote(&info.name),
                    e.message()
                );
                failed.push((info.name.clone(), e));
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    crate::errln!("There are pending nodes to be drained:");
    for (name, _) in &failed {
        crate::errln!(" {name}");
    }
    Error::collect(failed.into_iter().map(|(_, e)| e).collect())
}

/// Pods by what is said about them.
type Reasons = Vec<(&'static str, Vec<String>)>;

async fn one(call: &Call, rest: &Rest, node: &Info, dry: DryRun, deadline: Instant) -> Result<()> {
    let rules = Rules {
        force: call.bool("force"),
        ignore_daemonsets: call.bool("ignore-daemonsets"),
        delete_data: call.bool("delete-emptydir-data"),
    };
    let mapping = call.ctx.discovery().await?.resolve("pods")?;
    let mut params = vec![("fieldSelector", format!("spec.nodeName={}", node.name))];
    if !call.str("pod-selector").is_empty() {
        params.push(("labelSelector", call.str("pod-selector").to_owned()));
    }
    let pods = list(rest, &mapping, "", &params, 500).await?;
    let mut chosen: Vec<Info> = Vec::new();
    let (mut warnings, mut refusals) = (Reasons::new(), Reasons::new());
    let skip_after = call.flags.int("skip-wait-for-delete-timeout");
    for pod in pods {
        let owner = items(&pod["metadata"]["ownerReferences"])
            .iter()
            .find(|o| o["controller"] == true && o["kind"] == "DaemonSet")
            .cloned();
        let exists = match owner {
            Some(o) => {
                let path = format!(
                    "/apis/apps/v1/namespaces/{}/daemonsets/{}",
                    pod["metadata"]["namespace"].as_str().unwrap_or(""),
                    o["name"].as_str().unwrap_or("")
                );
                Some(!matches!(rest.get(&path).await, Err(e) if e.is_not_found()))
            }
            None => None,
        };
        let verdict = decide(&pod, &rules, exists);
        if skip_after > 0
            && let Some(since) = pod["metadata"]["deletionTimestamp"]
                .as_str()
                .and_then(crate::duration::seconds)
            && crate::duration::now() - since > skip_after
        {
            continue;
        }
        let info = info_of(&mapping, pod);
        let name = format!("{}/{}", info.namespace, info.name);
        let add = |to: &mut Reasons, why: &'static str| match to.iter_mut().find(|(w, _)| *w == why) {
            Some((_, l)) => l.push(name.clone()),
            None => to.push((why, vec![name.clone()])),
        };
        match verdict {
            Verdict::Delete => chosen.push(info),
            Verdict::DeleteWith(why) => {
                add(&mut warnings, why);
                chosen.push(info);
            }
            Verdict::Skip(why) => add(&mut warnings, why),
            Verdict::Refuse(why) => add(&mut refusals, why),
            Verdict::Leave => {}
        }
    }
    if !refusals.is_empty() {
        let all: Vec<String> = refusals
            .iter()
            .map(|(why, pods)| format!("cannot delete {why}: {}", pods.join(", ")))
            .collect();
        return Err(Error::new(match all.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        }));
    }
    if !warnings.is_empty() {
        let all: Vec<String> = warnings
            .iter()
            .map(|(why, pods)| format!("{why}: {}", pods.join(", ")))
            .collect();
        crate::errln!("Warning: {}", all.join("; "));
    }
    let evict = !call.bool("disable-eviction");
    let grace = call.flags.int("grace-period");
    let work = chosen
        .iter()
        .map(|pod| remove(rest, pod, evict, grace, dry, deadline));
    let outcomes = futures::future::join_all(work).await;
    Error::collect(outcomes.into_iter().filter_map(Result::err).collect())
}

/// Evicts or deletes a pod and waits until it is gone.
async fn remove(
    rest: &Rest,
    pod: &Info,
    evict: bool,
    grace: i64,
    dry: DryRun,
    deadline: Instant,
) -> Result<()> {
    let name = format!("{}/{}", pod.namespace, pod.name);
    if dry == DryRun::Client {
        crate::outln!(
            "{} pod {name} (dry run)",
            if evict { "evicting" } else { "deleting" }
        );
        return Ok(());
    }
    let mut options = json!({});
    if grace >= 0 {
        options["gracePeriodSeconds"] = json!(grace);
    }
    if dry == DryRun::Server {
        options["dryRun"] = json!(["All"]);
    }
    loop {
        let outcome = if evict {
            crate::outln!("evicting pod {name}{}", dry.suffix());
            let body = json!({"apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": {"name": pod.name, "namespace": pod.namespace}, "deleteOptions": options});
            rest.post(&pod.sub_path("eviction"), &body).await
        } else {
            rest.delete(&pod.path(), &options).await
        };
        match outcome {
            Ok(_) => break,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) if e.reason() == "TooManyRequests" && Instant::now() < deadline => {
                crate::errln!(
                    "error when evicting pods/{} -n {} (will retry after 5s): {}",
                    go_quote(&pod.name),
                    go_quote(&pod.namespace),
                    e.message()
                );
                tokio::time::sleep_until((Instant::now() + Duration::from_secs(5)).min(deadline)).await;
            }
            Err(e) if e.reason() == "TooManyRequests" => {
                return Err(Error::new(format!(
                    "error when evicting pods/{} -n {}: global timeout reached",
                    go_quote(&pod.name),
                    go_quote(&pod.namespace)
                )));
            }
            Err(e) => {
                return Err(Error::new(format!(
                    "error when evicting pods/{} -n {}: {}",
                    go_quote(&pod.name),
                    go_quote(&pod.namespace),
                    e.message()
                )));
            }
        }
    }
    if dry == DryRun::Server {
        return Ok(());
    }
    let uid = pod.object["metadata"]["uid"].as_str().map(str::to_owned);
    let left = deadline.saturating_duration_since(Instant::now());
    super::delete::wait_gone(rest, &[(pod.clone(), uid)], left)
        .await
        .map_err(|e| {
            Error::new(format!(
                "error when waiting for pod {} in namespace {} to terminate: {}",
                go_quote(&pod.name),
                go_quote(&pod.namespace),
                e.message()
            ))
        })?;
    crate::outln!("pod/{} {}", pod.name, if evict { "evicted" } else { "deleted" });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_evicted_skipped_or_refused() {
        let rules = |force, ds, data| Rules {
            force,
            ignore_daemonsets: ds,
            delete_data: data,
        };
        let owned = |kind: &str| json!({"metadata": {"ownerReferences": [{"controller": true, "kind": kind}]}, "status": {"phase": "Running"}});
        let bare = json!({"metadata": {}, "status": {"phase": "Running"}});
        let mut local = owned("ReplicaSet");
        local["spec"]["volumes"] = json!([{"emptyDir": {}}]);
        let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}});
        assert_eq!(
            decide(&owned("ReplicaSet"), &rules(false, false, false), None),
            Verdict::Delete
        );
        assert!(matches!(
            decide(&bare, &rules(false, false, false), None),
            Verdict::Refuse(_)
        ));
        assert!(matches!(
            decide(&bare, &rules(true, false, false), None),
            Verdict::DeleteWith(_)
        ));
        assert!(matches!(
            decide(&owned("DaemonSet"), &rules(false, false, false), Some(true)),
            Verdict::Refuse(_)
        ));
        assert!(matches!(
            decide(&owned("DaemonSet"), &rules(false, true, false), Some(true)),
            Verdict::Skip(_)
        ));
        assert!(matches!(
            decide(&local, &rules(true, true, false), None),
            Verdict::Refuse(_)
        ));
        assert_eq!(decide(&local, &rules(false, false, true), None), Verdict::Delete);
        assert_eq!(decide(&mirror, &rules(false, false, false), None), Verdict::Leave);
    }
}
