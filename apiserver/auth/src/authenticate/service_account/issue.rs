//! Issuing tokens: the `serviceaccounts/token` subresource as a function from a TokenRequest to a TokenRequest.

use super::claims::{BoundTo, Claims, Kubernetes, Reference};
use super::keys::{KeyError, SigningKey};
use crate::names;
use jiff::Timestamp;
use rutter_api::object::ObjectExt;
use rutter_api::{
    FieldError, GroupKind, GroupResource, GroupVersion, ObjectReader, Path, StatusError, Value,
};
use std::sync::Arc;

/// What a kubelet asks for its projected tokens: such a request may be stretched.
const WARN_ONLY_SECONDS: i64 = 3607;
/// What it is stretched to: a year.
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;
/// The shortest that may be asked for.
const MINIMUM_SECONDS: i64 = 600;
/// What is given when nothing is asked for.
const DEFAULT_SECONDS: i64 = 3600;

/// What a token is to say, before the time and the id are known.
#[derive(Clone, Debug, Default)]
pub struct TokenSpec {
    /// The service account's namespace.
    pub namespace: String,
    /// The service account.
    pub account: Reference,
    /// What else it is bound to.
    pub bound: BoundTo,
    /// For whom.
    pub audiences: Vec<String>,
    /// For how long, in seconds.
    pub seconds: i64,
    /// After how many seconds its use is stale, when that is before its end.
    pub warn_after: Option<i64>,
}

/// Signs tokens in one issuer's name.
#[derive(Debug)]
pub struct Issuer {
    /// The issuer's URL.
    pub issuer: String,
    /// The key.
    pub key: SigningKey,
}

impl Issuer {
    /// Signs a token as of `now` under the unique `id`.
    pub fn issue(&self, spec: &TokenSpec, now: Timestamp, id: &str) -> Result<String, KeyError> {
        self.key.sign(&claims(spec, &self.issuer, now, id).to_value())
    }

    /// The legacy token that lives in a Secret of type `kubernetes.io/service-account-token`.
    pub fn legacy(&self, account: &Value, secret: &str) -> Result<String, KeyError> {
        let (namespace, name) = (account.namespace(), account.name());
        self.key.sign(&serde_json::json!({
            "iss": super::LEGACY_ISSUER,
            "sub": names::service_account(namespace, name),
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": secret,
            "kubernetes.io/serviceaccount/service-account.name": name,
            "kubernetes.io/serviceaccount/service-account.uid": account.uid(),
        }))
    }
}

/// The claims of a token.
pub fn claims(spec: &TokenSpec, issuer: &str, now: Timestamp, id: &str) -> Claims {
    let now = now.as_second();
    let mut kubernetes = Kubernetes {
        namespace: spec.namespace.clone(),
        service_account: spec.account.clone(),
        warn_after: spec.warn_after.map(|seconds| now + seconds),
        ..Kubernetes::default()
    };
    match &spec.bound {
        BoundTo::Nothing => {}
        BoundTo::Pod(pod, node) => {
            kubernetes.pod = Some(pod.clone());
            kubernetes.node.clone_from(node);
        }
        BoundTo::Secret(secret) => kubernetes.secret = Some(secret.clone()),
        BoundTo::Node(node) => kubernetes.node = Some(node.clone()),
    }
    Claims {
        issuer: issuer.to_owned(),
        subject: names::service_account(&spec.namespace, &spec.account.name),
        audiences: spec.audiences.clone(),
        expires: Some(now + spec.seconds),
        not_before: Some(now),
        issued_at: Some(now),
        id: id.to_owned(),
        kubernetes,
    }
}

/// Serves TokenRequests.
pub struct TokenRequests {
    issuer: Issuer,
    audiences: Vec<String>,
    reader: Arc<dyn ObjectReader>,
    extend: bool,
    max_seconds: Option<i64>,
}

/// A served TokenRequest.
#[derive(Debug)]
pub struct Issued {
    /// The TokenRequest with its status.
    pub object: Value,
    /// Texts for the `Warning` header.
    pub warnings: Vec<String>,
}

impl TokenRequests {
    /// `audiences` are the server's own; `extend` is `--service-account-extend-token-expiration`, `max_seconds` is
    /// `--service-account-max-token-expiration`.
    pub fn new(
        issuer: Issuer,
        audiences: Vec<String>,
        reader: Arc<dyn ObjectReader>,
        extend: bool,
        max_seconds: Option<i64>,
    ) -> Self {
        Self {
            issuer,
            audiences,
            reader,
            extend,
            max_seconds,
        }
    }

