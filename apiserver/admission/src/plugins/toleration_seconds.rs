//! `DefaultTolerationSeconds`: a pod stays on a node that is not ready or unreachable for five minutes, unless it says
//! otherwise.

use super::is_pods;
use crate::{Attributes, Operation, Plugin};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{Resource, StatusError, Value};
use serde_json::json;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// The plugin, with the seconds for each of the two taints.
#[derive(Clone, Copy, Debug)]
pub struct DefaultTolerationSeconds {
    /// For `node.kubernetes.io/not-ready`.
    pub not_ready: i64,
    /// For `node.kubernetes.io/unreachable`.
    pub unreachable: i64,
}

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update) && is_pods(resource, subresource)
    }

    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        add(
            &mut attributes.object,
            &[(NOT_READY, self.not_ready), (UNREACHABLE, self.unreachable)],
        );
        Ok(())
    }
}

fn add(pod: &mut Value, defaults: &[(&str, i64)]) {
    let held = pod.list_at("spec.tolerations");
    let tolerates = |taint: &str| {
        held.iter().any(|toleration| {
            let (key, effect) = (toleration.str_at("key"), toleration.str_at("effect"));
            (key.is_empty() || key == taint) && (effect.is_empty() || effect == "NoExecute")
        })
    };
    let mut all = held.to_vec();
    for (taint, seconds) in defaults.iter().filter(|(taint, _)| !tolerates(taint)) {
        all.push(
            json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}),
        );
    }
    if all.len() > held.len() {
        pod.set("spec.tolerations", all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_tolerated_is_tolerated_for_a_while() {
        let exists = |key: &str| json!({"key": key, "operator": "Exists"});
        for (held, want) in [
            (json!([]), 2),
            (json!([exists(NOT_READY)]), 2),
            (json!([{"operator": "Exists"}]), 1),
            (json!([{"key": NOT_READY, "effect": "NoSchedule"}]), 3),
        ] {
            let mut pod = json!({"spec": {"tolerations": held}});
            add(&mut pod, &[(NOT_READY, 300), (UNREACHABLE, 300)]);
            assert_eq!(pod.list_at("spec.tolerations").len(), want, "{pod}");
        }
    }
}
