//! POST: a new object.

use super::{Call, Kept, Written};
use crate::answer::Answer;
use crate::crd::Custom;
use crate::request::body::{self, Expected};
use crate::request::params::WriteOptions;
use bytes::Bytes;
use http::StatusCode;
use rand::Rng;
use rutter_admission::Operation;
use rutter_api::object::ObjectExt;
use rutter_api::schema::{self, FieldValidation};
use rutter_api::{Reason, StatusError, Value, validation};

/// How often a generated name may collide.
const NAME_TRIES: usize = 8;
/// How often allocations may collide.
const EXTRA_TRIES: usize = 32;
/// The longest name that is generated, without the suffix.
const BASE_MAX: usize = 58;
const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Call {
    /// POST with a body.
    pub async fn create(&self, media_type: &str, bytes: Bytes) -> Answer {
        let options = WriteOptions::read(&self.query, "CreateOptions")?;
        let expected = Expected {
            kind: self.resource.gvk(),
            type_name: &self.resource.schema,
        };
        let (object, warnings) =
            body::object(self.types(), &expected, media_type, &bytes, options.validation)?;
        self.warn(warnings);
        let created = self.create_object(object, &options, true).await?;
        Ok(self.answer_kept(StatusCode::CREATED, &created))
    }

    /// Brings a decoded object into the store. `managed` says whether its managed fields are made here.
    pub async fn create_object(
        &self,
        mut object: Value,
        options: &WriteOptions,
        managed: bool,
    ) -> Result<Kept, StatusError> {
        if self
            .served
            .custom(&self.resource)
            .is_some_and(Custom::is_terminating)
        {
            let verb = &self.info.verb;
            return Err(StatusError {
                message: format!("{verb} not allowed while custom resource definition is terminating"),
                ..StatusError::method_not_supported(&self.group_resource(), verb)
            });
        }
        self.place(&mut object)?;
        if !self.info.name.is_empty() && object.name() != self.info.name {
            if object.name().is_empty() {
                object.set("metadata.name", self.info.name.as_str());
            } else {
                return Err(StatusError::bad_request(format!(
                    "the name of the object ({}) does not match the name on the URL ({})",
                    object.name(),
                    self.info.name
                )));
            }
        }
        if !object.resource_version().is_empty() {
            return Err(StatusError::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        if let Some(record) = &self.record {
            record.about(&object);
        }
        self.resource.strategy.default_object(&mut object);
        dedup_owners(&mut object);
        if managed {
            self.manage(None, &mut object, options);
        }
        let first_name = object.name().to_owned();
        let mut attributes = self.attributes(
            Operation::Create,
            &first_name,
            object,
            &Value::Null,
            &options.object,
            options.dry_run,
        );
        self.admit_change(&mut attributes).await?;
        let mut template = attributes.object;
        let generated = template.name().is_empty() && !template.str_at("metadata.generateName").is_empty();
        let again = generated || self.server.hooks.extends(&self.group_resource());
        let mut collisions = 0;
        for _ in 0..EXTRA_TRIES {
            let mut object = if again {
                template.clone()
            } else {
                std::mem::take(&mut template)
            };
            self.fill(&mut object, generated);
            let name = object.name().to_owned();
            let context = self.context(options.dry_run);
            self.resource.strategy.prepare_create(&mut object, &context);
            self.print_status(&mut object);
            self.check_create(&object, &context)?;
            self.warn(self.resource.strategy.warnings(&object, None));
            let extra = self
                .server
                .hooks
                .create(self, &mut object, options.dry_run)
                .await?;
            let mut attributes = self.attributes(
                Operation::Create,
                &name,
                object,
                &Value::Null,
                &options.object,
                options.dry_run,
            );
            self.admit(&mut attributes).await?;
            let object = attributes.object;
            if options.dry_run {
                if self.load(&name, false).await?.is_some() {
                    return Err(StatusError::already_exists(&self.group_resource(), &name));
                }
                return Ok(Kept { object, bytes: None });
            }
            match self.commit(&name, None, Some(&object), extra).await? {
                Written::Done(revision, stored) => return Ok(self.kept(object, revision, &stored)),
                Written::ExtraStale if again => {}
                Written::Stale(_) if generated && collisions < NAME_TRIES => collisions += 1,
                Written::Stale(_) if generated => {
                    return Err(StatusError {
                        retry_after_seconds: 1,
                        message: format!(
                            "object {name:?} already exists, the server was not able to generate a unique name for the object"
                        ),
                        ..StatusError::already_exists(&self.group_resource(), &name)
                    });
                }
                Written::Stale(_) | Written::ExtraStale => {
                    return Err(StatusError::already_exists(&self.group_resource(), &name));
                }
            }
        }
        Err(StatusError {
            retry_after_seconds: 1,
            ..StatusError::new(
                Reason::ServerTimeout,
                "too many concurrent allocations, please try again",
            )
        })
    }

    /// Puts the object into the request's namespace, or finds that it says another.
    pub fn place(&self, object: &mut Value) -> Result<(), StatusError> {
        if !object.at("metadata").is_object() {
            object.set("metadata", serde_json::Map::new());
        }
        if !self.resource.namespaced {
            if !object.namespace().is_empty() && self.resource.plural != "namespaces" {
                return Err(StatusError::bad_request(
                    "namespace may not be set on a cluster-scoped object",
                ));
            }
            object.take_at("metadata.namespace");
            return Ok(());
        }
        let (sent, wanted) = (object.namespace(), self.info.namespace.as_str());
        if wanted.is_empty() {
            return Err(StatusError::bad_request(
                "an empty namespace may not be set during creation",
            ));
        }
        if !sent.is_empty() && sent != wanted {
            return Err(StatusError::bad_request(format!(
                "the namespace of the provided object does not match the namespace sent on the request ({sent} != {wanted})"
            )));
        }
        object.set("metadata.namespace", wanted);
        Ok(())
    }

    /// Brings managed fields up to date.
    pub fn manage(&self, old: Option<&Value>, object: &mut Value, options: &WriteOptions) {
        let agent;
        let name = if options.manager.is_empty() {
            agent = rutter_api::apply::default_manager(&self.agent);
            &agent
        } else {
            &options.manager
        };
        let version = self.resource.group_version.to_string();
        let manager = self.manager(name, &version);
        let reset = self.reset_fields();
        rutter_api::apply::update_managed(self.types(), &self.resource.schema, old, object, &manager, &reset);
    }

    /// An empty status where the kind has one that is printed with nothing in it.
    fn print_status(&self, object: &mut Value) {
        if !object.at("status").is_null() {
            return;
        }
        let nothing = Value::Object(serde_json::Map::new());
        let types = self.types();
        let empty = schema::decode(types, &self.resource.schema, nothing, FieldValidation::Ignore);
        if let Some(status) = empty.ok().and_then(|mut empty| empty.value.take_at("status")) {
            object.set("status", status);
        }
    }

    /// The fields that the system gives a new object.
    fn fill(&self, object: &mut Value, generated: bool) {
        if generated {
            let name = generate(object.str_at("metadata.generateName"));
            object.set("metadata.name", name);
        }
        for field in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "resourceVersion",
        ] {
            object.take_at(&format!("metadata.{field}"));
        }
        object.set("metadata.uid", uuid::Uuid::new_v4().to_string());
        object.set("metadata.creationTimestamp", rfc3339(self.now));
        if self.resource.strategy.has_generation() {
            object.set("metadata.generation", 1);
        } else {
            object.take_at("metadata.generation");
        }
    }

    fn check_create(&self, object: &Value, context: &rutter_api::Context<'_>) -> Result<(), StatusError> {
        let strategy = &self.resource.strategy;
        let mut errors = validation::create(object, self.resource.namespaced, strategy.name_rule());
        errors.extend(strategy.validate_create(object, context));
        if errors.is_empty() {
            return Ok(());
        }
        let name = object.name();
        let shown = if name.is_empty() {
            object.str_at("metadata.generateName")
        } else {
            name
        };
        Err(StatusError::invalid(&self.resource.group_kind(), shown, &errors))
    }
}

/// A name made of a prefix and five random characters.
pub fn generate(base: &str) -> String {
    let mut end = base.len().min(BASE_MAX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base.get(..end).unwrap_or_default().to_owned();
    let mut random = rand::rng();
    for _ in 0..5 {
        let at = random.random_range(0..SUFFIX.len());
        name.push(SUFFIX.get(at).copied().map_or('b', char::from));
    }
    name
}

/// A time as Kubernetes writes it, in whole seconds.
pub fn rfc3339(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}

/// Takes repeated owner references out.
fn dedup_owners(object: &mut Value) {
    if let Some(owners) = object.list_at_mut("metadata.ownerReferences") {
        let mut seen: Vec<Value> = Vec::new();
        owners.retain(|owner| {
            let fresh = !seen.contains(owner);
            if fresh {
                seen.push(owner.clone());
            }
            fresh
        });
    }
}