    /// The issuer.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Fills in defaults and checks a TokenRequest for the service account `namespace/name`; admission comes after this
    /// and before [`TokenRequests::issue`].
    pub fn prepare(
        &self,
        mut request: Value,
        namespace: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Value, StatusError> {
        let kind = GroupKind::new("authentication.k8s.io", "TokenRequest");
        for (field, want, what) in [("name", name, "name"), ("namespace", namespace, "namespace")] {
            let sent = request.str_at(&format!("metadata.{field}")).to_owned();
            if !sent.is_empty() && sent != want {
                let text = format!("must match the service account {what} if specified");
                let error = FieldError::invalid(&Path::new("metadata").child(field), sent, text);
                return Err(StatusError::invalid(&kind, name, &[error]));
            }
        }
        let account = self.account(namespace, name)?;
        let uid = request.uid().to_owned();
        if !uid.is_empty() && uid != account.uid() {
            let why = format!(
                "the UID in the token request ({uid}) does not match the UID of the service account ({})",
                account.uid()
            );
            return Err(StatusError::conflict(
                &GroupResource::new("authentication.k8s.io", "TokenRequest"),
                name,
                &why,
            ));
        }
        request.set("apiVersion", "authentication.k8s.io/v1");
        request.set("kind", "TokenRequest");
        request.set("metadata.name", name);
        request.set("metadata.namespace", namespace);
        request.set("metadata.uid", account.uid());
        request.set("metadata.creationTimestamp", rfc3339(now));
        request.set_default("spec.expirationSeconds", DEFAULT_SECONDS);
        if request.list_at("spec.audiences").is_empty() {
            request.set("spec.audiences", self.audiences.clone());
        }
        request.take_at("status");
        let seconds = request.int_at("spec.expirationSeconds").unwrap_or_default();
        let path = Path::new("spec").child("expirationSeconds");
        let error = if seconds < MINIMUM_SECONDS {
            Some(FieldError::invalid(
                &path,
                seconds,
                "may not specify a duration less than 10 minutes",
            ))
        } else if seconds > 1 << 32 {
            Some(FieldError::invalid(
                &path,
                seconds,
                "may not specify a duration larger than 2^32 seconds",
            ))
        } else {
            None
        };
        match error {
            Some(error) => Err(StatusError::invalid(&kind, "", &[error])),
            None => Ok(request),
        }
    }

    /// Issues the token of a prepared request, under the unique `id`.
    pub fn issue(&self, mut request: Value, now: Timestamp, id: &str) -> Result<Issued, StatusError> {
        let (namespace, name) = (request.namespace().to_owned(), request.name().to_owned());
        let account = self.account(&namespace, &name)?;
        let bound = self.bound(request.at("spec.boundObjectRef"), &namespace, &name)?;
        let mut warnings = Vec::new();
        let mut seconds = request
            .int_at("spec.expirationSeconds")
            .unwrap_or(DEFAULT_SECONDS);
        if let Some(max) = self.max_seconds.filter(|max| *max > 0 && seconds > *max) {
            warnings.push(format!(
                "requested expiration of {seconds} seconds shortened to {max} seconds"
            ));
            seconds = max;
            request.set("spec.expirationSeconds", max);
        }
        let audiences = super::strings(request.at("spec.audiences"));
        let stretch = self.extend
            && matches!(bound, BoundTo::Pod(..))
            && seconds == WARN_ONLY_SECONDS
            && audiences.iter().all(|a| self.audiences.contains(a));
        let spec = TokenSpec {
            namespace,
            account: Reference {
                name,
                uid: account.uid().to_owned(),
            },
            bound,
            audiences,
            seconds: if stretch {
                self.max_seconds
                    .filter(|m| *m > 0)
                    .map_or(EXTENDED_SECONDS, |m| m.min(EXTENDED_SECONDS))
            } else {
                seconds
            },
            warn_after: stretch.then_some(seconds),
        };
        let token = self.issuer.issue(&spec, now, id).map_err(StatusError::internal)?;
        let until = now
            .checked_add(jiff::SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MAX);
        request.set("status.token", token);
        request.set("status.expirationTimestamp", rfc3339(until));
        Ok(Issued {
            object: request,
            warnings,
        })
    }

    fn account(&self, namespace: &str, name: &str) -> Result<Arc<Value>, StatusError> {
        self.get("serviceaccounts", namespace, name)
    }

    fn get(&self, resource: &str, namespace: &str, name: &str) -> Result<Arc<Value>, StatusError> {
        let resource = GroupResource::new("", resource);
        self.reader
            .get(&resource, namespace, name)
            .ok_or_else(|| StatusError::not_found(&resource, name))
    }

    fn bound(&self, reference: &Value, namespace: &str, account: &str) -> Result<BoundTo, StatusError> {
        if reference.is_null() {
            return Ok(BoundTo::Nothing);
        }
        let (kind, name) = (reference.str_at("kind"), reference.str_at("name"));
        let version = GroupVersion::parse(reference.str_at("apiVersion")).unwrap_or_default();
        let of = |object: &Value| Reference {
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
        };
        let (bound, uid) = match (version.group.as_str(), kind) {
            ("", "Pod") => {
                let pod = self.get("pods", namespace, name)?;
                if pod.str_at("spec.serviceAccountName") != account {
                    return Err(StatusError::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                    )));
                }
                let node = Some(pod.str_at("spec.nodeName"))
                    .filter(|n| !n.is_empty())
                    .map(|node| {
                        let object = self.reader.get(&GroupResource::new("", "nodes"), "", node);
                        let uid = object.map(|object| object.uid().to_owned()).unwrap_or_default();
                        Reference {
                            name: node.to_owned(),
                            uid,
                        }
                    });
                (BoundTo::Pod(of(&pod), node), pod.uid().to_owned())
            }
            ("", "Node") => {
                let node = self.get("nodes", "", name)?;
                (BoundTo::Node(of(&node)), node.uid().to_owned())
            }
            ("", "Secret") => {
                let secret = self.get("secrets", namespace, name)?;
                (BoundTo::Secret(of(&secret)), secret.uid().to_owned())
            }
            _ => {
                return Err(StatusError::bad_request(format!(
                    "cannot bind token to object of type {version}, Kind={kind}"
                )));
            }
        };
        let wanted = reference.str_at("uid");
        if !wanted.is_empty() && wanted != uid {
            let why = format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. \
                 The object might have been deleted and then recreated"
            );
            return Err(StatusError::conflict(&GroupResource::new("", kind), name, &why));
        }
        Ok(bound)
    }
}

/// A time as Kubernetes writes it, in whole seconds.
fn rfc3339(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}
