//! `set`: changes single things of workloads: images, variables, resources, accounts, selectors and subjects.

use super::common::{DryRun, Write, record};
use crate::cli::flags::{ALL, DRY_RUN, FILENAME, OUTPUT, RECORD, SELECTOR, TEMPLATE};
use crate::cli::{Args, Call, Command, Flag, array, bool, slice, text};
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::resource::Info;
use crate::resource::builder::Query;
use crate::rest::patch;
use rutter_api::Quantity;
use serde_json::{Map, Value, json};

const LOCAL: &[Flag] = &[
    text(
        "field-manager",
        "kubectl-set",
        "Name of the manager used to track field ownership.",
    ),
    bool(
        "local",
        "If true, the command will NOT contact api-server but run locally.",
    ),
];

/// The command.
pub static COMMAND: Command = Command {
    name: "set",
    short: "Set specific features on objects",
    long: "Configure application resources.\n\n These commands help you make changes to existing application resources.",
    usage: "SUBCOMMAND",
    subs: &[
        &super::set_env::COMMAND,
        &IMAGE,
        &RESOURCES,
        &SELECTOR_,
        &ACCOUNT,
        &super::set_subject::COMMAND,
    ],
    ..Command::NEW
};

static IMAGE: Command = Command {
    name: "image",
    short: "Update the image of a pod template",
    examples: "
        # One container's, or all containers'
        {} set image deployment/web app=app:2
        {} set image deployments,daemonsets --all '*=app:2'",
    usage: "(-f FILENAME | TYPE NAME) CONTAINER_NAME_1=CONTAINER_IMAGE_1 ... CONTAINER_NAME_N=CONTAINER_IMAGE_N",
    flags: &[ALL, DRY_RUN, FILENAME, OUTPUT, RECORD, SELECTOR, TEMPLATE, LOCAL],
    args: Args::Resources,
    run: Some(|c| Box::pin(image(c))),
    ..Command::NEW
};

static RESOURCES: Command = Command {
    name: "resources",
    short: "Update resource requests/limits on objects with pod templates",
    examples: "
        # Of all containers, of one
        {} set resources deployment web --limits=cpu=200m,memory=512Mi --requests=cpu=100m,memory=256Mi
        {} set resources deployment web -c app --limits=cpu=200m",
    usage: "(-f FILENAME | TYPE NAME)  ([--limits=LIMITS & --requests=REQUESTS])",
    flags: &[ALL, DRY_RUN, FILENAME, OUTPUT, RECORD, SELECTOR, TEMPLATE, LOCAL, &[
        text("containers", "*", "The names of containers in the selected pod templates to change, all containers are selected by default - may use wildcards").short('c'),
        text("limits", "", "The resource requirement requests for this container.  For example, 'cpu=100m,memory=256Mi'.  Note that server side components may assign requests depending on the server configuration, such as limit ranges."),
        text("requests", "", "The resource requirement requests for this container.  For example, 'cpu=100m,memory=256Mi'.  Note that server side components may assign requests depending on the server configuration, such as limit ranges."),
    ]],
    args: Args::Resources,
    run: Some(|c| Box::pin(resources(c))),
    ..Command::NEW
};

static SELECTOR_: Command = Command {
    name: "selector",
    short: "Set the selector on a resource",
    examples: "
        # Of a service
        {} set selector service web app=web,tier=front",
    usage: "(-f FILENAME | TYPE NAME) EXPRESSIONS [--resource-version=version]",
    flags: &[
        ALL,
        DRY_RUN,
        FILENAME,
        OUTPUT,
        RECORD,
        TEMPLATE,
        LOCAL,
        &[text(
            "resource-version",
            "",
            "If non-empty, the selectors update will only succeed if this is the current resource-version for the object. Only valid when specifying a single resource.",
        )],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(selector(c))),
    ..Command::NEW
};

static ACCOUNT: Command = Command {
    name: "serviceaccount",
    aliases: &["sa"],
    short: "Update the service account of a resource",
    examples: "
        # Of a deployment
        {} set serviceaccount deployment web robot",
    usage: "(-f FILENAME | TYPE NAME) SERVICE_ACCOUNT",
    flags: &[ALL, DRY_RUN, FILENAME, OUTPUT, RECORD, TEMPLATE, LOCAL],
    args: Args::Resources,
    run: Some(|c| Box::pin(account(c))),
    ..Command::NEW
};

