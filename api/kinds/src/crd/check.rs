//! What is wrong with a CustomResourceDefinition.

use crate::check::{immutable, required_enum};
use rutter_api::crd::{SchemaRules, anywhere, check_schema, field_at, has_extensions, unsupported};
use rutter_api::object::ObjectExt;
use rutter_api::validation::{At, dns_label_1035, dns_subdomain};
use rutter_api::{ErrorList, FieldError, Path, Value};
use std::collections::BTreeSet;

const MAX_SELECTABLE_FIELDS: usize = 8;
const APPROVED: &str = "api-approved.kubernetes.io";

/// What a definition is held to.
struct Rules<'o> {
    schema: SchemaRules,
    /// Schemas must be there, also of versions that aren't served.
    schemas: bool,
    /// One of the review versions must be known here.
    review_version: bool,
    /// The definition before this change.
    old: Option<&'o Value>,
}

impl Rules<'_> {
    /// The schema that a version had before this change.
    fn schema_before(&self, version: &str) -> Option<&Value> {
        let versions = self.old?.list_at("spec.versions").iter();
        let before = versions
            .into_iter()
            .find(|before| before.str_at("name") == version)?;
        Some(before.at("schema.openAPIV3Schema"))
    }
}

fn schemas(definition: &Value) -> impl Iterator<Item = &Value> + Clone {
    let versions = definition.list_at("spec.versions").iter();
    versions
        .map(|version| version.at("schema.openAPIV3Schema"))
        .filter(|schema| !schema.is_null())
}

fn is_known_review(version: &Value) -> bool {
    matches!(version.as_str(), Some("v1" | "v1beta1"))
}

/// What is wrong with a new definition.
pub(super) fn create(object: &Value) -> ErrorList {
    let rules = Rules {
        schema: SchemaRules::ALL,
        schemas: true,
        review_version: true,
        old: None,
    };
    let root = At::root(object);
    let (group, plural) = (object.str_at("spec.group"), object.str_at("spec.names.plural"));
    let mut errors = ErrorList::new();
    if object.name() != format!("{plural}.{group}") {
        let name = root.child("metadata");
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(name.child("name").invalid(detail));
    }
    spec(object, &rules, &mut errors);
    status(object, &mut errors);
    approval(object, None, &mut errors);
    errors
}

/// What is wrong with a changed definition. What was tolerated before stays so.
pub(super) fn update(object: &Value, old: &Value) -> ErrorList {
    let reviews = old.list_at("spec.conversion.webhook.conversionReviewVersions");
    let rules = Rules {
        schema: SchemaRules::of_old(schemas(old)),
        schemas: old
            .list_at("spec.versions")
            .iter()
            .all(|version| !version.at("schema.openAPIV3Schema").is_null()),
        review_version: reviews.is_empty() || reviews.iter().any(is_known_review),
        old: Some(old),
    };
    let mut errors = ErrorList::new();
    spec(object, &rules, &mut errors);
    let root = At::root(object);
    let here = root.child("spec");
    if super::condition(old, "Established") == Some("True") {
        for field in ["scope", "names.kind"] {
            immutable(&here.child(field), old.at("spec").at(field), &mut errors);
        }
    }
    for field in ["group", "names.plural"] {
        immutable(&here.child(field), old.at("spec").at(field), &mut errors);
    }
    status(object, &mut errors);
    approval(object, Some(old), &mut errors);
    errors
}

