//! Reading Kubernetes quantities as whole numbers. Pure. Amounts that don't fit are clamped; text that is no quantity reads as none.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Resource names with their amounts.
pub(crate) type ResourceList = BTreeMap<String, Quantity>;

/// The amount in thousandths, rounded up.
pub(crate) fn milli(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 3)
}

/// The amount in whole units, rounded up.
pub(crate) fn value(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 0)
}

/// Milli-units of a resource in a list.
pub(crate) fn milli_of(list: Option<&ResourceList>, name: &str) -> Option<i64> {
    list?.get(name).and_then(milli)
}

/// Units of a resource in a list.
pub(crate) fn value_of(list: Option<&ResourceList>, name: &str) -> Option<i64> {
    list?.get(name).and_then(value)
}

/// A quantity of whole units.
pub(crate) fn units(amount: i64) -> Quantity {
    Quantity(amount.to_string())
}

/// A quantity of milli-units in canonical form.
pub(crate) fn millis(amount: i64) -> Quantity {
    if amount % 1000 == 0 {
        Quantity((amount / 1000).to_string())
    } else {
        Quantity(format!("{amount}m"))
    }
}

/// A quantity of bytes, in Ki where that is exact.
pub(crate) fn kibibytes(amount: i64) -> Quantity {
    if amount % 1024 == 0 && amount != 0 {
        Quantity(format!("{}Ki", amount / 1024))
    } else {
        units(amount)
    }
}

fn scaled(text: &str, decimals: u32) -> Option<i64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 || whole.len() > 19 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (factor, ten): (i128, i32) = match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        exponent => (
            1,
            exponent
                .strip_prefix(['e', 'E'])?
                .parse()
                .ok()
                .filter(|e| (-18..=18).contains(e))?,
        ),
    };
    let exponent = ten + i32::try_from(decimals).ok()? - i32::try_from(fraction.len()).ok()?;
    let product = digits.checked_mul(factor)?;
    let amount = if exponent >= 0 {
        product.checked_mul(10i128.checked_pow(exponent.unsigned_abs())?)?
    } else {
        let divisor = 10i128.checked_pow(exponent.unsigned_abs())?;
        // Away from zero, as the API rounds.
        product / divisor + i128::from(product % divisor != 0)
    };
    let amount = i64::try_from(amount).unwrap_or(i64::MAX);
    Some(if negative { -amount } else { amount })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_milli_units_and_units() {
        for (text, in_milli, in_units) in [
            ("1", Some(1000), Some(1)),
            ("100m", Some(100), Some(1)),
            ("1.5", Some(1500), Some(2)),
            ("0.5Gi", Some(536_870_912_000), Some(536_870_912)),
            ("1e3", Some(1_000_000), Some(1000)),
            ("1500u", Some(2), Some(1)),
            ("128Mi", Some(134_217_728_000), Some(134_217_728)),
            ("-2", Some(-2000), Some(-2)),
            ("", None, None),
            ("x", None, None),
            ("1Zi", None, None),
        ] {
            assert_eq!(milli(&Quantity(text.into())), in_milli, "{text:?} in milli-units");
            assert_eq!(value(&Quantity(text.into())), in_units, "{text:?} in units");
        }
    }
}
