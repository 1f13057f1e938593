//! Role, ClusterRole, RoleBinding and ClusterRoleBinding.

use crate::check::{enumerated, required_text};
use crate::fill::{each, inside, text, text_of};
use crate::print::{self, AGE, NAME};
use rutter_api::FieldError;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, NameRule};
use rutter_api::validation::{At, dns_subdomain, label_selector, path_segment};
use rutter_api::{Context, ErrorList, Strategy, Value};

pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

/// Role and ClusterRole.
pub(crate) struct Role {
    /// Whether it is a ClusterRole.
    pub(crate) cluster: bool,
}

/// RoleBinding and ClusterRoleBinding.
pub(crate) struct RoleBinding {
    /// Whether it is a ClusterRoleBinding.
    pub(crate) cluster: bool,
}

impl Strategy for Role {
    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate_role(object, self.cluster)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = (old, cx);
        validate_role(object, self.cluster)
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn columns(&self) -> &'static [Column] {
        print::CREATED_AT
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        print::created_at(object, cx)
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

impl Strategy for RoleBinding {
    fn default_object(&self, object: &mut Value) {
        let Some(fields) = object.as_object_mut() else {
            return;
        };
        if let Some(role) = inside(fields, "roleRef") {
            text(role, "apiGroup", GROUP);
        }
        for subject in each(fields, "subjects") {
            if matches!(text_of(subject, "kind"), "User" | "Group") {
                text(subject, "apiGroup", GROUP);
            }
        }
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate_binding(object, self.cluster)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        validate_binding_change(object, old, self.cluster)
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Role", "The role it gives."),
            AGE,
            print::wide("Users", "Users it gives it to."),
            print::wide("Groups", "Groups it gives it to."),
            print::wide("ServiceAccounts", "Service accounts it gives it to."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let of = |kind: &str| {
            let subjects = object
                .list_at("subjects")
                .iter()
                .filter(|s| s.str_at("kind") == kind);
            let names = subjects.map(|s| match (kind, s.str_at("namespace")) {
                ("ServiceAccount", namespace) if !namespace.is_empty() => {
                    format!("{namespace}/{}", s.str_at("name"))
                }
                _ => s.str_at("name").to_owned(),
            });
            Value::from(names.collect::<Vec<_>>().join(", "))
        };
        let role = object.at("roleRef");
        vec![
            print::name(object),
            Value::from(format!("{}/{}", role.str_at("kind"), role.str_at("name"))),
            print::age(object, cx),
            of("User"),
            of("Group"),
            of("ServiceAccount"),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

fn validate_role(object: &Value, cluster: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    for rule in root.child("rules").items() {
        let urls = rule.child("nonResourceURLs");
        if rule.child("verbs").is_empty() {
            errors.push(
                rule.child("verbs")
                    .required("verbs must contain at least one value"),
            );
        }
        let (groups, resources) = (rule.child("apiGroups"), rule.child("resources"));
        if !urls.is_empty() {
            if !cluster {
                errors.push(urls.invalid("namespaced rules cannot apply to non-resource URLs"));
            }
            if !groups.is_empty() || !resources.is_empty() || !rule.child("resourceNames").is_empty() {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(urls.invalid(detail));
            }
            continue;
        }
        if groups.is_empty() {
            errors.push(groups.required("resource rules must supply at least one api group"));
        }
        if resources.is_empty() {
            errors.push(resources.required("resource rules must supply at least one resource"));
        }
    }
    let aggregation = root.child("aggregationRule");
    if cluster && aggregation.is_set() {
        let selectors = aggregation.child("clusterRoleSelectors");
        if selectors.is_empty() {
            let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.push(selectors.required(detail));
        }
        for selector in selectors.items() {
            label_selector(&selector, false, &mut errors);
        }
    }
    errors
}

fn validate_binding(object: &Value, cluster: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let role = root.child("roleRef");
    enumerated(&role.child("apiGroup"), &[GROUP], &mut errors);
    let kinds: &[&str] = if cluster {
        &["ClusterRole"]
    } else {
        &["Role", "ClusterRole"]
    };
    enumerated(&role.child("kind"), kinds, &mut errors);
    let name = role.child("name");
    if name.is_empty() {
        errors.push(name.required(""));
    } else {
        name.all(&mut errors, path_segment(name.text(), false));
    }
    for subject in root.child("subjects").items() {
        required_text(&subject.child("name"), &mut errors);
        let group = subject.child("apiGroup");
        match subject.child("kind").text() {
            "ServiceAccount" => {
                let name = subject.child("name");
                if !name.is_empty() {
                    name.all(&mut errors, dns_subdomain(name.text()));
                }
                if !group.is_empty() {
                    errors.push(group.not_supported(&[""]));
                }
                if cluster {
                    required_text(&subject.child("namespace"), &mut errors);
                }
            }
            "User" | "Group" => enumerated(&group, &[GROUP], &mut errors),
            _ => errors.push(
                subject
                    .child("kind")
                    .not_supported(&["ServiceAccount", "User", "Group"]),
            ),
        }
    }
    errors
}

fn validate_binding_change(object: &Value, old: &Value, cluster: bool) -> ErrorList {
    let mut errors = validate_binding(object, cluster);
    if object.at("roleRef") != old.at("roleRef") {
        let path = "roleRef".into();
        errors.push(FieldError::invalid(
            &path,
            object.at("roleRef").clone(),
            "cannot change roleRef",
        ));
    }
    errors
}
