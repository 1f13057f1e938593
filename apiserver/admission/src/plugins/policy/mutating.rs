//! `MutatingAdmissionPolicy`: changes objects before they are validated.

use super::compiled::{Binding, Policies, Policy};
use super::{Common, Rights, cause, input, may_be_asked, name_of, question};
use crate::plugins::webhook::{View, view};
use crate::{Attributes, LiveReader, Operation, Plugin};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::patch::{self, PatchError};
use rutter_api::{ObjectReader, Reason, Resource, StatusError, Value, apply, schema};
use rutter_auth::Authorizer;
use rutter_cel::conditions::Matched;
use rutter_cel::policy::{MutatingPolicy, Mutation};
use std::borrow::Cow;
use std::sync::Arc;

const NAME: &str = "MutatingAdmissionPolicy";

/// The plugin.
pub struct MutatingAdmissionPolicy {
    common: Common,
    policies: Policies<MutatingPolicy>,
}

/// Why a policy couldn't do what it is for.
enum Failure {
    /// What the binding names isn't as it must be; the policy's failure policy decides.
    Configuration(String),
    /// An expression failed; the policy's failure policy decides.
    Policy(String),
    /// The write can't go on.
    Own(StatusError),
}

impl From<StatusError> for Failure {
    fn from(error: StatusError) -> Self {
        Self::Own(error)
    }
}

impl MutatingAdmissionPolicy {
    /// Reads policies, bindings, parameters and namespaces through `reader`.
    pub fn new(
        reader: Arc<dyn ObjectReader>,
        live: Arc<dyn LiveReader>,
        authorizer: Arc<dyn Authorizer>,
    ) -> Self {
        Self {
            common: Common {
                reader,
                live,
                authorizer,
            },
            policies: Policies::new(
                "mutatingadmissionpolicies",
                "mutatingadmissionpolicybindings",
                MutatingPolicy::compile,
            ),
        }
    }
}

#[async_trait]
impl Plugin for MutatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handles(&self, operation: Operation, resource: &Resource, _: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update) && may_be_asked(resource)
    }

    async fn mutate(&self, write: &mut Attributes<'_>) -> Result<(), StatusError> {
        let compiled = self.policies.current(&*self.common.reader);
        if compiled.2.is_empty() || write.is_exempt() || write.object.is_null() {
            return Ok(());
        }
        write.reinvocation.begin(NAME, &write.object);
        let mut rights = Rights::default();
        let mut result = Ok(());
        for policy in &compiled.2 {
            result = self.ask(policy, write, &mut rights).await;
            if result.is_err() {
                break;
            }
        }
        write.reinvocation.end(NAME, &write.object);
        result
    }
}

impl MutatingAdmissionPolicy {
    async fn ask(
        &self,
        policy: &Policy<MutatingPolicy>,
        write: &mut Attributes<'_>,
        rights: &mut Rights,
    ) -> Result<(), StatusError> {
        let (to, bindings) = match self.common.bound(policy, write).await {
            Ok(None) => return Ok(()),
            Ok(Some(bound)) => bound,
            Err(_) if policy.ignore => return Ok(()),
            Err(error) => {
                let why = format!("failed to configure policy: {}", error.message);
                let text = format!("policy {:?} denied request: {why}", policy.name);
                return Err(refused(write, text, Reason::Forbidden));
            }
        };
        for binding in bindings {
            let (why, reason) = match self.bound(policy, binding, &to, write, rights).await {
                Ok(()) => continue,
                Err(Failure::Own(error)) => return Err(error),
                Err(_) if policy.ignore => continue,
                Err(Failure::Configuration(why)) => (why, Reason::Forbidden),
                Err(Failure::Policy(why)) => (why, Reason::Invalid),
            };
            let (name, bound) = (&policy.name, &binding.name);
            let text = format!("policy '{name}' with binding '{bound}' denied request: {why}");
            return Err(refused(write, text, reason));
        }
        Ok(())
    }

    async fn bound(
        &self,
        policy: &Policy<MutatingPolicy>,
        binding: &Binding,
        to: &Resource,
        write: &mut Attributes<'_>,
        rights: &mut Rights,
    ) -> Result<(), Failure> {
        let configured = policy.parameters(binding, write, &*self.common.reader).await;
        let parameters = configured
            .map_err(|why| Failure::Configuration(format!("failed to configure binding: {why}")))?;
        let namespace = self.common.namespace(write).await?;
        let request = question(write, to);
        let mut result = Ok(());
        for params in parameters {
            let uid = format!("{}/{}/{}", policy.name, binding.name, name_of(&params));
            if write.reinvocation.round() > 0 && !write.reinvocation.is_due(NAME, &uid) {
                continue;
            }
            let one = self
                .change(policy, to, write, rights, (&request, &namespace, &params))
                .await;
            match one {
                Ok(false) => {}
                Ok(true) if policy.reinvoke => write.reinvocation.asked(NAME, &uid),
                Ok(true) => {}
                Err(failure) => result = result.and(Err(failure)),
            }
        }
        result
    }

