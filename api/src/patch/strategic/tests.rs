//! Tests of strategic merge patches.

use super::*;
use crate::schema::builtin;
use proptest::prelude::*;
use serde_json::json;

const POD: &str = "io.k8s.api.core.v1.Pod";
const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";

fn merged(name: &str, original: Value, patch: Value) -> Value {
    merge(builtin(), name, original, patch).unwrap()
}

fn containers(items: Value) -> Value {
    json!({"spec": {"containers": items}})
}

#[test]
fn lists_merge_by_key() {
    let original = containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]));
    for (patch, want) in [
        (
            json!([{"name": "b", "image": "2"}]),
            json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]),
        ),
        (
            json!([{"name": "c", "image": "3"}]),
            json!([{"name": "c", "image": "3"}, {"name": "a", "image": "1"}, {"name": "b", "image": "1"}]),
        ),
        (
            json!([{"name": "a", "$patch": "delete"}]),
            json!([{"name": "b", "image": "1"}]),
        ),
        (
            json!([{"$patch": "replace"}, {"name": "c"}]),
            json!([{"name": "c"}]),
        ),
        (
            json!([{"name": "a", "image": null}]),
            json!([{"name": "a"}, {"name": "b", "image": "1"}]),
        ),
        (json!([{"name": "a", "$patch": "replace", "x": 1}]), json!([])),
    ] {
        let got = merged(POD, original.clone(), containers(patch.clone()));
        assert_eq!(got["spec"]["containers"], want, "{patch}");
    }
    let got = merged(
        POD,
        original,
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
    );
    assert_eq!(
        got,
        containers(json!([{"name": "b", "image": "1"}, {"name": "a", "image": "1"}]))
    );
}

