//! Tests of server-side apply.

use super::*;
use crate::schema::{FieldValidation, builtin, decode};
use proptest::prelude::*;

const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";
const POD: &str = "io.k8s.api.core.v1.Pod";

fn manager<'a>(name: &'a str, api_version: &'a str, subresource: &'a str, second: i64) -> Manager<'a> {
    Manager {
        name,
        api_version,
        subresource,
        now: Timestamp::from_second(second).unwrap(),
    }
}

fn decoded(name: &str, value: Value) -> Value {
    decode(builtin(), name, value, FieldValidation::Strict)
        .unwrap()
        .value
}

fn owners(object: &Value) -> Vec<(String, Value)> {
    let entries = object.list_at("metadata.managedFields").iter();
    entries
        .map(|e| {
            let who = format!(
                "{} {} {} {}",
                e.str_at("manager"),
                e.str_at("operation"),
                e.str_at("subresource"),
                e.str_at("time")
            );
            (who, e["fieldsV1"].clone())
        })
        .collect()
}

fn created(name: &str, api_version: &str, value: Value) -> Value {
    let mut object = decoded(name, value);
    update_managed(
        builtin(),
        name,
        None,
        &mut object,
        &manager("creator", api_version, "", 0),
        &reset_fields(&["status"]),
    );
    object
}

#[test]
fn a_created_pod_is_owned_as_upstream_records_it() {
    let pod = created(
        POD,
        "v1",
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "labels": {"app": "a"}},
            "spec": {"containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 80, "protocol": "TCP"}], "resources": {}}], "tolerations": [{"key": "k"}]},
        }),
    );
    assert_eq!(
        owners(&pod),
        [(
            "creator Update  1970-01-01T00:00:00Z".to_owned(),
            json!({
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:containers": {"k:{\"name\":\"a\"}": {
                        ".": {}, "f:image": {}, "f:name": {}, "f:resources": {},
                        "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}},
                    }},
                    "f:tolerations": {},
                },
            })
        )]
    );
}

#[test]
fn an_update_takes_fields_over_and_drops_those_that_are_gone() {
    let old = created(
        DEPLOYMENT,
        "apps/v1",
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "labels": {"a": "1", "b": "1"}},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "1"}}, "paused": true},
        }),
    );
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(2);
    new["metadata"]["labels"] = json!({"a": "1"});
    update_managed(
        builtin(),
        DEPLOYMENT,
        Some(&old),
        &mut new,
        &manager("other", "apps/v1", "", 60),
        &reset_fields(&["status"]),
    );
    assert_eq!(
        owners(&new),
        [
            (
                "creator Update  1970-01-01T00:00:00Z".to_owned(),
                json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:paused": {}, "f:selector": {}}})
            ),
            (
                "other Update  1970-01-01T00:01:00Z".to_owned(),
                json!({"f:spec": {"f:replicas": {}}})
            ),
        ]
    );
    let mut again = new.clone();
    update_managed(
        builtin(),
        DEPLOYMENT,
        Some(&new),
        &mut again,
        &manager("third", "apps/v1", "", 120),
        &reset_fields(&["status"]),
    );
    assert_eq!(again, new, "an update that changes nothing owns nothing");
    let mut status = new.clone();
    status["status"]["replicas"] = json!(2);
    update_managed(
        builtin(),
        DEPLOYMENT,
        Some(&new),
        &mut status,
        &manager("kcm", "apps/v1", "status", 120),
        &reset_fields(&["spec", "metadata"]),
    );
    assert_eq!(
        owners(&status)[2],
        (
            "kcm Update status 1970-01-01T00:02:00Z".to_owned(),
            json!({"f:status": {"f:replicas": {}}})
        )
    );
    let mut reset = status.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    update_managed(
        builtin(),
        DEPLOYMENT,
        Some(&status),
        &mut reset,
        &manager("x", "apps/v1", "", 120),
        &reset_fields(&["status"]),
    );
    assert!(reset.at("metadata.managedFields").is_null());
}

