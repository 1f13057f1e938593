//! Who is calling and what they may do: authenticators and authorizers, one file each.
//!
//! An authenticator turns credentials into a user; an authorizer turns a user and a request into a decision. Both are asked in order;
//! nothing is allowed unless somebody allows it.

pub mod authenticate;
pub mod authorize;
pub mod bootstrap;
pub mod cel;
pub mod impersonate;
pub mod names;
pub mod remote;
pub mod review;

use async_trait::async_trait;
use rutter_api::{StatusError, UserInfo};
use std::borrow::Cow;
use std::sync::Arc;

/// Where the time comes from. Nothing in this crate reads the system's clock by itself.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(jiff::Timestamp::now)
}

/// What a connection and its headers say about the caller.
#[derive(Clone, Debug, Default)]
pub struct Credentials<'a> {
    /// The client certificate chain as presented, end entity first, in DER. TLS has checked possession of the key and
    /// nothing else: the authenticator verifies the chain.
    pub certificates: &'a [rustls::pki_types::CertificateDer<'static>],
    /// The token of `Authorization: Bearer`, or of the WebSocket subprotocol.
    pub bearer_token: Option<&'a str>,
    /// All headers, for authenticating proxies.
    pub headers: Option<&'a http::HeaderMap>,
    /// The path that is asked for.
    pub path: &'a str,
    /// The audiences a `TokenReview` asks for; empty for the server's own.
    pub audiences: &'a [String],
}

/// A user and how they proved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// The user.
    pub user: UserInfo,
    /// The audiences that the credential and the server have in common; empty when the credential knows none.
    pub audiences: Vec<String>,
}

/// One way to prove who one is.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// `Ok(None)` when these credentials are none of its business; an error when they are, and are bad. The server
    /// answers 401 when no authenticator knows the caller and one of them failed; the error's text goes to the log only.
    async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError>;
}

/// Why credentials were refused. For the log; the caller gets a plain 401.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AuthenticationError(pub String);

/// What is about to be done, as authorizers see it.
#[derive(Clone, Debug, Default)]
pub struct Attributes<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, ...; the lower-case HTTP method for
    /// paths that are no resource.
    pub verb: Cow<'a, str>,
    /// The namespace; empty for cluster-scoped requests and all namespaces.
    pub namespace: Cow<'a, str>,
    /// The API group.
    pub group: Cow<'a, str>,
    /// The API version.
    pub version: Cow<'a, str>,
    /// The plural resource; empty for paths that are no resource.
    pub resource: Cow<'a, str>,
    /// The subresource.
    pub subresource: Cow<'a, str>,
    /// The object's name; empty for collections.
    pub name: Cow<'a, str>,
    /// The path, for requests that are no resource.
    pub path: Cow<'a, str>,
    /// The field selector of a list or watch, as sent.
    pub field_selector: Cow<'a, str>,
    /// The label selector of a list or watch, as sent.
    pub label_selector: Cow<'a, str>,
}

/// What an authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(String),
    /// No, whatever the others say, and why.
    Deny(String),
    /// Not for this authorizer to say, and why.
    NoOpinion(String),
}

/// One way to decide what may be done.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// Decides. Must not wait for the network unless it is a webhook.
    async fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision;

    /// The rules that apply to a user in a namespace, for `SelfSubjectRulesReview`; none when it can't enumerate.
    fn rules(&self, _user: &UserInfo, _namespace: &str) -> Option<Rules> {
        None
    }
}

/// What a user may do, as far as it can be enumerated (`SubjectRulesReviewStatus`).
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// `ResourceRule` objects as JSON.
    pub resource_rules: Vec<rutter_api::Value>,
    /// `NonResourceRule` objects as JSON.
    pub non_resource_rules: Vec<rutter_api::Value>,
    /// Whether something could not be enumerated, and why.
    pub incomplete: Option<String>,
}

/// The refusal as a client reads it, in upstream's words:
/// `pods "x" is forbidden: User "jane" cannot get resource "pods" in API group "" in the namespace "default"`.
pub fn forbidden(user: &UserInfo, attributes: &Attributes<'_>, reason: &str) -> StatusError {
    let because = if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    };
    if attributes.resource.is_empty() {
        return StatusError::new(
            rutter_api::Reason::Forbidden,
            format!(
                "forbidden: User {:?} cannot {} path {:?}{because}",
                user.name, attributes.verb, attributes.path
            ),
        );
    }
    let resource = if attributes.subresource.is_empty() {
        attributes.resource.to_string()
    } else {
        format!("{}/{}", attributes.resource, attributes.subresource)
    };
    let scope = if attributes.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", attributes.namespace)
    };
    let why = format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?} {scope}{because}",
        user.name, attributes.verb, attributes.group
    );
    let resource = rutter_api::GroupResource::new(&*attributes.group, &*attributes.resource);
    StatusError::forbidden(&resource, &attributes.name, &why)
}
