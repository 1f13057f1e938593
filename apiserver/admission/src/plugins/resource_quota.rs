//! `ResourceQuota`: counts what a write adds to a namespace, and refuses what its quotas do not leave room for.
//!
//! Usage is charged before the object is stored, by a compare-and-swap of the quota's status, so that writers on any number
//! of apiservers together never exceed a quota. Writers on this one take turns, so that only other apiservers are raced and each writer
//! has its answer, however many there are. When the write fails afterwards, the quota controller recounts.

use super::limit_ranger::pod_amounts;
use super::quantity;
use crate::{Attributes, LiveReader, Operation, Plugin, QuotaWriter, is};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, Reason, Resource, StatusError, Value};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

/// How often a charge is tried again when others charge the same quota.
const ATTEMPTS: usize = 8;

/// Quotas of so many lots are charged at once; those of one lot take turns.
const LOTS: usize = 64;

/// A quota as it was last charged here: newer than what the cache has for a moment.
type Charged = tokio::sync::Mutex<Option<Arc<Value>>>;

/// The plugin.
pub struct ResourceQuota {
    lots: [Charged; LOTS],
    reader: Arc<dyn ObjectReader>,
    live: Arc<dyn LiveReader>,
    writer: Arc<dyn QuotaWriter>,
}

type Usage = BTreeMap<String, i128>;

impl ResourceQuota {
    /// Finds quotas through `reader` and writes them through `writer`.
    pub fn new(
        reader: Arc<dyn ObjectReader>,
        live: Arc<dyn LiveReader>,
        writer: Arc<dyn QuotaWriter>,
    ) -> Self {
        Self {
            lots: std::array::from_fn(|_| Charged::default()),
            reader,
            live,
            writer,
        }
    }

