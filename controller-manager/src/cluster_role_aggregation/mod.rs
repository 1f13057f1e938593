//! The ClusterRole aggregation controller: fills roles that collect the rules of others.

use crate::common::owners::name;
use crate::common::selector::Matcher;
use crate::frame::{Context, Loop, Reconcile};
use anyhow::Context as _;
use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::Api;
use kube::api::{Patch, PatchParams};
use rutter_client::{Requeue, Store};
use serde_json::json;
use std::sync::Arc;

/// Aggregates.
pub struct ClusterRoleAggregationController {
    client: kube::Client,
    roles: Store<ClusterRole>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<String>::new(&context);
    let known = context.informers.of::<ClusterRole>().store();
    let roles = frame.watch::<ClusterRole>(move |_, queue| {
        // Any role may be a part of any other.
        for role in known.list().iter().filter(|r| r.aggregation_rule.is_some()) {
            queue.add(name(&role.metadata).to_owned());
        }
    });
    frame
        .run(
            5,
            ClusterRoleAggregationController {
                client: context.client,
                roles,
            },
        )
        .await;
}

/// The rules that a role is to have, in the order of its selectors and the others' names; `None` when it collects nothing or a selector can't be
/// understood.
fn rules(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in role
        .aggregation_rule
        .as_ref()?
        .cluster_role_selectors
        .iter()
        .flatten()
    {
        let selector = Matcher::of(selector)?;
        let parts = all.iter().filter(|r| {
            r.metadata.name != role.metadata.name && selector.matches(r.metadata.labels.as_ref())
        });
        for rule in parts.flat_map(|r| r.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

#[async_trait]
impl Reconcile for ClusterRoleAggregationController {
    type Key = String;

    async fn reconcile(&self, key: String) -> anyhow::Result<Requeue> {
        let Some(role) = self.roles.get("", &key) else {
            return Ok(Requeue::Done);
        };
        let Some(rules) = rules(&role, &self.roles.list()) else {
            return Ok(Requeue::Done);
        };
        if role.rules.as_deref().unwrap_or_default() == rules {
            return Ok(Requeue::Done);
        }
        let patch = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": key}, "rules": rules});
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        let params = PatchParams::apply("clusterrole-aggregation-controller").force();
        api.patch(&key, &params, &Patch::Apply(patch))
            .await
            .context("writing the collected rules")?;
        Ok(Requeue::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_collected_once_from_the_selected_roles_but_not_from_itself() {
        let role = |name: &str, label: &str, verb: &str| -> Arc<ClusterRole> {
            let value =
                json!({"metadata": {"name": name, "labels": {"to": label}}, "rules": [{"verbs": [verb]}]});
            Arc::new(serde_json::from_value(value).unwrap())
        };
        let value = json!({"metadata": {"name": "admin", "labels": {"to": "admin"}}, "rules": [{"verbs": ["old"]}],
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "admin"}}]}});
        let admin: ClusterRole = serde_json::from_value(value).unwrap();
        let all = [
            role("a", "admin", "get"),
            Arc::new(admin.clone()),
            role("b", "admin", "get"),
            role("c", "admin", "list"),
            role("d", "x", "watch"),
        ];
        let verbs: Vec<String> = rules(&admin, &all)
            .unwrap()
            .into_iter()
            .flat_map(|r| r.verbs)
            .collect();
        assert_eq!(verbs, ["get", "list"]);
        assert!(rules(&all[0], &all).is_none());
    }
}
