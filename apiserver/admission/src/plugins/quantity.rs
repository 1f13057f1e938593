//! Amounts of resources, as far as admission compares and adds them: exact, in thousandths of a unit.

use rutter_api::Value;
use std::fmt::Write;

/// An amount in thousandths. Text such as `500m`, `2`, `1.5Gi`, `1e3`.
pub fn parse(text: &str) -> Option<i128> {
    let text = text.trim();
    let end = text
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_digit() || *c == '.' || (*at == 0 && matches!(c, '+' | '-'))))
        .map_or(text.len(), |(at, _)| at);
    let (number, suffix) = text.split_at(end);
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let fraction = fraction.get(..fraction.len().min(9))?;
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (multiplier, divisor) = scale(suffix)?;
    let divisor = divisor.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let product = mantissa.checked_mul(multiplier)?.checked_mul(1000)?;
    // A part of a thousandth counts as a whole one.
    let value = product.checked_add(divisor - 1)? / divisor;
    Some(if negative { -value } else { value })
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    let binary = |power: u32| Some((1024_i128.pow(power), 1));
    let decimal = |power: u32| Some((1000_i128.pow(power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "k" => decimal(1),
        "M" => decimal(2),
        "G" => decimal(3),
        "T" => decimal(4),
        "P" => decimal(5),
        "E" => decimal(6),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            Some(if exponent < 0 { (1, power) } else { (power, 1) })
        }
    }
}

/// An amount in a field: text, or a number.
pub fn of(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => parse(text),
        Value::Number(number) => parse(&number.to_string()),
        _ => None,
    }
}

/// The canonical text, with binary suffixes when `like` (an amount in the same place) has one.
pub fn format(amount: i128, like: &str) -> String {
    let mut text = String::new();
    if amount % 1000 != 0 {
        let _ = write!(text, "{amount}m");
        return text;
    }
    let units = amount / 1000;
    let binary = like.ends_with('i');
    let suffixes: &[&str] = if binary {
        &["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
    } else {
        &["k", "M", "G", "T", "P", "E"]
    };
    let base: i128 = if binary { 1024 } else { 1000 };
    let (mut rest, mut suffix) = (units, "");
    for next in suffixes {
        if rest == 0 || rest % base != 0 {
            break;
        }
        rest /= base;
        suffix = next;
    }
    let _ = write!(text, "{rest}{suffix}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        for (text, want) in [
            ("1", Some(1000)),
            ("500m", Some(500)),
            ("0.5", Some(500)),
            ("1Ki", Some(1_024_000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("1e3", Some(1_000_000)),
            ("100n", Some(1)),
            ("-2", Some(-2000)),
            ("", None),
            ("x", None),
            ("1Zi", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
        for (amount, like, want) in [
            (1_500, "1", "1500m"),
            (2_000_000, "5", "2k"),
            (1_073_741_824_000, "10Gi", "1Gi"),
            (1_610_612_736_000, "10Gi", "1536Mi"),
            (0, "1Gi", "0"),
        ] {
            assert_eq!(format(amount, like), want);
        }
    }
}
