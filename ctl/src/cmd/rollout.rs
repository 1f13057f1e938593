//! `rollout`: follows, undoes and steers the updates of deployments, daemon sets and stateful sets.

use super::common::{CHANGE_CAUSE, DryRun, LAST_APPLIED};
use crate::cli::flags::{ALL, DRY_RUN, FILENAME, OUTPUT, SELECTOR, TEMPLATE};
use crate::cli::{Args, Call, Command, Flag, bool, duration, int, text};
use crate::describe::writer::{int as number, items};
use crate::error::{Error, Result};
use crate::print::{Printer, tab};
use crate::resource::builder::{Query, list};
use crate::resource::{Info, selector};
use crate::rest::{Rest, patch, with_query};
use serde_json::{Value, json};
use std::time::Duration;

/// The command.
pub static COMMAND: Command = Command {
    name: "rollout",
    short: "Manage the rollout of a resource",
    long: "Manage the rollout of one or many resources.\n\n Valid resource types include:\n\n  *  deployments\n  *  daemonsets\n  *  statefulsets",
    examples: "
        # Wait for an update to be through
        {} rollout status deployment/web

        # Back to what was before
        {} rollout undo deployment/web",
    usage: "SUBCOMMAND",
    subs: &[&HISTORY, &PAUSE, &RESTART, &RESUME, &STATUS, &UNDO],
    ..Command::NEW
};

const MANAGER: &[Flag] = &[text(
    "field-manager",
    "kubectl-rollout",
    "Name of the manager used to track field ownership.",
)];

static HISTORY: Command = Command {
    name: "history",
    short: "View rollout history",
    usage: "(TYPE NAME | TYPE/NAME) [flags]",
    flags: &[
        FILENAME,
        OUTPUT,
        SELECTOR,
        TEMPLATE,
        &[int(
            "revision",
            "0",
            "See the details, including podTemplate of the revision specified",
        )],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(history(c))),
    ..Command::NEW
};
static PAUSE: Command = Command {
    name: "pause",
    short: "Mark the provided resource as paused",
    usage: "RESOURCE",
    flags: &[FILENAME, OUTPUT, SELECTOR, TEMPLATE, MANAGER],
    args: Args::Resources,
    run: Some(|c| Box::pin(pause(c, true))),
    ..Command::NEW
};
static RESUME: Command = Command {
    name: "resume",
    short: "Resume a paused resource",
    usage: "RESOURCE",
    flags: &[FILENAME, OUTPUT, SELECTOR, TEMPLATE, MANAGER],
    args: Args::Resources,
    run: Some(|c| Box::pin(pause(c, false))),
    ..Command::NEW
};
static RESTART: Command = Command {
    name: "restart",
    short: "Restart a resource",
    usage: "RESOURCE",
    flags: &[FILENAME, OUTPUT, SELECTOR, TEMPLATE, MANAGER],
    args: Args::Resources,
    run: Some(|c| Box::pin(restart(c))),
    ..Command::NEW
};
static STATUS: Command = Command {
    name: "status",
    short: "Show the status of the rollout",
    usage: "(TYPE NAME | TYPE/NAME) [flags]",
    flags: &[
        FILENAME,
        SELECTOR,
        ALL,
        &[
            int(
                "revision",
                "0",
                "Pin to a specific revision for showing its status. Defaults to 0 (last revision).",
            ),
            duration(
                "timeout",
                "0s",
                "The length of time to wait before ending watch, zero means never. Any other values should contain a corresponding time unit (e.g. 1s, 2m, 3h).",
            ),
            bool("watch", "Watch the status of the rollout until it's done.")
                .short('w')
                .on(),
        ],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(status(c))),
    ..Command::NEW
};
static UNDO: Command = Command {
    name: "undo",
    short: "Undo a previous rollout",
    usage: "(TYPE NAME | TYPE/NAME) [flags]",
    flags: &[
        DRY_RUN,
        FILENAME,
        OUTPUT,
        SELECTOR,
        TEMPLATE,
        &[int(
            "to-revision",
            "0",
            "The revision to rollback to. Default to 0 (last revision).",
        )],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(undo(c))),
    ..Command::NEW
};

const REVISION: &str = "deployment.kubernetes.io/revision";
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
const HASH: &str = "pod-template-hash";

