//! The generic registry: every verb on every resource, written once.
//!
//! A [`Call`] is one authorized request on one resource. Every write is one transaction guarded by the revision that it read;
//! the answer carries the revision of the commit. What is special about a kind is in its strategy, or in a [`hooks::Hook`]
//! where the store is needed to decide.

pub mod create;
pub mod delete;
pub mod get;
pub mod hooks;
pub mod list;
pub mod patch;
pub mod rbac;
pub mod requester;
pub mod services;
pub(crate) mod stored;
pub mod subresources;
pub mod update;
pub mod virtuals;
pub mod watch;

use crate::answer::{self, Body};
use crate::cache::parse;
use crate::corridor::memory;
use crate::request::{Accept, Format, RequestInfo, Shape};
use crate::server::{Served, Server};
use crate::streaming::target::Query;
use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use parking_lot::Mutex;
use rutter_admission::{Attributes, Operation};
use rutter_api::apply::{FieldSet, Manager};
use rutter_api::object::ObjectExt;
use rutter_api::schema::Types;
use rutter_api::strategy::Context;
use rutter_api::table::{self, IncludeObject};
use rutter_api::{GroupResource, Reason, Resource, StatusError, UserInfo, Value};
use rutter_storage::cache::{CacheError, splice_resource_version};
use rutter_storage::{Commit, Effect, Guard, KeyValue, Outcome, Revision, StoreError};
use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

/// One authorized request on one resource.
pub struct Call {
    /// The server.
    pub server: Arc<Server>,
    /// What was served when the request came.
    pub served: Arc<Served>,
    /// The resource.
    pub resource: Arc<Resource>,
    /// What is asked.
    pub info: RequestInfo,
    /// The query.
    pub query: Query,
    /// By whom.
    pub user: UserInfo,
    /// `User-Agent`
    pub agent: String,
    /// When.
    pub now: Timestamp,
    /// How to answer.
    pub accept: Accept,
    /// Texts for the `Warning` header.
    pub warnings: Mutex<Vec<String>>,
    /// What the audit log is told beside the request itself.
    pub annotations: Mutex<Vec<(String, String)>>,
    /// Its record in the audit log.
    pub record: Option<Arc<crate::audit::Record>>,
    /// What it holds while it is served.
    pub passage: Mutex<crate::corridor::Passage>,
}

/// An object as it is stored, in the served version.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The object, with its resourceVersion.
    pub object: Value,
    /// The revision of its last put.
    pub revision: Revision,
    /// Whether it came from the store itself and not from the cache.
    pub live: bool,
}

/// What else belongs into a write's transaction.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Conditions.
    pub guards: Vec<Guard>,
    /// Effects.
    pub effects: Vec<Effect>,
}

/// An object as a write left it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The object, with its resourceVersion.
    pub object: Value,
    /// What a GET of it answers as JSON, where that came of the write.
    pub bytes: Option<Bytes>,
}

/// What came of a write's transaction.
pub enum Written {
    /// It is durable: at this revision, in this stored form, which is empty when it was deleted.
    Done(Revision, Bytes),
    /// The object isn't as it was read; this is what it is now.
    Stale(Option<KeyValue>),
    /// One of the extra guards failed.
    ExtraStale,
}

impl Call {
    /// The types of the resource's schema.
    pub fn types(&self) -> &Types {
        self.served.types(&self.resource)
    }

    /// Group and plural.
    pub fn group_resource(&self) -> GroupResource {
        self.resource.group_resource()
    }

