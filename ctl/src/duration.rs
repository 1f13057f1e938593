//! Durations: Go's notation, and the short forms that tables and descriptions show.

/// Parses Go's notation (`1h30m`, `1.5s`, `-2ms`, `0`) into nanoseconds.
pub fn parse(text: &str) -> Result<i64, String> {
    let bad = || format!("time: invalid duration {}", crate::error::go_quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or("")),
        Some(b'+') => (false, text.get(1..).unwrap_or("")),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest.get(..end).unwrap_or("").parse().map_err(|_| bad())?;
        rest = rest.get(end..).unwrap_or("");
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = rest.get(..end).unwrap_or("");
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => {
                return Err(format!(
                    "time: missing unit in duration {}",
                    crate::error::go_quote(text)
                ));
            }
            other => {
                return Err(format!(
                    "time: unknown unit {} in duration {}",
                    crate::error::go_quote(other),
                    crate::error::go_quote(text)
                ));
            }
        };
        total += number * scale;
        rest = rest.get(end..).unwrap_or("");
    }
    #[allow(clippy::cast_possible_truncation)]
    let nanos = total as i64;
    Ok(if negative { -nanos } else { nanos })
}

/// A duration as Go prints it: `1m30s`, `1h0m0s`, `250ms`.
pub fn go(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let trim = |v: u64, scale: u64, unit: &str| {
        let whole = v / scale;
        let frac = v % scale;
        if frac == 0 {
            return format!("{whole}{unit}");
        }
        let width = scale.ilog10() as usize;
        let digits = format!("{frac:0width$}");
        format!("{whole}.{}{unit}", digits.trim_end_matches('0'))
    };
    if n < 1_000 {
        return format!("{sign}{n}ns");
    }
    if n < 1_000_000 {
        return format!("{sign}{}", trim(n, 1_000, "µs"));
    }
    if n < 1_000_000_000 {
        return format!("{sign}{}", trim(n, 1_000_000, "ms"));
    }
    let hours = n / 3_600_000_000_000;
    let minutes = n / 60_000_000_000 % 60;
    let seconds = trim(n % 60_000_000_000, 1_000_000_000, "s");
    if hours > 0 {
        format!("{sign}{hours}h{minutes}m{seconds}")
    } else if minutes > 0 {
        format!("{sign}{minutes}m{seconds}")
    } else {
        format!("{sign}{seconds}")
    }
}

/// An age for people, two units at most, coarser as it grows.
pub fn human(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    if seconds < 0 {
        return "0s".to_owned();
    }
    let two = |a: i64, au: &str, b: i64, bu: &str| {
        if b == 0 {
            format!("{a}{au}")
        } else {
            format!("{a}{au}{b}{bu}")
        }
    };
    let minutes = seconds / 60;
    let hours = minutes / 60;
    let days = hours / 24;
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        two(minutes, "m", seconds % 60, "s")
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 192 {
        two(days, "d", hours % 24, "h")
    } else if hours < 24 * 365 * 2 {
        format!("{days}d")
    } else if hours < 24 * 365 * 8 {
        two(days / 365, "y", days % 365, "d")
    } else {
        format!("{}y", days / 365)
    }
}

/// Now, in seconds since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Seconds since 1970 of an RFC 3339 timestamp.
pub fn seconds(timestamp: &str) -> Option<i64> {
    timestamp.parse::<jiff::Timestamp>().ok().map(|t| t.as_second())
}

/// The age of an RFC 3339 timestamp.
pub fn age(timestamp: Option<&str>) -> String {
    match timestamp.and_then(seconds) {
        Some(then) => human(now() - then),
        None => "<unknown>".to_owned(),
    }
}

/// RFC 1123 with a numeric zone, in local time: how descriptions show timestamps.
pub fn rfc1123z(timestamp: &str) -> String {
    match timestamp.parse::<jiff::Timestamp>() {
        Ok(t) => t
            .to_zoned(jiff::tz::TimeZone::system())
            .strftime("%a, %d %b %Y %H:%M:%S %z")
            .to_string(),
        Err(_) => timestamp.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_parse_and_print() {
        for (text, nanos, printed) in [
            ("0", 0, "0s"),
            ("1s", 1_000_000_000, "1s"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("1h", 3_600_000_000_000, "1h0m0s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("250ms", 250_000_000, "250ms"),
            ("-2s", -2_000_000_000, "-2s"),
        ] {
            assert_eq!(parse(text), Ok(nanos), "{text}");
            assert_eq!(go(nanos), printed);
        }
        assert_eq!(parse("5"), Err("time: missing unit in duration \"5\"".to_owned()));
        assert_eq!(parse("x"), Err("time: invalid duration \"x\"".to_owned()));
    }

    #[test]
    fn ages_grow_coarser() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (31_536_000, "365d"),
            (63_072_000, "2y"),
            (70_000_000, "2y80d"),
            (315_360_000, "10y"),
            (-1, "0s"),
            (-5, "<invalid>"),
        ] {
            assert_eq!(human(seconds), text, "{seconds}");
        }
    }
}
