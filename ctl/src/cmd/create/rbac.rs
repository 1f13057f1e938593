//! `create role`, `clusterrole`, `rolebinding` and `clusterrolebinding`.

use super::generate::{finish, name, object};
use crate::cli::flags::{DRY_RUN, MANAGER_CREATE, OUTPUT, SAVE_CONFIG, TEMPLATE, VALIDATE};
use crate::cli::{Call, Command, Flag, array, slice, text};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};

const RULES: &[Flag] = &[
    slice("resource", "Resource that the rule applies to"),
    array(
        "resource-name",
        "Resource in the white list that the rule applies to, repeat this flag for multiple items",
    ),
    slice("verb", "Verb that applies to the resources contained in the rule"),
];

const SUBJECTS: &[Flag] = &[
    text("clusterrole", "", "ClusterRole this binding should reference"),
    array(
        "group",
        "Groups to bind to the role. The flag can be repeated to add multiple groups.",
    ),
    array(
        "serviceaccount",
        "Service accounts to bind to the role, in the format <namespace>:<name>. The flag can be repeated to add multiple service accounts.",
    ),
    array(
        "user",
        "Usernames to bind to the role. The flag can be repeated to add multiple users.",
    ),
];

/// `create role`
pub static ROLE: Command = Command {
    name: "role",
    short: "Create a role with single rule",
    examples: "
        # May look at pods
        {} create role reader --verb=get,list,watch --resource=pods

        # May scale two deployments
        {} create role scaler --verb=update --resource=deployments.apps/scale --resource-name=web --resource-name=api",
    usage: "NAME --verb=verb --resource=resource.group/subresource [--resource-name=resourcename] [--dry-run=server|client|none]",
    flags: &[DRY_RUN, MANAGER_CREATE, OUTPUT, SAVE_CONFIG, TEMPLATE, VALIDATE, RULES],
    run: Some(|c| Box::pin(role(c))),
    ..Command::NEW
};

/// `create clusterrole`
pub static CLUSTERROLE: Command = Command {
    name: "clusterrole",
    short: "Create a cluster role",
    examples: "
        # May look at pods everywhere, and at metrics
        {} create clusterrole reader --verb=get,list,watch --resource=pods
        {} create clusterrole metrics --verb=get --non-resource-url=/metrics

        # Made of other roles by label
        {} create clusterrole monitoring --aggregation-rule=monitoring=true",
    usage: "NAME --verb=verb --resource=resource.group [--resource-name=resourcename] [--dry-run=server|client|none]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        RULES,
        &[
            slice(
                "aggregation-rule",
                "An aggregation label selector for combining ClusterRoles.",
            ),
            slice(
                "non-resource-url",
                "A partial url that user should have access to.",
            ),
        ],
    ],
    run: Some(|c| Box::pin(clusterrole(c))),
    ..Command::NEW
};

/// `create rolebinding`
pub static ROLEBINDING: Command = Command {
    name: "rolebinding",
    short: "Create a role binding for a particular role or cluster role",
    examples: "
        # A role for a user and a service account
        {} create rolebinding readers --role=reader --user=ann --serviceaccount=team-a:robot",
    usage: "NAME --clusterrole=NAME|--role=NAME [--user=username] [--group=groupname] [--serviceaccount=namespace:serviceaccountname] [--dry-run=server|client|none]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        SUBJECTS,
        &[text("role", "", "Role this RoleBinding should reference")],
    ],
    run: Some(|c| Box::pin(binding(c, true))),
    ..Command::NEW
};

/// `create clusterrolebinding`
pub static CLUSTERROLEBINDING: Command = Command {
    name: "clusterrolebinding",
    short: "Create a cluster role binding for a particular cluster role",
    examples: "
        # A role in the whole cluster
        {} create clusterrolebinding admins --clusterrole=cluster-admin --group=ops",
    usage: "NAME --clusterrole=NAME [--user=username] [--group=groupname] [--serviceaccount=namespace:serviceaccountname] [--dry-run=server|client|none]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        SUBJECTS,
    ],
    run: Some(|c| Box::pin(binding(c, false))),
    ..Command::NEW
};

const VERBS: [&str; 14] = [
    "*",
    "get",
    "delete",
    "list",
    "create",
    "update",
    "patch",
    "watch",
    "proxy",
    "deletecollection",
    "use",
    "bind",
    "escalate",
    "impersonate",
];

fn unique(list: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for item in list {
        if item == "*" {
            return vec![item];
        }
        if !out.contains(&item) {
            out.push(item);
        }
    }
    out
}

/// Rules by API group, in the order the groups were named.
async fn resource_rules(call: &Call, verbs: &[String]) -> Result<Vec<Value>> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    let mut asked: Vec<(String, String, String)> = Vec::new();
    for text in call.list("resource") {
        let (path, sub) = text.split_once('/').map_or((text.as_str(), ""), |(p, s)| (p, s));
        let (resource, group) = path.split_once('.').map_or((path, ""), |(r, g)| (r, g));
        if resource.is_empty() {
            return Err(Error::new(
                "resource must be specified if apiGroup/subresource specified",
            ));
        }
        asked.push((resource.to_owned(), group.to_owned(), sub.to_owned()));
    }
    if asked
        .iter()
        .any(|(r, g, s)| r == "*" && g.is_empty() && s.is_empty())
    {
        return Ok(vec![rule(&["*".to_owned()], &["*".to_owned()], call, verbs)]);
    }
    for (resource, group, sub) in asked {
        let (plural, group) = if resource == "*" {
            (resource, group)
        } else {
            let argument = if group.is_empty() {
                resource.clone()
            } else {
                format!("{resource}.{group}")
            };
            let discovery = call.ctx.discovery().await?;
            let found = discovery
                .find(&argument)
                .filter(|m| group.is_empty() || m.group == group);
            match found {
                Some(m) => (m.plural.clone(), m.group.clone()),
                None if group.is_empty() => {
                    return Err(Error::Raw(format!(
                        "the server doesn't have a resource type \"{resource}\""
                    )));
                }
                None => {
                    return Err(Error::Raw(format!(
                        "the server doesn't have a resource type \"{resource}\" in group \"{group}\""
                    )));
                }
            }
        };
        let name = if sub.is_empty() {
            plural
        } else {
            format!("{plural}/{sub}")
        };
        match groups.iter_mut().find(|(g, _)| *g == group) {
            Some((_, list)) => {
                if !list.contains(&name) {
                    list.push(name);
                }
            }
            None => groups.push((group, vec![name])),
        }
    }
    groups.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(groups
        .into_iter()
        .map(|(g, r)| rule(&[g], &r, call, verbs))
        .collect())
}

