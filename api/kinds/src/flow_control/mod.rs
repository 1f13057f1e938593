//! FlowSchema and PriorityLevelConfiguration.

use crate::check::{enumerated, in_range, required_text};
use crate::fill::{Fields, absent, inside, number, spec};
use crate::print::{self, AGE, NAME, NONE};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::{At, dns_subdomain};
use rutter_api::{Context, ErrorList, Strategy, Value};

/// FlowSchema.
pub(crate) struct FlowSchema;

/// PriorityLevelConfiguration.
pub(crate) struct PriorityLevelConfiguration;

impl Strategy for FlowSchema {
    fn default_object(&self, object: &mut Value) {
        if let Some(spec) = spec(object) {
            number(spec, "matchingPrecedence", 1000);
        }
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate_schema(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = old;
        if cx.subresource == "status" {
            ErrorList::new()
        } else {
            validate_schema(object)
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("PriorityLevel", "The priority level of its requests."),
            print::text("MatchingPrecedence", "Which schema comes first: the lower."),
            print::text("DistinguisherMethod", "What tells its flows apart."),
            AGE,
            print::text("MissingPL", "Whether its priority level is missing."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let dangling = object
            .list_at("status.conditions")
            .iter()
            .find(|c| c.str_at("type") == "Dangling");
        vec![
            print::name(object),
            Value::from(object.str_at("spec.priorityLevelConfiguration.name")),
            print::count(object, "spec.matchingPrecedence"),
            print::text_or(object, "spec.distinguisherMethod.type", NONE),
            print::age(object, cx),
            Value::from(dangling.map_or("?", |c| c.str_at("status"))),
        ]
    }
}

impl Strategy for PriorityLevelConfiguration {
    fn default_object(&self, object: &mut Value) {
        let Some(spec) = spec(object) else { return };
        if let Some(exempt) = inside(spec, "exempt") {
            absent(exempt, "nominalConcurrencyShares", 0);
            absent(exempt, "lendablePercent", 0);
        }
        if let Some(limited) = inside(spec, "limited") {
            absent(limited, "nominalConcurrencyShares", 30);
            absent(limited, "lendablePercent", 0);
            if let Some(queuing) = inside(limited, "limitResponse").and_then(|r| inside(r, "queuing")) {
                default_queuing(queuing);
            }
        }
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate_level(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = old;
        if cx.subresource == "status" {
            ErrorList::new()
        } else {
            validate_level(object)
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Type", "Limited or Exempt."),
            print::text("NominalConcurrencyShares", "Its share of the requests at work."),
            print::text("Queues", "How many queues it has."),
            print::text("HandSize", "How many queues a flow is dealt."),
            print::text("QueueLengthLimit", "How long a queue may be."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let limited = object.at("spec.limited");
        let queuing = limited.at("limitResponse.queuing");
        let or_none = |value: &Value| {
            if value.is_null() {
                Value::from(NONE)
            } else {
                value.clone()
            }
        };
        vec![
            print::name(object),
            Value::from(object.str_at("spec.type")),
            or_none(limited.at("nominalConcurrencyShares")),
            or_none(queuing.at("queues")),
            or_none(queuing.at("handSize")),
            or_none(queuing.at("queueLengthLimit")),
            print::age(object, cx),
        ]
    }
}

fn default_queuing(queuing: &mut Fields) {
    number(queuing, "handSize", 8);
    number(queuing, "queues", 64);
    number(queuing, "queueLengthLimit", 50);
}

fn validate_schema(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let precedence = spec.child("matchingPrecedence");
    let n = precedence.int().unwrap_or_default();
    if n <= 0 {
        errors.push(precedence.invalid_as(n, "must be a positive value"));
    }
    if n > 10_000 {
        errors.push(precedence.invalid("must not be greater than 10000"));
    }
    if n == 1 && object.name() != "exempt" {
        errors.push(precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1"));
    }
    let method = spec.child("distinguisherMethod");
    if method.is_set() {
        enumerated(&method.child("type"), &["ByNamespace", "ByUser"], &mut errors);
    }
    if spec.child("priorityLevelConfiguration.name").is_empty() {
        let reference = spec.child("priorityLevelConfiguration");
        errors.push(
            reference
                .child("name")
                .required("must reference a priority level"),
        );
    }
    for rule in spec.child("rules").items() {
        rules(&rule, &mut errors);
    }
    errors
}

fn rules(rule: &At<'_, '_>, errors: &mut ErrorList) {
    let subjects = rule.child("subjects");
    if subjects.is_empty() {
        errors.push(subjects.required("subjects must contain at least one value"));
    }
    for subject in subjects.items() {
        let own = match subject.child("kind").text() {
            "User" => "user",
            "Group" => "group",
            "ServiceAccount" => "serviceAccount",
            _ => {
                errors.push(
                    subject
                        .child("kind")
                        .not_supported(&["Group", "ServiceAccount", "User"]),
                );
                continue;
            }
        };
        let part = subject.child(own);
        if part.is_null() {
            errors.push(part.required(format!(
                "{own} is required when subject kind is '{}'",
                subject.child("kind").text()
            )));
            continue;
        }
        required_text(&part.child("name"), errors);
        if own == "serviceAccount" {
            if part.child("namespace").is_empty() {
                errors.push(
                    part.child("namespace")
                        .required("must specify namespace for service account"),
                );
            } else if part.child("namespace").text() != "*" {
                let namespace = part.child("namespace");
                namespace.all(errors, rutter_api::validation::dns_label(namespace.text()));
            }
            let name = part.child("name");
            if !matches!(name.text(), "" | "*") {
                name.all(errors, dns_subdomain(name.text()));
            }
        }
    }
    if rule.child("resourceRules").is_empty() && rule.child("nonResourceRules").is_empty() {
        errors.push(rule.required("at least one of resourceRules and nonResourceRules has to be non-empty"));
    }
    for resource in rule.child("resourceRules").items() {
        for field in ["verbs", "apiGroups", "resources"] {
            if resource.child(field).is_empty() {
                let what = match field {
                    "verbs" => "verbs must contain at least one value",
                    "apiGroups" => "resource rules must supply at least one api group",
                    _ => "resource rules must supply at least one resource",
                };
                errors.push(resource.child(field).required(what));
            }
        }
        if resource.child("namespaces").is_empty() && !resource.child("clusterScope").flag() {
            let detail = "resource rules that are not cluster scoped must supply at least one namespace";
            errors.push(resource.child("namespaces").required(detail));
        }
    }
    for path in rule.child("nonResourceRules").items() {
        if path.child("verbs").is_empty() {
            errors.push(
                path.child("verbs")
                    .required("verbs must contain at least one value"),
            );
        }
        if path.child("nonResourceURLs").is_empty() {
            let detail = "nonResourceURLs must contain at least one value";
            errors.push(path.child("nonResourceURLs").required(detail));
        }
    }
}

fn validate_level(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let (limited, exempt) = (spec.child("limited"), spec.child("exempt"));
    match spec.child("type").text() {
        "Exempt" => {
            if limited.is_set() {
                let detail = "must be nil if the type is not Limited";
                errors.push(limited.forbidden(detail));
            }
            in_range(&exempt.child("lendablePercent"), 0, 100, &mut errors);
            crate::check::not_negative(&exempt.child("nominalConcurrencyShares"), &mut errors);
        }
        "Limited" => {
            if exempt.is_set() {
                errors.push(exempt.forbidden("must be nil if the type is Limited"));
            }
            if limited.is_null() {
                errors.push(limited.required("must not be empty when type is Limited"));
            } else {
                level_limits(&limited, &mut errors);
            }
        }
        _ => errors.push(spec.child("type").not_supported(&["Exempt", "Limited"])),
    }
    errors
}

fn level_limits(at: &At<'_, '_>, errors: &mut ErrorList) {
    let shares = at.child("nominalConcurrencyShares");
    if shares.int().is_some_and(|n| n < 0) {
        errors.push(shares.invalid("must be a non-negative integer"));
    }
    in_range(&at.child("lendablePercent"), 0, 100, errors);
    let limit = at.child("borrowingLimitPercent");
    if limit.int().is_some_and(|n| n < 0) {
        errors.push(limit.invalid("if specified, must be a non-negative integer"));
    }
    let response = at.child("limitResponse");
    let queuing = response.child("queuing");
    match response.child("type").text() {
        "Reject" => {
            if queuing.is_set() {
                errors.push(queuing.forbidden("must be nil if limited.limitResponse.type is not Limited"));
            }
        }
        "Queue" => {
            if queuing.is_null() {
                errors.push(queuing.required("must not be empty if limited.limitResponse.type is Limited"));
                return;
            }
            for field in ["queueLengthLimit", "queues", "handSize"] {
                let number = queuing.child(field);
                let n = number.int().unwrap_or_default();
                if n <= 0 {
                    errors.push(number.invalid_as(n, "must be positive"));
                }
            }
            let queues = queuing.child("queues");
            if queues.int().is_some_and(|n| n > 10_000_000) {
                errors.push(queues.invalid("must not be greater than 10000000"));
            }
            let hand = queuing.child("handSize");
            if hand.int() > queues.int() {
                let detail = format!(
                    "should not be greater than queues ({})",
                    queues.int().unwrap_or_default()
                );
                errors.push(hand.invalid(detail));
            }
        }
        _ => errors.push(response.child("type").not_supported(&["Queue", "Reject"])),
    }
}
