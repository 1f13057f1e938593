//! Custom resources: CustomResourceDefinitions become served resources while the server runs.
//!
//! One task watches the definitions. It accepts names, says so in the status, serves what is accepted, and empties a
//! definition that is being deleted. Only definitions that changed are looked at. Every step is decided from the definitions as
//! they are, so several servers may do the same at once.

pub mod beta;
pub mod convert;
pub mod definition;
mod path;
mod plan;
mod strategy;

pub use definition::{Custom, Definition, ScalePaths};
pub use plan::{CLEANUP, mark};

use crate::bootstrap::{internal, own};
use crate::cache::parse;
use crate::registry::Call;
use crate::registry::create::rfc3339;
use crate::registry::update::Change;
use crate::request::params::DeleteOptions;
use crate::server::{Served, Server};
use convert::Conversion;
use plan::{Names, condition, set_condition};
use rutter_api::object::ObjectExt;
use rutter_api::{GroupVersion, ObjectReader, Reason, StatusError, Value};
use rutter_storage::Revision;
use rutter_storage::cache::{From, Interest, Scope, Subscribe, Subscription};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";
/// The first and the longest pause before something is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Everything is looked at again this often, whatever was heard.
const RESYNC: Duration = Duration::from_secs(300);

/// What the task knows of a definition.
struct Known {
    revision: Revision,
    group: String,
    names: Names,
    /// Whether all names are accepted.
    settled: bool,
    deleting: bool,
    /// Where its objects are.
    folder: String,
    made: Arc<Definition>,
    resources: Vec<strategy::Served>,
}

/// The task's state.
struct Follower {
    server: Arc<Server>,
    /// What is served without any definition.
    base: Arc<Served>,
    known: BTreeMap<String, Known>,
}

/// Follows the definitions until `stop`.
pub async fn follow(server: Arc<Server>, stop: CancellationToken) {
    server.cache.ready().await;
    let base = server.served.load_full();
    let mut follower = Follower {
        server,
        base,
        known: BTreeMap::new(),
    };
    stop.run_until_cancelled(follower.run()).await;
}

impl Follower {
    async fn run(&mut self) {
        let mut pause = PAUSE.0;
        loop {
            let subscribe = Subscribe {
                scope: Scope::Prefix(FOLDER.to_owned()),
                from: From::Now,
                interest: Interest::Any,
                filter: None,
            };
            let Ok(mut changes) = self.server.cache.subscribe(subscribe) else {
                return;
            };
            loop {
                let again = self.reconcile().await;
                pause = if again { (pause * 2).min(PAUSE.1) } else { PAUSE.0 };
                let wait = if again { pause } else { RESYNC };
                if !next(&mut changes, wait).await {
                    break;
                }
            }
        }
    }

    /// Brings statuses and what is served up to date; whether something is left to be tried again.
    async fn reconcile(&mut self) -> bool {
        let Ok(snapshot) = self.server.cache.snapshot(FOLDER) else {
            return true;
        };
        let present: BTreeSet<&str> = snapshot.iter().map(|entry| &*entry.index.name).collect();
        let before = self.known.len();
        self.known.retain(|name, _| present.contains(name.as_str()));
        let mut changed = before != self.known.len();
        // Names may have come free, so those that wait for one are looked at again.
        let mut due = Vec::new();
        for entry in snapshot.iter() {
            let known = self.known.get(&*entry.index.name);
            if known.is_none_or(|known| known.revision != entry.revision || !known.settled) {
                due.push(entry.clone());
            }
        }
        // Those whose names came first keep them.
        let mut parsed: Vec<(Value, _)> = Vec::with_capacity(due.len());
        for entry in due {
            match parse(&entry.bytes()) {
                Ok(object) => parsed.push((object, entry)),
                Err(error) => tracing::error!(key = %entry.key, %error, "a definition cannot be read"),
            }
        }
        parsed.sort_by(|(a, _), (b, _)| {
            let key = |object: &Value| object.str_at("metadata.creationTimestamp").to_owned();
            (key(a), a.name()).cmp(&(key(b), b.name()))
        });
        let now = rfc3339((self.server.clock)());
        let mut statuses = Vec::new();
        for (object, entry) in parsed {
            let mut wanted = object.clone();
            let others = self.known.iter().filter(|(name, known)| {
                name.as_str() != object.name() && known.group == object.str_at("spec.group")
            });
            plan::names(&mut wanted, others.map(|(_, known)| &known.names), &now);
            plan::conformance(&mut wanted, &now);
            if wanted.at("status") != object.at("status") {
                statuses.push(wanted.clone());
            }
            changed |= self.learn(&wanted, entry.revision, &entry.bytes());
        }
        let mut again = false;
        if changed {
            again |= !self.serve().await;
        }
        // What is established is served already.
        for wanted in statuses {
            if let Err(error) = write_status(&self.server, &wanted).await {
                tracing::warn!(name = wanted.name(), %error, "the status of a definition cannot be written");
                again = true;
            }
        }
        for name in self.deleting() {
            match empty(&self.server, &name).await {
                Ok(done) => again |= !done,
                Err(error) => {
                    tracing::warn!(name, %error, "a definition's objects cannot all be deleted");
                    again = true;
                }
            }
        }
        again
    }

