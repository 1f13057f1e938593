//! What expressions of admission refer to: the object, the request, parameters, rights.

use crate::env::Env;
use crate::schema::Schema;
use crate::types::Type;
use crate::value::{AuthorizationCheck, Native, ResourceCheck, Subject, Value};
use serde_json::Value as Json;
use std::sync::{Arc, LazyLock};

/// What all evaluations for one object and one policy may cost together.
pub const POLICY_BUDGET: u64 = 10_000_000;
/// What all match conditions of one webhook or policy may cost together.
pub const CONDITIONS_BUDGET: u64 = 2_500_000;

/// What expressions of one place may refer to beside `object`, `oldObject`, `request` and `namespaceObject`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// `params`
    pub params: bool,
    /// `authorizer` and `authorizer.requestResource`
    pub authorizer: bool,
}

static EVERYTHING: LazyLock<Env> = LazyLock::new(|| {
    Env::new()
        .with("object", Type::Dyn)
        .with("oldObject", Type::Dyn)
        .with_schema("request", &request_schema())
        .with_schema("namespaceObject", &namespace_schema())
        .with("params", Type::Dyn)
        .with("authorizer", Type::object(Native::AUTHORIZER))
        .with("authorizer.requestResource", Type::object(Native::RESOURCE_CHECK))
});

/// The number of the variable `variables`, when an environment has it.
pub(crate) const VARIABLES: usize = 7;

/// The environment of a place.
pub fn env(extras: Extras) -> Env {
    let mut env = EVERYTHING.clone();
    if !extras.params {
        env = env.without("params");
    }
    if !extras.authorizer {
        env = env.without("authorizer").without("authorizer.requestResource");
    }
    env
}

fn request_schema() -> Schema {
    let text = || Schema::STRING;
    let kind = Schema::object(
        "kubernetes.GroupVersionKind",
        &[("group", text()), ("version", text()), ("kind", text())],
    );
    let resource = Schema::object(
        "kubernetes.GroupVersionResource",
        &[("group", text()), ("version", text()), ("resource", text())],
    );
    Schema::object(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", text()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user_schema()),
            ("dryRun", Schema::BOOL),
            ("options", Schema::ANY),
        ],
    )
}

/// Who somebody is.
pub(crate) fn user_schema() -> Schema {
    Schema::object(
        "kubernetes.UserInfo",
        &[
            ("username", Schema::STRING),
            ("uid", Schema::STRING),
            ("groups", Schema::list(Schema::STRING)),
            ("extra", Schema::map(Schema::list(Schema::STRING))),
        ],
    )
}

fn namespace_schema() -> Schema {
    let text = || Schema::STRING;
    let texts = || Schema::list(Schema::STRING);
    let condition = Schema::object(
        "kubernetes.NamespaceCondition",
        &[
            ("status", text()),
            ("type", text()),
            ("lastTransitionTime", Schema::TIMESTAMP),
            ("message", text()),
            ("reason", text()),
        ],
    );
    let metadata = Schema::object(
        "kubernetes.NamespaceMetadata",
        &[
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", Schema::map(text())),
            ("annotations", Schema::map(text())),
            ("UID", text()),
            ("creationTimestamp", Schema::TIMESTAMP),
            ("deletionGracePeriodSeconds", Schema::INT),
            ("deletionTimestamp", Schema::TIMESTAMP),
            ("generation", Schema::INT),
            ("resourceVersion", text()),
            ("finalizers", texts()),
        ],
    );
    let spec = Schema::object("kubernetes.NamespaceSpec", &[("finalizers", texts())]);
    let status = Schema::object(
        "kubernetes.NamespaceStatus",
        &[("conditions", Schema::list(condition)), ("phase", text())],
    );
    Schema::object(
        "kubernetes.Namespace",
        &[("metadata", metadata), ("spec", spec), ("status", status)],
    )
}

/// What the variables stand for. All parts are JSON; null where there is nothing.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The new object.
    pub object: &'a Json,
    /// The object as it was.
    pub old_object: &'a Json,
    /// The `AdmissionRequest` without `object` and `oldObject`.
    pub request: &'a Json,
    /// The namespace of the object.
    pub namespace: &'a Json,
    /// The parameters.
    pub params: &'a Json,
}

impl<'a> Input<'a> {
    /// The variables' values in the order of [`env`].
    pub fn values(&self) -> Vec<Option<Value<'a>>> {
        vec![
            Some(Value::json(self.object)),
            Some(Value::json(self.old_object)),
            Some(Value::json(self.request)),
            Some(Value::json(self.namespace)),
            Some(Value::json(self.params)),
            Some(Value::Native(Native::Authorizer(Subject::Caller))),
            Some(Value::Native(Native::ResourceCheck(Arc::new(self.requested())))),
        ]
    }

    /// The resource that the request is for.
    fn requested(&self) -> ResourceCheck {
        let text = |pointer: &str| {
            let found = self.request.pointer(pointer).and_then(Json::as_str);
            found.unwrap_or_default().to_owned()
        };
        ResourceCheck {
            check: AuthorizationCheck {
                group: text("/requestResource/group"),
                resource: text("/requestResource/resource"),
                subresource: text("/requestSubResource"),
                namespace: text("/namespace"),
                name: text("/name"),
                ..AuthorizationCheck::default()
            },
        }
    }
}