fn rule(groups: &[String], resources: &[String], call: &Call, verbs: &[String]) -> Value {
    let mut out = json!({"apiGroups": groups, "resources": resources, "verbs": verbs});
    let names = unique(call.list("resource-name"));
    if !names.is_empty() {
        out["resourceNames"] = json!(names);
    }
    out
}

fn verbs(call: &Call) -> Vec<String> {
    let verbs = unique(call.list("verb"));
    for verb in &verbs {
        if !VERBS.contains(&verb.as_str()) && !matches!(verb.as_str(), "approve" | "sign" | "attest") {
            crate::errln!("Warning: '{verb}' is not a standard resource verb");
        }
    }
    verbs
}

async fn role(call: Call) -> Result<()> {
    let name = name(&call)?;
    let verbs = verbs(&call);
    if verbs.is_empty() {
        return Err(Error::new("at least one verb must be specified"));
    }
    if call.list("resource").is_empty() {
        return Err(Error::new("at least one resource must be specified"));
    }
    let mut out = object("rbac.authorization.k8s.io/v1", "Role", &name);
    out["rules"] = json!(resource_rules(&call, &verbs).await?);
    finish(&call, out, true, "").await
}

async fn clusterrole(call: Call) -> Result<()> {
    let name = name(&call)?;
    let mut out = object("rbac.authorization.k8s.io/v1", "ClusterRole", &name);
    let aggregation = call.list("aggregation-rule");
    let urls = call.list("non-resource-url");
    if !aggregation.is_empty() {
        if !urls.is_empty()
            || call.changed("verb")
            || call.changed("resource")
            || call.changed("resource-name")
        {
            return Err(Error::new(
                "aggregation rule must be specified without nonResourceURLs, resources or verbs",
            ));
        }
        let mut labels = Map::new();
        for pair in aggregation {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                Error::new(format!(
                    "invalid argument {pair:?}: must be formatted as key=value"
                ))
            })?;
            labels.insert(key.to_owned(), json!(value));
        }
        out["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
        out["rules"] = Value::Null;
        return finish(&call, out, false, "").await;
    }
    let verbs = verbs(&call);
    if verbs.is_empty() {
        return Err(Error::new("at least one verb must be specified"));
    }
    if call.list("resource").is_empty() && urls.is_empty() {
        return Err(Error::new("one of resource or nonResourceURL must be specified"));
    }
    let mut rules = if call.list("resource").is_empty() {
        Vec::new()
    } else {
        resource_rules(&call, &verbs).await?
    };
    if !urls.is_empty() {
        for verb in &verbs {
            if !matches!(
                verb.as_str(),
                "*" | "get" | "put" | "post" | "head" | "options" | "delete" | "patch"
            ) {
                return Err(Error::new(format!("invalid verb: '{verb}' for nonResourceURL")));
            }
        }
        rules.push(json!({"nonResourceURLs": urls, "verbs": verbs}));
    }
    out["rules"] = json!(rules);
    finish(&call, out, false, "").await
}

/// Subjects that `--user`, `--group` and `--serviceaccount` name.
fn subjects(call: &Call) -> Result<Vec<Value>> {
    let mut out = Vec::new();
    for (flag, kind) in [("user", "User"), ("group", "Group")] {
        for name in call.list(flag) {
            out.push(json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}));
        }
    }
    for account in call.list("serviceaccount") {
        match account.split(':').collect::<Vec<_>>().as_slice() {
            [namespace, name] if !namespace.is_empty() && !name.is_empty() => {
                out.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
            }
            _ => return Err(Error::new("serviceaccount must be <namespace>:<name>")),
        }
    }
    Ok(out)
}

async fn binding(call: Call, namespaced: bool) -> Result<()> {
    let name = name(&call)?;
    let cluster = call.str("clusterrole");
    let role = call.flags.opt("role").unwrap_or("");
    let (kind, target) = match (cluster, role) {
        ("", "") if namespaced => {
            return Err(Error::new("exactly one of clusterrole or role must be specified"));
        }
        ("", "") => return Err(Error::new("required flag(s) \"clusterrole\" not set")),
        (c, "") => ("ClusterRole", c),
        ("", r) => ("Role", r),
        _ => return Err(Error::new("exactly one of clusterrole or role must be specified")),
    };
    let object_kind = if namespaced {
        "RoleBinding"
    } else {
        "ClusterRoleBinding"
    };
    let mut out = object("rbac.authorization.k8s.io/v1", object_kind, &name);
    out["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": target});
    let subjects = subjects(&call)?;
    if !subjects.is_empty() {
        out["subjects"] = json!(subjects);
    }
    let failing = format!("failed to create {}:", object_kind.to_lowercase());
    finish(&call, out, namespaced, &failing).await
}
