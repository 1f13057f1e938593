//! `auth`: what one may do, who one is, and roles brought to what manifests say.

use super::common::{DryRun, Write};
use crate::cli::flags::{ALL_NAMESPACES, DRY_RUN, FILENAME, OUTPUT, TEMPLATE};
use crate::cli::{Call, Command, bool, text};
use crate::describe::config::compact;
use crate::describe::writer::{items, strings};
use crate::error::{Error, Result};
use crate::print::{Printer, tab::Columns};
use crate::resource::Info;
use crate::resource::builder::{Query, Target};
use serde_json::{Value, json};

/// The command.
pub static COMMAND: Command = Command {
    name: "auth",
    short: "Inspect authorization",
    usage: "SUBCOMMAND",
    subs: &[&CAN_I, &RECONCILE, &WHOAMI],
    ..Command::NEW
};

static CAN_I: Command = Command {
    name: "can-i",
    short: "Check whether an action is allowed",
    long: "Check whether an action is allowed.\n\n VERB is a logical Kubernetes API verb like 'get', 'list', 'watch', 'delete', etc. TYPE is a Kubernetes resource. Shortcuts and groups will be resolved. NONRESOURCEURL is a partial URL that starts with \"/\". NAME is the name of a particular Kubernetes resource.",
    examples: "
        # Anywhere, in a namespace, on a subresource
        {} auth can-i create pods --all-namespaces
        {} auth can-i list deployments.apps -n team-a
        {} auth can-i get pods --subresource=log

        # Everything in this namespace
        {} auth can-i --list",
    usage: "VERB [TYPE | TYPE/NAME | NONRESOURCEURL]",
    flags: &[
        ALL_NAMESPACES,
        &[
            bool("list", "If true, prints all allowed actions."),
            bool("no-headers", "If true, prints allowed actions without headers"),
            bool("quiet", "If true, suppress output and just return the exit code.").short('q'),
            text(
                "subresource",
                "",
                "SubResource such as pod/log or deployment/scale",
            ),
        ],
    ],
    run: Some(|c| Box::pin(can_i(c))),
    ..Command::NEW
};

static WHOAMI: Command = Command {
    name: "whoami",
    short: "Experimental: Check self subject attributes",
    examples: "
        # Who the server takes me for
        {} auth whoami",
    flags: &[OUTPUT, TEMPLATE],
    run: Some(|c| Box::pin(whoami(c))),
    ..Command::NEW
};

static RECONCILE: Command = Command {
    name: "reconcile",
    short: "Reconciles rules for RBAC role, role binding, cluster role, and cluster role binding objects",
    long: "Reconciles rules for RBAC role, role binding, cluster role, and cluster role binding objects.\n\n Missing objects are created, and the containing namespace is created for namespaced objects, if required. Existing roles are updated to include the permissions in the input objects, and remove extra permissions if --remove-extra-permissions is specified. Existing bindings are updated to include the subjects in the input objects, and remove extra subjects if --remove-extra-subjects is specified.",
    usage: "-f FILENAME",
    flags: &[
        DRY_RUN,
        FILENAME,
        OUTPUT,
        TEMPLATE,
        &[
            bool(
                "remove-extra-permissions",
                "If true, removes extra permissions added to roles",
            ),
            bool(
                "remove-extra-subjects",
                "If true, removes extra subjects added to rolebindings",
            ),
        ],
    ],
    run: Some(|c| Box::pin(reconcile(c))),
    ..Command::NEW
};

/// Verbs of resources that mean something to Kubernetes.
const RESOURCE_VERBS: &[&str] = &[
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "use",
    "bind",
    "impersonate",
    "approve",
    "sign",
    "escalate",
    "attest",
    "*",
];
/// Verbs of paths.
const URL_VERBS: &[&str] = &["get", "put", "post", "head", "options", "delete", "patch", "*"];

