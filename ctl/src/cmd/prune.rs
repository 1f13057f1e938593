//! `apply --prune`: removes what was applied before and is in none of the manifests.

use super::common::{DryRun, LAST_APPLIED};
use super::delete::{Options, wait_gone};
use crate::cli::Call;
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::resource::Info;
use crate::resource::builder::{info_of, list};
use std::time::Duration;

/// The types that are looked through unless `--prune-allowlist` names others.
const DEFAULT: &[(&str, &str)] = &[
    ("v1", "ConfigMap"),
    ("v1", "Endpoints"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Pod"),
    ("v1", "ReplicationController"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("networking.k8s.io/v1", "Ingress"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("v1", "Namespace"),
    ("v1", "PersistentVolume"),
];

/// Prunes, given what was just applied.
pub async fn run(
    call: &Call,
    selector: &str,
    applied: &[Info],
    printer: &Printer,
    dry: DryRun,
) -> Result<()> {
    let rest = call.ctx.rest().await?;
    let options = Options {
        grace: call.flags.int("grace-period"),
        policy: Options::cascade(call.str("cascade"))?,
        dry,
    };
    let mut deleted = Vec::new();
    for info in candidates(call, selector, applied).await? {
        if dry != DryRun::Client {
            let uid = options.delete(&rest, &info).await?;
            deleted.push((info.clone(), uid));
        }
        printer.result(&info, &format!("pruned{}", dry.suffix()))?;
    }
    if call.bool("wait") && dry == DryRun::None {
        let timeout = match call.flags.duration("timeout") {
            t if t.is_zero() => Duration::from_secs(7 * 86_400),
            t => t,
        };
        wait_gone(&rest, &deleted, timeout).await?;
    }
    Ok(())
}

/// The types that are looked through.
fn wanted(call: &Call) -> Result<Vec<(String, String)>> {
    if !call.changed("prune-allowlist") {
        return Ok(DEFAULT
            .iter()
            .map(|(v, k)| ((*v).to_owned(), (*k).to_owned()))
            .collect());
    }
    call.list("prune-allowlist")
        .iter()
        .map(|text| match text.split('/').collect::<Vec<_>>().as_slice() {
            [group, version, kind] => {
                let group = if *group == "core" { "" } else { group };
                let version = if group.is_empty() {
                    (*version).to_owned()
                } else {
                    format!("{group}/{version}")
                };
                Ok((version, (*kind).to_owned()))
            }
            _ => Err(Error::new(format!(
                "invalid GroupVersionKind format: {text}, please follow <group/version/kind>"
            ))),
        })
        .collect()
}

/// What was applied once, is in none of these manifests, and may go.
pub async fn candidates(call: &Call, selector: &str, applied: &[Info]) -> Result<Vec<Info>> {
    let discovery = call.ctx.discovery().await?;
    let rest = call.ctx.rest().await?;
    let mut namespaces: Vec<String> = applied
        .iter()
        .filter(|i| i.mapping.namespaced)
        .map(|i| i.namespace.clone())
        .collect();
    namespaces.sort();
    namespaces.dedup();
    let seen: Vec<&str> = applied
        .iter()
        .filter_map(|i| i.object["metadata"]["uid"].as_str())
        .collect();
    let params: Vec<(&'static str, String)> = if selector.is_empty() {
        Vec::new()
    } else {
        vec![("labelSelector", selector.to_owned())]
    };
    let mut out = Vec::new();
    for (version, kind) in wanted(call)? {
        let Some(mapping) = discovery.by_kind(&version, &kind) else {
            if call.changed("prune-allowlist") {
                return Err(Error::new(format!(
                    "error retrieving RESTMappings to prune: no matches for kind \"{kind}\" in version \"{version}\""
                )));
            }
            continue;
        };
        let places = if mapping.namespaced {
            namespaces.clone()
        } else {
            vec![String::new()]
        };
        for place in places {
            for object in list(&rest, &mapping, &place, &params, 500).await? {
                let meta = &object["metadata"];
                let ours = meta["annotations"][LAST_APPLIED].is_string();
                let named = meta["uid"].as_str().is_some_and(|u| seen.contains(&u));
                if ours && !named && !meta["deletionTimestamp"].is_string() {
                    out.push(info_of(&mapping, object));
                }
            }
        }
    }
    Ok(out)
}