/// The pod spec in an object: its own, a template's, or a job template's.
pub fn pod_spec(object: &mut Value) -> Option<&mut Value> {
    let path = match object["kind"].as_str()? {
        "Pod" => "/spec",
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        _ => "/spec/template/spec",
    };
    object.pointer_mut(path).filter(|s| s["containers"].is_array())
}

/// What `set` commands do to their objects: read, change, and send the difference.
pub async fn update(
    call: &Call,
    args: Vec<String>,
    done: &str,
    change: &mut dyn FnMut(&mut Value) -> Result<bool>,
) -> Result<()> {
    let mut query = Query::from_call(call);
    query.args = args;
    let write = Write::from_call(call, "kubectl-set")?;
    let printer = Printer::from_call(call)?;
    let local = call.flags.opt_bool("local");
    let (infos, mut errors): (Vec<Info>, Vec<Error>) = if local {
        (query.local().await?, Vec::new())
    } else {
        query.latest(&call.ctx).await?
    };
    if infos.is_empty() && errors.is_empty() {
        return Err(Error::new("no objects passed"));
    }
    for info in infos {
        let mut new = info.object.clone();
        match change(&mut new) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(e) => {
                errors.push(e);
                continue;
            }
        }
        record(call, &mut new);
        if local || write.dry == DryRun::Client {
            printer.result(&info.with(new), &format!("{done}{}", write.dry.suffix()))?;
            continue;
        }
        if new == info.object {
            if printer.is_human() {
                continue;
            }
            printer.result(&info.with(new), done)?;
            continue;
        }
        let rest = call.ctx.rest().await?;
        let body = if super::apply::is_builtin(&info.mapping.group) {
            let api = call.ctx.openapi().await?;
            let document = api.document(&info.mapping.api_version()).await?;
            let node = document.kind(&info.mapping.api_version(), &info.mapping.kind);
            let schema = node.map(|n| crate::patch::Schema::new(&document, n));
            (
                crate::patch::three_way(&info.object, &new, &info.object, schema),
                if schema.is_some() {
                    patch::STRATEGIC
                } else {
                    patch::MERGE
                },
            )
        } else {
            (crate::patch::diff(&info.object, &new), patch::MERGE)
        };
        match write.patch(&rest, &info, "", body.1, &body.0).await {
            Ok(object) => printer.result(&info.with(object), &format!("{done}{}", write.dry.suffix()))?,
            Err(e) => errors.push(Error::new(format!(
                "failed to patch {done_what} to pod template: {}",
                e.message(),
                done_what = done.trim_end_matches(" updated")
            ))),
        }
    }
    Error::collect(errors)
}

/// `*` and `?` in a name.
pub fn matches(pattern: &str, name: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let expression = format!(
        "^{}$",
        regex::escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    );
    regex::Regex::new(&expression).is_ok_and(|r| r.is_match(name))
}

/// The containers of a spec that a pattern names.
pub fn containers<'a>(spec: &'a mut Value, pattern: &'a str) -> Vec<&'a mut Value> {
    let mut out = Vec::new();
    if let Some(map) = spec.as_object_mut() {
        for (key, list) in map.iter_mut() {
            if key == "containers" || key == "initContainers" {
                out.extend(
                    list.as_array_mut()
                        .into_iter()
                        .flatten()
                        .filter(|c| c["name"].as_str().is_some_and(|n| matches(pattern, n))),
                );
            }
        }
    }
    out
}

/// Resources, and what follows them: the first argument with `=` begins it.
fn split_pairs(args: &[String]) -> (Vec<String>, Vec<String>) {
    let at = args.iter().position(|a| a.contains('=')).unwrap_or(args.len());
    (
        args.get(..at).unwrap_or(&[]).to_vec(),
        args.get(at..).unwrap_or(&[]).to_vec(),
    )
}

fn no_template(object: &Value) -> Error {
    Error::new(format!(
        "{} is not a pod or does not have a pod template",
        crate::print::object_name(object)
    ))
}