fn spec(object: &Value, rules: &Rules<'_>, errors: &mut ErrorList) {
    let root = At::root(object);
    let spec = root.child("spec");
    let group = spec.child("group");
    let wrong = dns_subdomain(group.text());
    if group.is_empty() {
        errors.push(group.required(""));
    } else if !wrong.is_empty() {
        errors.push(group.invalid(wrong.join(",")));
    } else if !group.text().contains('.') {
        errors.push(group.invalid("should be a domain with at least one dot"));
    }
    required_enum(&spec.child("scope"), &["Cluster", "Namespaced"], errors);
    let preserving = spec.child("preserveUnknownFields");
    let mut schema_rules = rules.schema;
    schema_rules.structural |= !preserving.flag();
    let versions = spec.child("versions");
    for version in versions.items() {
        let schema = version.child("schema").value.at("openAPIV3Schema");
        if schema.is_null() {
            let at = version.child("schema");
            if rules.schemas {
                errors.push(at.field("openAPIV3Schema", schema).required(""));
            } else if !preserving.flag() && version.child("served").flag() {
                let detail = "because otherwise all fields are pruned";
                errors.push(at.field("openAPIV3Schema", schema).required(detail));
            }
        }
    }
    if schemas(object).any(|schema| anywhere(schema, &|schema| !schema.at("default").is_null())) {
        schema_rules.structural = true;
        if preserving.flag() {
            errors.push(preserving.invalid("must be false in order to use defaults in the schema"));
        }
    }
    schema_rules.structural |= schemas(object).any(has_extensions);
    self::versions(&versions, schema_rules, rules, errors);
    let names = spec.child("names");
    for field in ["plural", "singular", "kind", "listKind"] {
        if names.child(field).is_empty() {
            errors.push(names.child(field).required(""));
        }
    }
    self::naming(&names, errors);
    let conversion = spec.child("conversion");
    if conversion.child("strategy").text() == "Webhook" && preserving.flag() {
        let detail = "must be None if spec.preserveUnknownFields is true";
        errors.push(conversion.child("strategy").invalid(detail));
    }
    self::conversion(&conversion, rules, errors);
    if preserving.flag()
        && rules
            .old
            .is_none_or(|old| old.bool_at("spec.preserveUnknownFields") != Some(true))
    {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(preserving.invalid(detail));
    }
}

fn versions(at: &At<'_, '_>, schema: SchemaRules, rules: &Rules<'_>, errors: &mut ErrorList) {
    let mut names = BTreeSet::new();
    let mut unique = true;
    let mut stored = 0;
    for version in at.items() {
        let name = version.child("name");
        unique &= names.insert(name.text());
        stored += i32::from(version.child("storage").flag());
        let wrong = dns_label_1035(name.text());
        if !wrong.is_empty() {
            errors.push(name.invalid_as(name.text(), wrong.join(",")));
        }
        self::version(&version, schema, rules, errors);
    }
    if !unique {
        errors.push(at.invalid("must contain unique version names"));
    }
    if stored != 1 {
        errors.push(at.invalid("must have exactly one version marked as storage version"));
    }
}

fn version(version: &At<'_, '_>, rules: SchemaRules, all: &Rules<'_>, errors: &mut ErrorList) {
    deprecation(version, errors);
    let has_status = version.child("subresources.status").is_set();
    let in_schema = version.child("schema");
    let schema = in_schema.field("openAPIV3Schema", in_schema.value.at("openAPIV3Schema"));
    if schema.is_set() {
        let wrong = check_schema(schema.value, has_status, rules, &schema.path());
        // Rules are read through the schema, so it must be right.
        if wrong.is_empty() {
            let unchanged = all.schema_before(version.child("name").text()) == Some(schema.value);
            errors.extend(rutter_cel::rules::check(schema.value, &schema.path(), unchanged));
        }
        errors.extend(wrong);
    }
    scale(&version.child("subresources"), errors);
    for column in version.child("additionalPrinterColumns").items() {
        self::column(&column, errors);
    }
    selectable_fields(version, schema.value, all, errors);
}

fn deprecation(version: &At<'_, '_>, errors: &mut ErrorList) {
    let warning = version.child("deprecationWarning");
    if warning.is_null() {
        return;
    }
    if !version.child("deprecated").flag() {
        errors.push(warning.invalid("can only be set for deprecated versions"));
    }
    if warning.text().len() > 256 {
        errors.push(warning.invalid("must be <= 256 characters long"));
    }
    if warning.is_empty() {
        errors.push(warning.invalid("must not be an empty string"));
    }
    let mut letters = warning.text().char_indices();
    if let Some((index, _)) = letters.find(|(_, c)| c.is_control() || (c.is_whitespace() && *c != ' ')) {
        errors.push(warning.invalid(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {index}"
        )));
    }
}

fn scale(subresources: &At<'_, '_>, errors: &mut ErrorList) {
    let scale = subresources.child("scale");
    if scale.is_null() {
        return;
    }
    for (field, start, required) in [
        ("specReplicasPath", [".spec."].as_slice(), true),
        ("statusReplicasPath", &[".status."], true),
        ("labelSelectorPath", &[".spec.", ".status."], false),
    ] {
        let path = scale.child(field);
        if path.is_empty() {
            if required {
                errors.push(path.required(""));
            }
        } else if !path.text().starts_with('.') {
            errors.push(path.invalid("must be a simple json path starting with ."));
        } else if !start.iter().any(|start| path.text().starts_with(start)) {
            let below = match field {
                "specReplicasPath" => ".spec",
                "statusReplicasPath" => ".status",
                _ => "either .spec or .status",
            };
            errors.push(path.invalid(format!("should be a json path under {below}")));
        }
    }
}

