//! Errors of the API, and the `Status` object a client gets for each.
//!
//! Inside, an error is a [`StatusError`] with its parts; [`StatusError::to_value`] is the one place where it
//! becomes JSON (Kubernetes API conventions, "Response Status Kind").

use crate::field::{self, FieldError};
use crate::meta::{GroupKind, GroupResource};
use serde_json::{Value, json};
use std::fmt;

/// The machine-readable reason of a failure, as in `Status.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Reason {
    Unknown,
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    StoreReadError,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
}

impl Reason {
    /// The name on the wire; empty for [`Reason::Unknown`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Invalid => "Invalid",
            Self::ServerTimeout => "ServerTimeout",
            Self::StoreReadError => "StorageReadError",
            Self::Timeout => "Timeout",
            Self::TooManyRequests => "TooManyRequests",
            Self::BadRequest => "BadRequest",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::InternalError => "InternalError",
            Self::Expired => "Expired",
            Self::ServiceUnavailable => "ServiceUnavailable",
        }
    }

    /// The reason of a name on the wire; [`Reason::Unknown`] for one that is none of these.
    pub fn parse(name: &str) -> Self {
        const ALL: [Reason; 19] = [
            Reason::Unauthorized,
            Reason::Forbidden,
            Reason::NotFound,
            Reason::AlreadyExists,
            Reason::Conflict,
            Reason::Gone,
            Reason::Invalid,
            Reason::ServerTimeout,
            Reason::StoreReadError,
            Reason::Timeout,
            Reason::TooManyRequests,
            Reason::BadRequest,
            Reason::MethodNotAllowed,
            Reason::NotAcceptable,
            Reason::RequestEntityTooLarge,
            Reason::UnsupportedMediaType,
            Reason::InternalError,
            Reason::Expired,
            Reason::ServiceUnavailable,
        ];
        let found = ALL.into_iter().find(|reason| reason.as_str() == name);
        found.unwrap_or(Self::Unknown)
    }

    /// The HTTP status code that goes with it.
    pub fn code(self) -> u16 {
        match self {
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::Invalid => 422,
            Self::ServerTimeout | Self::StoreReadError | Self::InternalError | Self::Unknown => 500,
            Self::Timeout => 504,
            Self::TooManyRequests => 429,
            Self::BadRequest => 400,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::ServiceUnavailable => 503,
        }
    }
}

/// One cause of a failure, as in `Status.details.causes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable, such as `FieldValueInvalid`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The field's path; empty when it is about the whole object.
    pub field: String,
}

/// A failure of an API call, in parts. It carries what the client is told and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusError {
    /// Why.
    pub reason: Reason,
    /// HTTP status code, mostly [`Reason::code`].
    pub code: u16,
    /// For people.
    pub message: String,
    /// `details.group`
    pub group: String,
    /// `details.kind`: a plural resource or a kind.
    pub kind: String,
    /// `details.name`
    pub name: String,
    /// `details.uid`
    pub uid: String,
    /// `details.causes`
    pub causes: Vec<Cause>,
    /// `details.retryAfterSeconds`; 0 for none.
    pub retry_after_seconds: u32,
}

