//! Role, ClusterRole, RoleBinding and ClusterRoleBinding.

use crate::fill::{each, inside, text, text_of};
use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, NameRule};
use rutter_api::{Context, Strategy, Value};

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
