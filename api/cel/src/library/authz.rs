//! What somebody may do: `authorizer.group('').resource('pods').check('create').allowed()`.

use super::{Authorizations, Functions, fail, native_of, object, wrong};
use crate::error::{EvalError, Result};
use crate::types::Type;
use crate::value::{AuthorizationCheck, Decision, Native, ResourceCheck, Subject, Value, as_text};
use rutter_api::validation::{dns_label, dns_subdomain};
use std::sync::Arc;

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, String};
    let authorizer = || object(Native::AUTHORIZER);
    let path = || object(Native::PATH_CHECK);
    let group = || object(Native::GROUP_CHECK);
    let resource = || object(Native::RESOURCE_CHECK);
    let decision = || object(Native::DECISION);
    f.member(
        "path",
        "authorizer_path",
        &[authorizer(), String],
        path(),
        |_, args| {
            let path = as_text(&args[1])?;
            if path.trim().is_empty() {
                return fail("path must not be empty");
            }
            let check = (subject(&args[0])?.clone(), path.to_owned());
            Ok(Value::Native(Native::PathCheck(Arc::new(check))))
        },
    );
    f.member(
        "group",
        "authorizer_group",
        &[authorizer(), String],
        group(),
        |_, args| {
            let check = (subject(&args[0])?.clone(), as_text(&args[1])?.to_owned());
            Ok(Value::Native(Native::GroupCheck(Arc::new(check))))
        },
    );
    let account = [authorizer(), String, String];
    f.member(
        "serviceAccount",
        "authorizer_serviceaccount",
        &account,
        authorizer(),
        |_, args| {
            subject(&args[0])?;
            let (namespace, name) = (as_text(&args[1])?, as_text(&args[2])?);
            if !dns_subdomain(name).is_empty() {
                return fail("Invalid service account name");
            }
            if !dns_label(namespace).is_empty() {
                return fail("Invalid service account namespace");
            }
            let account = Subject::ServiceAccount(Arc::new((namespace.to_owned(), name.to_owned())));
            Ok(Value::Native(Native::Authorizer(account)))
        },
    );
    f.member(
        "resource",
        "groupcheck_resource",
        &[group(), String],
        resource(),
        |_, args| {
            let Native::GroupCheck(group) = native_of(&args[0])? else {
                return wrong();
            };
            let resource = as_text(&args[1])?;
            if resource.trim().is_empty() {
                return fail("resource must not be empty");
            }
            let check = AuthorizationCheck {
                subject: group.0.clone(),
                group: group.1.clone(),
                resource: resource.to_owned(),
                ..AuthorizationCheck::default()
            };
            Ok(Value::Native(Native::ResourceCheck(Arc::new(ResourceCheck {
                check,
            }))))
        },
    );
    type Set = fn(&mut AuthorizationCheck, std::string::String);
    macro_rules! parts {
        ($($name:literal, $id:literal => $set:expr;)*) => {$(
            f.member($name, $id, &[resource(), String], resource(), |_, args| {
                let set: Set = $set;
                with(args, set)
            });
        )*};
    }
    parts! {
        "subresource", "resourcecheck_subresource" => |check, text| check.subresource = text;
        "namespace", "resourcecheck_namespace" => |check, text| check.namespace = text;
        "name", "resourcecheck_name" => |check, text| check.name = text;
        "fieldSelector", "authorizer_fieldselector" => |check, text| check.field_selector = text;
        "labelSelector", "authorizer_labelselector" => |check, text| check.label_selector = text;
    }
    f.member(
        "check",
        "pathcheck_check",
        &[path(), String],
        decision(),
        |cx, args| {
            let Native::PathCheck(path) = native_of(&args[0])? else {
                return wrong();
            };
            let check = AuthorizationCheck {
                subject: path.0.clone(),
                path: path.1.clone(),
                verb: as_text(&args[1])?.to_owned(),
                ..AuthorizationCheck::default()
            };
            decide(cx, check)
        },
    );
    f.member(
        "check",
        "resourcecheck_check",
        &[resource(), String],
        decision(),
        |cx, args| {
            let Native::ResourceCheck(resource) = native_of(&args[0])? else {
                return wrong();
            };
            let verb = as_text(&args[1])?.to_owned();
            decide(
                cx,
                AuthorizationCheck {
                    verb,
                    ..resource.check.clone()
                },
            )
        },
    );
    f.member("errored", "decision_errored", &[decision()], Bool, |_, args| {
        Ok(Value::Bool(decided(&args[0])?.error.is_some()))
    });
    f.member("error", "decision_error", &[decision()], String, |_, args| {
        Ok(Value::text(decided(&args[0])?.error.clone().unwrap_or_default()))
    });
    f.member("allowed", "decision_allowed", &[decision()], Bool, |_, args| {
        Ok(Value::Bool(decided(&args[0])?.allowed))
    });
    f.member("reason", "decision_reason", &[decision()], String, |_, args| {
        Ok(Value::text(decided(&args[0])?.reason.clone()))
    });
}

fn subject<'v>(value: &'v Value<'_>) -> Result<&'v Subject> {
    match native_of(value)? {
        Native::Authorizer(subject) => Ok(subject),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn decided<'v>(value: &'v Value<'_>) -> Result<&'v Decision> {
    match native_of(value)? {
        Native::Decision(decision) => Ok(decision),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn with<'a>(args: &[Value<'a>], set: fn(&mut AuthorizationCheck, String)) -> Result<Value<'a>> {
    let Native::ResourceCheck(resource) = native_of(&args[0])? else {
        return wrong();
    };
    let mut check = resource.check.clone();
    set(&mut check, as_text(&args[1])?.to_owned());
    Ok(Value::Native(Native::ResourceCheck(Arc::new(ResourceCheck {
        check,
    }))))
}

fn decide<'a>(cx: &dyn Authorizations, check: AuthorizationCheck) -> Result<Value<'a>> {
    match cx.decision(&check) {
        Some(decision) => Ok(Value::Native(Native::Decision(decision))),
        None => Err(EvalError::Undecided(Arc::new(check))),
    }
}