impl std::error::Error for StatusError {}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StatusError {
    /// A failure with a message and no details.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            code: reason.code(),
            message: message.into(),
            group: String::new(),
            kind: String::new(),
            name: String::new(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        }
    }

    fn about(reason: Reason, resource: &GroupResource, name: &str, message: String) -> Self {
        Self {
            group: resource.group.clone(),
            kind: resource.resource.clone(),
            name: name.to_owned(),
            ..Self::new(reason, message)
        }
    }

    /// 404: `pods "x" not found`.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::about(
            Reason::NotFound,
            resource,
            name,
            format!("{resource} {name:?} not found"),
        )
    }

    /// 404 for a path that is nothing.
    pub fn path_not_found() -> Self {
        Self::new(
            Reason::NotFound,
            "the server could not find the requested resource",
        )
    }

    /// 404 for what an older release served: the same words, and what to use instead.
    pub fn removed(what: &crate::removed::Removed) -> Self {
        let Self { reason, message, .. } = Self::path_not_found();
        Self::new(reason, format!("{message}: {}", what.advice()))
    }

    /// 409: `pods "x" already exists`.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::about(
            Reason::AlreadyExists,
            resource,
            name,
            format!("{resource} {name:?} already exists"),
        )
    }

    /// 409: `Operation cannot be fulfilled on pods "x": {why}`.
    pub fn conflict(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::about(Reason::Conflict, resource, name, message)
    }

    /// The conflict of a stale resourceVersion.
    pub fn stale(resource: &GroupResource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 403: `pods "x" is forbidden: {why}`; without a name `pods is forbidden: {why}`.
    pub fn forbidden(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} {name:?} is forbidden: {why}"),
        };
        Self::about(Reason::Forbidden, resource, name, message)
    }

    /// 422: `Pod "x" is invalid: {errors}`, with a cause for each error.
    pub fn invalid(kind: &GroupKind, name: &str, errors: &[FieldError]) -> Self {
        let causes = errors
            .iter()
            .map(|e| Cause {
                reason: e.kind.reason().to_owned(),
                message: e.body(),
                field: e.field.clone(),
            })
            .collect();
        Self {
            group: kind.group.clone(),
            kind: kind.kind.clone(),
            name: name.to_owned(),
            causes,
            ..Self::new(
                Reason::Invalid,
                format!("{kind} {name:?} is invalid: {}", field::aggregate(errors)),
            )
        }
    }

    /// 400
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// 401
    pub fn unauthorized() -> Self {
        Self::new(Reason::Unauthorized, "Unauthorized")
    }

    /// 405: the resource does not know the verb.
    pub fn method_not_supported(resource: &GroupResource, verb: &str) -> Self {
        Self::about(
            Reason::MethodNotAllowed,
            resource,
            "",
            format!(
                "{verb} is not supported on resources of kind {:?}",
                resource.to_string()
            ),
        )
    }

    /// 405: the HTTP method is nothing here.
    pub fn method_not_allowed() -> Self {
        Self::new(
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        )
    }

    /// 410 with reason `Expired`: a resourceVersion or continue token too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(Reason::Expired, message)
    }

    /// 500: `Internal error occurred: {what}`.
    pub fn internal(what: impl fmt::Display) -> Self {
        let message = format!("Internal error occurred: {what}");
        let cause = Cause {
            message: what.to_string(),
            ..Cause::default()
        };
        Self {
            causes: vec![cause],
            ..Self::new(Reason::InternalError, message)
        }
    }

    /// 503, to be tried again.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            retry_after_seconds: 1,
            ..Self::new(Reason::ServiceUnavailable, message)
        }
    }

    /// 429, to be tried again after `seconds`.
    pub fn too_many_requests(message: impl Into<String>, seconds: u32) -> Self {
        Self {
            retry_after_seconds: seconds,
            ..Self::new(Reason::TooManyRequests, message)
        }
    }

    /// 504, to be tried again after `seconds`.
    pub fn timeout(message: impl Into<String>, seconds: u32) -> Self {
        Self {
            retry_after_seconds: seconds,
            ..Self::new(Reason::Timeout, format!("Timeout: {}", message.into()))
        }
    }

    /// 415
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(Reason::UnsupportedMediaType, message)
    }

    /// 406
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        Self::new(
            Reason::NotAcceptable,
            format!(
                "only the following media types are accepted: {}",
                accepted.join(", ")
            ),
        )
    }

    /// 413
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(
            Reason::RequestEntityTooLarge,
            format!("Request entity is too large: {}", message.into()),
        )
    }

    /// The `Status` object for the wire.
    pub fn to_value(&self) -> Value {
        let mut details = serde_json::Map::new();
        for (key, text) in [
            ("name", &self.name),
            ("group", &self.group),
            ("kind", &self.kind),
            ("uid", &self.uid),
        ] {
            if !text.is_empty() {
                details.insert(key.to_owned(), Value::from(text.as_str()));
            }
        }
        if !self.causes.is_empty() {
            let causes: Vec<Value> = self.causes.iter().map(Cause::to_value).collect();
            details.insert("causes".to_owned(), Value::from(causes));
        }
        if self.retry_after_seconds > 0 {
            details.insert(
                "retryAfterSeconds".to_owned(),
                Value::from(self.retry_after_seconds),
            );
        }
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if let Some(map) = status.as_object_mut() {
            if self.reason != Reason::Unknown {
                map.insert("reason".to_owned(), Value::from(self.reason.as_str()));
            }
            if !details.is_empty() {
                map.insert("details".to_owned(), Value::Object(details));
            }
        }
        status
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut map = serde_json::Map::new();
        for (key, text) in [
            ("reason", &self.reason),
            ("message", &self.message),
            ("field", &self.field),
        ] {
            if !text.is_empty() {
                map.insert(key.to_owned(), Value::from(text.as_str()));
            }
        }
        Value::Object(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;

    #[test]
    fn an_invalid_object_names_every_cause() {
        let errors = [
            FieldError::required(&Path::new("spec.containers"), ""),
            FieldError::invalid(&Path::new("metadata.name"), "X", "must be lower case"),
        ];
        let status = StatusError::invalid(&GroupKind::new("apps", "Deployment"), "X", &errors).to_value();
        assert_eq!(status["code"], 422);
        assert_eq!(status["reason"], "Invalid");
        assert_eq!(status["details"]["causes"][1]["field"], "metadata.name");
        assert_eq!(
            status["message"],
            r#"Deployment.apps "X" is invalid: [spec.containers: Required value, metadata.name: Invalid value: "X": must be lower case]"#
        );
    }
}