/// The objects that an owner controls.
pub fn owned(list: Vec<Value>, uid: &Value) -> Vec<Value> {
    list.into_iter()
        .filter(|o| {
            items(&o["metadata"]["ownerReferences"])
                .iter()
                .any(|r| r["controller"] == true && r["uid"] == *uid)
        })
        .collect()
}

/// A template without the label that tells its replica set's pods apart.
fn plain_template(template: &Value) -> Value {
    let mut out = template.clone();
    if let Some(labels) = out["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH);
    }
    if let Some(meta) = out["metadata"].as_object_mut() {
        meta.retain(|_, v| !v.is_null());
    }
    out
}

/// The replica set that has the deployment's template, the oldest if several do.
pub fn current_set<'a>(deployment: &Value, owned: &'a [Value]) -> Option<&'a Value> {
    let wanted = plain_template(&deployment["spec"]["template"]);
    owned
        .iter()
        .filter(|s| plain_template(&s["spec"]["template"]) == wanted)
        .min_by_key(|s| {
            s["metadata"]["creationTimestamp"]
                .as_str()
                .unwrap_or("")
                .to_owned()
        })
}

/// The kinds that roll out.
fn check(info: &Info, verb: &str) -> Result<()> {
    match (info.mapping.group.as_str(), info.mapping.kind.as_str()) {
        ("apps", "Deployment" | "DaemonSet" | "StatefulSet") => Ok(()),
        _ => Err(Error::new(format!(
            "no {verb} has been implemented for {}",
            crate::error::go_quote(&info.mapping.kind)
        ))),
    }
}

async fn targets(call: &Call) -> Result<(Vec<Info>, Vec<Error>)> {
    let mut query = Query::from_call(call);
    query.list_types = true;
    if query.args.is_empty() && !query.has_files() {
        return Err(Error::new("required resource not specified"));
    }
    query.latest(&call.ctx).await
}

/// Revisions of a workload: number, cause, template.
async fn revisions(call: &Call, rest: &Rest, info: &Info) -> Result<Vec<(i64, String, Value)>> {
    check(info, "history viewer")?;
    let o = &info.object;
    let params = [("labelSelector", selector::to_text(&o["spec"]["selector"]))];
    let discovery = call.ctx.discovery().await?;
    let uid = &o["metadata"]["uid"];
    let cause = |v: &Value| {
        v["metadata"]["annotations"][CHANGE_CAUSE]
            .as_str()
            .unwrap_or("")
            .to_owned()
    };
    let mut out: Vec<(i64, String, Value)> = if info.mapping.kind == "Deployment" {
        let sets = list(
            rest,
            &*discovery.resolve("replicasets.apps")?,
            &info.namespace,
            &params,
            500,
        )
        .await?;
        owned(sets, uid)
            .into_iter()
            .filter_map(|s| {
                let revision = s["metadata"]["annotations"][REVISION].as_str()?.parse().ok()?;
                Some((revision, cause(&s), s["spec"]["template"].clone()))
            })
            .collect()
    } else {
        let all = list(
            rest,
            &*discovery.resolve("controllerrevisions.apps")?,
            &info.namespace,
            &params,
            500,
        )
        .await?;
        owned(all, uid)
            .into_iter()
            .map(|r| {
                (
                    number(&r["revision"]),
                    cause(&r),
                    r["data"]["spec"]["template"].clone(),
                )
            })
            .collect()
    };
    out.sort_by_key(|(n, _, _)| *n);
    Ok(out)
}

