//! Numbers that may be written as a percentage of another.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The value for a total; percentages are rounded up or down. `None` when it is neither a number nor a percentage.
pub fn scaled(value: &IntOrString, total: i32, round_up: bool) -> Option<i32> {
    match value {
        IntOrString::Int(value) => Some(*value),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let product = percent.checked_mul(i64::from(total))?;
            let value = if round_up {
                product.div_euclid(100) + i64::from(product.rem_euclid(100) != 0)
            } else {
                product / 100
            };
            i32::try_from(value).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let percent = |text: &str| IntOrString::String(text.to_owned());
        for (value, total, up, want) in [
            (IntOrString::Int(3), 100, true, Some(3)),
            (percent("25%"), 10, true, Some(3)),
            (percent("25%"), 10, false, Some(2)),
            (percent("100%"), 7, false, Some(7)),
            (percent("0%"), 7, true, Some(0)),
            (percent("x%"), 7, true, None),
            (percent("5"), 7, true, None),
        ] {
            assert_eq!(scaled(&value, total, up), want, "{value:?} of {total}");
        }
    }
}
