//! DELETE: at once, after a grace period, or when the last finalizer is gone.

use super::{Call, Stored, Written};
use crate::answer::Answer;
use crate::corridor::memory;
use crate::net::SEND_BUFFER;
use crate::request::body::{self, Expected};
use crate::request::params::{DeleteOptions, ListOptions, Propagation};
use bytes::Bytes;
use http::StatusCode;
use rutter_admission::Operation;
use rutter_api::object::ObjectExt;
use rutter_api::schema::FieldValidation;
use rutter_api::strategy::Grace;
use rutter_api::{GroupVersionKind, Reason, StatusError, Value};
use rutter_storage::Revision;
use serde_json::json;

const TRIES: usize = 32;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Kinds whose deletion answers the object, and not a `Status`.
const RETURNED: &[(&str, &str)] = &[
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourceclaimtemplates"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "resourceslices"),
];

/// What came of a delete.
pub enum Deleted {
    /// It is gone; the last state.
    Gone(Value),
    /// It will go later; the object as it is now.
    Marked(Value),
}

impl Call {
    /// DELETE of one object.
    pub async fn delete(&self, media_type: &str, bytes: Bytes) -> Answer {
        let options = self.delete_options(media_type, &bytes)?;
        let name = self.info.name.clone();
        let orphans = options.object.bool_at("orphanDependents");
        match self.delete_object(&name, &options).await? {
            Deleted::Marked(object) => {
                let accepted = orphans == Some(false);
                let status = if accepted {
                    StatusCode::ACCEPTED
                } else {
                    StatusCode::OK
                };
                Ok(self.answer(status, &object))
            }
            Deleted::Gone(object) => {
                let gr = self.group_resource();
                let custom = self.served.custom(&self.resource).is_some();
                if !custom && RETURNED.contains(&(gr.group.as_str(), gr.resource.as_str())) {
                    return Ok(self.answer(StatusCode::OK, &object));
                }
                let mut details = json!({"name": name, "kind": gr.resource, "uid": object.uid()});
                if !gr.group.is_empty() {
                    details.set("group", gr.group);
                }
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
                });
                let types = rutter_api::schema::builtin();
                Ok(self.answer_as(StatusCode::OK, &status, types, crate::answer::STATUS_TYPE))
            }
        }
    }

    fn delete_options(&self, media_type: &str, bytes: &[u8]) -> Result<DeleteOptions, StatusError> {
        if bytes.is_empty() {
            return DeleteOptions::read(&self.query, Value::Null);
        }
        // Clients send it in any group's version; all of them are the same.
        let mut value = Value::Null;
        if media_type != rutter_api::codec::protobuf::MEDIA_TYPE {
            let parsed = match media_type {
                "application/yaml" => rutter_api::codec::yaml::parse(bytes),
                _ => rutter_api::codec::json::parse(bytes),
            };
            value = parsed
                .map_err(|error| StatusError::bad_request(error.to_string()))?
                .0;
            let kind = value.str_at("kind");
            if !kind.is_empty() && kind != "DeleteOptions" {
                return Err(StatusError::bad_request(
                    "decoded object cannot be converted to DeleteOptions",
                ));
            }
            value.set("apiVersion", "meta.k8s.io/v1");
            value.set("kind", "DeleteOptions");
        }
        let types = rutter_api::schema::builtin();
        let expected = Expected {
            kind: GroupVersionKind::new("meta.k8s.io", "v1", "DeleteOptions"),
            type_name: "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
        };
        let object = if value.is_null() {
            let resolve = |_: &GroupVersionKind| Some(expected.type_name.to_owned());
            rutter_api::codec::protobuf::decode(types, bytes, resolve)
                .map_err(|error| StatusError::bad_request(error.to_string()))?
                .1
        } else {
            let again = rutter_api::codec::json::to_vec(&value);
            body::object(
                types,
                &expected,
                "application/json",
                &again,
                FieldValidation::Ignore,
            )?
            .0
        };
        DeleteOptions::read(&self.query, object)
    }

    /// Deletes an object, or begins to.
    pub async fn delete_object(&self, name: &str, options: &DeleteOptions) -> Result<Deleted, StatusError> {
        self.delete_when(name, options, true).await
    }

    /// As [`Call::delete_object`], without asking admission: for deletions that are part of something admitted already.
    pub async fn remove_object(&self, name: &str, options: &DeleteOptions) -> Result<Deleted, StatusError> {
        self.delete_when(name, options, false).await
    }

    async fn delete_when(
        &self,
        name: &str,
        options: &DeleteOptions,
        admit: bool,
    ) -> Result<Deleted, StatusError> {
        let mut stored = self.load(name, false).await?;
        let mut refused: Option<(Revision, StatusError)> = None;
        for _ in 0..TRIES {
            let Some(found) = stored else {
                return Err(self.not_found(name));
            };
            // What was refused was already the newest state: there is nobody to ask twice.
            if let Some((revision, error)) = refused.take()
                && revision == found.revision
            {
                return Err(error);
            }
            match self.delete_attempt(name, options, &found, admit).await {
                Ok(Ok(deleted)) => return Ok(deleted),
                Ok(Err(now)) => stored = now,
                Err(error) if !found.live => {
                    refused = Some((found.revision, error));
                    stored = self.load(name, true).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(StatusError::stale(&self.group_resource(), name))
    }

    async fn delete_attempt(
        &self,
        name: &str,
        options: &DeleteOptions,
        stored: &Stored,
        admit: bool,
    ) -> Result<Result<Deleted, Option<Stored>>, StatusError> {
        let old = &stored.object;
        self.check_preconditions(name, options, old)?;
        self.resource.strategy.check_delete(old)?;
        if admit {
            self.admit_delete(name, options, old).await?;
        }
        let mut object = old.clone();
        let seconds = match self.resource.strategy.grace(old, options.grace) {
            Grace::None => 0,
            Grace::Seconds(seconds) => seconds,
        };
        let holds = self.finalize(&mut object, options);
        let held = holds || !self.server.hooks.lets_go(&self.group_resource(), &object);
        let pending = old.is_deleting();
        let left = old
            .int_at("metadata.deletionGracePeriodSeconds")
            .unwrap_or_default();
        if seconds > 0 || held {
            if pending && seconds >= left && object == *old {
                return Ok(Ok(Deleted::Marked(object)));
            }
            if !pending {
                self.mark_deleted(&mut object, seconds);
                self.server.hooks.marked(&self.group_resource(), &mut object);
            } else if seconds < left {
                self.shorten(&mut object, seconds, left);
            }
            if options.dry_run {
                return Ok(Ok(Deleted::Marked(object)));
            }
            let written = self
                .commit(
                    name,
                    Some(stored.revision),
                    Some(&object),
                    super::Extra::default(),
                )
                .await?;
            return match written {
                Written::Done(revision, _) => {
                    object.set("metadata.resourceVersion", revision.to_string());
                    Ok(Ok(Deleted::Marked(object)))
                }
                other => self.again(name, other).await.map(Err),
            };
        }
        if options.dry_run {
            return Ok(Ok(Deleted::Gone(object)));
        }
        let extra = self.server.hooks.delete(self, old).await?;
        match self.commit(name, Some(stored.revision), None, extra).await? {
            Written::Done(revision, _) => {
                object.set("metadata.resourceVersion", revision.to_string());
                if seconds == 0 && pending {
                    object.set("metadata.deletionGracePeriodSeconds", 0);
                }
                Ok(Ok(Deleted::Gone(object)))
            }
            other => self.again(name, other).await.map(Err),
        }
    }

    async fn admit_delete(
        &self,
        name: &str,
        options: &DeleteOptions,
        old: &Value,
    ) -> Result<(), StatusError> {
        let mut attributes = self.attributes(
            Operation::Delete,
            name,
            Value::Null,
            old,
            &options.object,
            options.dry_run,
        );
        self.admit_change(&mut attributes).await?;
        self.admit(&mut attributes).await
    }

    /// What to try a delete on again.
    async fn again(&self, name: &str, written: Written) -> Result<Option<Stored>, StatusError> {
        match written {
            Written::Stale(Some(now)) => self.of_store(&now).await.map(Some),
            Written::Stale(None) => Ok(None),
            _ => self.load(name, true).await,
        }
    }

    /// A shorter grace than before: the end comes nearer.
    fn shorten(&self, object: &mut Value, seconds: i64, left: i64) {
        let until: Option<jiff::Timestamp> = object.str_at("metadata.deletionTimestamp").parse().ok();
        let start = until.and_then(|until| until.checked_sub(jiff::SignedDuration::from_secs(left)).ok());
        let until = start.and_then(|start| start.checked_add(jiff::SignedDuration::from_secs(seconds)).ok());
        if let Some(until) = until {
            object.set("metadata.deletionTimestamp", super::create::rfc3339(until));
        }
        object.set("metadata.deletionGracePeriodSeconds", seconds);
    }

    fn check_preconditions(
        &self,
        name: &str,
        options: &DeleteOptions,
        old: &Value,
    ) -> Result<(), StatusError> {
        let gr = self.group_resource();
        if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != old.uid()) {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                old.uid()
            );
            return Err(StatusError::conflict(&gr, name, &why));
        }
        if let Some(version) = options
            .version
            .as_deref()
            .filter(|v| *v != old.resource_version())
        {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
                old.resource_version()
            );
            return Err(StatusError::conflict(&gr, name, &why));
        }
        Ok(())
    }

    /// Sets the finalizers that the propagation policy wants; whether any finalizer holds the object.
    fn finalize(&self, object: &mut Value, options: &DeleteOptions) -> bool {
        let mut finalizers: Vec<Value> = object.list_at("metadata.finalizers").to_vec();
        let has = |list: &[Value], name: &str| list.iter().any(|finalizer| finalizer == name);
        let (orphan, foreground) = match options.propagation {
            Some(Propagation::Orphan) => (true, false),
            Some(Propagation::Foreground) => (false, true),
            Some(Propagation::Background) => (false, false),
            None if has(&finalizers, ORPHAN) => (true, false),
            None if has(&finalizers, FOREGROUND) => (false, true),
            None => (self.resource.strategy.default_orphans(), false),
        };
        for (name, wanted) in [(ORPHAN, orphan), (FOREGROUND, foreground)] {
            if wanted && !has(&finalizers, name) {
                finalizers.push(Value::from(name));
            }
            if !wanted {
                finalizers.retain(|finalizer| finalizer != name);
            }
        }
        let holds = !finalizers.is_empty();
        if finalizers.is_empty() {
            object.take_at("metadata.finalizers");
        } else if object.list_at("metadata.finalizers") != finalizers {
            object.set("metadata.finalizers", finalizers);
        }
        holds
    }

    /// DELETE of a collection.
    pub async fn delete_collection(&self, media_type: &str, bytes: Bytes) -> Answer {
        let options = self.delete_options(media_type, &bytes)?;
        let list = ListOptions::read(&self.query, false)?;
        let page = self.page(&list).await?;
        // Trees take many times the memory of what they are written as.
        let verbatim = self.is_verbatim();
        let size: usize = page.entries.iter().map(|entry| entry.size()).sum();
        if size > SEND_BUFFER {
            let room = if verbatim {
                size as u64
            } else {
                memory::of_trees(size as u64)
            };
            self.passage.lock().answer = Some(self.server.memory.answer(room).await?);
        }
        let (mut gone, mut written) = (Vec::new(), Vec::new());
        for entry in &page.entries {
            let scoped = self.in_namespace(&entry.index.namespace);
            match scoped.delete_object(&entry.index.name, &options).await {
                Ok(Deleted::Gone(object) | Deleted::Marked(object)) if verbatim => {
                    written.push(rutter_api::codec::json::to_vec(&object).into());
                }
                Ok(Deleted::Gone(object) | Deleted::Marked(object)) => gone.push(object),
                Err(error) if error.reason == Reason::NotFound => {}
                Err(error) => return Err(error),
            }
            self.warn(std::mem::take(&mut *scoped.warnings.lock()));
            self.annotations.lock().append(&mut scoped.annotations.lock());
        }
        let metadata = json!({"resourceVersion": page.revision.to_string()});
        if verbatim {
            return Ok(self.answer_written(written, &metadata));
        }
        Ok(self.answer_list(&gone, &metadata))
    }

    /// The same call in another namespace.
    fn in_namespace(&self, namespace: &str) -> Self {
        let mut info = self.info.clone();
        namespace.clone_into(&mut info.namespace);
        Self {
            server: self.server.clone(),
            served: self.served.clone(),
            resource: self.resource.clone(),
            info,
            query: self.query.clone(),
            user: self.user.clone(),
            agent: self.agent.clone(),
            now: self.now,
            accept: self.accept,
            warnings: parking_lot::Mutex::default(),
            annotations: Default::default(),
            record: self.record.clone(),
            passage: Default::default(),
        }
    }
}
