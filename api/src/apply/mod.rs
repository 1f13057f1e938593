//! Server-side apply: who owns which field, and what a write does to that (KEP-555).
//!
//! [`update_managed`] runs on every create, update and patch; [`apply`] is an apply. Both are pure: the time comes from
//! the caller. Ownership recorded in another version of the same kind is taken as if it were of this version, which
//! holds as long as versions name fields alike.

mod managed;
#[cfg(test)]
mod ownership;
#[cfg(test)]
mod properties;
mod set;
mod walk;

pub use set::FieldSet;

use crate::duration::format_time;
use crate::object::ObjectExt;
use crate::schema::{TypeId, Types, zero};
use crate::status::{Cause, Reason, StatusError};
use jiff::Timestamp;
use managed::Entry;
use serde_json::{Value, json};
use std::sync::LazyLock;
use thiserror::Error;
use walk::Walker;

static NOTHING: Value = Value::Null;
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager whose applies take over from client-side apply.
const KUBECTL: &str = "kubectl";
/// The owner of what was there before ownership was kept.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Annotations together aren't larger than this.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// The field manager's name: `?fieldManager=`, or else made from the user agent by [`default_manager`].
    pub name: &'a str,
    /// The version in which the object is written, such as `apps/v1`.
    pub api_version: &'a str,
    /// The subresource; empty for the object itself.
    pub subresource: &'a str,
    /// When.
    pub now: Timestamp,
}

/// A field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager, described as clients know it.
    pub manager: String,
    /// The field's path, such as `.spec.replicas`.
    pub field: String,
}

/// Why an apply is refused.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ApplyError {
    /// Other managers own fields with other values, and the apply wasn't forced.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// The request is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// The applied object doesn't fit the schema.
    #[error("{0}")]
    Typed(String),
}

impl ApplyError {
    /// The failure a client is told.
    pub fn status(&self) -> StatusError {
        match self {
            Self::Conflicts(conflicts) => {
                let causes = conflicts.iter().map(|conflict| Cause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: format!("conflict with {}", conflict.manager),
                    field: conflict.field.clone(),
                });
                StatusError {
                    causes: causes.collect(),
                    ..StatusError::new(Reason::Conflict, self.to_string())
                }
            }
            Self::BadRequest(text) => StatusError::bad_request(text.clone()),
            Self::Typed(text) => StatusError::new(Reason::Unknown, text.clone()),
        }
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            only.manager, only.field
        );
    }
    let mut managers: Vec<&str> = conflicts.iter().map(|c| c.manager.as_str()).collect();
    managers.sort_unstable();
    managers.dedup();
    let mut lines = Vec::new();
    for manager in managers {
        lines.push(format!("conflicts with {manager}:"));
        let fields = conflicts.iter().filter(|c| c.manager == manager);
        lines.extend(fields.map(|c| format!("- {}", c.field)));
    }
    format!(
        "Apply failed with {} conflicts: {}",
        conflicts.len(),
        lines.join("\n")
    )
}

/// The name of a manager that didn't give one: the part of the user agent before the first slash, without what isn't
/// printable, at most 128 bytes.
pub fn default_manager(user_agent: &str) -> String {
    let mut name = String::new();
    for c in user_agent.split('/').next().unwrap_or_default().chars() {
        if c.is_control() {
            continue;
        }
        if name.len() + c.len_utf8() > 128 {
            break;
        }
        name.push(c);
    }
    name
}

/// The fields that a write to a resource (or subresource) can't own, as dotted paths: `status` for a plain write, `spec` and
/// `metadata` for a write to `status`.
pub fn reset_fields(paths: &[&str]) -> FieldSet {
    FieldSet::of_fields(paths.iter().copied())
}

/// What nobody owns.
static UNOWNED: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of_fields([
        "apiVersion",
        "kind",
        "metadata",
        "metadata.name",
        "metadata.namespace",
        "metadata.creationTimestamp",
        "metadata.selfLink",
        "metadata.uid",
        "metadata.clusterName",
        "metadata.generation",
        "metadata.managedFields",
        "metadata.resourceVersion",
    ])
});