    fn deleting(&self) -> Vec<String> {
        let deleting = self.known.iter().filter(|(_, known)| known.deleting);
        deleting.map(|(name, _)| name.clone()).collect()
    }

    /// Takes over a definition with the status it should have; whether what is served changes.
    fn learn(&mut self, object: &Value, revision: Revision, bytes: &bytes::Bytes) -> bool {
        let fingerprint = definition::fingerprint(object);
        let accepted = condition(object, "NamesAccepted") == Some("True");
        let served = accepted || condition(object, "Established") == Some("True");
        let old = self.known.get(object.name());
        let kept = old.filter(|old| old.made.refresh(fingerprint, bytes));
        let (made, resources) = match kept {
            Some(old) if served != old.resources.is_empty() => (old.made.clone(), old.resources.clone()),
            _ => {
                let conversion = Conversion::of(object, &self.server.outbound);
                let made = Arc::new(Definition::new(object, bytes.clone(), conversion));
                let resources = match served {
                    true => strategy::resources(object, &made),
                    false => Vec::new(),
                };
                (made, resources)
            }
        };
        let changed = old.is_none_or(|old| !Arc::ptr_eq(&old.made, &made));
        let group = object.str_at("spec.group");
        let known = Known {
            revision,
            group: group.to_owned(),
            names: Names::accepted(object),
            settled: accepted,
            deleting: object.is_deleting(),
            folder: format!(
                "/registry/{group}/{}/",
                object.str_at("status.acceptedNames.plural")
            ),
            made,
            resources,
        };
        self.known.insert(object.name().to_owned(), known);
        changed
    }

    /// Serves the built-in resources and those of the definitions; whether all went well.
    async fn serve(&self) -> bool {
        let mut served = (*self.base).clone();
        let mut makers: BTreeMap<&str, &Arc<Definition>> = BTreeMap::new();
        for known in self.known.values() {
            makers.insert(&known.folder, &known.made);
            for (resource, custom) in &known.resources {
                let taken = served.scheme.get(&resource.group_version, &resource.plural);
                if taken.is_none() {
                    served.custom.insert(resource.schema.to_string(), custom.clone());
                    served.scheme.insert_shared(resource.clone());
                }
            }
        }
        let before = self.server.served.load_full();
        let moved: Vec<String> = served
            .custom
            .iter()
            .filter(|(name, custom)| {
                let old = before.custom.get(*name);
                old.is_some_and(|old| !Arc::ptr_eq(&old.definition, &custom.definition))
            })
            .filter_map(|(_, custom)| {
                let found = makers
                    .iter()
                    .find(|(_, made)| Arc::ptr_eq(made, &custom.definition));
                found.map(|(folder, _)| (*folder).to_owned())
            })
            .collect();
        self.server.reader.serve(&served.scheme);
        self.server.served.store(Arc::new(served));
        self.server.documents.clear();
        // Objects are read by other schemas now.
        let mut well = true;
        for folder in BTreeSet::from_iter(moved) {
            if let Err(error) = self.server.cache.redecode(&folder).await {
                tracing::warn!(folder, %error, "objects cannot be read again");
                well = false;
            }
        }
        well
    }
}

