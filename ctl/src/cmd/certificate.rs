//! `certificate`: approves and denies signing requests.

use crate::cli::flags::{FILENAME, OUTPUT, TEMPLATE};
use crate::cli::{Args, Call, Command, Flag, bool};
use crate::describe::writer::items;
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::resource::builder::Query;
use serde_json::json;

const FORCE: &[Flag] = &[bool(
    "force",
    "Update the CSR even if it is already approved or denied.",
)];

/// The command.
pub static COMMAND: Command = Command {
    name: "certificate",
    short: "Modify certificate resources",
    usage: "SUBCOMMAND",
    subs: &[&APPROVE, &DENY],
    ..Command::NEW
};

static APPROVE: Command = Command {
    name: "approve",
    short: "Approve a certificate signing request",
    long: "Approve a certificate signing request.\n\n SECURITY NOTICE: Depending on the requested attributes, the issued certificate can potentially grant a requester access to cluster resources or to authenticate as a requested identity. Before approving a CSR, ensure you understand what the signed certificate can do.",
    usage: "(-f FILENAME | NAME)",
    flags: &[FILENAME, OUTPUT, TEMPLATE, FORCE],
    args: Args::Names("certificatesigningrequests"),
    run: Some(|c| Box::pin(run(c, "Approved"))),
    ..Command::NEW
};

static DENY: Command = Command {
    name: "deny",
    short: "Deny a certificate signing request",
    usage: "(-f FILENAME | NAME)",
    flags: &[FILENAME, OUTPUT, TEMPLATE, FORCE],
    args: Args::Names("certificatesigningrequests"),
    run: Some(|c| Box::pin(run(c, "Denied"))),
    ..Command::NEW
};

async fn run(call: Call, kind: &'static str) -> Result<()> {
    let mut query = Query::from_call(&call);
    if query.args.is_empty() && !query.has_files() {
        return Err(Error::new(
            "one or more CSRs must be specified as <name> or -f <filename>",
        ));
    }
    if !query.has_files() {
        query
            .args
            .insert(0, "certificatesigningrequests.v1.certificates.k8s.io".to_owned());
    }
    let (infos, errors) = query.latest(&call.ctx).await?;
    Error::collect(errors)?;
    let rest = call.ctx.rest().await?;
    let printer = Printer::from_call(&call)?;
    let word = kind.to_lowercase();
    if infos.is_empty() {
        crate::outln!("No resources found");
    }
    for info in infos {
        let mut object = info.object.clone();
        for attempt in 0..10 {
            let opposite = if kind == "Approved" { "Denied" } else { "Approved" };
            let has = |t: &str| {
                items(&object["status"]["conditions"])
                    .iter()
                    .any(|c| c["type"] == t)
            };
            if has(opposite) {
                return Err(Error::new(format!(
                    "certificate signing request {:?} is already {opposite}",
                    info.name
                )));
            }
            if has(kind) && !call.bool("force") {
                break;
            }
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let condition = json!({
                "type": kind, "status": "True", "lastUpdateTime": now,
                "reason": if kind == "Approved" { "KubectlApprove" } else { "KubectlDeny" },
                "message": format!("This CSR was {word} by kubectl certificate {}.", if kind == "Approved" { "approve" } else { "deny" }),
            });
            let mut conditions: Vec<_> = items(&object["status"]["conditions"])
                .iter()
                .filter(|c| c["type"] != kind)
                .cloned()
                .collect();
            conditions.push(condition);
            object["status"]["conditions"] = json!(conditions);
            match rest.put(&info.sub_path("approval"), &object).await {
                Ok(o) => {
                    object = o;
                    break;
                }
                Err(e) if e.is_conflict() && attempt < 9 => object = rest.get(&info.path()).await?,
                Err(e) => return Err(e),
            }
        }
        printer.result(&info.with(object), &word)?;
    }
    Ok(())
}