fn applied(live: Option<&Value>, patch: &Value, name: &str, force: bool) -> Result<Value, ApplyError> {
    let merged = apply(
        builtin(),
        DEPLOYMENT,
        live,
        patch,
        &manager(name, "apps/v1", "", 60),
        force,
        &reset_fields(&["status"]),
    )?;
    Ok(decoded(DEPLOYMENT, merged))
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec})
}

#[test]
fn an_apply_creates_changes_and_prunes() {
    let first = deployment(
        json!({"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "x", "value": "1"}, {"name": "y", "value": "2"}]}, {"name": "b"}]}}}),
    );
    let live = applied(None, &first, "me", false).unwrap();
    assert_eq!(
        owners(&live),
        [(
            "me Apply  1970-01-01T00:01:00Z".to_owned(),
            json!({
                "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
                    "k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:image": {}, "f:env": {
                        "k:{\"name\":\"x\"}": {".": {}, "f:name": {}, "f:value": {}}, "k:{\"name\":\"y\"}": {".": {}, "f:name": {}, "f:value": {}}}},
                    "k:{\"name\":\"b\"}": {".": {}, "f:name": {}},
                }}}},
            })
        )]
    );
    let second = deployment(
        json!({"template": {"spec": {"containers": [{"name": "a", "image": "2", "env": [{"name": "y", "value": "2"}]}]}}}),
    );
    let live = applied(Some(&live), &second, "me", false).unwrap();
    let containers = &live["spec"]["template"]["spec"]["containers"];
    assert_eq!(
        containers,
        &json!([{"name": "a", "image": "2", "env": [{"name": "y", "value": "2"}], "resources": {}}])
    );
    assert!(live["spec"].get("replicas").is_none());
    let same = applied(Some(&live), &second, "me", false).unwrap();
    assert_eq!(same, live);
}

#[test]
fn conflicts_name_the_other_manager_and_force_takes_over() {
    let live = applied(
        None,
        &deployment(json!({"replicas": 1, "paused": true})),
        "first",
        false,
    )
    .unwrap();
    let patch = deployment(json!({"replicas": 2}));
    let error = applied(Some(&live), &patch, "second", false).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Apply failed with 1 conflict: conflict with "first": .spec.replicas"#
    );
    let status = error.status();
    assert_eq!(
        (
            status.code,
            status.causes[0].reason.as_str(),
            status.causes[0].field.as_str()
        ),
        (409, "FieldManagerConflict", ".spec.replicas")
    );
    let forced = applied(Some(&live), &patch, "second", true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(owners(&forced)[0].1, json!({"f:spec": {"f:paused": {}}}));
    let both = deployment(json!({"replicas": 3, "paused": false}));
    let error = applied(Some(&forced), &both, "third", false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"first\":\n- .spec.paused\nconflicts with \"second\":\n- .spec.replicas"
    );
    // The same value is shared, not fought for.
    let shared = applied(Some(&forced), &patch, "third", false).unwrap();
    assert_eq!(owners(&shared).len(), 3);
    // What another still owns stays when one lets go.
    let left = applied(Some(&shared), &deployment(json!({})), "third", false).unwrap();
    assert_eq!(left["spec"]["replicas"], 2);
}

#[test]
fn what_cannot_be_applied_is_refused() {
    for (patch, want, code) in [
        (
            deployment(json!({"foo": 1})),
            "failed to create typed patch object (/x; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema",
            500,
        ),
        (
            deployment(json!({"replicas": "x"})),
            "failed to create typed patch object (/x; apps/v1, Kind=Deployment): .spec.replicas: expected numeric (int or float), got \"x\"",
            500,
        ),
        (
            json!({"apiVersion": "apps/v1", "metadata": {"managedFields": []}}),
            "metadata.managedFields must be nil",
            400,
        ),
        (
            json!({"apiVersion": "apps/v1beta1"}),
            "Incorrect version specified in apply patch. Specified patch version: apps/v1beta1, expected: apps/v1",
            400,
        ),
    ] {
        let error = applied(None, &patch, "me", false).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.status().code), (want, code));
    }
}

