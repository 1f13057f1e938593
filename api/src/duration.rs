//! Durations, times and ages as Kubernetes and Go print them.

use jiff::Timestamp;
use thiserror::Error;

/// An age for people: two units at most, coarser as it grows (`HumanDuration`).
pub fn human(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |large: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{small_unit}"),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s / MINUTE % 60, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s / HOUR % 24, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s / DAY % 365, "d"),
        s => format!("{}y", s / YEAR),
    }
}

/// The age of a timestamp in RFC 3339 at `now`; `<unknown>` when there is none.
pub fn age(timestamp: &str, now: Timestamp) -> String {
    match timestamp.parse::<Timestamp>() {
        Ok(then) => human(now.as_second() - then.as_second()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// A time as `metav1.Time` (`2026-01-02T03:04:05Z`) or, with `micro`, as `metav1.MicroTime` prints it.
pub fn format_time(time: Timestamp, micro: bool) -> String {
    let civil = jiff::tz::Offset::UTC.to_datetime(time);
    let seconds = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        civil.year(),
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second()
    );
    if micro {
        format!("{seconds}.{:06}Z", civil.subsec_nanosecond() / 1000)
    } else {
        format!("{seconds}Z")
    }
}

/// Why a text is no Go duration.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DurationError {
    /// Not of the form.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit that is none.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole text.
        text: String,
    },
}

/// Parses a Go duration such as `1h30m` or `-1.5s` into nanoseconds.
pub fn parse_go(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let whole_end = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(whole_end);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(after.bytes().take_while(u8::is_ascii_digit).count()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let scale: i128 = match unit {
            "" => return Err(DurationError::MissingUnit(text.to_owned())),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => {
                return Err(DurationError::UnknownUnit {
                    unit: unit.to_owned(),
                    text: text.to_owned(),
                });
            }
        };
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| invalid())?
        };
        total = total
            .checked_add(whole.checked_mul(scale).ok_or_else(invalid)?)
            .ok_or_else(invalid)?;
        let mut unit_part = scale;
        for digit in fraction.bytes() {
            // Each digit is exact as long as the unit divides; what is finer than a nanosecond is dropped.
            total += unit_part * i128::from(digit - b'0') / 10;
            unit_part /= 10;
        }
        rest = after;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).map_err(|_| invalid())
}

/// Prints nanoseconds as Go does: `1h0m0s`, `1.5s`, `300ms`, `0s`.
pub fn format_go(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let decimal = |n: u64, unit: u64, width: usize| {
        let fraction = format!("{:0width$}", n % unit);
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() {
            format!("{}", n / unit)
        } else {
            format!("{}.{fraction}", n / unit)
        }
    };
    match n {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{n}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(n, 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(n, 1_000_000, 6)),
        _ => {
            let whole = n / 1_000_000_000;
            let seconds = decimal(n % 60_000_000_000, 1_000_000_000, 9);
            match (whole / 3600, whole / 60 % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ages_grow_coarser() {
        for (seconds, want) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (86_400 * 365, "365d"),
            (86_400 * 730, "2y"),
            (86_400 * 733, "2y3d"),
            (86_400 * 365 * 9, "9y"),
        ] {
            assert_eq!(human(seconds), want, "{seconds}");
        }
    }

    #[test]
    fn go_durations_parse_and_print() {
        for (text, nanos, printed) in [
            ("0", 0, "0s"),
            ("1h", 3_600_000_000_000, "1h0m0s"),
            ("90m", 5_400_000_000_000, "1h30m0s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("-1.5h", -5_400_000_000_000, "-1h30m0s"),
            ("300ms", 300_000_000, "300ms"),
            ("1us", 1_000, "1µs"),
            ("1m0.5s", 60_500_000_000, "1m0.5s"),
        ] {
            assert_eq!(parse_go(text), Ok(nanos), "{text}");
            assert_eq!(format_go(nanos), printed);
        }
        assert_eq!(
            parse_go("x").unwrap_err().to_string(),
            r#"time: invalid duration "x""#
        );
        assert_eq!(
            parse_go("5").unwrap_err().to_string(),
            r#"time: missing unit in duration "5""#
        );
        assert_eq!(
            parse_go("5d").unwrap_err().to_string(),
            r#"time: unknown unit "d" in duration "5d""#
        );
    }

    proptest! {
        #[test]
        fn printed_durations_parse_to_the_same(nanos in -i64::MAX..i64::MAX) {
            prop_assert_eq!(parse_go(&format_go(nanos)), Ok(nanos));
        }

        #[test]
        fn no_text_makes_the_duration_parser_panic(text in "\\PC{0,20}") {
            let _ = parse_go(&text);
        }
    }
}