async fn history(call: Call) -> Result<()> {
    let wanted = call.flags.int("revision");
    if wanted < 0 {
        return Err(Error::new(format!(
            "revision must be a positive integer: {wanted}"
        )));
    }
    let printer = Printer::from_call(&call)?;
    let (infos, errors) = targets(&call).await?;
    let rest = call.ctx.rest().await?;
    for info in infos {
        let all = revisions(&call, &rest, &info).await?;
        if wanted > 0 {
            let Some((_, cause, template)) = all.iter().find(|(n, _, _)| *n == wanted) else {
                return Err(Error::new("unable to find the specified revision".to_string()));
            };
            if !printer.is_human() {
                let mut object = info.object.clone();
                object["spec"]["template"] = template.clone();
                printer.print(&object)?;
                continue;
            }
            crate::outln!("{} with revision #{wanted}", info.display());
            let mut w = crate::describe::writer::Writer::default();
            let mut shown = template.clone();
            if !cause.is_empty() {
                shown["metadata"]["annotations"][CHANGE_CAUSE] = json!(cause);
            }
            crate::describe::pod::template(&mut w, &shown);
            crate::outln!("{}", w.unaligned());
            continue;
        }
        if !printer.is_human() {
            printer.print(&info.object)?;
            continue;
        }
        crate::outln!("{} ", info.display());
        if all.is_empty() {
            crate::outln!("No rollout history found.");
            continue;
        }
        let mut text = String::from("REVISION\tCHANGE-CAUSE\n");
        for (n, cause, _) in all {
            text.push_str(&format!(
                "{n}\t{}\n",
                if cause.is_empty() { "<none>" } else { &cause }
            ));
        }
        crate::outln!("{}", tab::describe(&text));
    }
    Error::collect(errors)
}

async fn pause(call: Call, on: bool) -> Result<()> {
    let printer = Printer::from_call(&call)?;
    let (infos, mut errors) = targets(&call).await?;
    let rest = call.ctx.rest().await?;
    let done = if on { "paused" } else { "resumed" };
    for info in infos {
        if info.mapping.kind != "Deployment" {
            errors.push(Error::new(format!(
                "{} {}: {}",
                info.mapping.group_resource(),
                crate::error::go_quote(&info.name),
                if on {
                    "pausing is not supported"
                } else {
                    "resuming is not supported"
                }
            )));
            continue;
        }
        if (info.object["spec"]["paused"] == true) == on {
            errors.push(Error::new(format!(
                "{} {} is {}",
                info.mapping.group_resource(),
                crate::error::go_quote(&info.name),
                if on { "already paused" } else { "not paused" }
            )));
            continue;
        }
        let body = json!({"spec": {"paused": if on { json!(true) } else { Value::Null }}});
        let object = patch_object(&call, &rest, &info, &body, DryRun::None).await?;
        printer.result(&info.with(object), done)?;
    }
    Error::collect(errors)
}

async fn patch_object(call: &Call, rest: &Rest, info: &Info, body: &Value, dry: DryRun) -> Result<Value> {
    let mut params = vec![(
        "fieldManager",
        call.flags
            .given("field-manager")
            .unwrap_or("kubectl-rollout")
            .to_owned(),
    )];
    if dry == DryRun::Server {
        params.push(("dryRun", "All".to_owned()));
    }
    rest.patch(
        &with_query(&info.path(), &params),
        patch::STRATEGIC,
        serde_json::to_vec(body)?,
    )
    .await
}

async fn restart(call: Call) -> Result<()> {
    let printer = Printer::from_call(&call)?;
    let (infos, mut errors) = targets(&call).await?;
    let rest = call.ctx.rest().await?;
    for info in infos {
        if check(&info, "restarter").is_err() {
            errors.push(Error::new(format!(
                "{} {} restarting is not supported",
                info.mapping.group_resource(),
                crate::error::go_quote(&info.name)
            )));
            continue;
        }
        if info.object["spec"]["paused"] == true {
            errors.push(Error::new(
                "can't restart paused deployment (run rollout resume first)".to_string(),
            ));
            continue;
        }
        let now = jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        let now = now
            .strip_suffix("+00:00")
            .map_or(now.clone(), |n| format!("{n}Z"));
        let same =
            info.object["spec"]["template"]["metadata"]["annotations"][RESTARTED].as_str() == Some(&now);
        if same {
            errors.push(Error::new(format!("failed to create patch for {}: if restart has already been triggered within the past second, please wait before attempting to trigger another", info.name)));
            continue;
        }
        let body = json!({"spec": {"template": {"metadata": {"annotations": {RESTARTED: now}}}}});
        let object = patch_object(&call, &rest, &info, &body, DryRun::None).await?;
        printer.result(&info.with(object), "restarted")?;
    }
    Error::collect(errors)
}

