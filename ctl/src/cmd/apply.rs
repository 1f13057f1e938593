//! `apply`: brings objects to what manifests say, in the client (three-way) or in the server.

use super::common::{DryRun, LAST_APPLIED, Write, annotate_applied};
use crate::cli::flags::{ALL, DRY_RUN, FILENAME, OUTPUT, SELECTOR, SUBRESOURCE, TEMPLATE, VALIDATE};
use crate::cli::{Args, Call, Command, bool, duration, int, slice, text};
use crate::error::{Error, Result, go_quote};
use crate::patch::{Schema, three_way};
use crate::print::{Printer, list_of};
use crate::resource::Info;
use crate::resource::builder::{self, Query};
use crate::rest::{Rest, patch, with_query};
use serde_json::{Value, json};

/// The command.
pub static COMMAND: Command = Command {
    name: "apply",
    short: "Apply a configuration to a resource by file name or stdin",
    long: "Apply a configuration to a resource by file name or stdin. The resource name must be specified. This resource will be created if it doesn't exist yet.\n\n JSON and YAML formats are accepted. Fields that others set and the manifest doesn't name are left alone; fields that were applied before and are gone from the manifest are removed.",
    examples: "
        # Apply a manifest, a directory of them, or what another program writes
        {} apply -f deployment.yaml
        {} apply -f manifests/ -R
        cat deployment.yaml | {} apply -f -

        # Let the server merge and track who owns which field
        {} apply --server-side -f deployment.yaml

        # Remove what carries the label and is no longer in the manifests
        {} apply --prune -f manifests/ -l app=web",
    usage: "(-f FILENAME | -k DIRECTORY)",
    flags: &[
        ALL,
        DRY_RUN,
        FILENAME,
        OUTPUT,
        SELECTOR,
        SUBRESOURCE,
        TEMPLATE,
        VALIDATE,
        &[
            text("cascade", "background", "Must be \"background\", \"orphan\", or \"foreground\". Selects the deletion cascading strategy for the dependents (e.g. Pods created by a ReplicationController).").bare("background"),
            text("field-manager", "kubectl-client-side-apply", "Name of the manager used to track field ownership."),
            bool("force", "If true, immediately remove resources from API and bypass graceful deletion."),
            bool("force-conflicts", "If true, server-side apply will force the changes against conflicts."),
            int("grace-period", "-1", "Period of time in seconds given to the resource to terminate gracefully. Ignored if negative."),
            bool("overwrite", "Automatically resolve conflicts between the modified and live configuration by using values from the modified configuration").on(),
            bool("prune", "Automatically delete resource objects, that do not appear in the configs and are created by either apply or create --save-config. Should be used with either -l or --all."),
            slice("prune-allowlist", "Overwrite the default allowlist with <group/version/kind> for --prune"),
            bool("server-side", "If true, apply runs in the server instead of the client."),
            duration("timeout", "0s", "The length of time to wait before giving up on a delete, zero means determine a timeout from the size of the object"),
            bool("wait", "If true, wait for resources to be gone before returning. This waits for finalizers."),
        ],
    ],
    subs: &[&super::apply_annotation::VIEW, &super::apply_annotation::SET, &super::apply_annotation::EDIT],
    run: Some(|c| Box::pin(run(c))),
    args: Args::None,
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    if !call.args.is_empty() {
        return Err(call.usage(format!("Unexpected args: [{}]", call.args.join(" "))));
    }
    let query = Query::from_call(&call);
    if !query.has_files() {
        return Err(Error::new("must specify one of -f and -k"));
    }
    let server_side = call.bool("server-side");
    if call.bool("force-conflicts") && !server_side {
        return Err(Error::new("--force-conflicts only works with --server-side"));
    }
    if DryRun::from_call(&call)? == DryRun::Client && server_side {
        return Err(Error::new(
            "--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)",
        ));
    }
    if call.bool("force") && server_side {
        return Err(Error::new("--force cannot be used with --server-side"));
    }
    if call.bool("prune") && !call.bool("all") && query.selector.is_empty() {
        return Err(Error::new(
            "all resources selected for prune without explicitly passing --all. To prune all resources, pass the --all flag. If you did not mean to prune all resources, specify a label selector",
        ));
    }
    let printer = Printer::from_call(&call)?;
    let targets = query.targets(&call.ctx).await?;
    let mut errors = targets.errors;
    let selector = selector(&query.selector)?;
    let mut infos: Vec<Info> = targets
        .items
        .into_iter()
        .filter_map(|t| match t {
            builder::Target::Object(i) | builder::Target::Named(i) => Some(i),
            builder::Target::List { .. } => None,
        })
        .collect();
    infos.retain(|i| selector.as_ref().is_none_or(|s| s.matches_object(&i.object)));
    if infos.is_empty() && errors.is_empty() {
        return Err(Error::new("no objects passed to apply"));
    }
    let manager = if server_side {
        "kubectl"
    } else {
        "kubectl-client-side-apply"
    };
    let write = Write::from_call(&call, manager)?;
    let rest = call.ctx.rest().await?;
    let mut done: Vec<Info> = Vec::new();
    for info in infos {
        let outcome = if server_side {
            in_server(&call, &rest, &write, &info).await
        } else {
            in_client(&call, &rest, &write, &info).await
        };
        match outcome {
            Ok((info, operation)) => {
                if printer.is_human() || matches!(printer.format, crate::print::Format::Name) {
                    printer.result(&info, &format!("{operation}{}", write.dry.suffix()))?;
                }
                done.push(info);
            }
            Err(e) => errors.push(e),
        }
    }
    if !printer.is_human() && !matches!(printer.format, crate::print::Format::Name) {
        match done.as_slice() {
            [] => {}
            [one] => printer.print(&one.object)?,
            many => printer.print(&list_of(many.iter().map(|i| i.object.clone()).collect()))?,
        }
    }
    if call.bool("prune") && errors.is_empty() {
        super::prune::run(&call, &query.selector, &done, &printer, write.dry).await?;
    }
    Error::collect(errors)
}

