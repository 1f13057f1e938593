//! Cron schedules: five fields, `@daily` and its like, and `@every`.
//!
//! When both the day of month and the day of week are restricted, either suffices, as in every cron since Vixie's.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// When something happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// At wall clock times.
    Calendar(Box<Fields>),
    /// Again and again after this time.
    Every(SignedDuration),
}

/// The allowed values of each field, as bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

/// What is wrong with a schedule.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScheduleError {
    /// Not five fields.
    #[error("expected exactly 5 fields, found {0}: {1:?}")]
    Fields(usize, String),
    /// A field that can't be read.
    #[error("failed to parse {0:?}: it must be a number, a name, a range or a list within {1} to {2}")]
    Field(String, u32, u32),
    /// An unknown `@` word.
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// Reads a schedule.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let text = text.trim();
        if let Some(every) = text.strip_prefix("@every ") {
            let length = rutter_client::election::duration(every.trim())
                .map_err(|_| ScheduleError::Descriptor(text.to_owned()))?;
            let length =
                SignedDuration::from_secs(i64::try_from(length.as_secs()).unwrap_or(i64::MAX).max(1));
            return Ok(Self::Every(length));
        }
        let text = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other if other.starts_with('@') => return Err(ScheduleError::Descriptor(other.to_owned())),
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(ScheduleError::Fields(fields.len(), text.to_owned()));
        };
        let starred = |field: &str| field.starts_with('*') || field.starts_with('?');
        Ok(Self::Calendar(Box::new(Fields {
            minutes: bits(minutes, 0, 59, &[], 0)?,
            hours: bits(hours, 0, 23, &[], 0)?,
            days: bits(days, 1, 31, &[], 0)?,
            months: bits(months, 1, 12, &MONTHS, 1)?,
            weekdays: bits(weekdays, 0, 6, &WEEKDAYS, 0)?,
            any_day: starred(days),
            any_weekday: starred(weekdays),
        })))
    }

    /// The first time after `after`; `None` when there is none within five years (31 February, say).
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(length) => Timestamp::from_second(after.as_second())
                .ok()?
                .checked_add(*length)
                .ok(),
            Self::Calendar(fields) => fields.next(after, zone),
        }
    }
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|v| bits & (1 << v) != 0)
}

impl Fields {
    fn fits(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let either = if self.any_day || self.any_weekday {
            day && weekday
        } else {
            day || weekday
        };
        has(self.months, date.month()) && either
    }

    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = after.to_zoned(zone.clone()).datetime();
        let mut date = start.date();
        let last = date.checked_add(jiff::Span::new().years(5)).ok()?;
        // On the first day only times from the start on; an hour earlier too, because a clock may be put back.
        let mut from_hour = (start.hour() - 1).max(0);
        while date <= last {
            if self.fits(date) {
                for hour in (from_hour..24).filter(|h| has(self.hours, *h)) {
                    for minute in (0..60).filter(|m| has(self.minutes, *m)) {
                        let civil = DateTime::from_parts(date, Time::new(hour, minute, 0, 0).ok()?);
                        let zoned = civil.to_zoned(zone.clone()).ok()?;
                        // A time that the clock skips does not happen.
                        if zoned.datetime() == civil && zoned.timestamp() > after {
                            return Some(zoned.timestamp());
                        }
                    }
                }
            }
            from_hour = 0;
            date = date.tomorrow().ok()?;
        }
        None
    }
}

fn bits(text: &str, low: u32, high: u32, names: &[&str], first_name: u32) -> Result<u64, ScheduleError> {
    let wrong = || ScheduleError::Field(text.to_owned(), low, high);
    let value = |part: &str| -> Option<u32> {
        let named = names
            .iter()
            .position(|n| n.eq_ignore_ascii_case(part))
            .and_then(|at| u32::try_from(at).ok());
        named.map(|at| at + first_name).or_else(|| part.parse().ok())
    };
    let mut all = 0_u64;
    for item in text.split(',') {
        let (range, step) = item.split_once('/').map_or((item, None), |(r, s)| (r, Some(s)));
        let (first, last) = match range {
            "*" | "?" => (low, high),
            range => match range.split_once('-') {
                Some((first, last)) => (value(first).ok_or_else(wrong)?, value(last).ok_or_else(wrong)?),
                None => {
                    let first = value(range).ok_or_else(wrong)?;
                    (first, if step.is_some() { high } else { first })
                }
            },
        };
        let step: usize = step.map_or(Ok(1), |s| s.parse().map_err(|_| wrong()))?;
        if first < low || last > high || first > last || step == 0 {
            return Err(wrong());
        }
        for value in (first..=last).step_by(step) {
            all |= 1 << value;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_found_across_days_months_and_years() {
        let utc = TimeZone::UTC;
        for (schedule, after, want) in [
            ("* * * * *", "2026-01-01T00:00:30Z", Some("2026-01-01T00:01:00Z")),
            ("* * * * *", "2026-01-01T00:01:00Z", Some("2026-01-01T00:02:00Z")),
            (
                "*/15 * * * *",
                "2026-01-01T00:50:00Z",
                Some("2026-01-01T01:00:00Z"),
            ),
            (
                "0 9-17/4 * * *",
                "2026-01-01T14:00:00Z",
                Some("2026-01-01T17:00:00Z"),
            ),
            (
                "30 3 * * mon-fri",
                "2026-01-02T04:00:00Z",
                Some("2026-01-05T03:30:00Z"),
            ),
            ("0 0 13 * 5", "2026-01-01T00:00:00Z", Some("2026-01-02T00:00:00Z")),
            (
                "0 0 29 feb *",
                "2026-01-01T00:00:00Z",
                Some("2028-02-29T00:00:00Z"),
            ),
            ("0 0 31 2 *", "2026-01-01T00:00:00Z", None),
            ("@monthly", "2026-01-15T00:00:00Z", Some("2026-02-01T00:00:00Z")),
            ("@every 90m", "2026-01-01T00:00:00Z", Some("2026-01-01T01:30:00Z")),
        ] {
            let next = Schedule::parse(schedule)
                .unwrap()
                .next(after.parse().unwrap(), &utc);
            assert_eq!(
                next.map(|t| t.to_string()).as_deref(),
                want,
                "{schedule} after {after}"
            );
        }
    }

    #[test]
    fn times_are_the_zones_and_skipped_ones_do_not_happen() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let next = |schedule: &str, after: &str| {
            Schedule::parse(schedule)
                .unwrap()
                .next(after.parse().unwrap(), &zone)
                .unwrap()
                .to_string()
        };
        assert_eq!(next("0 9 * * *", "2026-01-01T00:00:00Z"), "2026-01-01T14:00:00Z");
        assert_eq!(next("30 2 * * *", "2026-03-08T05:00:00Z"), "2026-03-09T06:30:00Z");
    }

    #[test]
    fn a_schedule_that_makes_no_sense_is_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "a * * * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "@often",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }
}
