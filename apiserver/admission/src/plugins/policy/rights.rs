//! Rights that expressions ask for. An evaluation doesn't wait: it ends where a right isn't known, and begins anew when it is.

use rutter_api::UserInfo;
use rutter_auth::{Attributes, Authorizer, Decision as Verdict};
use rutter_cel::{AuthorizationCheck, Authorizations, Decision, Subject};
use std::collections::HashMap;
use std::sync::Arc;

/// What is known of the caller's rights within one write.
#[derive(Default)]
pub(crate) struct Rights(HashMap<AuthorizationCheck, Arc<Decision>>);

impl Authorizations for Rights {
    fn decision(&self, check: &AuthorizationCheck) -> Option<Arc<Decision>> {
        self.0.get(check).cloned()
    }
}

impl Rights {
    /// Runs an evaluation until it has all the rights that it asks for.
    pub(crate) async fn settle<T>(
        &mut self,
        authorizer: &dyn Authorizer,
        user: &UserInfo,
        mut evaluate: impl FnMut(&Self) -> Result<T, Arc<AuthorizationCheck>>,
    ) -> T {
        loop {
            match evaluate(self) {
                Ok(value) => return value,
                Err(check) => {
                    let decision = decide(authorizer, user, &check).await;
                    self.0.insert((*check).clone(), Arc::new(decision));
                }
            }
        }
    }
}

async fn decide(authorizer: &dyn Authorizer, user: &UserInfo, check: &AuthorizationCheck) -> Decision {
    let attributes = Attributes {
        verb: check.verb.as_str().into(),
        namespace: check.namespace.as_str().into(),
        group: check.group.as_str().into(),
        version: if check.path.is_empty() {
            "*".into()
        } else {
            "".into()
        },
        resource: check.resource.as_str().into(),
        subresource: check.subresource.as_str().into(),
        name: check.name.as_str().into(),
        path: check.path.as_str().into(),
        field_selector: check.field_selector.as_str().into(),
        label_selector: check.label_selector.as_str().into(),
    };
    let verdict = match &check.subject {
        Subject::Caller => authorizer.authorize(user, &attributes).await,
        Subject::ServiceAccount(account) => {
            let (namespace, name) = (&account.0, &account.1);
            let account = UserInfo {
                name: format!("system:serviceaccount:{namespace}:{name}"),
                groups: vec![
                    "system:serviceaccounts".to_owned(),
                    format!("system:serviceaccounts:{namespace}"),
                ],
                ..UserInfo::default()
            };
            authorizer.authorize(&account, &attributes).await
        }
    };
    let (allowed, reason) = match verdict {
        Verdict::Allow(reason) => (true, reason),
        Verdict::Deny(reason) | Verdict::NoOpinion(reason) => (false, reason),
    };
    Decision {
        allowed,
        reason,
        error: None,
    }
}