fn selector(text: &str) -> Result<Option<rutter_api::LabelSelector>> {
    if text.is_empty() {
        return Ok(None);
    }
    rutter_api::LabelSelector::parse(text)
        .map(Some)
        .map_err(|e| Error::new(e.to_string()))
}

async fn in_server(call: &Call, rest: &Rest, write: &Write, info: &Info) -> Result<(Info, String)> {
    let mut params = write.params();
    params.push(("force", call.bool("force-conflicts").to_string()));
    let path = with_query(&info.sub_path(call.str("subresource")), &params);
    if info.name.is_empty() {
        return Err(Error::new(format!(
            "from {}: cannot use generate name with apply",
            go_quote(info.object["metadata"]["generateName"].as_str().unwrap_or(""))
        )));
    }
    let mut object = info.object.clone();
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.remove("managedFields");
    }
    super::apply_migrate::run(rest, info, &write.manager, write.dry).await?;
    match rest
        .patch(&path, patch::APPLY, serde_json::to_vec(&object)?)
        .await
    {
        Ok(object) => {
            let object = keep_annotation(rest, write, info, object).await?;
            Ok((info.with(object), "serverside-applied".to_owned()))
        }
        Err(Error::Status(s)) if s.reason == "Conflict" && s.message.contains("conflict with") => {
            Err(Error::new(format!(
                "{}\nPlease review the fields above--they currently have other managers. Here\nare the ways you can resolve this warning:\n* If you intend to manage all of these fields, please re-run the apply\n  command with the `--force-conflicts` flag.\n* If you do not intend to manage all of the fields, please edit your\n  manifest to remove references to the fields that should keep their\n  current managers.\n* You may co-own fields by updating your manifest to match the existing\n  value; in this case, you'll become the manager if the other manager(s)\n  stop managing the field (remove it from their configuration).\nSee https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts",
                s.message
            )))
        }
        Err(e) => Err(e),
    }
}

/// Brings the annotation of an object that was applied in the client up to date, so that going back stays possible.
async fn keep_annotation(rest: &Rest, write: &Write, info: &Info, object: Value) -> Result<Value> {
    let had = object["metadata"]["annotations"][LAST_APPLIED].as_str();
    let text = super::common::last_applied_text(&info.object);
    if had.is_none_or(|h| h == text) || write.dry != DryRun::None {
        return Ok(object);
    }
    let mut meta = json!({"name": info.name, "annotations": {LAST_APPLIED: text}});
    if !info.namespace.is_empty() {
        meta["namespace"] = json!(info.namespace);
    }
    let body = json!({"apiVersion": info.mapping.api_version(), "kind": info.mapping.kind, "metadata": meta});
    let params = [
        ("fieldManager", "kubectl-last-applied".to_owned()),
        ("force", "true".to_owned()),
    ];
    rest.patch(
        &with_query(&info.path(), &params),
        patch::APPLY,
        serde_json::to_vec(&body)?,
    )
    .await
}