async fn undo(call: Call) -> Result<()> {
    let to = call.flags.int("to-revision");
    if to < 0 {
        return Err(Error::new(format!(
            "--to-revision must be a positive integer: {to}"
        )));
    }
    let dry = DryRun::from_call(&call)?;
    let printer = Printer::from_call(&call)?;
    let (infos, mut errors) = targets(&call).await?;
    let rest = call.ctx.rest().await?;
    for info in infos {
        check(&info, "rollbacker")?;
        if info.object["spec"]["paused"] == true {
            errors.push(Error::new(format!(
                "you cannot rollback a paused deployment; resume it first with '{} rollout resume {}' and try again",
                crate::cli::PROGRAM,
                info.display()
            )));
            continue;
        }
        if info.object["metadata"]["annotations"][LAST_APPLIED].is_string() {
            crate::errln!(
                "Warning: resource {}/{} was previously managed with '{p} apply'. Rolling back will not update the {LAST_APPLIED} annotation, which may cause unexpected behavior on future '{p} apply' operations. Consider using '{p} apply' with your previous configuration file instead.",
                info.mapping.plural,
                info.name,
                p = crate::cli::PROGRAM
            );
        }
        let all = revisions(&call, &rest, &info).await?;
        let current = plain_template(&info.object["spec"]["template"]);
        let chosen = if to > 0 {
            match all.iter().find(|(n, _, _)| *n == to) {
                Some(r) => r,
                None => {
                    errors.push(Error::new(format!(
                        "unable to find specified revision {to} in history"
                    )));
                    continue;
                }
            }
        } else {
            // The one before the newest; a single one is all there is.
            match all.len().checked_sub(2).and_then(|i| all.get(i)) {
                Some(r) => r,
                None => {
                    errors.push(Error::new(format!(
                        "no rollout history found for {} {}",
                        info.mapping.kind.to_lowercase(),
                        crate::error::go_quote(&info.name)
                    )));
                    continue;
                }
            }
        };
        let template = plain_template(&chosen.2);
        if dry == DryRun::Client {
            if printer.is_human() {
                crate::outln!("{} rolled back (dry run)", info.display());
                continue;
            }
            let mut object = info.object.clone();
            object["spec"]["template"] = template;
            printer.print(&object)?;
            continue;
        }
        if comparable(&template) == comparable(&current) {
            crate::outln!(
                "{} skipped rollback (current template already matches revision {})",
                info.display(),
                chosen.0
            );
            continue;
        }
        let mut operations = vec![json!({"op": "replace", "path": "/spec/template", "value": template})];
        if info.mapping.kind == "Deployment" && !chosen.1.is_empty() {
            if info.object["metadata"]["annotations"].is_object() {
                operations.push(json!({"op": "add", "path": "/metadata/annotations/kubernetes.io~1change-cause", "value": chosen.1}));
            } else {
                operations.push(
                    json!({"op": "add", "path": "/metadata/annotations", "value": {CHANGE_CAUSE: chosen.1}}),
                );
            }
        }
        let mut params = vec![("fieldManager", "kubectl-rollout".to_owned())];
        if dry == DryRun::Server {
            params.push(("dryRun", "All".to_owned()));
        }
        let object = rest
            .patch(
                &with_query(&info.path(), &params),
                patch::JSON,
                serde_json::to_vec(&operations)?,
            )
            .await?;
        printer.result(&info.with(object), &format!("rolled back{}", dry.suffix()))?;
    }
    Error::collect(errors)
}

/// A template for comparison: what says nothing is left out.
fn comparable(template: &Value) -> Value {
    match template {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(k, v)| (k.clone(), comparable(v)))
                .filter(|(k, v)| {
                    !(v.is_null() || v.as_object().is_some_and(serde_json::Map::is_empty) && k != "emptyDir")
                })
                .filter(|(k, _)| k != "$patch" && k != "creationTimestamp")
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(comparable).collect()),
        other => other.clone(),
    }
}