    /// Adds to one quota's usage, or refuses.
    async fn charge(
        &self,
        attributes: &Attributes<'_>,
        quota: Arc<Value>,
        delta: &Usage,
    ) -> Result<(), StatusError> {
        let mut hasher = DefaultHasher::new();
        quota.uid().hash(&mut hasher);
        let lot = usize::try_from(hasher.finish() % LOTS as u64).unwrap_or_default();
        let mut charged = self.lots[lot].lock().await;
        let last = charged
            .as_ref()
            .filter(|last| last.uid() == quota.uid() && version(last) > version(&quota));
        let mut quota = last.cloned().unwrap_or(quota);
        for _ in 0..ATTEMPTS {
            let Some(changed) = add(attributes, &quota, delta)? else {
                return Ok(());
            };
            if attributes.dry_run {
                return Ok(());
            }
            match self.writer.update_status(changed).await {
                Ok(now) => {
                    *charged = Some(now);
                    return Ok(());
                }
                Err(error) if error.reason == Reason::Conflict => {
                    let resource = GroupResource::new("", "resourcequotas");
                    match self.live.get(&resource, quota.namespace(), quota.name()).await? {
                        Some(fresh) => quota = fresh,
                        None => return Ok(()),
                    }
                }
                Err(error) if error.reason == Reason::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Err(StatusError::conflict(
            &GroupResource::new("", "resourcequotas"),
            quota.name(),
            "the object has been modified; please apply your changes to the latest version and try again",
        ))
    }
}

fn version(quota: &Value) -> u64 {
    quota.resource_version().parse().unwrap_or_default()
}

/// The quota with more used; none when the write does not touch it.
fn add(attributes: &Attributes<'_>, quota: &Value, delta: &Usage) -> Result<Option<Value>, StatusError> {
    let Some(hard) = quota.map_at("status.hard").filter(|hard| !hard.is_empty()) else {
        // A quota that its controller has not looked at yet cannot be counted on.
        let pending = quota
            .map_at("spec.hard")
            .is_some_and(|hard| hard.keys().any(|key| delta.contains_key(key)));
        if pending {
            let names: Vec<&str> = delta
                .keys()
                .map(String::as_str)
                .filter(|k| quota.at("spec.hard").get(k).is_some())
                .collect();
            let why = format!(
                "status unknown for quota: {}, resources: {}",
                quota.name(),
                names.join(",")
            );
            return Err(attributes.forbidden(why));
        }
        return Ok(None);
    };
    let used = quota.at("status.used");
    let mut changed = quota.clone();
    let mut over = Vec::new();
    let mut touched = false;
    for (name, more) in delta {
        let Some(limit) = hard.get(name) else { continue };
        let held = used.get(name).and_then(quantity::of).unwrap_or_default();
        let most = quantity::of(limit).unwrap_or_default();
        let limit_text = limit.as_str().unwrap_or_default();
        let total = held + more;
        if *more > 0 && total > most {
            over.push((
                format!("{name}={}", quantity::format(*more, limit_text)),
                format!("{name}={}", used.get(name).and_then(Value::as_str).unwrap_or("0")),
                format!("{name}={limit_text}"),
            ));
        }
        if *more != 0 {
            let text = quantity::format(total.max(0), limit_text);
            let map = changed.at_mut("status.used");
            if !map.is_object() {
                *map = Value::Object(Default::default());
            }
            map[name.as_str()] = Value::from(text);
            touched = true;
        }
    }
    if !over.is_empty() {
        let join = |pick: fn(&(String, String, String)) -> &String| {
            over.iter().map(pick).cloned().collect::<Vec<_>>().join(",")
        };
        return Err(attributes.forbidden(format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            quota.name(),
            join(|o| &o.0),
            join(|o| &o.1),
            join(|o| &o.2)
        )));
    }
    Ok(touched.then_some(changed))
}

/// What an object of a resource uses.
fn usage(resource: &Resource, object: &Value) -> Usage {
    let mut out = Usage::new();
    if object.is_null() {
        return out;
    }
    let group = resource.group_version.group.as_str();
    let plural = &*resource.plural;
    let counted = if group.is_empty() {
        format!("count/{plural}")
    } else {
        format!("count/{plural}.{group}")
    };
    out.insert(counted, 1000);
    match (group, plural) {
        ("", "pods") => {
            if matches!(object.str_at("status.phase"), "Succeeded" | "Failed") {
                return [("count/pods".to_owned(), 1000)].into();
            }
            out.insert("pods".to_owned(), 1000);
            for (kind, prefix) in [("requests", "requests."), ("limits", "limits.")] {
                for (name, (amount, _)) in pod_amounts(object, kind) {
                    let plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
                    if plain && kind == "requests" {
                        out.insert(name.clone(), amount);
                    }
                    if plain || kind == "requests" {
                        if name.starts_with("hugepages-") {
                            out.insert(name.clone(), amount);
                        }
                        out.insert(format!("{prefix}{name}"), amount);
                    }
                }
            }
        }
        ("", "services") => {
            out.insert("services".to_owned(), 1000);
            let ports = i128::try_from(object.list_at("spec.ports").len()).unwrap_or_default() * 1000;
            match object.str_at("spec.type") {
                "NodePort" => {
                    out.insert("services.nodeports".to_owned(), ports);
                }
                "LoadBalancer" => {
                    let allocates = object.bool_at("spec.allocateLoadBalancerNodePorts") != Some(false);
                    let fixed = object
                        .list_at("spec.ports")
                        .iter()
                        .filter(|p| p.int_at("nodePort").is_some_and(|n| n > 0))
                        .count();
                    let fixed = i128::try_from(fixed).unwrap_or_default() * 1000;
                    out.insert("services.loadbalancers".to_owned(), 1000);
                    out.insert(
                        "services.nodeports".to_owned(),
                        if allocates { ports } else { fixed },
                    );
                }
                _ => {}
            }
        }
        ("", "persistentvolumeclaims") => {
            let size = quantity::of(object.at("spec.resources.requests.storage")).unwrap_or_default();
            out.insert("persistentvolumeclaims".to_owned(), 1000);
            out.insert("requests.storage".to_owned(), size);
            let class = object.str_at("spec.storageClassName");
            if !class.is_empty() {
                out.insert(
                    format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"),
                    1000,
                );
                out.insert(
                    format!("{class}.storageclass.storage.k8s.io/requests.storage"),
                    size,
                );
            }
        }
        ("", "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas") => {
            out.insert(plural.to_owned(), 1000);
        }
        _ => {}
    }
    out
}

/// Whether a quota's scopes take in an object.
fn in_scope(quota: &Value, resource: &Resource, object: &Value) -> bool {
    let mut terms: Vec<(&str, &str, Vec<&str>)> = quota
        .list_at("spec.scopes")
        .iter()
        .filter_map(Value::as_str)
        .map(|scope| (scope, "Exists", Vec::new()))
        .collect();
    for term in quota.list_at("spec.scopeSelector.matchExpressions") {
        let values = term.list_at("values").iter().filter_map(Value::as_str).collect();
        terms.push((term.str_at("scopeName"), term.str_at("operator"), values));
    }
    let pods = is(resource, "", "pods");
    terms.iter().all(|(scope, operator, values)| {
        let text = match *scope {
            "PriorityClass" if pods => object.str_at("spec.priorityClassName"),
            "VolumeAttributesClass" if !pods => object.str_at("spec.volumeAttributesClassName"),
            "Terminating"
            | "NotTerminating"
            | "BestEffort"
            | "NotBestEffort"
            | "CrossNamespacePodAffinity"
                if pods =>
            {
                return matches_pod_scope(object, scope);
            }
            _ => return false,
        };
        match *operator {
            "Exists" => !text.is_empty(),
            "DoesNotExist" => text.is_empty(),
            "In" => values.contains(&text),
            "NotIn" => !values.contains(&text),
            _ => false,
        }
    })
}

fn matches_pod_scope(pod: &Value, scope: &str) -> bool {
    let terminating = pod
        .int_at("spec.activeDeadlineSeconds")
        .is_some_and(|seconds| seconds >= 0);
    let best_effort = || {
        ["requests", "limits"].iter().all(|kind| {
            let amounts = pod_amounts(pod, kind);
            ["cpu", "memory"]
                .iter()
                .all(|name| amounts.get(*name).is_none_or(|amount| amount.0 == 0))
        })
    };
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        _ => {
            let crosses = |term: &Value| {
                !term.list_at("namespaces").is_empty() || !term.at("namespaceSelector").is_null()
            };
            ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
                let affinity = pod.at("spec.affinity").at(kind);
                affinity
                    .list_at("requiredDuringSchedulingIgnoredDuringExecution")
                    .iter()
                    .any(crosses)
                    || affinity
                        .list_at("preferredDuringSchedulingIgnoredDuringExecution")
                        .iter()
                        .any(|weighted| crosses(weighted.at("podAffinityTerm")))
            })
        }
    }
}

