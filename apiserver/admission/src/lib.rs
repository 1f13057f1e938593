//! Admission: what may still change or refuse a write after it is authorized, one file per plugin.

pub mod chain;
pub mod matching;
pub mod metrics;
pub mod plugins;
pub mod reinvocation;
pub mod versions;

#[cfg(test)]
mod testing;

pub use chain::{Chain, ChainError, Dependencies};
pub use reinvocation::Reinvocation;
pub use versions::Versions;

use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, Resource, StatusError, UserInfo, Value};
use std::sync::Arc;

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A new object.
    Create,
    /// A change, patches included.
    Update,
    /// A removal.
    Delete,
    /// A connection: exec, attach, port-forward, proxy.
    Connect,
}

impl Operation {
    /// The name in `AdmissionReview`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// A write on its way to the store.
#[derive(Debug)]
pub struct Attributes<'a> {
    /// What is done.
    pub operation: Operation,
    /// To what resource.
    pub resource: &'a Resource,
    /// The subresource; empty for the object itself.
    pub subresource: &'a str,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// The name; empty while a generated one isn't made.
    pub name: &'a str,
    /// By whom.
    pub user: &'a UserInfo,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The new object; null for deletes.
    pub object: Value,
    /// The object as it is; null for creates.
    pub old: &'a Value,
    /// The request's options object (`CreateOptions`, ...), as sent.
    pub options: &'a Value,
    /// Texts for the `Warning` header.
    pub warnings: Vec<String>,
    /// What the audit log is told of this write beside the write itself; see [`Attributes::annotate`].
    pub annotations: Vec<(String, String)>,
    /// What is served, for those who look at the write in another version.
    pub versions: &'a dyn Versions,
    /// Who is asked once more.
    pub reinvocation: Reinvocation,
}

/// One admission plugin.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Its name as the flags `--enable-admission-plugins` and `--disable-admission-plugins` know it.
    fn name(&self) -> &'static str;

    /// Whether it has anything to say on such a write; called first, must be cheap.
    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool;

    /// May change the object.
    async fn mutate(&self, _attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        Ok(())
    }

    /// May refuse the object, and changes nothing but warnings.
    async fn validate(&self, _attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        Ok(())
    }
}

impl Attributes<'_> {
    /// A refusal in the form that admission gives it: `pods "x" is forbidden: {why}`. An object without a name yet is called
    /// by its `generateName`.
    pub fn forbidden(&self, why: impl AsRef<str>) -> StatusError {
        let candidates = [
            self.name,
            self.object.name(),
            self.object.str_at("metadata.generateName"),
            "Unknown",
        ];
        let name = candidates
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or_default();
        StatusError::forbidden(&self.resource.group_resource(), name, why.as_ref())
    }

    /// Tells the audit log something. The key is qualified, such as `pod-security.kubernetes.io/audit-violations`; the first value
    /// of a key stays. Kept whether the write is refused or not.
    pub fn annotate(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.annotations.push((key.into(), value.into()));
    }

    /// Whether the write is to this resource, whatever the version.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        is(self.resource, group, plural)
    }
}

/// Whether a resource is this one, whatever the version.
pub fn is(resource: &Resource, group: &str, plural: &str) -> bool {
    resource.group_version.group == group && resource.plural == plural
}

/// Reads that are never stale, for the few decisions that may not be made on a cache that lags.
#[async_trait]
pub trait LiveReader: Send + Sync {
    /// One object as the store has it now; none when it does not exist. Namespace is empty for cluster-scoped objects.
    async fn get(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, StatusError>;
}

/// Writes of ResourceQuota status, which admission counts usage in before an object is stored.
#[async_trait]
pub trait QuotaWriter: Send + Sync {
    /// Stores `quota` (whole, with the `resourceVersion` it was read at) as the status of the ResourceQuota it names, and
    /// returns it as stored. A conflict (another write came first) is a [`rutter_api::Reason::Conflict`]: the caller reads
    /// again and retries.
    async fn update_status(&self, quota: Value) -> Result<Arc<Value>, StatusError>;
}