    /// Makes a policy's mutations one after the other; whether its conditions are met. One that fails leaves the object to the next.
    async fn change(
        &self,
        policy: &Policy<MutatingPolicy>,
        to: &Resource,
        write: &mut Attributes<'_>,
        rights: &mut Rights,
        (request, namespace, params): (&Value, &Value, &Value),
    ) -> Result<bool, Failure> {
        let seen = view(write, to).await?;
        let before = seen.object.into_owned();
        let old = seen.old.into_owned();
        let mut object = before.clone();
        let matched = {
            let seen = borrowed(&object, &old);
            let input = input(&seen, request, namespace, params);
            let evaluate = |known: &Rights| match policy.program.matches(&input, known) {
                Matched::Undecided(check) => Err(check),
                decided => Ok(decided),
            };
            rights
                .settle(&*self.common.authorizer, write.user, evaluate)
                .await
        };
        match matched {
            Matched::Yes => {}
            Matched::Failed(why) => return Err(Failure::Policy(why)),
            Matched::No(_) | Matched::Undecided(_) => return Ok(false),
        }
        let mut result = Ok(true);
        for index in 0..policy.program.len() {
            let mutation = {
                let seen = borrowed(&object, &old);
                let input = input(&seen, request, namespace, params);
                let evaluate = |known: &Rights| policy.program.mutation(index, &input, known);
                rights
                    .settle(&*self.common.authorizer, write.user, evaluate)
                    .await
            };
            let changed = mutation.and_then(|mutation| mutated(write, to, &object, mutation));
            let shaped =
                changed.and_then(|object| write.reshape(to, object).map_err(|error| error.to_string()));
            match shaped {
                Ok(next) => object = next,
                Err(why) => result = result.and(Err(Failure::Policy(why))),
            }
        }
        if object == before {
            return result;
        }
        write.reinvocation.changed(NAME);
        write.object = match to.group_version == write.resource.group_version || !write.is_own_kind() {
            true => object,
            false => write.versions.convert(to, write.resource, object).await?,
        };
        result
    }
}

fn borrowed<'v>(object: &'v Value, old: &'v Value) -> View<'v> {
    View {
        object: Cow::Borrowed(object),
        old: Cow::Borrowed(old),
    }
}

fn mutated(
    write: &Attributes<'_>,
    to: &Resource,
    object: &Value,
    mutation: Mutation,
) -> Result<Value, String> {
    match mutation {
        Mutation::Patch(operations) => match patch::json_patch(object, &operations) {
            // What is tested for isn't so: there is nothing to do.
            Err(PatchError::Test(_)) => Ok(object.clone()),
            other => other.map_err(|error| format!("JSON Patch: {error}")),
        },
        Mutation::Apply(mut wanted) => {
            wanted.set("apiVersion", object.str_at("apiVersion"));
            wanted.set("kind", object.str_at("kind"));
            applied(write, to, object, &wanted).map_err(|why| format!("error applying patch: {why}"))
        }
    }
}

/// What is applied, merged into the object by the schema of its kind.
fn applied(write: &Attributes<'_>, to: &Resource, object: &Value, wanted: &Value) -> Result<Value, String> {
    let (types, name) = if write.is_own_kind() {
        (write.versions.types(to), &*to.schema)
    } else {
        let (types, kind) = (schema::builtin(), write.kind_in(to));
        let name = types.name_of_kind(&kind.group, &kind.version, &kind.kind);
        (
            types,
            name.ok_or_else(|| format!("no schema of kind {}", kind.kind))?,
        )
    };
    let atomics = apply::atomics(types, name, wanted);
    if !atomics.is_empty() {
        let what = "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs";
        return Err(format!("{what}: {}", atomics.join(", ")));
    }
    apply::merge(types, name, object, wanted).map_err(|error| error.to_string())
}

/// A refusal in a policy's name. Its code is that of a refusal whatever its reason.
fn refused(write: &Attributes<'_>, message: String, reason: Reason) -> StatusError {
    let mut status = write.forbidden("");
    status.message.clone_from(&message);
    status.reason = reason;
    status.causes.push(cause(message));
    status
}