#[test]
fn kubectl_takes_over_from_its_client_side_apply() {
    let first = deployment(json!({"replicas": 1}));
    let mut live = first.clone();
    live["metadata"]["annotations"] = json!({LAST_APPLIED: first.to_string()});
    let mut live = decoded(DEPLOYMENT, live);
    update_managed(
        builtin(),
        DEPLOYMENT,
        None,
        &mut live,
        &manager("kubectl-client-side-apply", "apps/v1", "", 0),
        &reset_fields(&["status"]),
    );
    let patch = deployment(json!({"replicas": 2}));
    assert!(applied(Some(&live), &patch, "other", false).is_err());
    let taken = applied(Some(&live), &patch, "kubectl", false).unwrap();
    assert_eq!(taken["spec"]["replicas"], 2);
    assert!(taken.annotation(LAST_APPLIED).unwrap().contains("\"replicas\":2"));
    assert_eq!(
        applied(Some(&live), &patch, "other", false)
            .unwrap_err()
            .to_string(),
        r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas"#
    );
}

#[test]
fn an_object_without_owners_gets_one_at_the_first_apply() {
    let live = decoded(DEPLOYMENT, deployment(json!({"replicas": 1})));
    let error = applied(Some(&live), &deployment(json!({"replicas": 2})), "me", false).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Apply failed with 1 conflict: conflict with "before-first-apply" using apps/v1: .spec.replicas"#
    );
    let merged = applied(Some(&live), &deployment(json!({"paused": true})), "me", false).unwrap();
    assert_eq!(owners(&merged).len(), 2);
}

#[test]
fn elements_with_the_same_keys_are_owned_together_and_kept() {
    let claim = "io.k8s.api.resource.v1.ResourceClaim";
    let (types, none) = (builtin(), reset_fields(&[]));
    let object = |status: Value| json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "status": status});
    let device = |reason: &str| {
        let condition = json!({"type": "Ready", "status": "True", "reason": reason, "message": ""});
        json!({"driver": "d", "pool": "p", "device": "1", "conditions": [condition]})
    };
    let by = |name| manager(name, "resource.k8s.io/v1", "", 0);
    let mut live = object(json!({"devices": [device("A"), device("B")]}));
    let wanted = live["status"].clone();
    update_managed(types, claim, None, &mut live, &by("driver"), &none);
    let patch = object(json!({}));
    let first = apply(types, claim, Some(&live), &patch, &by("me"), false, &none).unwrap();
    assert_eq!(first["status"], wanted);
    let again = apply(types, claim, Some(&first), &patch, &by("me"), false, &none).unwrap();
    assert_eq!(again, first);
}

#[test]
fn keys_that_an_element_does_not_say_are_those_that_are_printed_of_it() {
    let claim = "io.k8s.api.resource.v1.ResourceClaim";
    let (types, none) = (builtin(), reset_fields(&[]));
    let me = manager("me", "resource.k8s.io/v1", "status", 0);
    let device = json!({"device": "1"});
    let patch =
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "status": {"devices": [device]}});
    let decoded = |merged| {
        let decoded = crate::schema::decode(types, claim, merged, crate::schema::FieldValidation::Strict);
        decoded.unwrap().value
    };
    let first = decoded(apply(types, claim, None, &patch, &me, false, &none).unwrap());
    let full = json!({"device": "1", "driver": "", "pool": ""});
    assert_eq!(first["status"]["devices"], json!([full]));
    let again = decoded(apply(types, claim, Some(&first), &patch, &me, false, &none).unwrap());
    assert_eq!(again, first);
}

#[test]
fn who_applies_nothing_leaves_an_object_without_owners_as_it_is() {
    let types = crate::crd::types(
        "custom",
        &json!({"type": "object", "properties": {"items": {"type": "array", "items": {"type": "string"},
            "x-kubernetes-list-type": "set"}}}),
        false,
    );
    let patch =
        json!({"apiVersion": "example.com/v1", "kind": "Custom", "metadata": {"name": "n"}, "items": []});
    let (me, none) = (manager("me", "example.com/v1", "", 0), reset_fields(&[]));
    let first = apply(&types, "custom", None, &patch, &me, false, &none).unwrap();
    assert_eq!(first, patch, "an empty list is nobody's");
    assert_eq!(
        apply(&types, "custom", Some(&first), &patch, &me, false, &none),
        Ok(first.clone())
    );
    let more =
        json!({"apiVersion": "example.com/v1", "kind": "Custom", "metadata": {"name": "n"}, "items": ["a"]});
    let live =
        json!({"apiVersion": "example.com/v1", "kind": "Custom", "metadata": {"name": "n"}, "items": ["b"]});
    let owned = apply(&types, "custom", Some(&live), &more, &me, false, &none).unwrap();
    assert_eq!(
        owners(&owned).len(),
        2,
        "what was there before has an owner once somebody applies something"
    );
}