async fn can_i(call: Call) -> Result<()> {
    let namespace = if call.bool("all-namespaces") {
        String::new()
    } else {
        call.ctx.namespace()?
    };
    if call.bool("list") {
        if !call.args.is_empty() {
            return Err(call.usage("list option must be specified with no arguments"));
        }
        return list(&call, &namespace).await;
    }
    if call.bool("no-headers") {
        return Err(Error::new("--no-headers cannot be set without --list specified"));
    }
    let (verb, what, mut name) = match call.args.as_slice() {
        [verb, what] => (verb, what.clone(), String::new()),
        [verb, what, name] => (verb, what.clone(), name.clone()),
        _ => {
            return Err(Error::new(format!(
                "you must specify two arguments: verb resource or verb resource/resourceName.\nSee '{} auth can-i -h' for help and examples.",
                crate::cli::PROGRAM
            )));
        }
    };
    let subresource = call.str("subresource");
    let rest = call.ctx.rest().await?;
    let unknown = |known: &[&str]| {
        if !known.contains(&verb.as_str()) {
            crate::errln!("Warning: verb '{verb}' is not a known verb\n");
        }
    };
    let spec = if what.starts_with('/') {
        if !subresource.is_empty() {
            return Err(Error::new("--subresource can not be used with NonResourceURL"));
        }
        unknown(URL_VERBS);
        json!({"nonResourceAttributes": {"verb": verb, "path": what}})
    } else {
        let mut resource = what;
        if let Some((r, n)) = resource.clone().split_once('/') {
            resource = r.to_owned();
            name = n.to_owned();
        }
        let mut attributes = json!({"verb": verb, "namespace": namespace});
        if resource == "*" {
            attributes["resource"] = json!("*");
        } else {
            match call.ctx.discovery().await?.find(&resource) {
                Some(m) => {
                    if !m.namespaced && !call.bool("all-namespaces") && subresource.is_empty() {
                        if m.group.is_empty() {
                            crate::errln!("Warning: resource '{}' is not namespace scoped\n", m.plural);
                        } else {
                            crate::errln!(
                                "Warning: resource '{}' is not namespace scoped in group '{}'\n",
                                m.plural,
                                m.group
                            );
                        }
                    }
                    if !call.bool("all-namespaces") {
                        unknown(RESOURCE_VERBS);
                    }
                    if !m.namespaced {
                        attributes["namespace"] = json!("");
                    }
                    attributes["resource"] = json!(m.plural);
                    attributes["group"] = json!(m.group);
                }
                None => {
                    let (r, g) = resource.split_once('.').unwrap_or((&resource, ""));
                    if g.is_empty() {
                        crate::errln!("Warning: the server doesn't have a resource type '{r}'\n");
                    } else {
                        crate::errln!(
                            "Warning: the server doesn't have a resource type '{r}' in group '{g}'\n"
                        );
                    }
                    attributes["resource"] = json!(r);
                    attributes["group"] = json!(g);
                }
            }
        }
        if !name.is_empty() {
            attributes["name"] = json!(name);
        }
        if !subresource.is_empty() {
            attributes["subresource"] = json!(subresource);
        }
        json!({"resourceAttributes": attributes})
    };
    let review =
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec});
    let answer = rest
        .post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review)
        .await?;
    let allowed = answer["status"]["allowed"] == true;
    if !call.bool("quiet") {
        if allowed {
            crate::outln!("yes");
        } else {
            let mut text = "no".to_owned();
            for key in ["reason", "evaluationError"] {
                if let Some(t) = answer["status"][key].as_str().filter(|t| !t.is_empty()) {
                    text.push_str(&format!(" - {t}"));
                }
            }
            crate::outln!("{text}");
        }
    }
    if allowed { Ok(()) } else { Err(Error::Exit(1)) }
}

async fn list(call: &Call, namespace: &str) -> Result<()> {
    let rest = call.ctx.rest().await?;
    let namespace = if namespace.is_empty() {
        "default"
    } else {
        namespace
    };
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}});
    let answer = rest
        .post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &review)
        .await?;
    let status = &answer["status"];
    if status["incomplete"] == true {
        let why = status["evaluationError"].as_str().unwrap_or("");
        crate::errln!("Warning: the list may be incomplete: {why}\n");
    }
    let mut rules = items(&status["resourceRules"]).to_vec();
    rules.extend(items(&status["nonResourceRules"]).iter().cloned());
    let all = compact(&rules);
    let mut rows: Vec<Vec<String>> = Vec::new();
    if !call.bool("no-headers") {
        rows.push(
            ["Resources", "Non-Resource URLs", "Resource Names", "Verbs"]
                .map(str::to_owned)
                .to_vec(),
        );
    }
    for (resource, urls, names, verbs) in all {
        rows.push(vec![
            resource,
            format!("[{}]", urls.join(" ")),
            format!("[{}]", names.join(" ")),
            format!("[{}]", verbs.join(" ")),
        ]);
    }
    crate::out::print(&Columns::default().format(&rows));
    Ok(())
}

