//! `set subject`: who a role binding is for.

use super::set::{SUBJECTS, update};
use crate::cli::flags::{ALL, DRY_RUN, FILENAME, OUTPUT, SELECTOR, TEMPLATE};
use crate::cli::{Args, Call, Command, bool, text};
use crate::error::{Error, Result};
use serde_json::{Value, json};

/// The command.
pub static COMMAND: Command = Command {
    name: "subject",
    short: "Update the user, group, or service account in a role binding or cluster role binding",
    examples: "
        # A service account more
        {} set subject clusterrolebinding admin --serviceaccount=team-a:robot",
    usage: "(-f FILENAME | TYPE NAME) [--user=username] [--group=groupname] [--serviceaccount=namespace:serviceaccountname] [--dry-run=server|client|none]",
    flags: &[
        ALL,
        DRY_RUN,
        FILENAME,
        OUTPUT,
        SELECTOR,
        TEMPLATE,
        SUBJECTS,
        &[
            text(
                "field-manager",
                "kubectl-set",
                "Name of the manager used to track field ownership.",
            ),
            bool(
                "local",
                "If true, the command will NOT contact api-server but run locally.",
            ),
        ],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    let mut wanted: Vec<Value> = Vec::new();
    for (flag, kind) in [("user", "User"), ("group", "Group")] {
        for name in call.list(flag) {
            wanted.push(json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}));
        }
    }
    for account in call.list("serviceaccount") {
        let Some((namespace, name)) = account
            .split_once(':')
            .filter(|(a, b)| !a.is_empty() && !b.is_empty())
        else {
            return Err(Error::new("serviceaccount must be <namespace>:<name>"));
        };
        wanted.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
    }
    if wanted.is_empty() {
        return Err(Error::new(
            "you must specify at least one value of user, group or serviceaccount",
        ));
    }
    update(&call, call.args.clone(), "subjects updated", &mut |object| {
        if !matches!(
            object["kind"].as_str(),
            Some("RoleBinding" | "ClusterRoleBinding")
        ) {
            return Err(Error::new(
                "setting subjects is only supported for RoleBinding/ClusterRoleBinding",
            ));
        }
        if !object["subjects"].is_array() {
            object["subjects"] = json!([]);
        }
        if let Some(list) = object["subjects"].as_array_mut() {
            for subject in &wanted {
                if !list.contains(subject) {
                    list.push(subject.clone());
                }
            }
        }
        Ok(true)
    })
    .await
}