/// The resources of a quota that a pod must say for each of its containers, and does not.
fn unsaid(quota: &Value, pod: &Value) -> Vec<String> {
    let missing = |name: &str, kind: &str, resource: &str| {
        let in_pod = pod.at("spec.resources").at(kind).get(resource).is_some();
        let containers = ["containers", "initContainers"]
            .iter()
            .flat_map(|list| pod.at("spec").list_at(list));
        let bare: Vec<String> = containers
            .filter(|c| c.at("resources").at(kind).get(resource).is_none())
            .map(|c| c.str_at("name").to_owned())
            .collect();
        (!in_pod && !bare.is_empty()).then(|| format!("{name} for: {}", bare.join(",")))
    };
    quota
        .map_at("status.hard")
        .into_iter()
        .flatten()
        .filter_map(|(name, _)| match name.as_str() {
            "cpu" | "requests.cpu" => missing(name, "requests", "cpu"),
            "memory" | "requests.memory" => missing(name, "requests", "memory"),
            "limits.cpu" => missing(name, "limits", "cpu"),
            "limits.memory" => missing(name, "limits", "memory"),
            _ => None,
        })
        .collect()
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        let update = operation == Operation::Update
            && (is(resource, "", "services") || is(resource, "", "persistentvolumeclaims"));
        let resize = operation == Operation::Update && subresource == "resize" && is(resource, "", "pods");
        resource.namespaced
            && ((subresource.is_empty() && (operation == Operation::Create || update)) || resize)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let attributes = &*attributes;
        let quotas = self.reader.list(
            &GroupResource::new("", "resourcequotas"),
            Some(attributes.namespace),
        );
        if quotas.is_empty() {
            return Ok(());
        }
        let mut delta = usage(attributes.resource, &attributes.object);
        for (name, held) in usage(attributes.resource, attributes.old) {
            *delta.entry(name).or_default() -= held;
        }
        let matching: Vec<Arc<Value>> = quotas
            .into_iter()
            .filter(|quota| in_scope(quota, attributes.resource, &attributes.object))
            .collect();
        if attributes.is("", "pods") {
            for quota in &matching {
                let unsaid = unsaid(quota, &attributes.object);
                if !unsaid.is_empty() {
                    let why = format!(
                        "failed quota: {}: must specify {}",
                        quota.name(),
                        unsaid.join("; ")
                    );
                    return Err(attributes.forbidden(why));
                }
            }
        }
        // All must have room before any is charged.
        for quota in &matching {
            add(attributes, quota, &delta)?;
        }
        for quota in matching {
            self.charge(attributes, quota, &delta).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Objects, create, pods, resource};
    use serde_json::json;

    fn plugin(objects: &Objects) -> ResourceQuota {
        let objects = Arc::new(objects.clone());
        ResourceQuota::new(objects.clone(), objects.clone(), objects)
    }

    fn quota(spec: Value, hard: Value, used: Value) -> Value {
        json!({"metadata": {"name": "q", "namespace": "a"}, "spec": spec, "status": {"hard": hard, "used": used}})
    }

    fn pod(name: &str, cpu: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "a"},
               "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
    }

    #[tokio::test]
    async fn what_is_written_is_charged_until_nothing_is_left() {
        let objects = Objects::default();
        objects.put(
            "resourcequotas",
            quota(json!({}), json!({"pods": "2", "requests.cpu": "1"}), json!({})),
        );
        let plugin = plugin(&objects);
        create(&plugin, &pods(), pod("a", "400m")).await.unwrap();
        let held = objects.find("resourcequotas", "a", "q").unwrap();
        assert_eq!(
            held["status"]["used"],
            json!({"pods": "1", "requests.cpu": "400m"})
        );
        assert_eq!(
            create(&plugin, &pods(), pod("b", "700m"))
                .await
                .unwrap_err()
                .message,
            r#"pods "b" is forbidden: exceeded quota: q, requested: requests.cpu=700m, used: requests.cpu=400m, limited: requests.cpu=1"#
        );
        create(&plugin, &pods(), pod("b", "600m")).await.unwrap();
        assert!(
            create(&plugin, &pods(), pod("c", "0"))
                .await
                .unwrap_err()
                .message
                .contains("pods=2")
        );
        let silent =
            json!({"metadata": {"name": "d", "namespace": "a"}, "spec": {"containers": [{"name": "c"}]}});
        let error = create(&plugin, &pods(), silent).await.unwrap_err();
        assert!(
            error
                .message
                .contains("failed quota: q: must specify requests.cpu for: c"),
            "{error}"
        );
        let maps = resource("", "configmaps", "ConfigMap", true);
        assert!(
            create(
                &plugin,
                &maps,
                json!({"metadata": {"name": "m", "namespace": "a"}})
            )
            .await
            .is_ok()
        );
    }

    #[tokio::test]
    async fn scopes_choose_what_is_counted() {
        let objects = Objects::default();
        objects.put(
            "resourcequotas",
            quota(json!({"scopes": ["BestEffort"]}), json!({"pods": "0"}), json!({})),
        );
        let plugin = plugin(&objects);
        assert!(create(&plugin, &pods(), pod("a", "1")).await.is_ok());
        assert!(create(&plugin, &pods(), pod("b", "0")).await.is_err());
    }
}
