//! `apply --prune`: removes what was applied before and is in none of the manifests.

use super::common::{DryRun, LAST_APPLIED};
use super::delete::Options;
use crate::cli::Call;
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::resource::Info;
use crate::resource::builder::{info_of, list};

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
    let discovery = call.ctx.discovery().await?;
    let rest = call.ctx.rest().await?;
    let wanted: Vec<(String, String)> = if call.changed("prune-allowlist") {
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
            .collect::<Result<_>>()?
    } else {
        DEFAULT
            .iter()
            .map(|(v, k)| ((*v).to_owned(), (*k).to_owned()))
            .collect()
    };
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
    let options = Options {
        grace: call.flags.int("grace-period"),
        policy: Options::cascade(call.str("cascade"))?,
        dry,
    };
    let params: Vec<(&'static str, String)> = if selector.is_empty() {
        Vec::new()
    } else {
        vec![("labelSelector", selector.to_owned())]
    };
    for (version, kind) in wanted {
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
                if !ours
                    || meta["uid"].as_str().is_some_and(|u| seen.contains(&u))
                    || meta["deletionTimestamp"].is_string()
                {
                    continue;
                }
                let info = info_of(&mapping, object);
                if dry != DryRun::Client {
                    options.delete(&rest, &info).await?;
                }
                printer.result(&info, &format!("pruned{}", dry.suffix()))?;
            }
        }
    }
    Ok(())
}