#[test]
fn what_is_in_a_map_is_nobodys_once_something_else_replaces_the_map() {
    let schema =
        json!({"type": "object", "properties": {"any": {"x-kubernetes-preserve-unknown-fields": true}}});
    let types = crate::crd::types("custom", &schema, false);
    let object = |any: Value| json!({"apiVersion": "example.com/v1", "kind": "Custom", "any": any});
    let (by, none) = (|name| manager(name, "example.com/v1", "", 0), reset_fields(&[]));
    let mut map = object(json!({"a": 1}));
    update_managed(&types, "custom", None, &mut map, &by("first"), &none);
    let mut text = object(json!("text"));
    update_managed(&types, "custom", Some(&map), &mut text, &by("second"), &none);
    assert_eq!(owners(&text).len(), 1, "{text}");
    let mut again = object(json!({"b": 1}));
    update_managed(&types, "custom", Some(&text), &mut again, &by("third"), &none);
    let fields = &again["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!(fields, &json!({"f:any": {".": {}, "f:b": {}}}));
}

#[test]
fn a_list_that_an_apply_empties_is_there_and_empty() {
    let set = json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"});
    let schema = json!({"type": "object", "properties": {"set": set, "a": {"type": "integer"}}});
    let types = crate::crd::types("custom", &schema, false);
    let object = |set: Value| json!({"apiVersion": "example.com/v1", "kind": "Custom", "a": 1, "set": set});
    let (me, none) = (manager("me", "example.com/v1", "", 0), reset_fields(&[]));
    let apply =
        |live: Option<&Value>, set| apply(&types, "custom", live, &object(set), &me, false, &none).unwrap();
    let full = apply(None, json!(["x"]));
    let emptied = apply(Some(&full), json!([]));
    assert_eq!(emptied["set"], json!([]));
    assert_eq!(apply(Some(&emptied), json!([])), emptied);
}

#[test]
fn an_empty_list_of_somebody_else_stays_in_what_an_apply_says_to_be_there() {
    let definition = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
    let version = "apiextensions.k8s.io/v1";
    let (types, none) = (builtin(), reset_fields(&[]));
    let object =
        |status| json!({"apiVersion": version, "kind": "CustomResourceDefinition", "status": status});
    let by = |name| manager(name, version, "", 0);
    let mut live = object(json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": []}));
    update_managed(types, definition, None, &mut live, &by("other"), &none);
    let patch = object(json!({}));
    let first = apply(types, definition, Some(&live), &patch, &by("me"), false, &none).unwrap();
    assert_eq!(first["status"], live["status"]);
    assert_eq!(
        apply(types, definition, Some(&first), &patch, &by("me"), false, &none),
        Ok(first)
    );
}

#[test]
fn the_oldest_updaters_are_merged() {
    let mut object = created(DEPLOYMENT, "apps/v1", deployment(json!({"replicas": 0})));
    for n in 0..15 {
        let old = object.clone();
        object["metadata"]["annotations"][format!("a{n}")] = json!("1");
        let name = format!("m{n:02}");
        update_managed(
            builtin(),
            DEPLOYMENT,
            Some(&old),
            &mut object,
            &manager(&name, "apps/v1", "", 60 + n),
            &reset_fields(&["status"]),
        );
    }
    let owners = owners(&object);
    assert_eq!(owners.len(), 10);
    assert!(owners[0].0.starts_with("ancient-changes Update"), "{owners:?}");
}

/// Deployments with few names, so that they overlap.
fn any_deployment() -> impl Strategy<Value = Value> {
    let container = (
        prop::option::of("[12]"),
        prop::collection::btree_map("[xy]", "[12]", 0..3),
    )
        .prop_map(|(image, env)| {
            let env: Vec<_> = env
                .iter()
                .map(|(name, value)| json!({"name": name, "value": value}))
                .collect();
            let mut container = json!({});
            if let Some(image) = image {
                container["image"] = json!(image);
            }
            if !env.is_empty() {
                container["env"] = json!(env);
            }
            container
        });
    (
        prop::option::of(0..3),
        prop::collection::btree_map("[ab]", "[12]", 0..3),
        prop::collection::btree_map("[ab]", container, 0..3),
    )
        .prop_map(|(replicas, labels, containers)| {
            let list: Vec<_> = containers
                .into_iter()
                .map(|(name, mut c)| {
                    c["name"] = json!(name);
                    c
                })
                .collect();
            let mut object = deployment(json!({}));
            if !list.is_empty() {
                object["spec"]["template"] = json!({"spec": {"containers": list}});
            }
            if let Some(replicas) = replicas {
                object["spec"]["replicas"] = json!(replicas);
            }
            if !labels.is_empty() {
                object["metadata"]["labels"] = json!(labels);
            }
            object
        })
}

/// Whether all that `wanted` says is so in `object`; lists are of structs with names.
fn says(object: &Value, wanted: &Value) -> bool {
    match (object, wanted) {
        (Value::Object(object), Value::Object(wanted)) => wanted
            .iter()
            .all(|(k, w)| object.get(k).is_some_and(|o| says(o, w))),
        (Value::Array(object), Value::Array(wanted)) => wanted.iter().all(|w| {
            object
                .iter()
                .any(|o| o.get("name") == w.get("name") && says(o, w))
        }),
        _ => object == wanted,
    }
}

proptest! {
    #[test]
    fn applies_hold_what_they_say(steps in prop::collection::vec(("[mno]", any_deployment(), any::<bool>()), 1..6)) {
        let mut live: Option<Value> = None;
        for (name, patch, force) in steps {
            match applied(live.as_ref(), &patch, &name, force) {
                Ok(merged) => {
                    prop_assert!(says(&merged, &patch), "{} lacks {}", merged, patch);
                    let again = applied(Some(&merged), &patch, &name, false).unwrap();
                    prop_assert_eq!(&again, &merged);
                    live = Some(merged);
                }
                Err(error) => {
                    prop_assert!(!force && matches!(error, ApplyError::Conflicts(_)), "{}", error);
                }
            }
        }
    }

    #[test]
    fn every_field_of_a_created_object_is_owned(object in any_deployment()) {
        let object = created(DEPLOYMENT, "apps/v1", object);
        let owned = FieldSet::from_value(&object["metadata"]["managedFields"][0]["fieldsV1"]).unwrap_or_default();
        let walker = Walker { types: builtin() };
        let id = builtin().find(DEPLOYMENT).unwrap();
        let mut all = walker.fields(id, &object);
        all.subtract(&UNOWNED);
        all.subtract_recursively(&reset_fields(&["status", "metadata.managedFields"]));
        all.subtract(&owned);
        // What the empty object already has is nobody's.
        let mut empty = walker.fields(id, &empty_object(builtin(), id));
        empty.subtract(&UNOWNED);
        all.subtract(&empty);
        prop_assert!(all.is_empty(), "{:?}", all.paths());
    }

    #[test]
    fn no_patch_makes_apply_panic(live in any_deployment(), patch in crate::codec::json::tests::tree()) {
        let live = created(DEPLOYMENT, "apps/v1", live);
        let _ = applied(Some(&live), &deployment(patch.clone()), "me", true);
        let _ = apply(builtin(), DEPLOYMENT, Some(&patch), &deployment(json!({})), &manager("m", "apps/v1", "", 0), true, &FieldSet::default());
        let mut new = patch.clone();
        update_managed(builtin(), DEPLOYMENT, Some(&live), &mut new, &manager("m", "apps/v1", "", 0), &FieldSet::default());
        let mut new = live.clone();
        new["metadata"]["managedFields"] = patch;
        update_managed(builtin(), DEPLOYMENT, Some(&live), &mut new, &manager("m", "apps/v1", "", 0), &FieldSet::default());
    }
}
