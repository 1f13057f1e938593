//! PUT, and the loop that every change of an object goes through.
//!
//! The change is a pure function from the object as it is to the object as it should be. It is tried on the cache's object
//! first; when that turns out stale (the guard fails, or the change doesn't fit), it is tried again on the store's.

use super::create::rfc3339;
use super::{Call, Extra, Kept, Stored, Written};
use crate::answer::Answer;
use crate::request::body::{self, Expected};
use crate::request::params::WriteOptions;
use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use rutter_admission::Operation;
use rutter_api::object::ObjectExt;
use rutter_api::{FieldError, Path, Reason, StatusError, Value, validation};
use rutter_storage::Revision;

/// How often a change is tried again when others change the object meanwhile.
const TRIES: usize = 32;

/// How a change is made.
pub struct Change<'a> {
    /// From the object as it is (none when it doesn't exist) to what it should be.
    pub make: &'a (dyn Fn(Option<&Value>) -> Result<Value, StatusError> + Sync),
    /// Whether a missing object is created.
    pub creates: bool,
    /// Whether the change is the server's own: no strategy, hook or admission is asked about it.
    pub direct: bool,
    /// Whether managed fields are brought up to date here; an apply did so already.
    pub managed: bool,
}

/// What came of a change.
pub struct Changed {
    /// The object as it is now.
    pub kept: Kept,
    /// Whether it was created.
    pub created: bool,
}

