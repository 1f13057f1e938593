//! ClusterTrustBundles for projected volumes: one by name, or all of a signer that match a selector, as one PEM file without
//! duplicates.

use crate::objects::describe;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use std::collections::BTreeSet;

/// The certificates, or none when no bundle matches.
pub(crate) async fn bundle(
    client: &kube::Client,
    name: Option<&str>,
    signer: Option<&str>,
    selector: Option<&LabelSelector>,
) -> Result<Option<String>, String> {
    let kind = GroupVersionKind::gvk("certificates.k8s.io", "v1beta1", "ClusterTrustBundle");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    let found = if let Some(name) = name {
        api.get_opt(name)
            .await
            .map_err(|e| describe(&e))?
            .into_iter()
            .collect()
    } else {
        let Some(selector) = selector else { return Ok(None) };
        let params = ListParams::default().labels(&render(selector)?);
        api.list(&params).await.map_err(|e| describe(&e))?.items
    };
    let mut seen = BTreeSet::new();
    for object in found {
        let spec = &object.data["spec"];
        if signer.is_some_and(|s| name.is_none() && spec["signerName"].as_str() != Some(s)) {
            continue;
        }
        for certificate in certificates(spec["trustBundle"].as_str().unwrap_or_default()) {
            seen.insert(certificate);
        }
    }
    Ok((!seen.is_empty()).then(|| seen.into_iter().collect()))
}

fn certificates(pem: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END)
        .filter_map(|part| {
            part.find("-----BEGIN CERTIFICATE-----")
                .map(|at| format!("{}\n", &part[at..]))
        })
        .collect()
}

fn render(selector: &LabelSelector) -> Result<String, String> {
    let mut parts: Vec<String> = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    for expression in selector.match_expressions.iter().flatten() {
        let values = expression.values.as_deref().unwrap_or_default().join(",");
        let key = &expression.key;
        parts.push(match expression.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.clone(),
            "DoesNotExist" => format!("!{key}"),
            other => return Err(format!("unknown operator {other:?} in a label selector")),
        });
    }
    Ok(parts.join(","))
}