async fn image(call: Call) -> Result<()> {
    let (resources, pairs) = split_pairs(&call.args);
    if resources.is_empty() && call.list("filename").is_empty() {
        return Err(Error::new(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        ));
    }
    if pairs.is_empty() {
        return Err(Error::new("at least one image update is required"));
    }
    let pairs: Vec<(String, String)> = pairs
        .iter()
        .filter_map(|p| p.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())))
        .collect();
    if pairs.len() > 1 && pairs.iter().any(|(n, _)| n == "*") {
        return Err(Error::new(
            "all containers are already specified by *, but saw more than one container_name=container_image pairs",
        ));
    }
    update(&call, resources, "image updated", &mut |object| {
        let Some(spec) = pod_spec(object) else {
            return Err(no_template(object));
        };
        for (container, image) in &pairs {
            let mut found = false;
            for c in containers(spec, container) {
                c["image"] = json!(image);
                found = true;
            }
            if !found {
                return Err(Error::new(format!(
                    "unable to find container named {}",
                    crate::error::go_quote(container)
                )));
            }
        }
        Ok(true)
    })
    .await
}

fn quantities(text: &str) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    for pair in text.split(',').filter(|p| !p.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Error::new(format!(
                "invalid argument syntax {pair}, expected <resource>=<value>"
            )));
        };
        let value = Quantity::canonical(value).map_err(|e| Error::new(e.to_string()))?;
        out.insert(key.to_owned(), json!(value));
    }
    Ok(out)
}

async fn resources(call: Call) -> Result<()> {
    let (limits, requests) = (quantities(call.str("limits"))?, quantities(call.str("requests"))?);
    if limits.is_empty() && requests.is_empty() {
        return Err(Error::new(
            "you must specify an update to requests or limits (in the form of --requests/--limits)",
        ));
    }
    let pattern = call.str("containers").to_owned();
    update(
        &call,
        call.args.clone(),
        "resource requirements updated",
        &mut |object| {
            let Some(spec) = pod_spec(object) else {
                return Err(no_template(object));
            };
            let mut found = false;
            for c in containers(spec, &pattern) {
                found = true;
                for (key, wanted) in [("limits", &limits), ("requests", &requests)] {
                    for (name, quantity) in wanted {
                        if quantity == "0" {
                            if let Some(map) = c["resources"][key].as_object_mut() {
                                map.remove(name);
                            }
                        } else {
                            c["resources"][key][name] = quantity.clone();
                        }
                    }
                }
            }
            if !found {
                return Err(Error::new(format!("unable to find container named {pattern}")));
            }
            Ok(true)
        },
    )
    .await
}

async fn selector(call: Call) -> Result<()> {
    let Some((expression, resources)) = call.args.split_last() else {
        return Err(Error::new(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        ));
    };
    let mut labels = Map::new();
    for pair in expression.split(',') {
        let Some((key, value)) = pair.split_once("==").or_else(|| pair.split_once('=')) else {
            return Err(Error::new("only equality-based selectors are supported"));
        };
        labels.insert(key.to_owned(), json!(value));
    }
    let version = call.str("resource-version").to_owned();
    update(&call, resources.to_vec(), "selector updated", &mut |object| {
        if !version.is_empty() {
            object["metadata"]["resourceVersion"] = json!(version);
        }
        match object["kind"].as_str() {
            Some("Service") => {
                // The whole selector is replaced, so what was there must be removed by name.
                object["spec"]["selector"] = Value::Object(labels.clone());
                Ok(true)
            }
            _ => Err(Error::new(
                "setting a selector is only supported for Services".to_string(),
            )),
        }
    })
    .await
}

async fn account(call: Call) -> Result<()> {
    let Some((name, resources)) = call.args.split_last() else {
        return Err(Error::new("serviceaccount is required"));
    };
    if resources.is_empty() && call.list("filename").is_empty() {
        return Err(Error::new(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        ));
    }
    update(
        &call,
        resources.to_vec(),
        "serviceaccount updated",
        &mut |object| {
            let Some(spec) = pod_spec(object) else {
                return Err(no_template(object));
            };
            spec["serviceAccountName"] = json!(name);
            Ok(true)
        },
    )
    .await
}

/// Flags of `set subject`.
pub const SUBJECTS: &[Flag] = &[
    slice("group", "Groups to bind to the role"),
    slice("serviceaccount", "Service accounts to bind to the role"),
    array("user", "Usernames to bind to the role"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_found_by_pattern_in_any_workload() {
        let mut cron = json!({"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": {
            "containers": [{"name": "a1"}, {"name": "b"}], "initContainers": [{"name": "a2"}]}}}}}});
        let spec = pod_spec(&mut cron).unwrap();
        assert_eq!(containers(spec, "a*").len(), 2);
        assert_eq!(containers(spec, "*").len(), 3);
        assert_eq!(containers(spec, "b").len(), 1);
        assert!(pod_spec(&mut json!({"kind": "Service", "spec": {}})).is_none());
    }
}