/// Brings the `managedFields` of `new` up to date after a create (`old` is None), an update or a patch. Timestamps
/// change only where the owned fields changed. A `new` without `managedFields` has those of `old`; an empty list in it
/// forgets all managers. An object whose managers are forgotten isn't tracked until it is applied.
pub fn update_managed(
    types: &Types,
    type_name: &str,
    old: Option<&Value>,
    new: &mut Value,
    manager: &Manager<'_>,
    reset: &FieldSet,
) {
    let Some(id) = types.find(type_name) else {
        new.take_at("metadata.managedFields");
        return;
    };
    let was = old.map_or(&NOTHING, |old| old.at("metadata.managedFields"));
    let live = || managed::read(was.clone()).unwrap_or_default();
    let reset_asked = managed::is_reset(new);
    let sent = new.take_at("metadata.managedFields").unwrap_or_default();
    let entries = if !manager.subresource.is_empty() && sent != *was {
        live()
    } else if manager.subresource.is_empty() && reset_asked {
        Vec::new()
    } else {
        managed::read(sent)
            .filter(|entries| !entries.is_empty())
            .unwrap_or_else(live)
    };
    if entries.is_empty() && old.is_some() {
        return;
    }
    let walker = Walker { types };
    let entries = match old {
        Some(old) => track(walker, id, old, new, entries, manager, reset),
        None => track(walker, id, &empty_object(types, id), new, entries, manager, reset),
    };
    managed::write(new, entries);
}

/// The owners after an update of `old` to `new`.
fn track(
    walker: Walker<'_>,
    id: TypeId,
    old: &Value,
    new: &Value,
    mut entries: Vec<Entry>,
    manager: &Manager<'_>,
    reset: &FieldSet,
) -> Vec<Entry> {
    let mut comparison = walker.compare(id, old, new);
    // Ownership of the list of owners is nobody's, and comparing it would be most of the work.
    comparison.changed.subtract_recursively(reset);
    comparison.removed.subtract_recursively(reset);
    for entry in &mut entries {
        entry.lose(&comparison.changed);
        entry.lose(&comparison.removed);
    }
    let mut owned = comparison.changed;
    owned.subtract(&UNOWNED);
    entries.retain(|entry| !entry.is_empty());
    if !owned.is_empty() {
        let (name, version) = (manager.name, manager.api_version);
        let empty = FieldSet::default();
        let mut current = Entry::new(name, false, version, manager.subresource, empty);
        if let Some(at) = entries.iter().position(|entry| entry.is_same(&current)) {
            current = entries.swap_remove(at);
        }
        current.gain(owned);
        current.time = Some(format_time(manager.now, false));
        entries.push(current);
    }
    managed::cap(&mut entries);
    entries
}

/// An object of which nothing was said.
fn empty_object(types: &Types, id: TypeId) -> Value {
    match zero(types, id) {
        object @ Value::Object(_) => object,
        _ => json!({}),
    }
}

/// Applies `patch` (an object in the manager's version, as sent) to `live` (None when it doesn't exist), and gives the
/// merged object with its `managedFields`. The caller decodes, defaults and validates it as after any other patch, and
/// does not call [`update_managed`].
pub fn apply(
    types: &Types,
    type_name: &str,
    live: Option<&Value>,
    patch: &Value,
    manager: &Manager<'_>,
    force: bool,
    reset: &FieldSet,
) -> Result<Value, ApplyError> {
    let id = types
        .find(type_name)
        .ok_or_else(|| ApplyError::Typed(format!("no type {type_name:?} in the schema")))?;
    if !patch.at("metadata.managedFields").is_null() {
        return Err(ApplyError::BadRequest(
            "metadata.managedFields must be nil".to_owned(),
        ));
    }
    let sent = patch.str_at("apiVersion");
    if sent != manager.api_version {
        return Err(ApplyError::BadRequest(format!(
            "Incorrect version specified in apply patch. Specified patch version: {sent}, expected: {}",
            manager.api_version
        )));
    }
    let walker = Walker { types };
    let problems = walker.problems(id, patch);
    if !problems.is_empty() {
        return Err(ApplyError::Typed(typed_message(patch, &problems)));
    }
    let mut live = match live {
        Some(live) => live.clone(),
        None => empty_object(types, id),
    };
    let entries = live.take_at("metadata.managedFields").unwrap_or_default();
    let entries = managed::read(entries).unwrap_or_default();
    let request = Request {
        walker,
        id,
        live: &live,
        patch,
        manager,
        reset,
    };
    let entries = request.entries(entries);
    let (merged, entries) = match request.run(entries.clone(), force) {
        Err(conflicts) if manager.name == KUBECTL => request.upgrade(entries, conflicts)?,
        result => result.map_err(ApplyError::Conflicts)?,
    };
    let mut merged = merged;
    if manager.name == KUBECTL
        && merged
            .annotation(LAST_APPLIED)
            .is_some_and(|text| !text.is_empty())
    {
        set_last_applied(&mut merged, patch);
    }
    managed::write(&mut merged, entries);
    Ok(merged)
}

