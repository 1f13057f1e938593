//! Lists of resources (`cpu: 500m`) as numbers: sums, largest, quality of service.

use rutter_api::object::ObjectExt;
use rutter_api::{Map, Quantity, Value};
use std::collections::BTreeMap;

/// Amounts by resource name.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// A quantity as it stands in an object: a text, or a bare number.
pub(crate) fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// A list of resources; what isn't a quantity is left out.
pub(crate) fn amounts(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, value)| Some((name.clone(), quantity(value)?)))
        .collect()
}

/// Adds amount by amount.
pub(crate) fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let entry = sum.entry(name.clone()).or_insert(Quantity::ZERO);
        *entry += *amount;
    }
}

/// Keeps the larger amount of each.
pub(crate) fn max(largest: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        match largest.get_mut(name) {
            Some(present) if *present >= *amount => {}
            Some(present) => *present = *amount,
            None => {
                largest.insert(name.clone(), *amount);
            }
        }
    }
}

/// What all containers of a pod need together of `requests` or `limits`: the sum of those that run side by side, or the
/// largest init container beside the restartable ones before it.
pub(crate) fn of_containers(spec: &Value, what: &str) -> Amounts {
    let path = format!("resources.{what}");
    let mut sum = Amounts::new();
    for container in spec.list_at("containers") {
        add(&mut sum, &amounts(container.at(&path)));
    }
    let mut restartable = Amounts::new();
    let mut init = Amounts::new();
    for container in spec.list_at("initContainers") {
        let own = amounts(container.at(&path));
        if container.str_at("restartPolicy") == "Always" {
            add(&mut sum, &own);
            add(&mut restartable, &own);
            max(&mut init, &restartable);
        } else {
            let mut together = own;
            add(&mut together, &restartable);
            max(&mut init, &together);
        }
    }
    max(&mut sum, &init);
    sum
}

/// Amounts as an object's fields.
pub(crate) fn to_map(amounts: &Amounts) -> Map<String, Value> {
    amounts
        .iter()
        .map(|(name, amount)| (name.clone(), Value::from(amount.to_string())))
        .collect()
}

/// The quality of service class that a pod's spec asks for.
pub(crate) fn qos_class(spec: &Value) -> &'static str {
    let mut requests = Amounts::new();
    let mut limits = Amounts::new();
    let mut guaranteed = true;
    if spec.at("resources").is_null() {
        for container in spec
            .list_at("containers")
            .iter()
            .chain(spec.list_at("initContainers"))
        {
            add(&mut requests, &computed(container.at("resources.requests")));
            let own = computed(container.at("resources.limits"));
            guaranteed &= own.len() == 2;
            add(&mut limits, &own);
        }
    } else {
        requests = computed(spec.at("resources.requests"));
        limits = computed(spec.at("resources.limits"));
        guaranteed = limits.is_empty() || limits.len() == 2;
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    let equal = requests.len() == limits.len()
        && requests
            .iter()
            .all(|(name, amount)| limits.get(name).is_some_and(|limit| limit == amount));
    if guaranteed && equal {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// The resources that count for quality of service, where more than nothing.
fn computed(list: &Value) -> Amounts {
    let mut all = amounts(list);
    all.retain(|name, amount| matches!(name.as_str(), "cpu" | "memory") && *amount > Quantity::ZERO);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quality_of_service_follows_requests_and_limits() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (resources, want) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "0"}}), "BestEffort"),
            (json!({"requests": {"cpu": "100m"}}), "Burstable"),
            (json!({"requests": both, "limits": both}), "Guaranteed"),
            (
                json!({"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": both}),
                "Guaranteed",
            ),
            (
                json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": both}),
                "Burstable",
            ),
        ] {
            assert_eq!(
                qos_class(&json!({"containers": [{"resources": resources}]})),
                want,
                "{resources}"
            );
        }
    }

    #[test]
    fn init_containers_count_by_the_largest() {
        let spec = json!({
            "containers": [{"resources": {"requests": {"cpu": "1"}}}],
            "initContainers": [
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
                {"resources": {"requests": {"cpu": "3"}}},
            ],
        });
        assert_eq!(
            of_containers(&spec, "requests")
                .get("cpu")
                .map(ToString::to_string),
            Some("4".into())
        );
    }
}