/// What the state of a rollout means: a line, and whether it is through.
pub fn progress(info: &Info, revision: i64) -> Result<(String, bool)> {
    let o = &info.object;
    let (spec, s) = (&o["spec"], &o["status"]);
    let name = &info.name;
    let quoted = crate::error::go_quote(name);
    let observed = number(&o["metadata"]["generation"]) <= number(&s["observedGeneration"]);
    match info.mapping.kind.as_str() {
        "Deployment" => {
            if revision > 0 {
                let has: i64 = o["metadata"]["annotations"][REVISION]
                    .as_str()
                    .and_then(|r| r.parse().ok())
                    .unwrap_or(0);
                if has != revision {
                    return Err(Error::new(format!(
                        "desired revision ({revision}) is different from the running revision ({has})"
                    )));
                }
            }
            if !observed {
                return Ok((
                    "Waiting for deployment spec update to be observed...\n".to_owned(),
                    false,
                ));
            }
            if items(&s["conditions"])
                .iter()
                .any(|c| c["type"] == "Progressing" && c["reason"] == "ProgressDeadlineExceeded")
            {
                return Err(Error::new(format!(
                    "deployment {quoted} exceeded its progress deadline"
                )));
            }
            let (updated, total, available) = (
                number(&s["updatedReplicas"]),
                number(&s["replicas"]),
                number(&s["availableReplicas"]),
            );
            if !spec["replicas"].is_null() && updated < number(&spec["replicas"]) {
                return Ok((
                    format!(
                        "Waiting for deployment {quoted} rollout to finish: {updated} out of {} new replicas have been updated...\n",
                        number(&spec["replicas"])
                    ),
                    false,
                ));
            }
            if total > updated {
                return Ok((
                    format!(
                        "Waiting for deployment {quoted} rollout to finish: {} old replicas are pending termination...\n",
                        total - updated
                    ),
                    false,
                ));
            }
            if available < updated {
                return Ok((
                    format!(
                        "Waiting for deployment {quoted} rollout to finish: {available} of {updated} updated replicas are available...\n"
                    ),
                    false,
                ));
            }
            Ok((format!("deployment {quoted} successfully rolled out\n"), true))
        }
        "DaemonSet" => {
            if spec["updateStrategy"]["type"] != "RollingUpdate" {
                return Err(Error::new(
                    "rollout status is only available for RollingUpdate strategy type",
                ));
            }
            if !observed {
                return Ok((
                    "Waiting for daemon set spec update to be observed...\n".to_owned(),
                    false,
                ));
            }
            let (updated, desired, available) = (
                number(&s["updatedNumberScheduled"]),
                number(&s["desiredNumberScheduled"]),
                number(&s["numberAvailable"]),
            );
            if updated < desired {
                return Ok((
                    format!(
                        "Waiting for daemon set {quoted} rollout to finish: {updated} out of {desired} new pods have been updated...\n"
                    ),
                    false,
                ));
            }
            if available < desired {
                return Ok((
                    format!(
                        "Waiting for daemon set {quoted} rollout to finish: {available} of {desired} updated pods are available...\n"
                    ),
                    false,
                ));
            }
            Ok((format!("daemon set {quoted} successfully rolled out\n"), true))
        }
        "StatefulSet" => {
            if spec["updateStrategy"]["type"] != "RollingUpdate" {
                return Err(Error::new(
                    "rollout status is only available for RollingUpdate strategy type",
                ));
            }
            if number(&s["observedGeneration"]) == 0 || !observed {
                return Ok((
                    "Waiting for statefulset spec update to be observed...\n".to_owned(),
                    false,
                ));
            }
            let (replicas, ready, updated) = (
                number(&spec["replicas"]),
                number(&s["readyReplicas"]),
                number(&s["updatedReplicas"]),
            );
            if !spec["replicas"].is_null() && ready < replicas {
                return Ok((
                    format!("Waiting for {} pods to be ready...\n", replicas - ready),
                    false,
                ));
            }
            let partition = number(&spec["updateStrategy"]["rollingUpdate"]["partition"]);
            if !spec["updateStrategy"]["rollingUpdate"]["partition"].is_null() && partition > 0 {
                if updated < replicas - partition {
                    return Ok((
                        format!(
                            "Waiting for partitioned roll out to finish: {updated} out of {} new pods have been updated...\n",
                            replicas - partition
                        ),
                        false,
                    ));
                }
                return Ok((
                    format!("partitioned roll out complete: {updated} new pods have been updated...\n"),
                    true,
                ));
            }
            if s["updateRevision"] != s["currentRevision"] {
                return Ok((
                    format!(
                        "waiting for statefulset rolling update to complete {updated} pods at revision {}...\n",
                        s["updateRevision"].as_str().unwrap_or("")
                    ),
                    false,
                ));
            }
            Ok((
                format!(
                    "statefulset rolling update complete {} pods at revision {}...\n",
                    number(&s["currentReplicas"]),
                    s["currentRevision"].as_str().unwrap_or("")
                ),
                true,
            ))
        }
        other => Err(Error::new(format!(
            "no status viewer has been implemented for {other}"
        ))),
    }
}

