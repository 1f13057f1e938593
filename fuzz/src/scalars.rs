//! Leaves: quantities, durations, times, addresses and names.

use rutter_api::Quantity;
use rutter_api::duration::{format_go, format_time, parse_go};
use rutter_api::schema::{FieldValidation, builtin, decode};
use rutter_api::validation::{cidr, dns_label, dns_subdomain, ip, qualified_name};
use serde_json::{Value, json};
use std::net::IpAddr;

/// A quantity keeps its value however it is printed, and its canonical form is its own.
pub fn quantity(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut texts = text.splitn(2, ' ');
    let (first, second) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
    let parsed = first.parse::<Quantity>();
    let canonical = Quantity::canonical(first);
    let (Ok(quantity), Ok(canonical)) = (parsed, &canonical) else {
        assert_eq!(parsed.is_ok(), canonical.is_ok(), "one reads it: {first}");
        return;
    };
    assert_eq!(canonical.parse(), Ok(quantity), "{first} became {canonical}");
    assert_eq!(
        Quantity::canonical(canonical).as_deref(),
        Ok(&**canonical),
        "canonical twice"
    );
    let printed = quantity.to_string();
    let again: Quantity = printed.parse().unwrap_or_else(|e| panic!("{e}: {printed}"));
    assert_eq!(again, quantity, "{printed}");
    assert_eq!(again.to_string(), printed, "printed twice");
    assert!(
        quantity.milli_value().unsigned_abs() >= quantity.value().unsigned_abs()
            || quantity.value() == quantity.milli_value()
    );
    if let Ok(other) = second.parse::<Quantity>() {
        let small = |q: &Quantity| q.as_f64().abs() < 1e18;
        if small(&quantity) && small(&other) {
            assert_eq!(quantity + other - other, quantity);
            assert_eq!(quantity + other, other + quantity);
            assert_eq!(quantity < other, (quantity - other).is_negative());
        }
    }
}

/// Durations and times keep their values; addresses are what std says.
pub fn times(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(nanos) = parse_go(&text) {
        let printed = format_go(nanos);
        assert_eq!(parse_go(&printed), Ok(nanos), "{text} became {printed}");
    }
    for (field, micro) in [("renewTime", true), ("creationTimestamp", false)] {
        time(&text, field, micro);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        assert_eq!(ip(&text), Some(address), "std reads {text}");
        assert_eq!(cidr(&format!("{text}/8")).map(|(_, bits)| bits), Some(8));
    }
    let part = |text: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
    };
    assert_eq!(
        dns_label(&text).is_empty(),
        text.len() <= 63 && part(&text),
        "{text}"
    );
    let subdomain = text.len() <= 253 && text.split('.').all(part);
    assert_eq!(dns_subdomain(&text).is_empty(), subdomain, "{text}");
    if dns_label(&text).is_empty() {
        assert!(qualified_name(&text).is_empty(), "a label is a name");
    }
}

fn time(text: &str, field: &str, micro: bool) {
    let lease = "io.k8s.api.coordination.v1.Lease";
    let part = if micro { "spec" } else { "metadata" };
    let object = |time: &str| json!({part: {field: time}});
    let read = |time: &str| -> Option<String> {
        let decoded = decode(builtin(), lease, object(time), FieldValidation::Strict).ok()?;
        decoded
            .value
            .get(part)?
            .get(field)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let Some(canonical) = read(text) else { return };
    assert_eq!(read(&canonical).as_ref(), Some(&canonical), "{text}");
    if let (Ok(meant), Ok(kept)) = (
        text.parse::<jiff::Timestamp>(),
        canonical.parse::<jiff::Timestamp>(),
    ) {
        assert_eq!(format_time(meant, micro), canonical, "{text}");
        assert_eq!(format_time(kept, micro), canonical);
    }
}
