//! `LimitRanger`: a namespace's LimitRanges give containers default requests and limits, and bound what may be asked for.

use super::quantity;
use crate::{Attributes, Operation, Plugin, is};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, Map, ObjectReader, Resource, StatusError, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The plugin.
pub struct LimitRanger {
    reader: Arc<dyn ObjectReader>,
}

impl LimitRanger {
    /// Reads LimitRanges through `reader`.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }

    fn ranges(&self, namespace: &str) -> Vec<Arc<Value>> {
        self.reader
            .list(&GroupResource::new("", "limitranges"), Some(namespace))
    }
}

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        let write = matches!(operation, Operation::Create | Operation::Update);
        let pods = is(resource, "", "pods")
            && matches!(
                (operation, subresource),
                (Operation::Create, "") | (Operation::Update, "resize")
            );
        let claims = subresource.is_empty() && is(resource, "", "persistentvolumeclaims");
        write && (pods || claims)
    }

    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        if !attributes.is("", "pods") || attributes.operation != Operation::Create {
            return Ok(());
        }
        for range in self.ranges(attributes.namespace) {
            add_defaults(&mut attributes.object, &range);
        }
        Ok(())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let object = &attributes.object;
        let pod = attributes.is("", "pods");
        let mut errors = Vec::new();
        for range in self.ranges(attributes.namespace) {
            for limit in range.list_at("spec.limits") {
                match (limit.str_at("type"), pod) {
                    ("Container", true) => {
                        for list in ["containers", "initContainers"] {
                            for container in object.at("spec").list_at(list) {
                                let resources = container.at("resources");
                                check(
                                    limit,
                                    "Container",
                                    &amounts(resources, "requests"),
                                    &amounts(resources, "limits"),
                                    &mut errors,
                                );
                            }
                        }
                    }
                    ("Pod", true) => check(
                        limit,
                        "Pod",
                        &pod_amounts(object, "requests"),
                        &pod_amounts(object, "limits"),
                        &mut errors,
                    ),
                    ("PersistentVolumeClaim", false) => {
                        let requests = amounts(object.at("spec.resources"), "requests");
                        check(
                            limit,
                            "PersistentVolumeClaim",
                            &requests,
                            &BTreeMap::new(),
                            &mut errors,
                        );
                    }
                    _ => {}
                }
            }
        }
        match errors.len() {
            0 => Ok(()),
            1 => Err(attributes.forbidden(&errors[0])),
            _ => Err(attributes.forbidden(format!("[{}]", errors.join(", ")))),
        }
    }
}

