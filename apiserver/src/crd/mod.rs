//! Custom resources: CustomResourceDefinitions become served resources while the server runs.
//!
//! One task watches the definitions. It accepts names, says so in the status, serves what is established, and empties a
//! definition that is being deleted. Every step is decided from the definitions as they are, so several servers may do the
//! same at once. Conversion is by apiVersion alone (strategy `None`); rules in CEL are not evaluated.

mod path;
mod strategy;

use crate::bootstrap::{internal, own};
use crate::registry::Call;
use crate::registry::create::rfc3339;
use crate::registry::update::Change;
use crate::request::params::DeleteOptions;
use crate::server::{Served, Server};
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, GroupVersion, ObjectReader, StatusError, Value};
use rutter_storage::cache::{From, Interest, Scope, Subscribe};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";
/// Holds a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

fn group_version() -> GroupVersion {
    GroupVersion::new("apiextensions.k8s.io", "v1")
}

/// Follows the definitions until `stop`.
pub async fn follow(server: Arc<Server>, stop: CancellationToken) {
    server.cache.ready().await;
    let base = server.served.load_full();
    let mut pause = Duration::from_millis(50);
    loop {
        let subscribe = Subscribe {
            scope: Scope::Prefix(FOLDER.to_owned()),
            from: From::Now,
            interest: Interest::Any,
            filter: None,
        };
        let Ok(mut changes) = server.cache.subscribe(subscribe) else {
            return;
        };
        loop {
            let again = match reconcile(&server, &base).await {
                Ok(again) => again,
                Err(error) => {
                    tracing::warn!(%error, "custom resource definitions could not all be brought up to date");
                    true
                }
            };
            pause = if again {
                (pause * 2).min(Duration::from_secs(5))
            } else {
                Duration::from_millis(50)
            };
            let wait = if again { pause } else { Duration::from_secs(300) };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                change = changes.next() => if change.is_err() { break },
            }
        }
    }
}

/// Brings statuses and what is served up to date; whether something is left to be tried again.
async fn reconcile(server: &Arc<Server>, base: &Arc<Served>) -> Result<bool, StatusError> {
    let resource = GroupResource::new("apiextensions.k8s.io", "customresourcedefinitions");
    let mut definitions = server.reader.list(&resource, None);
    definitions.sort_by(|a, b| {
        let key = |value: &Value| {
            (
                value.str_at("metadata.creationTimestamp").to_owned(),
                value.name().to_owned(),
            )
        };
        key(a).cmp(&key(b))
    });
    let now = rfc3339((server.clock)());
    let mut taken: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut established: Vec<Value> = Vec::new();
    for definition in &definitions {
        let mut wanted = (**definition).clone();
        accept(&mut wanted, &mut taken, &now);
        if condition(&wanted, "Established") == Some("True") {
            established.push(wanted.clone());
        }
        if wanted.at("status") != definition.at("status") {
            write_status(server, &wanted).await?;
        }
    }
    serve(server, base, &established);
    let mut again = false;
    for definition in definitions.iter().filter(|definition| definition.is_deleting()) {
        again |= !empty(server, definition).await?;
    }
    Ok(again)
}

/// Decides whether a definition's names are accepted, and its conditions.
fn accept(definition: &mut Value, taken: &mut BTreeMap<(String, String), String>, now: &str) {
    let (group, owner) = (
        definition.str_at("spec.group").to_owned(),
        definition.name().to_owned(),
    );
    let names = definition.at("spec.names").clone();
    let mut claims: Vec<(String, String)> = Vec::new();
    for field in ["plural", "singular"] {
        claims.push((format!("{group}/resource"), names.str_at(field).to_owned()));
    }
    for short in names.list_at("shortNames").iter().filter_map(Value::as_str) {
        claims.push((format!("{group}/resource"), short.to_owned()));
    }
    for field in ["kind", "listKind"] {
        claims.push((format!("{group}/kind"), names.str_at(field).to_owned()));
    }
    claims.retain(|(_, name)| !name.is_empty());
    let conflict = claims
        .iter()
        .find(|claim| taken.get(*claim).is_some_and(|by| *by != owner));
    let conflict = conflict.map(|(_, name)| format!("{name:?} is already in use"));
    if conflict.is_none() {
        taken.extend(claims.into_iter().map(|claim| (claim, owner.clone())));
        definition.set("status.acceptedNames", names);
        set_condition(
            definition,
            "NamesAccepted",
            "True",
            "NoConflicts",
            "no conflicts found",
            now,
        );
        let message = "the initial names have been accepted";
        set_condition(
            definition,
            "Established",
            "True",
            "InitialNamesAccepted",
            message,
            now,
        );
    } else {
        let message = conflict.unwrap_or_default();
        set_condition(
            definition,
            "NamesAccepted",
            "False",
            "NameConflict",
            &message,
            now,
        );
        if condition(definition, "Established").is_none() {
            let message = "not all names are accepted";
            set_condition(definition, "Established", "False", "NotAccepted", message, now);
        }
        definition.set_default("status.acceptedNames", json!({"plural": "", "kind": ""}));
    }
    let storage = definition
        .list_at("spec.versions")
        .iter()
        .find(|version| version.bool_at("storage") == Some(true))
        .map(|version| version.str_at("name").to_owned());
    let mut stored = definition.list_at("status.storedVersions").to_vec();
    if let Some(storage) = storage
        && !stored.iter().any(|version| *version == storage)
    {
        stored.push(Value::from(storage));
    }
    definition.set("status.storedVersions", stored);
}