    /// The circumstances, for strategies.
    pub fn context(&self, dry_run: bool) -> Context<'_> {
        Context {
            now: self.now,
            user: &self.user.name,
            subresource: &self.info.subresource,
            dry_run,
        }
    }

    /// Adds texts for the `Warning` header.
    pub fn warn(&self, texts: impl IntoIterator<Item = String>) {
        self.warnings.lock().extend(texts);
    }

    /// Mutating admission of a write. What the plugins tell the client and the audit log is kept, whatever they decide.
    pub async fn admit_change(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let decided = self.server.admission.mutate(attributes).await;
        self.keep_words(attributes);
        decided
    }

    /// Validating admission of a write.
    pub async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let decided = self.server.admission.validate(attributes).await;
        self.keep_words(attributes);
        decided
    }

    fn keep_words(&self, attributes: &mut Attributes<'_>) {
        self.warn(attributes.warnings.drain(..));
        if !attributes.annotations.is_empty() {
            self.annotations.lock().append(&mut attributes.annotations);
        }
    }

    /// The store's key of an object of this resource in the request's namespace.
    pub fn key(&self, name: &str) -> Result<String, StatusError> {
        self.resource
            .key(&self.info.namespace, name)
            .ok_or_else(|| StatusError::method_not_supported(&self.group_resource(), &self.info.verb))
    }

    /// The folder of the resource, with its slash.
    pub fn folder(&self) -> Result<String, StatusError> {
        self.resource
            .storage_prefix
            .as_ref()
            .map(|prefix| format!("{prefix}/"))
            .ok_or_else(|| StatusError::method_not_supported(&self.group_resource(), &self.info.verb))
    }

    /// What the trees of the object that is written to take, as it is before; nothing for one that isn't there.
    pub fn stored_trees(&self) -> u64 {
        let key = self
            .key(&self.info.name)
            .ok()
            .filter(|_| !self.info.name.is_empty());
        let entry = key.and_then(|key| self.server.cache.get(&key));
        entry.map_or(0, |entry| memory::of_trees(entry.size() as u64))
    }

    /// The 404 of an object.
    pub fn not_found(&self, name: &str) -> StatusError {
        StatusError::not_found(&self.group_resource(), name)
    }

    /// The cache's bytes as an object in the served version.
    pub async fn to_served(&self, bytes: &[u8]) -> Result<Value, StatusError> {
        let object = parse(bytes)?;
        match self.served.converted(&self.resource) {
            None => Ok(self.served_form(object)),
            Some(_) => {
                let mut all = self.convert(vec![object]).await?;
                Ok(all.pop().unwrap_or_default())
            }
        }
    }

    /// Several of the cache's bytes as objects in the served version. What can't be read is left out.
    pub async fn all_to_served(&self, all: impl Iterator<Item = Bytes>) -> Result<Vec<Value>, StatusError> {
        let parsed = all.filter_map(|bytes| parse(&bytes).ok());
        match self.served.converted(&self.resource) {
            None => Ok(parsed.map(|object| self.served_form(object)).collect()),
            Some(_) => self.convert(parsed.collect()).await,
        }
    }

    /// An object of the stored version in the served one, where no webhook is needed for that.
    pub fn served_form(&self, mut object: Value) -> Value {
        if !self.resource.strategy.served_is_stored() {
            object = self.resource.strategy.to_served(object);
            object.set("apiVersion", self.resource.group_version.to_string());
            object.set("kind", &*self.resource.kind);
        }
        object
    }

    /// Has the webhook of a custom resource bring stored objects into the served version.
    async fn convert(&self, objects: Vec<Value>) -> Result<Vec<Value>, StatusError> {
        let Some(custom) = self.served.converted(&self.resource) else {
            return Ok(objects);
        };
        let version = &self.resource.group_version;
        let converted = custom.conversion().convert(objects, version).await?;
        Ok(converted.into_iter().map(|object| custom.prune(object)).collect())
    }

    /// The bytes to store: in the stored version and without a resourceVersion.
    pub async fn to_stored(&self, object: &Value) -> Result<Bytes, StatusError> {
        let converted;
        let object = if let Some(custom) = self.served.converted(&self.resource) {
            let all = vec![object.clone()];
            let all = custom.conversion().convert(all, &custom.storage()).await?;
            converted = custom.prune_for_store(all.into_iter().next().unwrap_or_default());
            &converted
        } else if self.resource.strategy.served_is_stored() {
            object
        } else {
            converted = self.resource.strategy.to_stored(object.clone());
            &converted
        };
        let stored = stored::Stored {
            object,
            api_version: &self.resource.storage_version.to_string(),
            kind: &self.resource.kind,
        };
        Ok(stored.to_bytes())
    }

    /// The object as the cache has it, or the store where the cache hasn't.
    pub async fn load(&self, name: &str, live: bool) -> Result<Option<Stored>, StatusError> {
        let key = self.key(name)?;
        if !live && let Some(entry) = self.server.cache.get(&key) {
            return Ok(Some(Stored {
                object: self.to_served(&entry.bytes()).await?,
                revision: entry.revision,
                live: false,
            }));
        }
        match self.server.engine.get(&key).await.map_err(|e| store_error(&e))? {
            Some(found) => self.of_store(&found).await.map(Some),
            None => Ok(None),
        }
    }

    /// An object that the store gave.
    pub async fn of_store(&self, found: &KeyValue) -> Result<Stored, StatusError> {
        let bytes = crate::cache::repaired(&self.resource, &found.value)?;
        let bytes = splice_resource_version(&bytes, found.modified).map_err(StatusError::internal)?;
        Ok(Stored {
            object: self.to_served(&bytes).await?,
            revision: found.modified,
            live: true,
        })
    }

    /// Writes an object (deletes it when none) if it is still as it was at `read` (absent when none).
    pub async fn commit(
        &self,
        name: &str,
        read: Option<Revision>,
        object: Option<&Value>,
        extra: Extra,
    ) -> Result<Written, StatusError> {
        let key = self.key(name)?;
        let guard = match read {
            Some(revision) => Guard::Unchanged(key.clone(), revision),
            None => Guard::Absent(key.clone()),
        };
        let mut stored = Bytes::new();
        let effect = match object {
            Some(object) => {
                let life: Option<Duration> = self.resource.strategy.time_to_live(object);
                stored = self.to_stored(object).await?;
                Effect::Put(key, stored.clone(), life)
            }
            None => Effect::Delete(key),
        };
        let mut commit = Commit {
            guards: vec![guard],
            effects: vec![effect],
        };
        commit.guards.extend(extra.guards);
        commit.effects.extend(extra.effects);
        match self
            .server
            .engine
            .commit(commit)
            .await
            .map_err(|e| store_error(&e))?
        {
            Outcome::Applied(revision) => Ok(Written::Done(revision, stored)),
            Outcome::Refused(now) => {
                let now = now.into_iter().next().flatten();
                if now.as_ref().map(|found| found.modified) == read {
                    Ok(Written::ExtraStale)
                } else {
                    Ok(Written::Stale(now))
                }
            }
        }
    }

    /// The attributes for admission.
    pub fn attributes<'a>(
        &'a self,
        operation: Operation,
        name: &'a str,
        object: Value,
        old: &'a Value,
        options: &'a Value,
        dry_run: bool,
    ) -> Attributes<'a> {
        Attributes {
            operation,
            resource: &self.resource,
            subresource: &self.info.subresource,
            namespace: &self.info.namespace,
            name,
            user: &self.user,
            dry_run,
            object,
            old,
            options,
            warnings: Vec::new(),
            annotations: Vec::new(),
            versions: &*self.served,
            reinvocation: Default::default(),
        }
    }

    /// Who writes, for managed fields.
    pub fn manager<'a>(&'a self, name: &'a str, api_version: &'a str) -> Manager<'a> {
        Manager {
            name,
            api_version,
            subresource: &self.info.subresource,
            now: self.now,
        }
    }

    /// The fields that this write may not own.
    pub fn reset_fields(&self) -> FieldSet {
        let has_status = self.resource.subresource("status").is_some();
        match &*self.info.subresource {
            "status" => rutter_api::apply::reset_fields(&["spec"]),
            "" if has_status => rutter_api::apply::reset_fields(&["status"]),
            _ => FieldSet::default(),
        }
    }

    /// An object that was written as these stored bytes, or deleted with none, at a revision.
    pub fn kept(&self, mut object: Value, revision: Revision, stored: &[u8]) -> Kept {
        object.set("metadata.resourceVersion", revision.to_string());
        let strategy = &self.resource.strategy;
        let same =
            self.is_verbatim() && !strategy.repairs() && self.served.converted(&self.resource).is_none();
        let bytes = same
            .then(|| splice_resource_version(stored, revision).ok())
            .flatten();
        Kept { object, bytes }
    }

    /// The answer to a write.
    pub fn answer_kept(&self, status: StatusCode, kept: &Kept) -> Response<Body> {
        match kept.bytes.as_deref().filter(|_| self.is_verbatim()) {
            Some(bytes) => answer::bytes(status, get::line(bytes), &self.accept),
            None => self.answer(status, &kept.object),
        }
    }

    /// The answer to a request for one object of this resource.
    pub fn answer(&self, status: StatusCode, object: &Value) -> Response<Body> {
        self.answer_as(status, object, self.types(), &self.resource.schema)
    }

    /// The answer with an object of any type.
    pub fn answer_as(
        &self,
        status: StatusCode,
        object: &Value,
        types: &Types,
        type_name: &str,
    ) -> Response<Body> {
        let shaped;
        let (shown, name) = match self.accept.shape {
            Shape::Object => (object, type_name),
            _ if object.str_at("kind") == "Status" => (object, answer::STATUS_TYPE),
            Shape::Table => {
                shaped = self.table([object], None, true);
                (&shaped, TABLE_TYPE)
            }
            Shape::Partial => {
                shaped = table::partial_metadata(object);
                (&shaped, PARTIAL_TYPE)
            }
        };
        answer::object(status, shown, &self.accept, types, name)
    }

    /// Objects as a table.
    pub fn table(
        &self,
        objects: impl IntoIterator<Item = impl Borrow<Value>>,
        metadata: Option<&Value>,
        headers: bool,
    ) -> Value {
        let include = IncludeObject::parse(self.query.first("includeObject").unwrap_or_default());
        let context = self.context(false);
        table::table(
            &self.resource,
            objects,
            metadata,
            include.unwrap_or_default(),
            headers,
            &context,
        )
    }

    /// Whether answers are the cache's bytes as they are.
    pub fn is_verbatim(&self) -> bool {
        self.accept.format == Format::Json
            && self.accept.shape == Shape::Object
            && !self.accept.pretty
            && self.resource.strategy.served_is_stored()
    }
}

