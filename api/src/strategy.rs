//! What is special about a kind: one [`Strategy`] each. Everything else is the generic registry's.

use crate::field::{ErrorList, Path};
use crate::status::StatusError;
use jiff::Timestamp;
use serde_json::Value;

/// The circumstances of a write or a render. Strategies take the time from here and nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The time of the request.
    pub now: Timestamp,
    /// The user's name.
    pub user: &'a str,
    /// The subresource written to; empty for the object itself.
    pub subresource: &'a str,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

/// Which texts are names of a kind's objects.
#[derive(Clone, Copy, Debug)]
pub enum NameRule {
    /// RFC 1123 subdomain, at most 253 characters: most kinds.
    Subdomain,
    /// RFC 1123 label, at most 63 characters: Namespace.
    Label,
    /// RFC 1035 label, at most 63 characters: Service.
    Label1035,
    /// Anything that is one path segment: RBAC kinds.
    PathSegment,
    /// A check of its own, giving the error texts.
    Custom(fn(name: &str, prefix: bool) -> Vec<String>),
}

/// A printed column (`TableColumnDefinition`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading, such as `Ready`.
    pub name: &'static str,
    /// `string`, `integer`, `date`, ...
    pub kind: &'static str,
    /// `name` for the name's column, otherwise empty.
    pub format: &'static str,
    /// For people.
    pub description: &'static str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

/// How long and whether an object lingers when it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// Removed at once.
    None,
    /// Marked with a deletion time this many seconds ahead; removed when somebody deletes it with 0.
    Seconds(i64),
}

/// What is special about a kind. Every method has a default that suits a plain kind with a spec and a status.
///
/// The registry calls, for a create: `default_object`, `prepare_create`, `validate_create`, `warnings`; for an update:
/// `default_object`, `prepare_update`, `validate_update`, `warnings`. `cx.subresource` says what is written, and
/// `prepare_update` must undo changes outside what that subresource may change.
/// Metadata is the registry's: name rules, generateName, labels, owner references, finalizers, uid, times,
/// generation (bumped when anything outside `metadata` and `status` changed, for kinds where [`Strategy::has_generation`]).
pub trait Strategy: Send + Sync + 'static {
    /// Fills in the defaults of the served version. Runs on everything decoded, so it must be idempotent.
    fn default_object(&self, _object: &mut Value) {}

    /// Clears what a creator may not set (the status, by default).
    fn prepare_create(&self, object: &mut Value, _cx: &Context<'_>) {
        if let Some(map) = object.as_object_mut() {
            map.remove("status");
        }
    }

    /// Clears what this update may not change: the status on a plain write, all else on a write to `status`.
    fn prepare_update(&self, object: &mut Value, old: &Value, cx: &Context<'_>) {
        prepare_plain_update(object, old, cx);
    }

    /// What is wrong with a new object, beyond its metadata.
    fn validate_create(&self, _object: &Value, _cx: &Context<'_>) -> ErrorList {
        ErrorList::new()
    }

    /// What is wrong with a changed object, beyond its metadata; both are whole.
    fn validate_update(&self, _object: &Value, _old: &Value, _cx: &Context<'_>) -> ErrorList {
        ErrorList::new()
    }

    /// Texts for the `Warning` header. `old` is none on create.
    fn warnings(&self, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// Fields for field selectors beyond `metadata.name` and `metadata.namespace`, always all of the names that
    /// [`Strategy::selectable_fields`] lists and in its order. Unless the kind is one that [`Strategy::repairs`], they are read from
    /// the object's outline ([`crate::outline`]).
    fn field_values(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// The names of the fields for field selectors beyond `metadata.name` and `metadata.namespace`.
    fn selectable_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// Printed columns; by default `Name` and `Age` (see `rutter_api::table`).
    fn columns(&self) -> &'static [Column] {
        &[]
    }

    /// The cells for [`Strategy::columns`]; not called when that is empty.
    fn row(&self, _object: &Value, _cx: &Context<'_>) -> Vec<Value> {
        Vec::new()
    }

    /// The rule of names.
    fn name_rule(&self) -> NameRule {
        NameRule::Subdomain
    }

    /// Whether `metadata.generation` is kept: true for kinds with a spec that controllers follow.
    fn has_generation(&self) -> bool {
        true
    }

    /// Whether a PUT of a name that doesn't exist creates it.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether a PUT without a resourceVersion overwrites.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// What a delete does first, given the seconds that the caller asked for.
    fn grace(&self, _object: &Value, _asked: Option<i64>) -> Grace {
        Grace::None
    }

    /// How dependents are treated when the caller doesn't say: `background` unless the kind's history says `orphan`.
    fn default_orphans(&self) -> bool {
        false
    }

    /// How long an object lives; none for ever. Events live an hour.
    fn time_to_live(&self, _object: &Value) -> Option<std::time::Duration> {
        None
    }

    /// Refuses a delete outright.
    fn check_delete(&self, _object: &Value) -> Result<(), StatusError> {
        Ok(())
    }

    /// Turns the stored version into the served one; the identity unless several versions are served.
    fn to_served(&self, object: Value) -> Value {
        object
    }

    /// Turns the served version into the stored one.
    fn to_stored(&self, object: Value) -> Value {
        object
    }

    /// Whether a change of the status alone bumps the generation: for kinds without a status of its own.
    fn status_counts(&self) -> bool {
        false
    }

    /// Whether stored objects are brought into another form when they are read: see [`Strategy::repair`].
    fn repairs(&self) -> bool {
        false
    }

    /// Brings a stored object into the form that reads go by, for kinds whose schema may have changed since it was stored.
    fn repair(&self, object: Value) -> Value {
        object
    }

    /// Whether the stored bytes can be handed out as they are.
    fn served_is_stored(&self) -> bool {
        true
    }
}

/// The usual rule of updates: a plain write keeps the old status; a write to `status` changes the status and, of the
/// metadata, only what the registry lets through.
pub fn prepare_plain_update(object: &mut Value, old: &Value, cx: &Context<'_>) {
    let (Some(new), Some(old)) = (object.as_object_mut(), old.as_object()) else {
        return;
    };
    if cx.subresource == "status" {
        let status = new.remove("status");
        new.retain(|key, _| matches!(key.as_str(), "metadata" | "apiVersion" | "kind"));
        for (key, value) in old {
            if !matches!(key.as_str(), "metadata" | "status" | "apiVersion" | "kind") {
                new.insert(key.clone(), value.clone());
            }
        }
        if let Some(status) = status {
            new.insert("status".to_owned(), status);
        }
    } else {
        match old.get("status") {
            Some(status) => new.insert("status".to_owned(), status.clone()),
            None => new.remove("status"),
        };
    }
}

/// The strategy of kinds with nothing special.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Strategy for Plain {}

/// A path helper for validators: `root().child("spec")` reads better as `spec()`.
pub fn spec() -> Path {
    Path::new("spec")
}
