//! What expressions of authentication and authorization refer to.

use crate::admission::user_schema;
use crate::env::Env;
use crate::schema::Schema;
use crate::types::Type;

/// `request`: the spec of a `SubjectAccessReview`, for the match conditions of authorization webhooks. Its value is read with
/// [`crate::Value::json`].
pub fn access_review_env() -> Env {
    let text = || Schema::STRING;
    let requirement = Schema::object(
        "kubernetes.SelectorRequirement",
        &[
            ("key", text()),
            ("operator", text()),
            ("values", Schema::list(text())),
        ],
    );
    let selector = |name: &str| {
        let requirements = Schema::list(requirement.clone());
        Schema::object(name, &[("rawSelector", text()), ("requirements", requirements)])
    };
    let resource = Schema::object(
        "kubernetes.ResourceAttributes",
        &[
            ("namespace", text()),
            ("verb", text()),
            ("group", text()),
            ("version", text()),
            ("resource", text()),
            ("subresource", text()),
            ("name", text()),
            ("fieldSelector", selector("kubernetes.FieldSelectorAttributes")),
            ("labelSelector", selector("kubernetes.LabelSelectorAttributes")),
        ],
    );
    let other = Schema::object(
        "kubernetes.NonResourceAttributes",
        &[("path", text()), ("verb", text())],
    );
    let request = Schema::object(
        "kubernetes.SubjectAccessReviewSpec",
        &[
            ("resourceAttributes", resource),
            ("nonResourceAttributes", other),
            ("user", text()),
            ("groups", Schema::list(text())),
            ("extra", Schema::map(Schema::list(text()))),
            ("uid", text()),
        ],
    );
    Env::new().with_schema("request", &request)
}

/// `claims`: those of a token.
pub fn claims_env() -> Env {
    Env::new().with("claims", Type::map(Type::String, Type::Dyn))
}

/// `user`: who a token made somebody.
pub fn user_env() -> Env {
    Env::new().with_schema("user", &user_schema())
}
