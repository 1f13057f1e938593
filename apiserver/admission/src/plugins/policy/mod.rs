//! `ValidatingAdmissionPolicy` and `MutatingAdmissionPolicy`: expressions decide about writes, in the server itself.
//!
//! Policies are compiled when they or their bindings change, so a write that no policy matches costs a walk over the rules and
//! nothing else. What expressions say is `rutter_cel::policy`'s; here are the matching, the parameters, and what follows.

mod compiled;
mod mutating;
mod rights;
mod validating;

#[cfg(test)]
mod tests;

pub use mutating::MutatingAdmissionPolicy;
pub(crate) use rights::Rights;
pub use validating::ValidatingAdmissionPolicy;

use super::namespace_lifecycle::find;
use super::webhook::{View, request};
use crate::{Attributes, LiveReader};
use compiled::{Binding, Policy};
use rutter_api::object::ObjectExt;
use rutter_api::status::Cause;
use rutter_api::{ObjectReader, Resource, StatusError, Value};
use rutter_auth::Authorizer;
use rutter_cel::admission::Input;
use std::sync::Arc;

/// What both plugins need.
struct Common {
    reader: Arc<dyn ObjectReader>,
    live: Arc<dyn LiveReader>,
    authorizer: Arc<dyn Authorizer>,
}

impl Common {
    /// The bindings of a policy that are for a write, and the resource as which it is looked at.
    async fn bound<'p, P>(
        &self,
        policy: &'p Policy<P>,
        write: &Attributes<'_>,
    ) -> Result<Option<(Arc<Resource>, Vec<&'p Binding>)>, StatusError> {
        let Some(to) = policy.matcher.matches(write, &*self.reader, &*self.live).await? else {
            return Ok(None);
        };
        let mut bound = Vec::new();
        for binding in &policy.bindings {
            let fits = match &binding.matcher {
                None => true,
                Some(matcher) => matcher
                    .matches(write, &*self.reader, &*self.live)
                    .await?
                    .is_some(),
            };
            if fits {
                bound.push(binding);
            }
        }
        Ok((!bound.is_empty()).then_some((to, bound)))
    }

    /// The namespace that the write is in; null for objects outside of namespaces, and for namespaces themselves.
    async fn namespace(&self, write: &Attributes<'_>) -> Result<Arc<Value>, StatusError> {
        if write.namespace.is_empty() || write.is("", "namespaces") {
            return Ok(Arc::new(Value::Null));
        }
        find(&*self.reader, &*self.live, write.namespace).await
    }
}

/// Questions about rights and identities, which are no objects.
const QUESTIONS: &[(&str, &str)] = &[
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];

/// Whether policies are asked about a resource at all: not about questions, which the answers would depend on.
fn may_be_asked(resource: &Resource) -> bool {
    !QUESTIONS
        .iter()
        .any(|(group, plural)| crate::is(resource, group, plural))
}

/// The variables of an evaluation.
fn input<'a>(seen: &'a View<'_>, request: &'a Value, namespace: &'a Value, params: &'a Value) -> Input<'a> {
    Input {
        object: &seen.object,
        old_object: &seen.old,
        request,
        namespace,
        params,
    }
}

/// What expressions know as `request`.
fn question(write: &Attributes<'_>, to: &Resource) -> Value {
    request(write, to)
}

/// A cause that is only a text.
fn cause(message: String) -> Cause {
    Cause {
        reason: String::new(),
        message,
        field: String::new(),
    }
}

/// The name of an object for keys; empty for none.
fn name_of(object: &Value) -> String {
    match object {
        Value::Null => String::new(),
        object => format!("{}/{}", object.namespace(), object.name()),
    }
}
