//! The forms in which the store's values may be found, and the one in which they are handed out.
//!
//! This server writes JSON in canonical form. Upstream's writes built-in kinds as protobuf, or as JSON in another order, and some of
//! them in an older version. Such values become what this server would have written: upon every read, wherever it comes from, and
//! below the cache, so that nobody else knows of them. A value in canonical form costs a look at its first bytes.
//!
//! Values of custom resources and of folders that this server doesn't serve are handed out as they are.

use crate::cache::Folders;
use crate::registry::stored::Stored;
use async_trait::async_trait;
use bytes::Bytes;
use rutter_api::codec::{json, protobuf};
use rutter_api::object::ObjectExt;
use rutter_api::schema::{self, FieldValidation};
use rutter_api::{GroupVersion, GroupVersionKind, Resource, Scheme, Value};
use rutter_storage::engine::{Plain, Transform};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How upstream's JSON of built-in kinds begins; canonical JSON begins with the version.
const KIND_FIRST: &[u8] = b"{\"kind\":";

/// Kinds of which other versions are stored too, with the same messages as the version served.
const SAME: &[(&str, &str, &[&str])] = &[
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy", OLDER),
    (
        "admissionregistration.k8s.io",
        "MutatingAdmissionPolicyBinding",
        OLDER,
    ),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", OLDER),
    (
        "admissionregistration.k8s.io",
        "ValidatingAdmissionPolicyBinding",
        OLDER,
    ),
    ("networking.k8s.io", "IPAddress", OLDER),
    ("networking.k8s.io", "ServiceCIDR", OLDER),
    ("resource.k8s.io", "DeviceClass", &["v1beta2", "v1beta1"]),
    ("resource.k8s.io", "ResourceClaim", &["v1beta2"]),
    ("resource.k8s.io", "ResourceClaimTemplate", &["v1beta2"]),
    ("resource.k8s.io", "ResourceSlice", &["v1beta2"]),
    ("storage.k8s.io", "VolumeAttributesClass", OLDER),
];
const OLDER: &[&str] = &["v1beta1", "v1alpha1"];

/// Reads what other servers wrote; `inner` decides how values are stored beside that.
pub struct Forms<T> {
    inner: Arc<T>,
    scheme: Scheme,
    folders: Folders,
    /// Whether anything was found that this server would write in another form.
    found: AtomicBool,
}

impl<T> Forms<T> {
    /// Values of the built-in kinds, in whatever form `inner` gives them.
    pub fn new(inner: Arc<T>) -> Self {
        let scheme = rutter_kinds::builtin();
        Self {
            inner,
            folders: Folders::of(&scheme),
            scheme,
            found: AtomicBool::new(false),
        }
    }

    /// The canonical form of a value; none where it is left as it is.
    fn canonical(&self, key: &str, value: &[u8]) -> Result<Option<Bytes>, String> {
        match self.folders.find(key) {
            Some(stored) if is_foreign(value) => self.convert(stored, value).map(Some),
            _ => Ok(None),
        }
    }

    fn convert(&self, stored: &Arc<Resource>, value: &[u8]) -> Result<Bytes, String> {
        let (kind, object) = if protobuf::is_protobuf(value) {
            let name = |kind: &GroupVersionKind| Some(self.source(stored, kind)?.schema.to_string());
            protobuf::decode(schema::builtin(), value, name).map_err(|e| e.to_string())?
        } else {
            let (object, _) = json::parse(value).map_err(|e| e.to_string())?;
            (kind_of(&object)?, object)
        };
        let (kind, object) = modern(kind, object);
        let source = self
            .source(stored, &kind)
            .ok_or_else(|| format!("{kind} is not a version of {stored:?} that this server knows"))?;
        let decoded = schema::decode(schema::builtin(), &source.schema, object, FieldValidation::Ignore);
        let mut object = decoded.map_err(|e| e.to_string())?.value;
        source.strategy.default_object(&mut object);
        if !source.strategy.served_is_stored() {
            object = source.strategy.to_stored(object);
        }
        let form = Stored {
            object: &object,
            api_version: &stored.storage_version.to_string(),
            kind: &stored.kind,
        };
        Ok(form.to_bytes())
    }

    /// The resource whose version describes an object of this kind, when it belongs into the folder of `stored`.
    fn source<'a>(&'a self, stored: &'a Arc<Resource>, kind: &GroupVersionKind) -> Option<&'a Arc<Resource>> {
        let of = |resource: &&Arc<Resource>| resource.storage_prefix == stored.storage_prefix;
        if let Some(resource) = self.scheme.by_kind(kind).filter(of) {
            return Some(resource);
        }
        let same = SAME.iter().any(|(group, name, versions)| {
            (*group, *name) == (kind.group.as_str(), kind.kind.as_str())
                && versions.contains(&kind.version.as_str())
        });
        (same && stored.kind == kind.kind).then_some(stored)
    }
}

/// Upstream stores definitions of custom resources in a version that nobody serves any more; always as JSON.
fn modern(mut kind: GroupVersionKind, object: Value) -> (GroupVersionKind, Value) {
    let definition = kind.group == "apiextensions.k8s.io" && kind.kind == "CustomResourceDefinition";
    if !definition || kind.version != "v1beta1" {
        return (kind, object);
    }
    "v1".clone_into(&mut kind.version);
    (kind, crate::crd::beta::from_v1beta1(object))
}

fn kind_of(object: &Value) -> Result<GroupVersionKind, String> {
    let version = object.str_at("apiVersion");
    let parsed =
        GroupVersion::parse(version).ok_or_else(|| format!("unexpected GroupVersion string: {version}"))?;
    Ok(GroupVersionKind::new(
        parsed.group,
        parsed.version,
        object.str_at("kind"),
    ))
}

/// Whether a value isn't as this server would have written it.
fn is_foreign(value: &[u8]) -> bool {
    !value.starts_with(b"{") || value.starts_with(KIND_FIRST)
}

#[async_trait]
impl<T: Transform> Transform for Forms<T> {
    fn concerns(&self, key: &str) -> bool {
        // What was found in another form is written again when somebody writes it unchanged.
        self.found.load(Ordering::Relaxed) || self.inner.concerns(key)
    }

    fn is_plain(&self, key: &str, stored: &[u8]) -> bool {
        !is_foreign(stored) && self.inner.is_plain(key, stored)
    }

    async fn seal(&self, key: &str, value: Bytes) -> Result<Bytes, String> {
        self.inner.seal(key, value).await
    }

    async fn open(&self, key: &str, stored: Bytes) -> Result<Plain, String> {
        let plain = if self.inner.is_plain(key, &stored) {
            Plain {
                value: stored,
                stale: false,
            }
        } else {
            self.inner.open(key, stored).await?
        };
        match self.canonical(key, &plain.value)? {
            None => Ok(plain),
            Some(value) => {
                self.found.store(true, Ordering::Relaxed);
                Ok(Plain { value, stale: true })
            }
        }
    }
}
