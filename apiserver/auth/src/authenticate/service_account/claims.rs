//! The claims of a bound token.

use super::LEEWAY;
use jiff::Timestamp;
use rutter_api::Value;
use rutter_api::object::ObjectExt;
use serde_json::json;

/// An object that a token names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Reference {
    fn from_value(value: &Value) -> Option<Self> {
        value.is_object().then(|| Self {
            name: value.str_at("name").to_owned(),
            uid: value.str_at("uid").to_owned(),
        })
    }

    fn to_value(&self) -> Value {
        if self.uid.is_empty() {
            json!({"name": self.name})
        } else {
            json!({"name": self.name, "uid": self.uid})
        }
    }
}

/// What a token lives and dies with, besides its service account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BoundTo {
    /// The service account alone.
    #[default]
    Nothing,
    /// A pod, and the node it runs on when that is known.
    Pod(Reference, Option<Reference>),
    /// A Secret.
    Secret(Reference),
    /// A node.
    Node(Reference),
}

/// The `kubernetes.io` claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubernetes {
    /// The service account's namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: Reference,
    /// The pod it is bound to.
    pub pod: Option<Reference>,
    /// The Secret it is bound to.
    pub secret: Option<Reference>,
    /// The node it is bound to, or that its pod runs on.
    pub node: Option<Reference>,
    /// From when on (seconds since 1970) its use is counted as stale, though it is still good.
    pub warn_after: Option<i64>,
}

/// All claims. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// `iss`
    pub issuer: String,
    /// `sub`
    pub subject: String,
    /// `aud`
    pub audiences: Vec<String>,
    /// `exp`
    pub expires: Option<i64>,
    /// `nbf`
    pub not_before: Option<i64>,
    /// `iat`
    pub issued_at: Option<i64>,
    /// `jti`
    pub id: String,
    /// `kubernetes.io`
    pub kubernetes: Kubernetes,
}

fn number(value: &Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_f64().map(|float| float as i64))
}

impl Claims {
    /// Reads claims; none when `kubernetes.io` is absent.
    pub fn from_value(value: &Value) -> Option<Self> {
        let inner = value.get("kubernetes.io")?;
        Some(Self {
            issuer: value.str_at("iss").to_owned(),
            subject: value.str_at("sub").to_owned(),
            audiences: super::strings(&value["aud"]),
            expires: number(&value["exp"]),
            not_before: number(&value["nbf"]),
            issued_at: number(&value["iat"]),
            id: value.str_at("jti").to_owned(),
            kubernetes: Kubernetes {
                namespace: inner.str_at("namespace").to_owned(),
                service_account: Reference::from_value(&inner["serviceaccount"])?,
                pod: Reference::from_value(&inner["pod"]),
                secret: Reference::from_value(&inner["secret"]),
                node: Reference::from_value(&inner["node"]),
                warn_after: number(&inner["warnafter"]),
            },
        })
    }

    /// The claims as they are signed.
    pub fn to_value(&self) -> Value {
        let kubernetes = &self.kubernetes;
        let mut inner = json!({
            "namespace": kubernetes.namespace,
            "serviceaccount": kubernetes.service_account.to_value(),
        });
        let references = [
            ("pod", &kubernetes.pod),
            ("secret", &kubernetes.secret),
            ("node", &kubernetes.node),
        ];
        for (key, reference) in references {
            if let Some(reference) = reference {
                inner[key] = reference.to_value();
            }
        }
        if let Some(warn_after) = kubernetes.warn_after {
            inner["warnafter"] = Value::from(warn_after);
        }
        let mut value = json!({
            "aud": self.audiences,
            "iss": self.issuer,
            "sub": self.subject,
            "kubernetes.io": inner,
        });
        for (key, time) in [
            ("exp", self.expires),
            ("nbf", self.not_before),
            ("iat", self.issued_at),
        ] {
            if let Some(time) = time {
                value[key] = Value::from(time);
            }
        }
        if !self.id.is_empty() {
            value["jti"] = Value::from(self.id.as_str());
        }
        value
    }

    /// Whether the token is good at `now`, give or take a minute.
    pub fn check_times(&self, now: Timestamp) -> Result<(), &'static str> {
        let now = now.as_second();
        if self.not_before.is_some_and(|time| now + LEEWAY < time) {
            return Err("service account token is not valid yet");
        }
        if self.expires.is_some_and(|time| now - LEEWAY > time) {
            return Err("service account token has expired");
        }
        if self.issued_at.is_some_and(|time| now + LEEWAY < time) {
            return Err("service account token is issued in the future");
        }
        Ok(())
    }
}