/// Gives containers what they don't say, and notes that on the pod.
fn add_defaults(pod: &mut Value, range: &Value) {
    let mut requests = Map::new();
    let mut limits = Map::new();
    for limit in range
        .list_at("spec.limits")
        .iter()
        .filter(|limit| limit.str_at("type") == "Container")
    {
        requests.extend(limit.map_at("defaultRequest").cloned().unwrap_or_default());
        limits.extend(limit.map_at("default").cloned().unwrap_or_default());
    }
    let mut notes = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pod.list_at_mut(&format!("spec.{list}")).into_iter().flatten() {
            let name = container.str_at("name").to_owned();
            for (kind, defaults, word) in [("requests", &requests, "request"), ("limits", &limits, "limit")] {
                let mut added = Vec::new();
                for (resource, amount) in defaults {
                    let path = format!("resources.{kind}");
                    let held = container.at(&path).get(resource).is_some();
                    // A request is not made up beyond a limit that the container has.
                    if held {
                        continue;
                    }
                    let target = container.at_mut(&path);
                    if !target.is_object() {
                        *target = Value::Object(Map::new());
                    }
                    target[resource.as_str()] = amount.clone();
                    added.push(resource.clone());
                }
                if !added.is_empty() {
                    added.sort();
                    notes.push(format!("{} {word} for {what} {name}", added.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        let annotations = pod.at_mut("metadata.annotations");
        if !annotations.is_object() {
            *annotations = Value::Object(Map::new());
        }
        annotations["kubernetes.io/limit-ranger"] = Value::from(text);
    }
}

type Amounts = BTreeMap<String, (i128, String)>;

fn amounts(resources: &Value, kind: &str) -> Amounts {
    let entries = resources.map_at(kind).into_iter().flatten();
    entries
        .filter_map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some((name.clone(), (quantity::of(value)?, text)))
        })
        .collect()
}

/// What a pod asks for in sum: its own containers, or the greatest of its init containers where that is more.
pub(crate) fn pod_amounts(pod: &Value, kind: &str) -> Amounts {
    let spec = pod.at("spec");
    let mut total = Amounts::new();
    let add = |into: &mut Amounts, from: Amounts| {
        for (name, (amount, text)) in from {
            let entry = into.entry(name).or_insert_with(|| (0, text.clone()));
            entry.0 += amount;
            entry.1 = quantity::format(entry.0, &text);
        }
    };
    for container in spec.list_at("containers") {
        add(&mut total, amounts(container.at("resources"), kind));
    }
    // Sidecars run beside the containers, and beside the init containers after them.
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for container in spec.list_at("initContainers") {
        let own = amounts(container.at("resources"), kind);
        if container.str_at("restartPolicy") == "Always" {
            add(&mut total, own.clone());
            add(&mut sidecars, own);
        } else {
            let mut here = sidecars.clone();
            add(&mut here, own);
            raise(&mut peak, here);
        }
    }
    raise(&mut peak, sidecars);
    raise(&mut total, peak);
    // What is said for the whole pod counts instead.
    for (name, amount) in amounts(spec.at("resources"), kind) {
        total.insert(name, amount);
    }
    for (name, value) in spec.map_at("overhead").into_iter().flatten() {
        if let (Some(amount), true) = (
            quantity::of(value),
            kind == "requests" || total.contains_key(name),
        ) {
            let text = value.as_str().unwrap_or_default().to_owned();
            add(&mut total, [(name.clone(), (amount, text))].into());
        }
    }
    total
}

fn raise(into: &mut Amounts, from: Amounts) {
    for (name, amount) in from {
        match into.get(&name) {
            Some(held) if held.0 >= amount.0 => {}
            _ => {
                into.insert(name, amount);
            }
        }
    }
}

/// What of a limit's minimum, maximum and ratio is not kept.
fn check(limit: &Value, kind: &str, requests: &Amounts, limits: &Amounts, errors: &mut Vec<String>) {
    let bounds = |key: &str| amounts(limit, key);
    for (name, (least, text)) in bounds("min") {
        match (requests.get(&name), limits.get(&name)) {
            (None, _) => errors.push(format!(
                "minimum {name} usage per {kind} is {text}.  No request is specified"
            )),
            (Some(request), _) if request.0 < least => {
                errors.push(format!(
                    "minimum {name} usage per {kind} is {text}, but request is {}",
                    request.1
                ));
            }
            (_, Some(held)) if held.0 < least => {
                errors.push(format!(
                    "minimum {name} usage per {kind} is {text}, but limit is {}",
                    held.1
                ));
            }
            _ => {}
        }
    }
    for (name, (most, text)) in bounds("max") {
        if kind == "PersistentVolumeClaim" {
            match requests.get(&name) {
                Some(request) if request.0 > most => {
                    errors.push(format!(
                        "maximum {name} usage per {kind} is {text}, but request is {}",
                        request.1
                    ));
                }
                _ => {}
            }
            continue;
        }
        match (limits.get(&name), requests.get(&name)) {
            (None, _) => errors.push(format!(
                "maximum {name} usage per {kind} is {text}.  No limit is specified"
            )),
            (Some(held), _) if held.0 > most => {
                errors.push(format!(
                    "maximum {name} usage per {kind} is {text}, but limit is {}",
                    held.1
                ));
            }
            (_, Some(request)) if request.0 > most => {
                errors.push(format!(
                    "maximum {name} usage per {kind} is {text}, but request is {}",
                    request.1
                ));
            }
            _ => {}
        }
    }
    for (name, (ratio, text)) in bounds("maxLimitRequestRatio") {
        match (requests.get(&name), limits.get(&name)) {
            (Some(request), Some(held)) if request.0 > 0 && held.0 > 0 => {
                if held.0 * 1000 > ratio * request.0 {
                    #[allow(clippy::cast_precision_loss)]
                    let provided = held.0 as f64 / request.0 as f64;
                    errors.push(format!(
                        "{name} max limit to request ratio per {kind} is {text}, but provided ratio is {provided:.6}"
                    ));
                }
            }
            (None, _) => errors.push(format!(
                "{name} max limit to request ratio per {kind} is {text}, but no request is specified or request is 0"
            )),
            _ => errors.push(format!(
                "{name} max limit to request ratio per {kind} is {text}, but no limit is specified or limit is 0"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Objects, create, pods, resource};
    use serde_json::json;

    #[tokio::test]
    async fn defaults_are_given_and_bounds_kept() {
        let objects = Objects::default();
        objects.put(
            "limitranges",
            json!({"metadata": {"name": "l", "namespace": "a"}, "spec": {"limits": [
                {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}, "min": {"cpu": "50m"}},
                {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]}}),
        );
        let plugin = LimitRanger::new(Arc::new(objects));
        let pod = |resources: Value| json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"containers": [{"name": "c", "resources": resources}]}});
        let got = create(&plugin, &pods(), pod(json!({}))).await.unwrap();
        assert_eq!(
            got["spec"]["containers"][0]["resources"],
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}})
        );
        assert_eq!(
            got.annotation("kubernetes.io/limit-ranger"),
            Some("LimitRanger plugin set: cpu request for container c; cpu limit for container c")
        );
        let error = create(&plugin, &pods(), pod(json!({"limits": {"cpu": "2"}})))
            .await
            .unwrap_err();
        assert_eq!(
            error.message,
            r#"pods "p" is forbidden: maximum cpu usage per Container is 1, but limit is 2"#
        );
        let error = create(&plugin, &pods(), pod(json!({"requests": {"cpu": "10m"}})))
            .await
            .unwrap_err();
        assert_eq!(
            error.message,
            r#"pods "p" is forbidden: minimum cpu usage per Container is 50m, but request is 10m"#
        );
        let claims = resource("", "persistentvolumeclaims", "PersistentVolumeClaim", true);
        let claim = |size: &str| json!({"metadata": {"name": "v", "namespace": "a"}, "spec": {"resources": {"requests": {"storage": size}}}});
        assert!(create(&plugin, &claims, claim("512Mi")).await.is_ok());
        assert!(create(&plugin, &claims, claim("2Gi")).await.is_err());
    }

    #[test]
    fn a_pod_asks_for_the_most_it_needs_at_once() {
        let c = |cpu: &str, always: bool| {
            let policy = if always { json!("Always") } else { Value::Null };
            json!({"restartPolicy": policy, "resources": {"requests": {"cpu": cpu}}})
        };
        let pod = json!({"spec": {"containers": [c("1", false), c("500m", false)],
            "initContainers": [c("3", false), c("250m", true), c("1", false)], "overhead": {"cpu": "100m"}}});
        assert_eq!(pod_amounts(&pod, "requests")["cpu"].0, 3100);
    }
}
