//! Admission: what may still change or refuse a write after it is authorized, one file per plugin.

use async_trait::async_trait;
use rutter_api::{Resource, StatusError, UserInfo, Value};

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
    pub old: Value,
    /// The request's options object (`CreateOptions`, ...), as sent.
    pub options: Value,
    /// Texts for the `Warning` header.
    pub warnings: Vec<String>,
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
