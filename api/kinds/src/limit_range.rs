//! LimitRange.

use crate::amount::amounts;
use crate::fill::{each, made, spec, text_of};
use crate::podcheck::resource_name;
use rutter_api::Quantity;
use rutter_api::strategy::Column;
use rutter_api::validation::{At, qualified_name};
use rutter_api::{Context, ErrorList, Map, Strategy, Value};
use std::collections::BTreeSet;

/// LimitRange.
pub(crate) struct LimitRange;

impl Strategy for LimitRange {
    /// Limits of containers: what isn't given defaults to the maximum, and requests to the default or the minimum.
    fn default_object(&self, object: &mut Value) {
        let Some(spec) = spec(object) else { return };
        for item in each(spec, "limits") {
            if text_of(item, "type") != "Container" {
                continue;
            }
            let list = |item: &Map<String, Value>, field: &str| {
                item.get(field)
                    .and_then(Value::as_object)
                    .cloned()
                    .unwrap_or_default()
            };
            let mut limits = list(item, "default");
            for (name, value) in list(item, "max") {
                limits.entry(name).or_insert(value);
            }
            let mut requests = list(item, "defaultRequest");
            for (name, value) in limits.clone().into_iter().chain(list(item, "min")) {
                requests.entry(name).or_insert(value);
            }
            for (field, values) in [("default", limits), ("defaultRequest", requests)] {
                if !values.is_empty()
                    && let Some(present) = made(item, field)
                {
                    *present = values;
                }
            }
        }
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = (old, cx);
        validate(object)
    }

    fn columns(&self) -> &'static [Column] {
        crate::print::CREATED_AT
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        crate::print::created_at(object, cx)
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let mut kinds = BTreeSet::new();
    for limit in spec.child("limits").items() {
        let kind = limit.child("type");
        let wrong = qualified_name(kind.text());
        if !wrong.is_empty() {
            errors.extend(wrong.into_iter().map(|e| kind.invalid_as(kind.text(), e)));
        } else if !kind.text().contains('/')
            && !matches!(kind.text(), "Pod" | "Container" | "PersistentVolumeClaim")
        {
            errors.push(kind.invalid("must be a standard limit type or fully qualified"));
        }
        if !kinds.insert(kind.text()) {
            errors.push(kind.duplicate());
        }
        item(&limit, &mut errors);
    }
    errors
}

fn item(limit: &At<'_, '_>, errors: &mut ErrorList) {
    let kind = limit.child("type").text();
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let at = limit.child(list);
        if kind == "Pod" && matches!(list, "default" | "defaultRequest") {
            if !at.is_empty() {
                errors.push(at.forbidden("may not be specified when `type` is 'Pod'"));
            }
            continue;
        }
        for (name, _) in at.entries() {
            resource_name(&at.key(name), name, errors);
            let of_containers = matches!(kind, "Pod" | "Container");
            let standard =
                matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
            if of_containers && !name.contains('/') && !standard {
                errors.push(
                    at.key(name)
                        .invalid_as(name, "must be a standard resource for containers"),
                );
            }
        }
    }
    let of = |list: &str| amounts(limit.child(list).value);
    let (min, max, default, request, ratio) = (
        of("min"),
        of("max"),
        of("default"),
        of("defaultRequest"),
        of("maxLimitRequestRatio"),
    );
    if kind == "PersistentVolumeClaim" && !min.contains_key("storage") && !max.contains_key("storage") {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(limit.child("limits").required(detail));
    }
    let names: BTreeSet<&String> = [&min, &max, &default, &request, &ratio]
        .into_iter()
        .flat_map(|map| map.keys())
        .collect();
    for name in names {
        let get = |map: &crate::amount::Amounts| map.get(name).copied();
        let (min, max, default, request) = (get(&min), get(&max), get(&default), get(&request));
        let mut over = |list: &str,
                        shown: Option<Quantity>,
                        a: Option<Quantity>,
                        b: Option<Quantity>,
                        a_is: &str,
                        b_is: &str| {
            if let (Some(a), Some(b)) = (a, b)
                && a > b
            {
                let at = limit.child(list);
                let shown = shown.unwrap_or(a).to_string();
                errors.push(at.key(name).invalid_as(
                    shown,
                    format!("{a_is} value {a} is greater than {b_is} value {b}"),
                ));
            }
        };
        over("min", min, min, max, "min", "max");
        over("defaultRequest", request, min, request, "min", "default request");
        over("defaultRequest", request, request, max, "default request", "max");
        over(
            "defaultRequest",
            request,
            request,
            default,
            "default request",
            "default limit",
        );
        over("default", min, min, default, "min", "default");
        over("default", max, default, max, "default", "max");
        if let Some(ratio) = get(&ratio)
            && ratio < Quantity::new(1, rutter_api::quantity::Format::DecimalSi)
        {
            let at = limit.child("maxLimitRequestRatio");
            errors.push(
                at.key(name)
                    .invalid_as(ratio.to_string(), format!("ratio {ratio} is less than 1")),
            );
        }
    }
}