fn condition<'a>(definition: &'a Value, kind: &str) -> Option<&'a str> {
    let mut all = definition.list_at("status.conditions").iter();
    all.find(|condition| condition.str_at("type") == kind)
        .map(|condition| condition.str_at("status"))
}

fn set_condition(definition: &mut Value, kind: &str, status: &str, reason: &str, message: &str, now: &str) {
    if condition(definition, kind) == Some(status) {
        return;
    }
    let made = json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now,
    });
    if !definition.at("status.conditions").is_array() {
        definition.set("status.conditions", json!([]));
    }
    if let Some(list) = definition.list_at_mut("status.conditions") {
        list.retain(|condition| condition.str_at("type") != kind);
        list.push(made);
    }
}

/// What a definition becomes when it is deleted: it waits for its objects.
pub fn mark(definition: &mut Value) {
    let now = definition.str_at("metadata.deletionTimestamp").to_owned();
    let mut finalizers = definition.list_at("metadata.finalizers").to_vec();
    if !finalizers.iter().any(|finalizer| finalizer == CLEANUP) {
        finalizers.push(Value::from(CLEANUP));
        definition.set("metadata.finalizers", finalizers);
    }
    let message = "CustomResource deletion is pending";
    set_condition(
        definition,
        "Terminating",
        "True",
        "InstanceDeletionPending",
        message,
        &now,
    );
}

async fn change(
    server: &Arc<Server>,
    name: &str,
    apply: &(dyn Fn(&mut Value) + Sync),
) -> Result<(), StatusError> {
    let mut call = internal(server, &group_version(), "customresourcedefinitions", "")?;
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
        Err(error) if error.reason == rutter_api::Reason::NotFound => Ok(()),
        other => other.map(|_| ()),
    }
}

async fn write_status(server: &Arc<Server>, wanted: &Value) -> Result<(), StatusError> {
    change(server, wanted.name(), &|object| {
        object.set("status", wanted.at("status").clone())
    })
    .await
}

/// Serves the built-in resources and those of the established definitions.
fn serve(server: &Arc<Server>, base: &Arc<Served>, established: &[Value]) {
    let mut served = (**base).clone();
    for definition in established {
        strategy::add(&mut served, definition);
    }
    let before = server.served.load_full();
    let same = before.schemas == served.schemas
        && before.scales == served.scales
        && describe(&before) == describe(&served);
    if same {
        return;
    }
    server.reader.serve(&served.scheme);
    server.served.store(Arc::new(served));
    server.documents.clear();
}

/// What matters of the custom resources served, for comparison.
fn describe(served: &Served) -> Vec<String> {
    let custom = served
        .scheme
        .iter()
        .filter(|resource| served.custom.contains_key(&*resource.schema));
    custom
        .map(|r| {
            let columns = r.strategy.columns();
            let verbatim = r.strategy.served_is_stored();
            format!(
                "{r:?} {} {} {:?} {:?} {} {:?} {columns:?} {verbatim} {}",
                r.kind,
                r.list_kind,
                r.short_names,
                r.categories,
                r.namespaced,
                r.subresources,
                r.storage_version
            )
        })
        .collect()
}

/// Deletes the objects of a definition that is being deleted; whether none is left and it may go.
async fn empty(server: &Arc<Server>, definition: &Value) -> Result<bool, StatusError> {
    if !definition
        .list_at("metadata.finalizers")
        .iter()
        .any(|finalizer| finalizer == CLEANUP)
    {
        return Ok(true);
    }
    let served = server.served.load_full();
    let group = definition.str_at("spec.group");
    let plural = definition.str_at("status.acceptedNames.plural");
    let resource = served.scheme.iter().find(|r| {
        r.group_version.group == group && r.plural == plural && served.custom.contains_key(&*r.schema)
    });
    if let Some(resource) = resource {
        let of = resource.group_resource();
        let objects = server.reader.list(&of, None);
        for object in &objects {
            let call: Call = internal(server, &resource.group_version, plural, object.namespace())?;
            match call.delete_object(object.name(), &DeleteOptions::default()).await {
                Err(error) if error.reason != rutter_api::Reason::NotFound => return Err(error),
                _ => {}
            }
        }
        if !objects.is_empty() {
            return Ok(false);
        }
    }
    let mut call = internal(server, &group_version(), "customresourcedefinitions", "")?;
    definition.name().clone_into(&mut call.info.name);
    change(server, definition.name(), &|object| {
        let mut finalizers = object.list_at("metadata.finalizers").to_vec();
        finalizers.retain(|finalizer| finalizer != CLEANUP);
        object.set("metadata.finalizers", finalizers);
    })
    .await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(name: &str, kind: &str) -> Value {
        json!({
            "metadata": {"name": name},
            "spec": {
                "group": "x.io", "names": {"plural": name, "kind": kind, "listKind": format!("{kind}List"), "singular": kind.to_lowercase()},
                "versions": [{"name": "v1", "served": true, "storage": true}],
            },
        })
    }

    #[test]
    fn the_first_definition_of_a_name_is_served() {
        let mut taken = BTreeMap::new();
        let (mut first, mut second) = (definition("as", "A"), definition("bs", "A"));
        accept(&mut first, &mut taken, "t");
        accept(&mut second, &mut taken, "t");
        assert_eq!(condition(&first, "Established"), Some("True"));
        assert_eq!(condition(&second, "Established"), Some("False"));
        assert_eq!(first.at("status.storedVersions"), &json!(["v1"]));
        let again = first.clone();
        accept(&mut first, &mut BTreeMap::new(), "later");
        assert_eq!(first, again);
    }
}