/// The type of `Table`; it has no protobuf form.
pub const TABLE_TYPE: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Table";
/// The type of `PartialObjectMetadata`.
pub const PARTIAL_TYPE: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata";

/// What a client is told of the store's failure.
pub fn store_error(error: &StoreError) -> StatusError {
    match error {
        StoreError::TooLarge { .. } => StatusError::too_large(error.to_string()),
        StoreError::Compacted { .. } => {
            StatusError::expired("The resourceVersion for the provided list is too old.")
        }
        StoreError::Unavailable(_) | StoreError::Future { .. } => {
            tracing::warn!(%error, "the store did not answer");
            StatusError {
                retry_after_seconds: 1,
                ..StatusError::new(
                    Reason::ServerTimeout,
                    "the server was unable to return a response in the time allotted",
                )
            }
        }
        StoreError::Fatal(_) | StoreError::Unreadable { .. } | StoreError::Unwritable { .. } => {
            tracing::error!(%error, "the store failed");
            StatusError::internal(error)
        }
    }
}

/// What a client is told when the cache can't answer.
pub fn cache_error(error: &CacheError) -> StatusError {
    match error {
        CacheError::Expired { asked, oldest } => {
            StatusError::expired(format!("too old resource version: {asked} ({oldest})"))
        }
        CacheError::Future { asked, current }
        | CacheError::Timeout {
            wanted: asked,
            current,
        } => {
            let mut status = StatusError::timeout(
                format!("Too large resource version: {asked}, current: {current}"),
                1,
            );
            status.causes.push(rutter_api::status::Cause {
                reason: "ResourceVersionTooLarge".to_owned(),
                message: "Too large resource version".to_owned(),
                field: String::new(),
            });
            status
        }
        CacheError::TooSlow => StatusError::expired("the watcher fell too far behind"),
        CacheError::Store(error) => store_error(error),
        CacheError::NotServed(_) => StatusError::path_not_found(),
        CacheError::Loading => StatusError::too_many_requests("storage is (re)initializing", 1),
    }
}
