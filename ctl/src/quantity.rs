//! Quantities such as `100m` and `2Gi`, for sorting and for sums in descriptions.

/// The value in nano units; None if the text is no quantity.
pub fn parse(text: &str) -> Option<i128> {
    let end = text
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && (*c == '-' || *c == '+'))))
        .map_or(text.len(), |(i, _)| i);
    let (number, suffix) = (text.get(..end)?, text.get(end..)?);
    let negative = number.starts_with('-');
    let digits = number.trim_start_matches(['-', '+']);
    if !digits.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (scale, divisor): (i128, i128) = match suffix {
        "n" => (1, 1),
        "u" => (1_000, 1),
        "m" => (1_000_000, 1),
        "" => (1_000_000_000, 1),
        "k" => (1_000_000_000_000, 1),
        "M" => (1_000_000_000_000_000, 1),
        "G" => (1_000_000_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000_000_000_000, 1),
        "Ki" => (1_000_000_000 << 10, 1),
        "Mi" => (1_000_000_000 << 20, 1),
        "Gi" => (1_000_000_000 << 30, 1),
        "Ti" => (1_000_000_000 << 40, 1),
        "Pi" => (1_000_000_000 << 50, 1),
        "Ei" => (1_000_000_000 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            match exponent {
                0..=18 => (1_000_000_000 * 10i128.pow(u32::try_from(exponent).ok()?), 1),
                -18..=-1 => (1_000_000_000, 10i128.pow(u32::try_from(-exponent).ok()?)),
                _ => return None,
            }
        }
    };
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut value = whole.checked_mul(scale)?;
    if !fraction.is_empty() {
        let fraction = fraction.get(..fraction.len().min(12))?;
        let part: i128 = fraction.parse().ok()?;
        value += part.checked_mul(scale)? / 10i128.pow(u32::try_from(fraction.len()).ok()?);
    }
    value /= divisor;
    Some(if negative { -value } else { value })
}

/// Thousandths, rounded up.
pub fn milli(text: &str) -> i128 {
    ceil(parse(text).unwrap_or(0), 1_000_000)
}

/// Whole units, rounded up.
pub fn value(text: &str) -> i128 {
    ceil(parse(text).unwrap_or(0), 1_000_000_000)
}

fn ceil(n: i128, by: i128) -> i128 {
    if n >= 0 { (n + by - 1) / by } else { n / by }
}

/// The family of suffixes a text is written in: true for binary.
pub fn is_binary(text: &str) -> bool {
    text.ends_with('i')
}

/// Nano units in canonical form.
pub fn format(nanos: i128, binary: bool) -> String {
    if nanos == 0 {
        return "0".to_owned();
    }
    if binary && nanos % 1_000_000_000 == 0 {
        let mut n = nanos / 1_000_000_000;
        if n.abs() < 1024 {
            return n.to_string();
        }
        let mut at = 0;
        while n % 1024 == 0 && at < 6 {
            n /= 1024;
            at += 1;
        }
        return format!(
            "{n}{}",
            ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].get(at).unwrap_or(&"")
        );
    }
    let mut n = nanos;
    let mut at = 0;
    while n % 1000 == 0 && at < 9 {
        n /= 1000;
        at += 1;
    }
    format!(
        "{n}{}",
        ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"]
            .get(at)
            .unwrap_or(&"")
    )
}

/// The sum of quantities, in the family of the first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// Nano units.
    pub nanos: i128,
    /// Printed with binary suffixes.
    pub binary: bool,
    started: bool,
}

impl Sum {
    /// Adds one.
    pub fn add(&mut self, text: &str) {
        if !self.started || self.nanos == 0 {
            self.binary = is_binary(text);
            self.started = true;
        }
        self.nanos += parse(text).unwrap_or(0);
    }
    /// Takes the larger.
    pub fn max(&mut self, other: Self) {
        if other.nanos > self.nanos {
            *self = other;
        }
    }
    /// Adds another sum.
    pub fn plus(&mut self, other: Self) {
        if self.nanos == 0 {
            *self = other;
        } else {
            self.nanos += other.nanos;
        }
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&format(self.nanos, self.binary))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_parse_and_print() {
        for (text, milli, printed) in [
            ("100m", 100, "100m"),
            ("1", 1000, "1"),
            ("1.5", 1500, "1500m"),
            ("2k", 2_000_000, "2k"),
            ("1Ki", 1_024_000, "1Ki"),
            ("1536Mi", 1_610_612_736_000, "1536Mi"),
            ("1e3", 1_000_000, "1k"),
        ] {
            assert_eq!(super::milli(text), milli, "{text}");
            assert_eq!(format(parse(text).unwrap(), is_binary(text)), printed);
        }
        assert_eq!(parse("abc"), None);
        assert_eq!(parse("1x"), None);
    }

    #[test]
    fn sums_keep_the_family() {
        let mut sum = Sum::default();
        sum.add("512Mi");
        sum.add("512Mi");
        assert_eq!(sum.to_string(), "1Gi");
    }
}