async fn in_client(call: &Call, rest: &Rest, write: &Write, info: &Info) -> Result<(Info, String)> {
    if info.name.is_empty() {
        return Err(Error::new(format!(
            "from {}: cannot use generate name with apply",
            go_quote(info.object["metadata"]["generateName"].as_str().unwrap_or(""))
        )));
    }
    let live = match rest.get(&info.path()).await {
        Ok(live) => live,
        Err(e) if e.is_not_found() => {
            let mut fresh = info.clone();
            annotate_applied(&mut fresh.object);
            if write.dry == DryRun::Client {
                return Ok((fresh, "created".to_owned()));
            }
            let created = write
                .create(rest, &fresh)
                .await
                .map_err(|e| e.when("creating", &info.source))?;
            return Ok((info.with(created), "created".to_owned()));
        }
        Err(e) => {
            return Err(match e {
                Error::Status(mut s) => {
                    s.message = format!(
                        "error when retrieving current configuration of:\nResource: {}, GroupVersionKind: {}\nName: {}, Namespace: {}\nfrom server for: {}: {}",
                        go_quote(&gvr(info)),
                        go_quote(&format!(
                            "{}, Kind={}",
                            info.mapping.api_version(),
                            info.mapping.kind
                        )),
                        go_quote(&info.name),
                        go_quote(&info.namespace),
                        go_quote(&info.source),
                        s.message
                    );
                    Error::Status(s)
                }
                other => other,
            });
        }
    };
    if live["metadata"]["annotations"][LAST_APPLIED].is_null() && write.dry != DryRun::Client {
        crate::errln!(
            "Warning: resource {}/{} is missing the {LAST_APPLIED} annotation which is required by {p} apply. {p} apply should only be used on resources created declaratively by either {p} create --save-config or {p} apply. The missing annotation will be patched automatically.",
            info.mapping.plural,
            info.name,
            p = crate::cli::PROGRAM
        );
    }
    let mut modified = info.object.clone();
    annotate_applied(&mut modified);
    let mut live = live;
    for attempt in 0..5 {
        let (body, kind) = make_patch(call, info, &modified, &live).await?;
        if body.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok((info.with(live), "unchanged".to_owned()));
        }
        if !call.bool("overwrite") {
            undisturbed(&body, &live)?;
        }
        if write.dry == DryRun::Client {
            return Ok((info.with(live), "configured".to_owned()));
        }
        match write
            .patch(rest, info, call.str("subresource"), kind, &body)
            .await
        {
            Ok(object) => {
                let same = object["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"];
                let word = if same && write.dry == DryRun::None {
                    "unchanged"
                } else {
                    "configured"
                };
                return Ok((info.with(object), word.to_owned()));
            }
            Err(e) if e.is_conflict() && attempt < 4 => {
                tokio::time::sleep(std::time::Duration::from_secs(if attempt > 1 { 1 } else { 0 })).await;
                live = rest.get(&info.path()).await?;
            }
            Err(e) if (e.is_invalid() || e.is_conflict()) && call.bool("force") => {
                return recreate(call, rest, write, info, &modified).await;
            }
            Err(Error::Status(mut s)) if s.reason != "Invalid" => {
                s.message = format!(
                    "error when applying patch:\n{}\nto:\nResource: {}, GroupVersionKind: {}\nName: {}, Namespace: {}\nfor: {}: error when patching {}: {}",
                    crate::print::json::compact(&body),
                    go_quote(&gvr(info)),
                    go_quote(&format!(
                        "{}, Kind={}",
                        info.mapping.api_version(),
                        info.mapping.kind
                    )),
                    go_quote(&info.name),
                    go_quote(&info.namespace),
                    go_quote(&info.source),
                    go_quote(&info.source),
                    s.message
                );
                return Err(Error::Status(s));
            }
            Err(e) => return Err(e),
        }
    }
    Err(Error::new(format!(
        "{} kept changing while it was applied",
        info.display()
    )))
}

/// Fails if the patch changes what others changed since the last apply.
fn undisturbed(body: &Value, live: &Value) -> Result<()> {
    let Some(original) = live["metadata"]["annotations"][LAST_APPLIED]
        .as_str()
        .and_then(|t| serde_json::from_str::<Value>(t).ok())
    else {
        return Ok(());
    };
    let since = three_way(&original, live, &original, None);
    let mut patch = body.clone();
    if let Some(Value::Object(annotations)) = patch.pointer_mut("/metadata/annotations") {
        annotations.remove(LAST_APPLIED);
    }
    if !conflict(&patch, &since) {
        return Ok(());
    }
    Err(Error::new(format!(
        "patch:\n{}\nconflicts with changes made from original to current:\n{}\n",
        crate::print::json::compact(&patch),
        crate::print::json::compact(&since)
    )))
}