fn column(column: &At<'_, '_>, errors: &mut ErrorList) {
    const KINDS: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = [
        "byte",
        "date",
        "date-time",
        "double",
        "float",
        "int32",
        "int64",
        "password",
    ];
    let (name, kind, format, path) = (
        column.child("name"),
        column.child("type"),
        column.child("format"),
        column.child("jsonPath"),
    );
    if name.is_empty() {
        errors.push(name.required(""));
    }
    let detail = format!("must be one of {}", KINDS.join(","));
    if kind.is_empty() {
        errors.push(kind.required(detail));
    } else if !KINDS.contains(&kind.text()) {
        errors.push(kind.invalid(detail));
    }
    if !format.is_empty() && !FORMATS.contains(&format.text()) {
        errors.push(format.invalid(format!("must be one of {}", FORMATS.join(","))));
    }
    // The path of the error is spelled as the type's field is.
    let shown = column.field("JSONPath", path.value);
    if path.is_empty() {
        errors.push(shown.required(""));
    } else if !path.text().starts_with('.') {
        errors.push(shown.invalid("must be a simple json path starting with ."));
    }
}

fn selectable_fields(version: &At<'_, '_>, schema: &Value, rules: &Rules<'_>, errors: &mut ErrorList) {
    let fields = version.child("selectableFields");
    if fields.is_empty() {
        return;
    }
    if schema.is_null() {
        let detail = "may only be set when `version.schema.openAPIV3Schema` is not included";
        errors.push(fields.invalid_as("", detail));
        return;
    }
    if unsupported(schema).is_some() {
        // Told with the schema already.
        return;
    }
    let mut seen = BTreeSet::new();
    for field in fields.items() {
        let path = field.child("jsonPath");
        if path.is_empty() {
            errors.push(path.required(""));
            continue;
        }
        let (place, found) = match field_at(schema, path.text()) {
            Ok(found) => found,
            Err(why) => {
                errors.push(path.invalid(format!("is an invalid path: {why}")));
                continue;
            }
        };
        if place.as_str().split(['.', '[']).next() == Some("metadata") {
            errors.push(path.invalid("must not point to fields in metadata"));
        }
        if !matches!(found.str_at("type"), "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(path.invalid(detail));
        }
        if !seen.insert(place.to_string()) {
            errors.push(path.duplicate());
        }
    }
    let before = rules
        .old
        .map(|old| old.list_at("spec.versions"))
        .unwrap_or_default();
    let before = before
        .iter()
        .find(|old| old.str_at("name") == version.child("name").text());
    let unchanged = before.is_some_and(|old| old.at("selectableFields") == fields.value);
    if seen.len() > MAX_SELECTABLE_FIELDS && !unchanged {
        errors.push(FieldError::too_many(
            &fields.path(),
            seen.len(),
            MAX_SELECTABLE_FIELDS,
        ));
    }
}

fn conversion(conversion: &At<'_, '_>, rules: &Rules<'_>, errors: &mut ErrorList) {
    if conversion.is_null() {
        return;
    }
    let strategy = conversion.child("strategy");
    required_enum(&strategy, &["None", "Webhook"], errors);
    let config = conversion.value.at("webhook.clientConfig");
    let reviews = conversion.value.at("webhook.conversionReviewVersions");
    let config_at = conversion.field("webhookClientConfig", config);
    let reviews_at = conversion.field("conversionReviewVersions", reviews);
    if strategy.text() != "Webhook" {
        let detail = "should not be set when strategy is not set to Webhook";
        if config_at.is_set() {
            errors.push(config_at.forbidden(detail));
        }
        if !reviews_at.is_empty() {
            errors.push(reviews_at.forbidden(detail));
        }
        return;
    }
    if config_at.is_null() {
        errors.push(config_at.required("required when strategy is set to Webhook"));
    } else {
        crate::admission::client_config(&config_at, errors);
    }
    if reviews_at.is_empty() {
        errors.push(reviews_at.required(""));
        return;
    }
    let mut seen = BTreeSet::new();
    for review in reviews_at.items() {
        if !seen.insert(review.text()) {
            errors.push(review.invalid("duplicate version"));
            continue;
        }
        review.all(errors, dns_label_1035(review.text()));
    }
    if rules.review_version && !reviews_at.items().any(|review| is_known_review(review.value)) {
        errors.push(reviews_at.invalid("must include at least one of v1, v1beta1"));
    }
}

