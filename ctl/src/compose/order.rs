//! Which services are on, what each waits for, and in which waves they start.

use super::value::{boolean, dns_label, strings};
use super::{Cx, Report};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a service waits for in another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It runs.
    Started,
    /// It is healthy: ready.
    Healthy,
    /// It has ended well.
    Completed,
}

/// Workloads that start together, each with what it waits for.
pub type Wave = Vec<(String, Vec<(String, Condition)>)>;

/// Services whose profiles are on, and those that they need.
pub(super) fn enabled(cx: &mut Cx<'_>, model: &Value) -> Vec<(String, Value)> {
    let all = model["services"].as_object().cloned().unwrap_or_default();
    if all.is_empty() {
        cx.report.refuse("services", "the file has none");
    }
    let on = |spec: &Value| {
        let own = strings(&spec["profiles"]);
        let given = &cx.settings.profiles;
        own.is_empty() || given.iter().any(|p| p == "*" || own.contains(p))
    };
    all.iter()
        .filter(|(_, spec)| on(spec))
        .map(|(name, spec)| (name.clone(), spec.clone()))
        .collect()
}

/// `depends_on` of each service, by names in the cluster.
pub(super) fn needs(
    cx: &mut Cx<'_>,
    services: &[(String, Value)],
) -> BTreeMap<String, Vec<(String, Condition)>> {
    let mut out = BTreeMap::new();
    for (service, spec) in services {
        let mut own = Vec::new();
        for (other, condition, required) in dependencies(cx, spec, &format!("services.{service}.depends_on"))
        {
            if services.iter().any(|(name, _)| *name == other) {
                own.push((dns_label(&other), condition));
            } else if required {
                cx.report.refuse(
                    format!("services.{service}.depends_on.{other}"),
                    "there is no such service, or its profile is off",
                );
            }
        }
        out.insert(dns_label(service), own);
    }
    out
}

fn dependencies(cx: &mut Cx<'_>, spec: &Value, path: &str) -> Vec<(String, Condition, bool)> {
    let Value::Object(map) = &spec["depends_on"] else {
        return strings(&spec["depends_on"])
            .into_iter()
            .map(|name| (name, Condition::Started, true))
            .collect();
    };
    let mut out = Vec::new();
    for (name, long) in map {
        let place = format!("{path}.{name}");
        super::keys::known(
            &mut cx.report,
            long,
            &place,
            &["condition", "required"],
            &[("restart", "pods find their services again by name")],
        );
        let condition = match long["condition"].as_str() {
            None | Some("service_started") => Condition::Started,
            Some("service_healthy") => Condition::Healthy,
            Some("service_completed_successfully") => Condition::Completed,
            Some(other) => {
                cx.report.refuse(
                    format!("{place}.condition"),
                    format!(
                        "{other} is none of service_started, service_healthy, service_completed_successfully"
                    ),
                );
                Condition::Started
            }
        };
        out.push((
            name.clone(),
            condition,
            boolean(&long["required"]).unwrap_or(true),
        ));
    }
    out
}

/// Refuses services that wait for each other.
pub(super) fn check(report: &mut Report, needs: &BTreeMap<String, Vec<(String, Condition)>>) {
    if let Err(names) = waves(needs) {
        report.refuse("services", format!("{} wait for each other", names.join(", ")));
    }
}

/// Services in waves: each waits only for services of earlier ones.
///
/// # Errors
/// The names of services that wait for each other.
pub fn waves(needs: &BTreeMap<String, Vec<(String, Condition)>>) -> Result<Vec<Wave>, Vec<String>> {
    let mut left: BTreeMap<&String, &Vec<(String, Condition)>> = needs.iter().collect();
    let mut out: Vec<Wave> = Vec::new();
    while !left.is_empty() {
        let (now, later): (BTreeMap<_, _>, BTreeMap<_, _>) = left
            .iter()
            .map(|(name, needs)| (*name, *needs))
            .partition(|(_, needs)| !needs.iter().any(|(other, _)| left.contains_key(other)));
        if now.is_empty() {
            return Err(later.into_keys().cloned().collect());
        }
        out.push(
            now.into_iter()
                .map(|(n, needs)| (n.clone(), needs.clone()))
                .collect(),
        );
        left = later;
    }
    Ok(out)
}
