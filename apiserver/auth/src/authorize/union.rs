//! Several authorizers in order, and the group that needs none of them.

use crate::{Attributes, Authorizer, Decision, Rules};
use async_trait::async_trait;
use rutter_api::UserInfo;
use serde_json::json;
use std::sync::Arc;

/// Allows the members of some groups everything: `system:masters`, before all other authorizers.
#[derive(Clone, Debug)]
pub struct PrivilegedGroups(Vec<String>);

impl PrivilegedGroups {
    /// These groups.
    pub fn new(groups: Vec<String>) -> Self {
        Self(groups)
    }

    /// `system:masters` alone.
    pub fn masters() -> Self {
        Self(vec![crate::names::MASTERS.to_owned()])
    }

    fn has(&self, user: &UserInfo) -> bool {
        self.0.iter().any(|group| user.in_group(group))
    }
}

#[async_trait]
impl Authorizer for PrivilegedGroups {
    async fn authorize(&self, user: &UserInfo, _attributes: &Attributes<'_>) -> Decision {
        if self.has(user) {
            Decision::Allow(String::new())
        } else {
            Decision::NoOpinion(String::new())
        }
    }

    fn rules(&self, user: &UserInfo, _namespace: &str) -> Option<Rules> {
        if !self.has(user) {
            return Some(Rules::default());
        }
        Some(Rules {
            resource_rules: vec![json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})],
            non_resource_rules: vec![json!({"verbs": ["*"], "nonResourceURLs": ["*"]})],
            incomplete: None,
        })
    }
}

/// Asks authorizers in order; the first with an opinion decides. Who nobody has an opinion on may not.
pub struct Union {
    authorizers: Vec<Arc<dyn Authorizer>>,
    observer: Option<Observer>,
}

/// Told which authorizer decided (from 0; not [`PrivilegedGroups`]) and whether it allowed. Must be quick.
pub type Observer = Box<dyn Fn(usize, bool) + Send + Sync>;

impl Union {
    /// These authorizers, behind [`PrivilegedGroups::masters`].
    pub fn new(authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        let mut all: Vec<Arc<dyn Authorizer>> = vec![Arc::new(PrivilegedGroups::masters())];
        all.extend(authorizers);
        Self {
            authorizers: all,
            observer: None,
        }
    }

    /// The same, telling an observer.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Self {
        Self {
            observer: Some(observer),
            ..self
        }
    }
}

#[async_trait]
impl Authorizer for Union {
    async fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        let mut reasons = Vec::new();
        for (at, authorizer) in self.authorizers.iter().enumerate() {
            match authorizer.authorize(user, attributes).await {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => {
                    if let (Some(observer), Some(at)) = (&self.observer, at.checked_sub(1)) {
                        observer(at, matches!(decided, Decision::Allow(_)));
                    }
                    return decided;
                }
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> Option<Rules> {
        let mut all = Rules::default();
        let mut incomplete = Vec::new();
        for authorizer in &self.authorizers {
            match authorizer.rules(user, namespace) {
                Some(rules) => {
                    all.resource_rules.extend(rules.resource_rules);
                    all.non_resource_rules.extend(rules.non_resource_rules);
                    incomplete.extend(rules.incomplete);
                }
                None => incomplete.push("an authorizer does not support user rule resolution".to_owned()),
            }
        }
        match incomplete.len() {
            0 => {}
            1 => all.incomplete = incomplete.pop(),
            _ => all.incomplete = Some(format!("[{}]", incomplete.join(", "))),
        }
        Some(all)
    }
}