/// Waits for a change and takes those that came with it; whether the watch goes on.
async fn next(changes: &mut Subscription, wait: Duration) -> bool {
    let heard = match tokio::time::timeout(wait, changes.next()).await {
        Err(_) => return true,
        Ok(heard) => heard,
    };
    if heard.is_err() {
        return false;
    }
    loop {
        match changes.try_next() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

async fn change(
    server: &Arc<Server>,
    name: &str,
    apply: &(dyn Fn(&mut Value) + Sync),
) -> Result<(), StatusError> {
    let version = GroupVersion::new("apiextensions.k8s.io", "v1");
    let mut call = internal(server, &version, "customresourcedefinitions", "")?;
    name.clone_into(&mut call.info.name);
    let make = |old: Option<&Value>| {
        let mut object = old.cloned().ok_or_else(|| call.not_found(name))?;
        apply(&mut object);
        Ok(object)
    };
    let change = Change {
        make: &make,
        creates: false,
        direct: true,
        managed: false,
    };
    match call.change(&change, &own()).await {
        Err(error) if error.reason == Reason::NotFound => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Writes what was decided about a definition, unless it is another one by now.
async fn write_status(server: &Arc<Server>, wanted: &Value) -> Result<(), StatusError> {
    change(server, wanted.name(), &|object| {
        if object.uid() != wanted.uid() || object.at("spec") != wanted.at("spec") {
            return;
        }
        object.set("status.acceptedNames", wanted.at("status.acceptedNames").clone());
        let decided = [
            "NamesAccepted",
            "Established",
            "NonStructuralSchema",
            "KubernetesAPIApprovalPolicyConformant",
        ];
        let own = |condition: &Value| decided.contains(&condition.str_at("type"));
        let mut conditions = object.list_at("status.conditions").to_vec();
        conditions.retain(|condition| !own(condition));
        let mut all: Vec<Value> = wanted
            .list_at("status.conditions")
            .iter()
            .filter(|c| own(c))
            .cloned()
            .collect();
        all.append(&mut conditions);
        object.set("status.conditions", all);
    })
    .await
}

/// Deletes the objects of a definition that is being deleted; whether none is left and it may go.
async fn empty(server: &Arc<Server>, name: &str) -> Result<bool, StatusError> {
    let entry = server.cache.get(&format!("{FOLDER}{name}"));
    let Some(definition) = entry.map(|entry| parse(&entry.bytes())).transpose()? else {
        return Ok(true);
    };
    let finalizers = definition.list_at("metadata.finalizers");
    if !definition.is_deleting() || !finalizers.iter().any(|finalizer| finalizer == CLEANUP) {
        return Ok(true);
    }
    let now = rfc3339((server.clock)());
    let served = server.served.load_full();
    let group = definition.str_at("spec.group");
    let plural = definition.str_at("status.acceptedNames.plural");
    let mut all = served.scheme.iter();
    let resource = all.find(|r| {
        r.group_version.group == group && r.plural == plural && served.custom.contains_key(&*r.schema)
    });
    let established = condition(&definition, "Established") == Some("True");
    let (reason, text) = match resource.filter(|_| established) {
        None => ("NeverEstablished", "resource was never established"),
        Some(resource) => {
            let objects = server.reader.list(&resource.group_resource(), None);
            if !objects.is_empty() {
                change(server, name, &|object| {
                    let text = "CustomResource deletion is in progress";
                    set_condition(
                        object,
                        "Terminating",
                        "True",
                        "InstanceDeletionInProgress",
                        text,
                        &now,
                    );
                })
                .await?;
            }
            for object in &objects {
                let call: Call = internal(server, &resource.group_version, plural, object.namespace())?;
                let deleted = call.remove_object(object.name(), &DeleteOptions::default()).await;
                match deleted {
                    Err(error) if error.reason != Reason::NotFound => return Err(error),
                    _ => {}
                }
            }
            if !objects.is_empty() {
                return Ok(false);
            }
            ("InstanceDeletionCompleted", "removed all instances")
        }
    };
    change(server, name, &|object| {
        set_condition(object, "Terminating", "False", reason, text, &now);
        let mut finalizers = object.list_at("metadata.finalizers").to_vec();
        finalizers.retain(|finalizer| finalizer != CLEANUP);
        object.set("metadata.finalizers", finalizers);
    })
    .await?;
    Ok(true)
}
