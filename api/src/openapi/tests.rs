//! Tests of the OpenAPI documents.

use super::*;
use crate::discovery::tests::{resource, scheme};
use crate::schema::builtin;

struct Names;

impl Docs for Names {
    fn describe(&self, type_name: &str, field: Option<&str>) -> Option<&str> {
        (type_name.ends_with(".DeploymentSpec") && field == Some("strategy")).then_some("How to roll.")
    }
}

/// All references of a document, and the names they may go to.
fn dangling(document: &Value, prefix: &str, defined: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                if let Some(name) = map.get("$ref").and_then(Value::as_str)
                    && !name.strip_prefix(prefix).is_some_and(|n| defined.contains_key(n))
                {
                    found.push(name.to_owned());
                }
                open.extend(map.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}

#[test]
fn a_v3_document_has_the_types_rules_and_operations() {
    let document = v3(&scheme(), builtin(), &GroupVersion::new("apps", "v1"), &Names);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    assert_eq!(
        dangling(&document, "#/components/schemas/", schemas),
        Vec::<String>::new()
    );
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    let spec = &schemas["io.k8s.api.apps.v1.DeploymentSpec"];
    assert_eq!(spec["required"], json!(["selector", "template"]));
    assert_eq!(
        spec["properties"]["strategy"],
        json!({"allOf": [{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}], "description": "How to roll.", "x-kubernetes-patch-strategy": "retainKeys"})
    );
    let ports = &schemas["io.k8s.api.core.v1.Container"]["properties"]["ports"];
    assert_eq!(
        ports["x-kubernetes-list-map-keys"],
        json!(["containerPort", "protocol"])
    );
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "containerPort");
    assert_eq!(
        schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"],
        "int-or-string"
    );
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    let parameters: Vec<_> = patch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    assert!(parameters.contains(&"dryRun") && parameters.contains(&"fieldValidation"));
    let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"];
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
}

#[test]
fn custom_resources_bring_their_schemas() {
    let mut scheme = Scheme::new();
    scheme.insert(resource("example.com", "v1", "Foo", "foos", "foo"));
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "nullable": true, "description": "Wanted."}}});
    let custom = |_: &Resource| Some(schema.clone());
    let document = v3_with(
        &scheme,
        builtin(),
        &GroupVersion::new("example.com", "v1"),
        &NoDocs,
        &custom,
    );
    let schemas = document["components"]["schemas"].as_object().unwrap();
    assert_eq!(
        schemas["com.example.v1.Foo"]["properties"]["spec"]["description"],
        "Wanted."
    );
    assert_eq!(
        schemas["com.example.v1.Foo"]["x-kubernetes-group-version-kind"][0]["kind"],
        "Foo"
    );
    assert!(schemas.contains_key("com.example.v1.FooList"));
    assert_eq!(
        dangling(&document, "#/components/schemas/", schemas),
        Vec::<String>::new()
    );
    let document = v2_with(&scheme, builtin(), &NoDocs, &custom);
    let definitions = document["definitions"].as_object().unwrap();
    assert!(
        definitions["com.example.v1.Foo"]["properties"]["spec"]
            .get("nullable")
            .is_none()
    );
    assert_eq!(
        dangling(&document, "#/definitions/", definitions),
        Vec::<String>::new()
    );
}

#[test]
fn what_kubectl_would_misread_is_left_out_of_version_two() {
    let mut scheme = Scheme::new();
    scheme.insert(resource("example.com", "v1", "Foo", "foos", "foo"));
    let kinds = json!([{"group": "example.com", "version": "v1", "kind": "Foo"}]);
    let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = |schema: Value| {
        let document = v2_with(&scheme, builtin(), &NoDocs, &|_: &Resource| Some(schema.clone()));
        document["definitions"]["com.example.v1.Foo"].clone()
    };
    let open = json!({"type": "object", "x-kubernetes-group-version-kind": kinds});
    assert_eq!(definition(free.clone()), open);
    assert_eq!(definition(Value::Null), open);
    let nullable = json!({"type": "array", "nullable": true, "items": {"type": "string"}});
    let made = definition(json!({"type": "object", "properties": {
        "not": {"type": "string"},
        "spec": {"type": "object", "required": ["a", "b"], "properties": {
            "a": nullable,
            "b": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "c": free,
        }},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
    }}));
    let properties = &made["properties"];
    assert_eq!(properties["not"], json!({"type": "string"}));
    assert_eq!(
        properties["spec"],
        json!({"type": "object", "required": ["b"], "properties": {
            "a": {},
            "b": {"x-kubernetes-int-or-string": true},
            "c": {"x-kubernetes-preserve-unknown-fields": true},
        }})
    );
    assert_eq!(properties["pod"]["required"], json!(["kind", "apiVersion"]));
    for object in [&made, &properties["pod"]] {
        let metadata = &object["properties"]["metadata"]["$ref"];
        assert_eq!(
            metadata,
            "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
        );
        assert_eq!(object["properties"]["kind"]["type"], "string");
    }
}

#[test]
fn the_index_names_every_group_version() {
    let mut all = scheme();
    all.insert(resource(
        "",
        "v1",
        "Secret",
        "secrets",
        "io.k8s.api.core.v1.Secret",
    ));
    let index = v3_index(&all, |version| format!("h-{}", version.version));
    assert_eq!(
        index["paths"]["api/v1"]["serverRelativeURL"],
        "/openapi/v3/api/v1?hash=h-v1"
    );
    assert_eq!(
        index["paths"]["apis/apps/v1"]["serverRelativeURL"],
        "/openapi/v3/apis/apps/v1?hash=h-v1"
    );
}