/// Whether two changes give one field different values.
fn conflict(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => a
            .iter()
            .any(|(key, value)| b.get(key).is_some_and(|other| conflict(value, other))),
        (a, b) => a != b,
    }
}

fn gvr(info: &Info) -> String {
    format!("{}, Resource={}", info.mapping.api_version(), info.mapping.plural)
}

/// Deletes the object and makes it anew, as `--force` allows.
async fn recreate(
    call: &Call,
    rest: &Rest,
    write: &Write,
    info: &Info,
    modified: &Value,
) -> Result<(Info, String)> {
    let grace = call.flags.int("grace-period");
    let mut options = json!({"propagationPolicy": super::delete::Options::cascade(call.str("cascade"))?});
    if grace >= 0 {
        options["gracePeriodSeconds"] = json!(grace);
    }
    rest.delete(&info.path(), &options).await?;
    let limit = match call.flags.duration("timeout") {
        t if t.is_zero() => std::time::Duration::from_secs(300),
        t => t,
    };
    let deadline = tokio::time::Instant::now() + limit;
    while rest.get(&info.path()).await.is_ok() {
        if tokio::time::Instant::now() > deadline {
            return Err(Error::new(format!(
                "timed out waiting for {} to be deleted",
                info.display()
            )));
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let created = write.create(rest, &info.with(modified.clone())).await?;
    Ok((info.with(created), "configured".to_owned()))
}

/// The patch and its type: strategic where the server publishes how lists merge, else a merge patch.
pub(super) async fn make_patch(
    call: &Call,
    info: &Info,
    modified: &Value,
    live: &Value,
) -> Result<(Value, &'static str)> {
    let original: Value = live["metadata"]["annotations"][LAST_APPLIED]
        .as_str()
        .and_then(|t| serde_json::from_str(t).ok())
        .unwrap_or(Value::Null);
    let mut current = live.clone();
    if let Some(meta) = current["metadata"].as_object_mut() {
        meta.remove("managedFields");
    }
    let builtin = is_builtin(&info.mapping.group);
    let (body, kind) = if builtin {
        let api = call.ctx.openapi().await?;
        match api.document(&info.mapping.api_version()).await {
            Ok(document) => {
                let node = document.kind(&info.mapping.api_version(), &info.mapping.kind);
                let schema = node.map(|n| Schema::new(&document, n));
                (
                    three_way(&original, modified, &current, schema),
                    if schema.is_some() {
                        patch::STRATEGIC
                    } else {
                        patch::MERGE
                    },
                )
            }
            Err(_) => (three_way(&original, modified, &current, None), patch::MERGE),
        }
    } else {
        (three_way(&original, modified, &current, None), patch::MERGE)
    };
    Ok((body, kind))
}

/// Groups whose kinds are built in take strategic merge patches; custom resources don't.
pub fn is_builtin(group: &str) -> bool {
    matches!(
        group,
        "" | "apps"
            | "batch"
            | "autoscaling"
            | "policy"
            | "extensions"
            | "admissionregistration.k8s.io"
            | "apiextensions.k8s.io"
            | "apiregistration.k8s.io"
            | "authentication.k8s.io"
            | "authorization.k8s.io"
            | "certificates.k8s.io"
            | "coordination.k8s.io"
            | "discovery.k8s.io"
            | "events.k8s.io"
            | "flowcontrol.apiserver.k8s.io"
            | "internal.apiserver.k8s.io"
            | "networking.k8s.io"
            | "node.k8s.io"
            | "rbac.authorization.k8s.io"
            | "resource.k8s.io"
            | "scheduling.k8s.io"
            | "storage.k8s.io"
            | "storagemigration.k8s.io"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_overwrite_others_changes_are_kept() {
        let live = |replicas: i64| {
            let applied = json!({"spec": {"replicas": 1, "paused": false}}).to_string();
            json!({"metadata": {"annotations": {LAST_APPLIED: applied}}, "spec": {"replicas": replicas, "paused": false}})
        };
        let patch = json!({"spec": {"replicas": 3}});
        assert!(undisturbed(&patch, &live(1)).is_ok());
        assert!(undisturbed(&patch, &live(3)).is_ok());
        let refused = undisturbed(&patch, &live(5)).unwrap_err().message();
        assert!(
            refused.contains("conflicts with changes made from original to current"),
            "{refused}"
        );
        assert!(undisturbed(&json!({"spec": {"paused": true}}), &live(5)).is_ok());
    }
}