async fn whoami(call: Call) -> Result<()> {
    let printer = Printer::from_call(&call)?;
    let rest = call.ctx.rest().await?;
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}});
    let answer = rest
        .post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review)
        .await?;
    if !printer.is_human() {
        return printer.print(&answer);
    }
    let user = &answer["status"]["userInfo"];
    let mut rows = vec![vec!["ATTRIBUTE".to_owned(), "VALUE".to_owned()]];
    for (key, title) in [("username", "Username"), ("uid", "UID")] {
        if let Some(t) = user[key].as_str().filter(|t| !t.is_empty()) {
            rows.push(vec![title.to_owned(), t.to_owned()]);
        }
    }
    if !items(&user["groups"]).is_empty() {
        rows.push(vec![
            "Groups".to_owned(),
            format!("[{}]", strings(&user["groups"]).join(" ")),
        ]);
    }
    for (key, values) in user["extra"].as_object().into_iter().flatten() {
        rows.push(vec![
            format!("Extra: {key}"),
            format!("[{}]", strings(values).join(" ")),
        ]);
    }
    crate::out::print(&Columns::default().format(&rows));
    Ok(())
}

/// The union of two lists, or only the wanted one.
fn union(have: &Value, want: &Value, only: bool) -> Value {
    if only {
        return want.clone();
    }
    let mut out = items(have).to_vec();
    for w in items(want) {
        if !out.contains(w) {
            out.push(w.clone());
        }
    }
    Value::Array(out)
}

async fn reconcile(call: Call) -> Result<()> {
    let query = Query::from_call(&call);
    let write = Write::from_call(&call, "kubectl-auth-reconcile")?;
    let printer = Printer::from_call(&call)?;
    let targets = query.targets(&call.ctx).await?;
    Error::collect(targets.errors)?;
    let rest = call.ctx.rest().await?;
    for target in targets.items {
        let Target::Object(info) = target else { continue };
        let field = match (info.mapping.group.as_str(), info.mapping.kind.as_str()) {
            ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => "rules",
            ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => "subjects",
            (_, other) => {
                crate::errln!("skipping {other}: not an RBAC object");
                continue;
            }
        };
        let object = match rest.get(&info.path()).await {
            Ok(live) => {
                let mut new = live.clone();
                let only = call.bool(if field == "rules" {
                    "remove-extra-permissions"
                } else {
                    "remove-extra-subjects"
                });
                new[field] = union(&live[field], &info.object[field], only);
                for map in ["labels", "annotations"] {
                    for (k, v) in info.object["metadata"][map].as_object().into_iter().flatten() {
                        new["metadata"][map][k] = v.clone();
                    }
                }
                if new == live || write.dry == DryRun::Client {
                    new
                } else {
                    write.update(&rest, &info.with(new), "").await?
                }
            }
            Err(e) if e.is_not_found() => {
                if write.dry == DryRun::Client {
                    info.object.clone()
                } else {
                    if info.mapping.namespaced
                        && rest
                            .get(&format!("/api/v1/namespaces/{}", info.namespace))
                            .await
                            .is_err()
                        && write.dry == DryRun::None
                    {
                        rest.post("/api/v1/namespaces", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": info.namespace}})).await?;
                    }
                    write.create(&rest, &info).await?
                }
            }
            Err(e) => return Err(e),
        };
        let shown: Info = info.with(object);
        printer.result(&shown, &format!("reconciled{}", write.dry.suffix()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconciling_adds_or_replaces() {
        let (a, b) = (json!([1, 2]), json!([2, 3]));
        assert_eq!(union(&a, &b, false), json!([1, 2, 3]));
        assert_eq!(union(&a, &b, true), json!([2, 3]));
    }
}
