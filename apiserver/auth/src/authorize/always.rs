//! The two authorizers that don't look: `--authorization-mode=AlwaysAllow` and `AlwaysDeny`.

use crate::{Attributes, Authorizer, Decision, Rules};
use async_trait::async_trait;
use rutter_api::UserInfo;
use serde_json::json;

/// Allows everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysAllow;

#[async_trait]
impl Authorizer for AlwaysAllow {
    async fn authorize(&self, _user: &UserInfo, _attributes: &Attributes<'_>) -> Decision {
        Decision::Allow(String::new())
    }

    fn rules(&self, _user: &UserInfo, _namespace: &str) -> Option<Rules> {
        Some(Rules {
            resource_rules: vec![json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})],
            non_resource_rules: vec![json!({"verbs": ["*"], "nonResourceURLs": ["*"]})],
            incomplete: None,
        })
    }
}

/// Allows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysDeny;

#[async_trait]
impl Authorizer for AlwaysDeny {
    async fn authorize(&self, _user: &UserInfo, _attributes: &Attributes<'_>) -> Decision {
        Decision::NoOpinion("Everything is forbidden.".to_owned())
    }

    fn rules(&self, _user: &UserInfo, _namespace: &str) -> Option<Rules> {
        Some(Rules::default())
    }
}