impl Call {
    /// PUT with a body.
    pub async fn replace(&self, media_type: &str, bytes: Bytes) -> Answer {
        let options = WriteOptions::read(&self.query, "UpdateOptions")?;
        let expected = Expected {
            kind: self.resource.gvk(),
            type_name: &self.resource.schema,
        };
        let read = || {
            let (mut object, warnings) =
                body::object(self.types(), &expected, media_type, &bytes, options.validation)?;
            self.place(&mut object)?;
            let (sent, wanted) = (object.name(), self.info.name.as_str());
            if !sent.is_empty() && sent != wanted {
                return Err(StatusError::bad_request(format!(
                    "the name of the object ({sent}) does not match the name on the URL ({wanted})"
                )));
            }
            object.set("metadata.name", wanted);
            Ok((object, warnings))
        };
        let (object, warnings) = read()?;
        self.warn(warnings);
        let unconditional = object.resource_version().is_empty();
        let creates = self.resource.strategy.allow_create_on_update() && unconditional;
        // Who has to try again, which is rare, reads the body again; nobody keeps a copy for that.
        let first = Mutex::new(Some(object));
        let change = Change {
            make: &|_| match first.lock().take() {
                Some(object) => Ok(object),
                None => read().map(|(object, _)| object),
            },
            creates: creates && self.info.subresource.is_empty(),
            direct: false,
            managed: true,
        };
        let changed = self.change(&change, &options).await?;
        let status = if changed.created {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        Ok(self.answer_kept(status, &changed.kept))
    }

    /// Changes the object that the request names.
    pub async fn change(&self, change: &Change<'_>, options: &WriteOptions) -> Result<Changed, StatusError> {
        let name = self.info.name.as_str();
        let mut stored = self.load(name, false).await?;
        let mut refused: Option<(Revision, StatusError)> = None;
        for _ in 0..TRIES {
            let live = stored.as_ref().is_none_or(|stored| stored.live);
            // What was refused was already the newest state: there is nobody to ask twice.
            if let Some((revision, error)) = refused.take()
                && stored.as_ref().is_some_and(|now| now.revision == revision)
            {
                return Err(error);
            }
            let Some(old) = stored else {
                if !change.creates {
                    return Err(self.not_found(name));
                }
                let object = (change.make)(None)?;
                match self.create_object(object, options, change.managed).await {
                    Ok(kept) => {
                        return Ok(Changed { kept, created: true });
                    }
                    Err(error) if error.reason == Reason::AlreadyExists => {
                        stored = self.load(name, true).await?;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            };
            match self.attempt(change, options, &old).await {
                Ok(Attempt::Done(kept)) => {
                    return Ok(Changed { kept, created: false });
                }
                Ok(Attempt::Stale(now)) => stored = now,
                Ok(Attempt::Again) => stored = self.load(name, true).await?,
                Err(error) if !live => {
                    refused = Some((old.revision, error));
                    stored = self.load(name, true).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(StatusError::stale(&self.group_resource(), name))
    }

    async fn attempt(
        &self,
        change: &Change<'_>,
        options: &WriteOptions,
        stored: &Stored,
    ) -> Result<Attempt, StatusError> {
        let (old, name) = (&stored.object, self.info.name.as_str());
        let mut object = (change.make)(Some(old))?;
        if change.direct {
            let same = same_but_times(&object, old);
            return self.write(object, same, stored, Extra::default(), options).await;
        }
        self.resource.strategy.default_object(&mut object);
        if change.managed {
            self.manage(Some(old), &mut object, options);
        }
        let mut attributes = self.attributes(
            Operation::Update,
            name,
            object,
            old,
            &options.object,
            options.dry_run,
        );
        self.admit_change(&mut attributes).await?;
        let mut object = attributes.object;
        self.check_version(&mut object, old)?;
        let (object, same, extra) = self.prepare(object, old, options).await?;
        self.write(object, same, stored, extra, options).await
    }

    /// Stores a changed object, unless it is the `same` as before.
    async fn write(
        &self,
        object: Value,
        same: bool,
        stored: &Stored,
        extra: Extra,
        options: &WriteOptions,
    ) -> Result<Attempt, StatusError> {
        let (old, name) = (&stored.object, self.info.name.as_str());
        let unwritten = |object| Ok(Attempt::Done(Kept { object, bytes: None }));
        if same && !self.is_stale(name).await? {
            return unwritten(old.clone());
        }
        let gone = self.goes(&object, old);
        if options.dry_run {
            return unwritten(object);
        }
        let extra = if gone {
            let mut all = self.server.hooks.delete(self, old).await?;
            all.guards.extend(extra.guards);
            all.effects.extend(extra.effects);
            all
        } else {
            extra
        };
        let written = self
            .commit(name, Some(stored.revision), (!gone).then_some(&object), extra)
            .await?;
        match written {
            Written::Done(revision, stored) => Ok(Attempt::Done(self.kept(object, revision, &stored))),
            Written::ExtraStale => Ok(Attempt::Again),
            Written::Stale(None) => Ok(Attempt::Stale(None)),
            Written::Stale(Some(now)) => Ok(Attempt::Stale(Some(self.of_store(&now).await?))),
        }
    }

    /// Whether the object should be written again though nothing changed: another key encrypts it by now.
    async fn is_stale(&self, name: &str) -> Result<bool, StatusError> {
        let engine = &self.server.engine;
        engine
            .is_stale(&self.key(name)?)
            .await
            .map_err(|e| super::store_error(&e))
    }

    /// The optimistic lock: the object sent is the successor of the object as it is.
    fn check_version(&self, object: &mut Value, old: &Value) -> Result<(), StatusError> {
        let name = self.info.name.as_str();
        let sent = object.resource_version();
        if sent.is_empty() {
            if !self.resource.strategy.allow_unconditional_update() {
                let path = Path::new("metadata.resourceVersion");
                let error = FieldError::invalid(&path, 0, "must be specified for an update");
                return Err(StatusError::invalid(&self.resource.group_kind(), name, &[error]));
            }
        } else if sent != old.resource_version() {
            return Err(StatusError::stale(&self.group_resource(), name));
        }
        let uid = object.uid();
        if !uid.is_empty() && uid != old.uid() {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                old.uid()
            );
            return Err(StatusError::conflict(&self.group_resource(), name, &why));
        }
        object.set("metadata.resourceVersion", old.resource_version());
        Ok(())
    }

    /// Keeps what a writer may not change, and validates the rest. Says whether all is as it was.
    async fn prepare(
        &self,
        mut object: Value,
        old: &Value,
        options: &WriteOptions,
    ) -> Result<(Value, bool, Extra), StatusError> {
        let name = self.info.name.as_str();
        keep(&mut object, old);
        let context = self.context(options.dry_run);
        let strategy = &self.resource.strategy;
        strategy.prepare_update(&mut object, old, &context);
        let status = strategy.status_counts();
        if strategy.has_generation()
            && self.info.subresource != "status"
            && spec_changed(&object, old, status)
        {
            let generation = old.int_at("metadata.generation").unwrap_or_default();
            object.set("metadata.generation", generation + 1);
        }
        let mut errors = validation::update(&object, old);
        errors.extend(strategy.validate_update(&object, old, &context));
        if !errors.is_empty() {
            return Err(StatusError::invalid(&self.resource.group_kind(), name, &errors));
        }
        self.warn(strategy.warnings(&object, Some(old)));
        let extra = self
            .server
            .hooks
            .update(self, &mut object, old, options.dry_run)
            .await?;
        let mut attributes = self.attributes(
            Operation::Update,
            name,
            object,
            old,
            &options.object,
            options.dry_run,
        );
        self.admit(&mut attributes).await?;
        let mut object = attributes.object;
        if !same_but_times(&object, old) {
            return Ok((object, false, extra));
        }
        object.set("metadata.managedFields", old.at("metadata.managedFields").clone());
        if old.at("metadata.managedFields").is_null() {
            object.take_at("metadata.managedFields");
        }
        Ok((object, true, extra))
    }

    /// Whether the change lets the object go: it is being deleted, and nothing holds it any longer.
    fn goes(&self, object: &Value, old: &Value) -> bool {
        old.is_deleting()
            && object.list_at("metadata.finalizers").is_empty()
            && object
                .int_at("metadata.deletionGracePeriodSeconds")
                .unwrap_or_default()
                == 0
            && self.server.hooks.lets_go(&self.group_resource(), object)
    }

    /// Marks an object as being deleted from now on.
    pub fn mark_deleted(&self, object: &mut Value, seconds: i64) {
        let until = self
            .now
            .checked_add(jiff::SignedDuration::from_secs(seconds))
            .unwrap_or(jiff::Timestamp::MAX);
        object.set("metadata.deletionTimestamp", rfc3339(until));
        object.set("metadata.deletionGracePeriodSeconds", seconds);
        if let Some(generation) = object.int_at("metadata.generation").filter(|g| *g > 0) {
            object.set("metadata.generation", generation + 1);
        }
    }
}

enum Attempt {
    Done(Kept),
    Stale(Option<Stored>),
    Again,
}

/// Whether anything but metadata differs, and but the status unless that counts.
fn spec_changed(object: &Value, old: &Value, status: bool) -> bool {
    let (Some(new), Some(old)) = (object.as_object(), old.as_object()) else {
        return true;
    };
    let matters =
        |key: &str| !matches!(key, "metadata" | "apiVersion" | "kind") && (status || key != "status");
    let new = new.iter().filter(|(key, value)| matters(key) && !value.is_null());
    let old = old.iter().filter(|(key, value)| matters(key) && !value.is_null());
    !new.eq(old)
}

/// Keeps the metadata that no writer changes.
fn keep(object: &mut Value, old: &Value) {
    let old = old.map_at("metadata");
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        match old
            .and_then(|old| old.get(field))
            .filter(|value| !value.is_null())
        {
            None => drop(metadata.remove(field)),
            Some(kept) if metadata.get(field) == Some(kept) => {}
            Some(kept) => drop(metadata.insert(field.to_owned(), kept.clone())),
        }
    }
    metadata.remove("selfLink");
}

/// Whether two objects are the same but for the times of their managed fields: a write that changes nothing else isn't one.
fn same_but_times(object: &Value, old: &Value) -> bool {
    let no_fields = |key: &str, value: &Value| key == "managedFields" && value.is_null();
    same_members(
        object,
        old,
        |_, _| false,
        |key, new, old| {
            if key != "metadata" {
                return new == old;
            }
            same_members(new, old, no_fields, |key, new, old| match (key, new, old) {
                ("managedFields", Value::Array(new), Value::Array(old)) => {
                    new.len() == old.len() && new.iter().zip(old).all(|(new, old)| same_entry(new, old))
                }
                _ => new == old,
            })
        },
    )
}

/// Whether two entries of managed fields are the same but for their times.
fn same_entry(new: &Value, old: &Value) -> bool {
    let is_time = |key: &str| key == "time";
    same_members(
        new,
        old,
        |key, _| is_time(key),
        |key, new, old| is_time(key) || new == old,
    )
}

/// Whether two objects have the same members, as `same` has it, but for absent ones that `may_miss` lets pass.
fn same_members(
    new: &Value,
    old: &Value,
    may_miss: impl Fn(&str, &Value) -> bool,
    same: impl Fn(&str, &Value, &Value) -> bool,
) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return new == old;
    };
    new.iter().all(|(key, value)| match old.get(key) {
        Some(before) => same(key, value, before),
        None => may_miss(key, value),
    }) && old
        .iter()
        .all(|(key, value)| new.contains_key(key) || may_miss(key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_times_of_managed_fields_make_no_difference() {
        let object = |time: &str, fields: i64| {
            json!({"metadata": {"name": "a", "managedFields": [{"manager": "m", "time": time, "fieldsV1": {"f:x": fields}}]},
                "time": "top", "spec": {"time": 1}})
        };
        let base = object("2026-01-01T00:00:00Z", 1);
        assert!(same_but_times(&object("2027-01-01T00:00:00Z", 1), &base));
        assert!(!same_but_times(&object("2026-01-01T00:00:00Z", 2), &base));
        for (path, value) in [
            ("time", json!("other")),
            ("spec.time", json!(2)),
            ("metadata.name", json!("b")),
            ("metadata.labels", json!({})),
        ] {
            let mut other = base.clone();
            other.set(path, value);
            assert!(!same_but_times(&other, &base), "{path}");
            assert!(!same_but_times(&base, &other), "{path}");
        }
        let mut gone = base.clone();
        gone.take_at("time");
        assert!(!same_but_times(&gone, &base) && !same_but_times(&base, &gone));
        let (without, null) = (
            json!({"metadata": {}}),
            json!({"metadata": {"managedFields": null}}),
        );
        assert!(same_but_times(&without, &null) && same_but_times(&null, &without));
    }
}