async fn status(call: Call) -> Result<()> {
    let (infos, errors) = targets(&call).await?;
    Error::collect(errors)?;
    if infos.is_empty() {
        crate::errln!("No resources found in {} namespace.", call.ctx.namespace()?);
        return Ok(());
    }
    let rest = call.ctx.rest().await?;
    let timeout = call.flags.duration("timeout");
    for info in infos {
        let follow = follow(&call, &rest, &info);
        if timeout.is_zero() {
            follow.await?;
        } else {
            tokio::time::timeout(timeout, follow)
                .await
                .map_err(|_| Error::new("timed out waiting for the condition"))??;
        }
    }
    Ok(())
}

async fn follow(call: &Call, rest: &Rest, info: &Info) -> Result<()> {
    let revision = call.flags.int("revision");
    let mut info = info.clone();
    loop {
        let (text, done) = progress(&info, revision)?;
        crate::out::print(&text);
        if done || !call.bool("watch") {
            return Ok(());
        }
        let version = info.object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or("")
            .to_owned();
        let query = [
            ("fieldSelector", format!("metadata.name={}", info.name)),
            ("resourceVersion", version),
        ];
        let mut stream = rest.watch(&info.collection(), &query, "application/json").await?;
        loop {
            match stream.event().await {
                Ok(Some((kind, _))) if kind == "DELETED" => {
                    return Err(Error::new("object has been deleted"));
                }
                Ok(Some((_, object))) => {
                    info.object = object;
                    let (text, done) = progress(&info, revision)?;
                    crate::out::print(&text);
                    if done {
                        return Ok(());
                    }
                }
                // A watch that ended is begun anew from what is there now.
                Ok(None) | Err(Error::Status(_)) => break,
                Err(e) => return Err(e),
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        info.object = rest.get(&info.path()).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    fn info(kind: &str, object: Value) -> Info {
        Info {
            mapping: Rc::new(crate::discovery::Mapping {
                kind: kind.to_owned(),
                ..Default::default()
            }),
            namespace: String::new(),
            name: "web".to_owned(),
            object,
            source: String::new(),
        }
    }

    #[test]
    fn progress_is_told_step_by_step() {
        for (status, expected, through) in [
            (
                json!({"observedGeneration": 0}),
                "Waiting for deployment spec update to be observed...\n",
                false,
            ),
            (
                json!({"observedGeneration": 1, "updatedReplicas": 1}),
                "Waiting for deployment \"web\" rollout to finish: 1 out of 3 new replicas have been updated...\n",
                false,
            ),
            (
                json!({"observedGeneration": 1, "updatedReplicas": 3, "replicas": 4}),
                "Waiting for deployment \"web\" rollout to finish: 1 old replicas are pending termination...\n",
                false,
            ),
            (
                json!({"observedGeneration": 1, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 2}),
                "Waiting for deployment \"web\" rollout to finish: 2 of 3 updated replicas are available...\n",
                false,
            ),
            (
                json!({"observedGeneration": 1, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}),
                "deployment \"web\" successfully rolled out\n",
                true,
            ),
        ] {
            let o = json!({"metadata": {"generation": 1}, "spec": {"replicas": 3}, "status": status});
            assert_eq!(
                progress(&info("Deployment", o), 0).unwrap(),
                (expected.to_owned(), through)
            );
        }
    }

    #[test]
    fn the_current_set_is_found_without_the_hash() {
        let set = |name: &str, image: &str| {
            json!({"metadata": {"name": name}, "spec": {"template": {
            "metadata": {"labels": {"app": "x", HASH: name}}, "spec": {"image": image}}}})
        };
        let d = json!({"spec": {"template": {"metadata": {"labels": {"app": "x"}}, "spec": {"image": "2"}}}});
        let sets = [set("a", "1"), set("b", "2")];
        assert_eq!(current_set(&d, &sets).unwrap()["metadata"]["name"], "b");
    }
}