/// Merges `patch` into `live` by the schema, without owners: what the patch names is set, everything else stays.
///
/// # Errors
/// When the patch doesn't fit the schema.
pub fn merge(types: &Types, type_name: &str, live: &Value, patch: &Value) -> Result<Value, ApplyError> {
    let id = types
        .find(type_name)
        .ok_or_else(|| ApplyError::Typed(format!("no type {type_name:?} in the schema")))?;
    let walker = Walker { types };
    let problems = walker.problems(id, patch);
    if !problems.is_empty() {
        return Err(ApplyError::Typed(typed_message(patch, &problems)));
    }
    Ok(walker.merge(id, live, patch))
}

/// Where an object says something in lists, maps and structs that are replaced as a whole: `.spec.containers[0].args`.
pub fn atomics(types: &Types, type_name: &str, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(id) = types.find(type_name) {
        Walker { types }.atomics(id, object, "", &mut found);
    }
    found
}

fn typed_message(patch: &Value, problems: &[String]) -> String {
    let what = format!(
        "{}/{}; {}, Kind={}",
        patch.namespace(),
        patch.name(),
        patch.str_at("apiVersion"),
        patch.str_at("kind")
    );
    let text = match problems {
        [only] => only.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    format!("failed to create typed patch object ({what}): {text}")
}

/// One apply.
struct Request<'a> {
    walker: Walker<'a>,
    id: TypeId,
    live: &'a Value,
    patch: &'a Value,
    manager: &'a Manager<'a>,
    reset: &'a FieldSet,
}