#[test]
fn directives_steer_objects_and_primitive_lists() {
    for (original, patch, want) in [
        (
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["c"]}}),
            json!({"metadata": {"finalizers": ["c", "a", "b"]}}),
        ),
        (
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
            json!({"metadata": {"finalizers": ["b"]}}),
        ),
        (
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}),
            json!({"metadata": {"labels": {"c": "3"}}}),
        ),
        (
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "delete"}}}),
            json!({"metadata": {"labels": {}}}),
        ),
        (
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
            json!({"metadata": {"labels": {"a": null, "c": null}}}),
            json!({"metadata": {"labels": {"b": "2"}}}),
        ),
        (
            json!({"spec": {"command": 1}}),
            json!({"spec": {"tolerations": [{"key": "a", "x": null}]}}),
            json!({"spec": {"command": 1, "tolerations": [{"key": "a"}]}}),
        ),
        (
            json!({"spec": {"tolerations": [{"key": "a"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
        ),
    ] {
        assert_eq!(merged(POD, original, patch.clone()), want, "{patch}");
    }
    let original = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(
        merged(DEPLOYMENT, original, patch),
        json!({"spec": {"strategy": {"type": "Recreate"}}})
    );
}

#[test]
fn wrong_patches_are_refused() {
    let original = containers(json!([{"name": "a"}]));
    for (patch, want, code) in [
        (
            containers(json!([{"image": "x"}])),
            r#"map: {"image":"x"} does not contain declared merge key: name"#,
            400,
        ),
        (
            json!({"spec": {"$patch": "foo"}}),
            r#"Unknown patch type: foo in map: {"$patch":"foo"}"#,
            400,
        ),
        (
            json!({"spec": {"$setElementOrder/containers": 1}}),
            r#"invalid patch format of setElementOrder list: "$setElementOrder/containers" must be a list"#,
            400,
        ),
        (json!([1]), "Invalid JSON document", 400),
    ] {
        let error = merge(builtin(), POD, original.clone(), patch).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.status().code), (want, code));
    }
}

#[test]
fn three_way_patches_name_what_changed_and_what_is_gone() {
    let original = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "labels": {"a": "1", "b": "2"}}, "spec": {
        "replicas": 1, "template": {"spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "e", "value": "1"}]}, {"name": "gone"}]}}}});
    let modified = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "labels": {"a": "1"}}, "spec": {
        "strategy": {"type": "Recreate"},
        "template": {"spec": {"containers": [{"name": "a", "image": "2"}]}}}});
    let mut current = original.clone();
    current["spec"]["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}});
    current["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    current["metadata"]["annotations"] = json!({"others": "1"});
    let patch = create_three_way(builtin(), DEPLOYMENT, &original, &modified, &current, true).unwrap();
    assert_eq!(
        patch,
        json!({
            "metadata": {"labels": {"b": null}},
            "spec": {
                "replicas": null,
                "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
                "template": {"spec": {
                    "$setElementOrder/containers": [{"name": "a"}],
                    "containers": [{"name": "a", "image": "2", "env": null}, {"name": "gone", "$patch": "delete"}],
                }},
            },
        })
    );
    let result = merged(DEPLOYMENT, current.clone(), patch);
    assert_eq!(
        result["spec"],
        json!({
            "strategy": {"type": "Recreate"},
            "template": {"spec": {"containers": [{"name": "a", "image": "2", "imagePullPolicy": "Always"}]}},
        })
    );
    assert_eq!(result["metadata"]["annotations"], json!({"others": "1"}));
    let again = create_three_way(builtin(), DEPLOYMENT, &modified, &modified, &result, true).unwrap();
    assert_eq!(again, json!({}));
    current["spec"]["replicas"] = json!(5);
    assert!(create_three_way(builtin(), DEPLOYMENT, &original, &modified, &current, false).is_err());
}

/// Pods with few names, so that they overlap.
fn pod() -> impl Strategy<Value = Value> {
    let map = || prop::collection::btree_map("[ab]", "[xy]", 0..3);
    let container = ("[xyz]", map(), prop::option::of("[12]")).prop_map(|(image, env, pull)| {
        let env: Vec<_> = env
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let mut container = json!({"image": image, "env": env});
        if let Some(pull) = pull {
            container["imagePullPolicy"] = json!(pull);
        }
        container
    });
    (
        map(),
        prop::collection::btree_map("[abcd]", container, 0..4),
        prop::collection::btree_set("[fgh]", 0..3),
        any::<bool>(),
    )
        .prop_map(|(labels, containers, finalizers, reversed)| {
            let mut list: Vec<_> = containers
                .into_iter()
                .map(|(name, mut container)| {
                    container["name"] = json!(name);
                    container
                })
                .collect();
            if reversed {
                list.reverse();
            }
            json!({
                "metadata": {"labels": labels, "finalizers": finalizers.into_iter().collect::<Vec<_>>()},
                "spec": {"containers": list},
            })
        })
}

proptest! {
    #[test]
    fn a_two_way_patch_turns_one_into_the_other(original in pod(), modified in pod()) {
        let patch = create_two_way(builtin(), POD, &original, &modified).unwrap();
        prop_assert_eq!(merge(builtin(), POD, original, patch.clone()).unwrap(), modified, "{}", patch);
    }

    #[test]
    fn a_three_way_patch_leaves_nothing_to_do(original in pod(), modified in pod(), current in pod()) {
        let patch = create_three_way(builtin(), POD, &original, &modified, &current, true).unwrap();
        let merged = merge(builtin(), POD, current, patch).unwrap();
        let again = create_three_way(builtin(), POD, &modified, &modified, &merged, true).unwrap();
        prop_assert_eq!(again, json!({}));
    }

    #[test]
    fn no_patch_makes_the_merge_panic(original in pod(), patch in crate::codec::json::tests::tree()) {
        let _ = merge(builtin(), POD, original.clone(), json!({"spec": patch.clone()}));
        let _ = merge(builtin(), POD, original, containers(json!([patch])));
    }
}