/// What is wrong with the accepted names of a status.
pub(super) fn names(object: &Value, errors: &mut ErrorList) {
    let root = At::root(object);
    let status = root.child("status");
    naming(&status.child("acceptedNames"), errors);
}

/// What is wrong with names, where there are any.
fn naming(names: &At<'_, '_>, errors: &mut ErrorList) {
    for field in ["plural", "singular"] {
        let at = names.child(field);
        let wrong = dns_label_1035(at.text());
        if !at.is_empty() && !wrong.is_empty() {
            errors.push(at.invalid(wrong.join(",")));
        }
    }
    for field in ["kind", "listKind"] {
        let at = names.child(field);
        let wrong = dns_label_1035(&at.text().to_lowercase());
        if !at.is_empty() && !wrong.is_empty() {
            errors.push(at.invalid(format!(
                "may have mixed case, but should otherwise match: {}",
                wrong.join(",")
            )));
        }
    }
    let all = |field: &str, errors: &mut ErrorList| {
        for name in names.child(field).items() {
            let wrong = dns_label_1035(name.text());
            if !wrong.is_empty() {
                errors.push(name.invalid(wrong.join(",")));
            }
        }
    };
    all("shortNames", errors);
    let (kind, list) = (names.child("kind"), names.child("listKind"));
    if !kind.is_empty() && kind.text() == list.text() {
        errors.push(list.invalid("kind and listKind may not be the same"));
    }
    all("categories", errors);
}

/// What is wrong with a status.
fn status(object: &Value, errors: &mut ErrorList) {
    names(object, errors);
    let root = At::root(object);
    let status = root.child("status");
    let stored = status.child("storedVersions");
    if stored.is_empty() {
        errors.push(stored.invalid_as(Value::Array(Vec::new()), "must have at least one stored version"));
        return;
    }
    let versions = object.list_at("spec.versions");
    for version in versions
        .iter()
        .filter(|version| version.bool_at("storage") == Some(true))
    {
        let name = version.str_at("name");
        if !stored.items().any(|stored| stored.text() == name) {
            errors.push(stored.invalid(format!("must have the storage version {name}")));
        }
    }
    for (index, version) in stored.items().enumerate() {
        let name = version.text();
        if !versions.iter().any(|known| known.str_at("name") == name) {
            let path = Path::new("status.storedVersions").index(index);
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(&path, name, detail));
        }
    }
}

/// Where a definition of a community group stands in its approval.
#[derive(PartialEq, Eq)]
pub(super) enum Approval {
    Missing,
    Bypassed,
    Approved,
    Invalid,
}

/// Whether groups like this need approval by the community.
pub(super) fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

pub(super) fn approval_of(object: &Value) -> Approval {
    let text = object.annotation(APPROVED).unwrap_or_default();
    let url = text.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty()
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && !rest.split(['/', '?']).next().unwrap_or_default().is_empty()
    });
    match text {
        "" => Approval::Missing,
        _ if text.starts_with("unapproved") => Approval::Bypassed,
        _ if url => Approval::Approved,
        _ => Approval::Invalid,
    }
}

fn approval(object: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    if !is_protected(object.str_at("spec.group")) {
        return;
    }
    let state = approval_of(object);
    if old.is_some_and(|old| approval_of(old) == state) {
        return;
    }
    let path = Path::new("metadata.annotations").key(APPROVED);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match state {
        Approval::Approved | Approval::Bypassed => {}
        Approval::Missing => errors.push(FieldError::required(
            &path,
            format!("protected groups must have approval annotation {APPROVED:?}, {see}"),
        )),
        Approval::Invalid => errors.push(FieldError::invalid(
            &path,
            object.annotation(APPROVED).unwrap_or_default(),
            format!(
                "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", {see}"
            ),
        )),
    }
}

