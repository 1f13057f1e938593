//! Points in time and their parts, in UTC unless a time zone is named.

use super::math::in_range;
use super::{Authorizations, Functions, wrong};
use crate::error::{EvalError, Result};
use crate::types::Type;
use crate::value::{Value, as_text};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

type Part = fn(&Zoned) -> i64;

/// Functions by name, the ids of their overloads without and with a time zone, and what they take from a time.
const PARTS: &[(&str, &str, &str, super::Implementation)] = &[
    (
        "getFullYear",
        "timestamp_to_year",
        "timestamp_to_year_with_tz",
        year,
    ),
    (
        "getMonth",
        "timestamp_to_month",
        "timestamp_to_month_with_tz",
        month,
    ),
    (
        "getDayOfYear",
        "timestamp_to_day_of_year",
        "timestamp_to_day_of_year_with_tz",
        day_of_year,
    ),
    (
        "getDayOfMonth",
        "timestamp_to_day_of_month",
        "timestamp_to_day_of_month_with_tz",
        day_of_month,
    ),
    (
        "getDate",
        "timestamp_to_day_of_month_1_based",
        "timestamp_to_day_of_month_1_based_with_tz",
        date,
    ),
    (
        "getDayOfWeek",
        "timestamp_to_day_of_week",
        "timestamp_to_day_of_week_with_tz",
        day_of_week,
    ),
    (
        "getHours",
        "timestamp_to_hours",
        "timestamp_to_hours_with_tz",
        hours,
    ),
    (
        "getMinutes",
        "timestamp_to_minutes",
        "timestamp_to_minutes_with_tz",
        minutes,
    ),
    (
        "getSeconds",
        "timestamp_to_seconds",
        "timestamp_to_seconds_tz",
        seconds,
    ),
    (
        "getMilliseconds",
        "timestamp_to_milliseconds",
        "timestamp_to_milliseconds_with_tz",
        milliseconds,
    ),
];

pub(super) fn declare(f: &mut Functions) {
    for (name, plain, with_zone, call) in PARTS {
        f.member(name, plain, &[Type::Timestamp], Type::Int, *call);
        f.member(
            name,
            with_zone,
            &[Type::Timestamp, Type::String],
            Type::Int,
            *call,
        );
    }
}

macro_rules! parts {
    ($($name:ident => $part:expr;)*) => {$(
        fn $name<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
            part(args, $part)
        }
    )*};
}

parts! {
    year => |t| i64::from(t.year());
    month => |t| i64::from(t.month()) - 1;
    day_of_year => |t| i64::from(t.day_of_year()) - 1;
    day_of_month => |t| i64::from(t.day()) - 1;
    date => |t| i64::from(t.day());
    day_of_week => |t| i64::from(t.weekday().to_sunday_zero_offset());
    hours => |t| i64::from(t.hour());
    minutes => |t| i64::from(t.minute());
    seconds => |t| i64::from(t.second());
    milliseconds => |t| i64::from(t.millisecond());
}

fn part<'a>(args: &[Value<'a>], part: Part) -> Result<Value<'a>> {
    let Some(Value::Timestamp(time)) = args.first() else {
        return wrong();
    };
    let zone = match args.get(1) {
        None => TimeZone::UTC,
        Some(name) => zone(as_text(name)?)?,
    };
    Ok(Value::Int(part(&time.to_zoned(zone))))
}

/// A time zone by its name or its distance from UTC (`+01:30`, `-7:00`).
fn zone(name: &str) -> Result<TimeZone> {
    let Some((hours, minutes)) = name.split_once(':') else {
        return TimeZone::get(name).map_err(|_| EvalError::new(format!("unknown time zone {name}")));
    };
    let bad = || EvalError::new(format!("strconv.Atoi: parsing {name:?}: invalid syntax"));
    let negative = hours.starts_with('-');
    let hours: i32 = hours.parse().map_err(|_| bad())?;
    let minutes: i32 = minutes.parse().map_err(|_| bad())?;
    let seconds = hours * 3600 + if negative { -minutes } else { minutes } * 60;
    Offset::from_seconds(seconds)
        .map(TimeZone::fixed)
        .map_err(|_| bad())
}

/// A time from its text in RFC 3339.
pub(crate) fn parse_timestamp(text: &str) -> Result<Timestamp> {
    let bad = || {
        EvalError::new(format!(
            "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse"
        ))
    };
    // What RFC 3339 leaves open, its readers elsewhere don't.
    let form = text.len() >= 20 && text.as_bytes()[10] == b'T' && !text.contains('[');
    let time: Timestamp = if form {
        text.parse().map_err(|_| bad())?
    } else {
        return Err(bad());
    };
    if in_range(time) {
        Ok(time)
    } else {
        Err(EvalError::new("timestamp overflow"))
    }
}

pub(super) fn in_unix_range(seconds: i64) -> Result<Timestamp> {
    match Timestamp::from_second(seconds) {
        Ok(time) if in_range(time) => Ok(time),
        _ => Err(EvalError::new("timestamp overflow")),
    }
}
