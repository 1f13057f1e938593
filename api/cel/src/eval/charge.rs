//! What a call cost, by the sizes of its arguments.

use crate::cost::{
    AUTHORIZATION, Estimate, LIST, PER_CHARACTER, PER_PATTERN_CHARACTER, ordered_texts, selector,
};
use crate::value::{List, Native, Value};

/// How a call is priced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CallCost {
    Fixed(u64),
    /// Reading the first argument so many times.
    Read(f64),
    /// The number of elements of the second argument.
    InList,
    /// Up to the end of the shorter one.
    Compare,
    /// As [`CallCost::Compare`], but Kubernetes' own values are compared at once.
    Equal,
    /// Copying both.
    Concat,
    Matches,
    Contains,
    /// Looking at everything in the first argument.
    Traverse,
    Join,
    ContainsIp {
        text: bool,
    },
    ContainsCidr {
        text: bool,
    },
    Validate,
    Selector,
    Sets(f64),
    MadeList,
    Flatten,
    /// Comparing each element of an argument with each.
    SelfCompare(usize),
}

/// How a call of an overload is priced; the overload is empty when it isn't known before.
pub(super) fn call_cost(name: &str, overload: &str) -> CallCost {
    list_cost(overload)
        .or_else(|| kubernetes_cost(name, overload))
        .unwrap_or_else(|| standard_cost(overload))
}

fn list_cost(overload: &str) -> Option<CallCost> {
    Some(match overload {
        "list_sets_contains_list" | "list_sets_intersects_list" => CallCost::Sets(1.0),
        "list_sets_equivalent_list" => CallCost::Sets(2.0),
        "list_slice" | "lists_range" | "list_reverse" => CallCost::MadeList,
        "list_flatten" | "list_flatten_int" => CallCost::Flatten,
        "list_distinct" => CallCost::SelfCompare(0),
        sort if sort.starts_with("list_") && sort.ends_with("_sort") => CallCost::SelfCompare(0),
        sort if sort.ends_with("_sortByAssociatedKeys") => CallCost::SelfCompare(1),
        _ => return None,
    })
}

fn kubernetes_cost(name: &str, overload: &str) -> Option<CallCost> {
    Some(match name {
        "check" => CallCost::Fixed(AUTHORIZATION),
        "fieldSelector" | "labelSelector" => CallCost::Selector,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => CallCost::Traverse,
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => CallCost::Read(1.0),
        "replace" | "split" | "ip.isCanonical" => CallCost::Read(2.0),
        "join" => CallCost::Join,
        "find" | "findAll" => CallCost::Matches,
        "ip" if overload == "cidr_ip" => CallCost::Fixed(1),
        "ip" => CallCost::Read(1.0),
        "containsIP" => CallCost::ContainsIp {
            text: overload == "cidr_contains_ip_string",
        },
        "containsCIDR" => CallCost::ContainsCidr {
            text: overload == "cidr_contains_cidr_string",
        },
        "validate" => CallCost::Validate,
        "_==_" => CallCost::Equal,
        _ => return None,
    })
}

fn standard_cost(overload: &str) -> CallCost {
    match overload {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
        | "strings_quote" | "string_format" => CallCost::Read(1.0),
        "in_list" => CallCost::InList,
        "equals" | "not_equals" => CallCost::Compare,
        "add_string" | "add_bytes" => CallCost::Concat,
        "matches_string" => CallCost::Matches,
        "contains_string" => CallCost::Contains,
        order if ordered_texts(order) => CallCost::Compare,
        _ => CallCost::Fixed(1),
    }
}

fn read(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

/// What a call cost.
pub(super) fn cost(kind: CallCost, args: &[Value<'_>], result: &Value<'_>) -> u64 {
    let size = |index: usize| args.get(index).map_or(1, Value::size);
    let made = |factor: f64, size: u64| (size as f64 * factor) as u64 + 1 + LIST;
    match kind {
        CallCost::Fixed(cost) => cost,
        CallCost::Read(times) => read(size(0), times * PER_CHARACTER),
        CallCost::InList => size(1),
        CallCost::Equal if matches!(args.first(), Some(Value::Native(_))) => 1,
        CallCost::Equal | CallCost::Compare => read(size(0).min(size(1)), PER_CHARACTER),
        CallCost::Concat => read(size(0) + size(1), PER_CHARACTER),
        CallCost::Matches => {
            let text = read(size(0) + 1, PER_CHARACTER);
            text.saturating_mul(read(size(1), PER_PATTERN_CHARACTER))
        }
        CallCost::Contains => read(size(0), PER_CHARACTER).saturating_mul(read(size(1), PER_CHARACTER)),
        CallCost::Traverse => args.first().map_or(0, traversal),
        CallCost::Join => read(result.size(), 2.0 * PER_CHARACTER),
        CallCost::ContainsIp { text } => {
            let other = if text { read(size(1), PER_CHARACTER) } else { 0 };
            read(2 * size(0), PER_CHARACTER) + other
        }
        CallCost::ContainsCidr { text } => {
            let other = if text { read(size(1), PER_CHARACTER) } else { 0 };
            read(2 * size(0), PER_CHARACTER) + read(size(0), PER_CHARACTER) + 1 + other
        }
        CallCost::Validate => {
            let pattern = match args.first() {
                Some(Value::Native(Native::Format(format))) => format.regex_size,
                _ => 0,
            };
            read(size(1) + 1, PER_CHARACTER).saturating_mul(read(pattern, PER_PATTERN_CHARACTER))
        }
        CallCost::Selector => selector(Estimate::of(size(1))).max,
        CallCost::Sets(factor) => 1 + (size(0).saturating_mul(size(1)) as f64 * factor) as u64,
        CallCost::MadeList => made(1.0, result.size()),
        CallCost::Flatten => {
            let depth = match args.get(1) {
                Some(Value::Int(depth)) => *depth as f64,
                _ => 1.0,
            };
            made(depth, size(0))
        }
        CallCost::SelfCompare(index) => {
            let first = match args.get(index) {
                Some(Value::List(list)) => list.get(0),
                _ => None,
            };
            let texts = matches!(first, Some(Ok(Value::String(_) | Value::Bytes(_))));
            let factor = if texts { 2.0 + PER_CHARACTER } else { 2.0 };
            made(factor, size(index).saturating_mul(size(index)))
        }
    }
}

/// What it costs to look at everything in a value.
fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.len() as f64 * PER_CHARACTER) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * PER_CHARACTER) as u64,
        Value::List(list @ (List::Json(..) | List::Made(..))) => list
            .iter()
            .filter_map(Result::ok)
            .map(|item| traversal(&item))
            .sum(),
        Value::Map(map) => {
            let entries = map
                .keys()
                .into_iter()
                .filter_map(|key| Some((map.find(&key).ok()??, key)));
            entries
                .map(|(value, key)| traversal(&value) + traversal(&key))
                .sum()
        }
        _ => 1,
    }
}