/// Formats in schemas that are checked by nobody.
pub(super) fn unknown_formats(definition: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let found_in = std::cell::RefCell::new(&mut found);
    for schema in schemas(definition) {
        anywhere(schema, &|schema| {
            let format = schema.str_at("format");
            if !format.is_empty() && !rutter_api::crd::is_format(format) {
                found_in.borrow_mut().insert(format.to_owned());
            }
            false
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(version: Value) -> Value {
        let mut version = version;
        version.set_default("name", "v1");
        version.set_default("served", true);
        version.set_default("storage", true);
        version.set_default("schema", json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {"host": {"type": "string"}, "tags": {"type": "object"}}}}}}));
        json!({
            "metadata": {"name": "foos.x.io"},
            "spec": {
                "group": "x.io", "scope": "Namespaced", "conversion": {"strategy": "None"},
                "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"},
                "versions": [version],
            },
            "status": {"storedVersions": ["v1"]},
        })
    }

    fn told(object: &Value) -> Vec<String> {
        create(object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn wrong_definitions_are_told_as_upstream_tells_them() {
        let changed = |path: &str, value: Value| {
            let mut object = definition(json!({}));
            object.set(path, value);
            object
        };
        for (object, want) in [
            (definition(json!({})), vec![]),
            (
                changed("metadata.name", json!("x")),
                vec![r#"metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group"#],
            ),
            (
                changed("spec.preserveUnknownFields", json!(true)),
                vec![
                    "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
                ],
            ),
            (
                changed("spec.names.listKind", json!("Foo")),
                vec![r#"spec.names.listKind: Invalid value: "Foo": kind and listKind may not be the same"#],
            ),
            (
                changed("status.storedVersions", json!(["v0", "v1"])),
                vec![
                    r#"status.storedVersions[0]: Invalid value: "v0": missing from spec.versions; v0 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v0 and removes v0 from status.storedVersions"#,
                ],
            ),
            (
                changed("spec.conversion", json!({"strategy": "Webhook"})),
                vec![
                    "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
                    "spec.conversion.conversionReviewVersions: Required value",
                ],
            ),
            (
                definition(
                    json!({"selectableFields": [{"jsonPath": ".spec.host"}, {"jsonPath": ".spec.host"}, {"jsonPath": ".spec.tags"}, {"jsonPath": ".spec.x"}]}),
                ),
                vec![
                    r#"spec.versions[0].selectableFields[1].jsonPath: Duplicate value: ".spec.host""#,
                    r#"spec.versions[0].selectableFields[2].jsonPath: Invalid value: ".spec.tags": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."#,
                    r#"spec.versions[0].selectableFields[3].jsonPath: Invalid value: ".spec.x": is an invalid path: does not refer to a valid field"#,
                ],
            ),
            (
                definition(
                    json!({"subresources": {"scale": {"specReplicasPath": "spec", "statusReplicasPath": ".spec.x"}}, "deprecationWarning": "x"}),
                ),
                vec![
                    r#"spec.versions[0].deprecationWarning: Invalid value: "x": can only be set for deprecated versions"#,
                    r#"spec.versions[0].subresources.scale.specReplicasPath: Invalid value: "spec": must be a simple json path starting with ."#,
                    r#"spec.versions[0].subresources.scale.statusReplicasPath: Invalid value: ".spec.x": should be a json path under .status"#,
                ],
            ),
            (
                definition(
                    json!({"additionalPrinterColumns": [{"name": "a", "type": "x", "jsonPath": "a"}]}),
                ),
                vec![
                    r#"spec.versions[0].additionalPrinterColumns[0].type: Invalid value: "x": must be one of boolean,date,integer,number,string"#,
                    r#"spec.versions[0].additionalPrinterColumns[0].JSONPath: Invalid value: "a": must be a simple json path starting with ."#,
                ],
            ),
            (
                definition(json!({"schema": {}})),
                vec!["spec.versions[0].schema.openAPIV3Schema: Required value"],
            ),
        ] {
            assert_eq!(told(&object), want);
        }
    }

    #[test]
    fn groups_of_the_community_need_approval() {
        let mut object = definition(json!({}));
        object.set("spec.group", "foo.k8s.io");
        object.set("metadata.name", "foos.foo.k8s.io");
        assert!(told(&object)[0].starts_with(
            "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups"
        ));
        for (text, want) in [("unapproved, test", 0), ("https://x.io/1", 0), ("maybe", 1)] {
            object["metadata"]["annotations"] = json!({APPROVED: text});
            assert_eq!(told(&object).len(), want, "{text}");
        }
    }

    #[test]
    fn an_established_definition_keeps_its_scope_and_a_wrong_schema_may_stay() {
        let mut old =
            definition(json!({"schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {}}}}}));
        old.set(
            "status.conditions",
            json!([{"type": "Established", "status": "True"}]),
        );
        let mut new = old.clone();
        new.set("spec.scope", "Cluster");
        let told: Vec<String> = update(&new, &old).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "spec.versions[0].schema.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields",
                r#"spec.scope: Invalid value: "Cluster": field is immutable"#,
            ],
            "a definition that prunes must be structural"
        );
        assert_eq!(
            unknown_formats(&definition(
                json!({"schema": {"openAPIV3Schema": {"format": "nothing"}}})
            ))
            .len(),
            1
        );
    }
}