impl Request<'_> {
    /// The owners so far; what nobody is known to own gets an owner at the first apply that owns something.
    fn entries(&self, entries: Vec<Entry>) -> Vec<Entry> {
        if !entries.is_empty() || self.applied().is_empty() {
            return entries;
        }
        let before = Manager {
            name: BEFORE_FIRST_APPLY,
            ..*self.manager
        };
        let empty = empty_object(self.walker.types, self.id);
        track(
            self.walker,
            self.id,
            &empty,
            self.live,
            entries,
            &before,
            self.reset,
        )
    }

    /// What the applier owns of what it says.
    fn applied(&self) -> FieldSet {
        let mut set = self.walker.fields(self.id, self.patch);
        set.subtract_recursively(self.reset);
        set.subtract(&UNOWNED);
        set
    }

    /// The merged object and its owners, or the conflicts.
    fn run(&self, mut entries: Vec<Entry>, force: bool) -> Result<(Value, Vec<Entry>), Vec<Conflict>> {
        let walker = self.walker;
        let mut set = walker.fields(self.id, self.patch);
        set.subtract_recursively(self.reset);
        let manager = self.manager;
        let mut own = Entry::new(
            manager.name,
            true,
            manager.api_version,
            manager.subresource,
            FieldSet::default(),
        );
        let before = match entries.iter().position(|entry| entry.is_same(&own)) {
            Some(at) => {
                own = entries.swap_remove(at);
                manager.api_version.clone_into(&mut own.api_version);
                own.set().clone()
            }
            None => FieldSet::default(),
        };
        own.own(set);
        let merged = walker.merge(self.id, self.live, self.patch);
        let merged = if before.is_empty() {
            merged
        } else {
            // What the patch says to be empty is there, and empty, also when all that was in it goes.
            let pruned = self.prune(merged, &before, &own, &entries);
            walker.merge(self.id, &pruned, self.patch)
        };

        let mut comparison = walker.compare(self.id, self.live, &merged);
        comparison.changed.subtract_recursively(self.reset);
        comparison.removed.subtract_recursively(self.reset);
        let conflicts: Vec<Conflict> = entries
            .iter()
            .flat_map(|entry| {
                let fields = entry.set().intersection(&comparison.changed).paths();
                fields.into_iter().map(|field| Conflict {
                    manager: entry.shown(),
                    field,
                })
            })
            .collect();
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        for entry in &mut entries {
            entry.lose(&comparison.changed);
            entry.lose(&comparison.removed);
        }
        own.lose(&UNOWNED);
        if *self.live != merged {
            own.time = Some(format_time(manager.now, false));
        }
        entries.push(own);
        Ok((merged, entries))
    }

    /// Removes what this manager applied before, doesn't now, and nobody else owns.
    fn prune(&self, merged: Value, before: &FieldSet, own: &Entry, others: &[Entry]) -> Value {
        let walker = self.walker;
        let named = |set: &FieldSet| walker.with_named_fields(self.id, set);
        let fields = |object: &Value| named(&walker.fields(self.id, object));
        let before = named(before);
        let pruned = walker.remove(self.id, &merged, &before);
        let owned = others
            .iter()
            .fold(own.set().clone(), |all, entry| all.union(entry.set().clone()));
        let all = fields(&merged);

        // Add back what somebody owns.
        let owned = named(&owned);
        let mut gone = all.clone();
        gone.subtract(&fields(&pruned).union(owned.clone()));
        let pruned = walker.remove(self.id, &merged, &gone);
        // Add back what was never this manager's. What is empty is in no set of fields, but somebody may own what it is in.
        let mut gone = all;
        gone.subtract(&fields(&pruned).union(owned));
        walker.remove(self.id, &merged, &gone.intersection(&before))
    }

    /// An apply by `kubectl` takes over the fields that client-side apply set, as its annotation tells.
    fn upgrade(
        &self,
        entries: Vec<Entry>,
        conflicts: Vec<Conflict>,
    ) -> Result<(Value, Vec<Entry>), ApplyError> {
        let allowed = self
            .last_applied_fields()
            .map(|set| set.paths())
            .unwrap_or_default();
        let left: Vec<Conflict> = conflicts
            .into_iter()
            .filter(|c| !allowed.contains(&c.field))
            .collect();
        if !left.is_empty() {
            return Err(ApplyError::Conflicts(left));
        }
        self.run(entries, true).map_err(ApplyError::Conflicts)
    }

    fn last_applied_fields(&self) -> Option<FieldSet> {
        let applied: Value = serde_json::from_str(self.live.annotation(LAST_APPLIED)?).ok()?;
        if applied.str_at("apiVersion") != self.manager.api_version {
            return None;
        }
        let mut set = self.walker.fields(self.id, &applied);
        let comparison = self.walker.compare(self.id, &applied, self.live);
        set.subtract(&comparison.changed);
        set.subtract(&comparison.removed);
        Some(set)
    }
}

/// Keeps client-side apply's annotation in step with what `kubectl` applied.
fn set_last_applied(object: &mut Value, patch: &Value) {
    let mut patch = patch.clone();
    let Some(annotations) = object.get_mut("metadata").and_then(|m| m.get_mut("annotations")) else {
        return;
    };
    let Some(annotations) = annotations.as_object_mut() else {
        return;
    };
    if let Some(own) = patch
        .get_mut("metadata")
        .and_then(|m| m.get_mut("annotations"))
        .and_then(Value::as_object_mut)
    {
        own.remove(LAST_APPLIED);
    }
    annotations.insert(LAST_APPLIED.to_owned(), Value::from(format!("{patch}\n")));
    let size: usize = annotations
        .iter()
        .map(|(k, v)| k.len() + v.as_str().map_or(0, str::len))
        .sum();
    if size > MAX_ANNOTATIONS {
        annotations.remove(LAST_APPLIED);
    }
}

#[cfg(test)]
mod tests;
