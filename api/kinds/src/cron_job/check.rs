//! What is wrong with a CronJob.

use crate::check::{not_negative, required_enum};
use crate::job::job_spec;
use crate::podcheck::Leniency;
use rutter_api::object::ObjectExt;
use rutter_api::validation::At;
use rutter_api::{ErrorList, Value};

/// A new or changed cron job.
pub(super) fn cron_job(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let schedule = spec.child("schedule");
    if schedule.is_empty() {
        errors.push(schedule.required(""));
    } else {
        let kept = old.is_some_and(|old| old.str_at("spec.schedule").contains("TZ"));
        schedule_format(&schedule, spec.child("timeZone").is_set(), kept, &mut errors);
    }
    for field in [
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ] {
        not_negative(&spec.child(field), &mut errors);
    }
    if old.is_none_or(|old| old.at("spec.timeZone") != spec.child("timeZone").value) {
        time_zone(&spec.child("timeZone"), &mut errors);
    }
    required_enum(
        &spec.child("concurrencyPolicy"),
        &["Allow", "Forbid", "Replace"],
        &mut errors,
    );
    let template = spec.child("jobTemplate");
    let job = template.child("spec");
    if job.child("selector").is_set() {
        errors.push(job.child("selector").invalid("`selector` will be auto-generated"));
    }
    if job.child("manualSelector").flag() {
        errors.push(job.child("manualSelector").not_supported(&["nil", "false"]));
    }
    job_spec(
        &job,
        Leniency::of(old, "spec.jobTemplate.spec.template.spec"),
        &mut errors,
    );
    if old.is_none() && object.name().len() > 52 {
        let metadata = root.child("metadata");
        errors.push(
            metadata
                .child("name")
                .invalid("must be no more than 52 characters"),
        );
    }
    errors
}

fn schedule_format(at: &At<'_, '_>, has_zone: bool, zone_kept: bool, errors: &mut ErrorList) {
    let text = at.text();
    if let Err(error) = parse(text) {
        errors.push(at.invalid(error));
    }
    if text.contains("TZ") {
        if zone_kept && has_zone {
            errors.push(at.invalid("cannot use both timeZone field and TZ or CRON_TZ in schedule"));
        } else if !zone_kept {
            errors.push(at.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead"));
        }
    }
}

fn time_zone(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.is_null() {
        return;
    }
    let name = at.text();
    if name.is_empty() {
        errors.push(at.invalid("timeZone must be nil or non-empty string"));
        return;
    }
    let legal = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.starts_with('-')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+'))
    };
    if !name.split('/').all(legal) {
        errors.push(at.invalid(format!("unknown time zone {name}")));
    } else if name.eq_ignore_ascii_case("local") {
        errors.push(
            at.invalid(
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            ),
        );
    } else if jiff::tz::TimeZone::get(name).is_err() {
        errors.push(at.invalid(format!("unknown time zone {name}")));
    }
}

const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The fields of a schedule: name, least, most, names of values.
const FIELDS: [(u32, u32, &[&str], u32); 5] = [
    (0, 59, &[], 0),
    (0, 23, &[], 0),
    (1, 31, &[], 0),
    (1, 12, MONTHS, 1),
    (0, 6, DAYS, 0),
];

/// Whether a text is a schedule: five fields, or one of the words.
fn parse(text: &str) -> Result<(), String> {
    let mut text = text;
    if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
        text = text
            .split_once(' ')
            .map(|(_, rest)| rest.trim())
            .unwrap_or_default();
    }
    if text.starts_with('@') {
        let known = [
            "@yearly",
            "@annually",
            "@monthly",
            "@weekly",
            "@daily",
            "@midnight",
            "@hourly",
        ];
        if known.contains(&text) {
            return Ok(());
        }
        return match text.strip_prefix("@every ") {
            Some(duration) if is_duration(duration) => Ok(()),
            Some(duration) => Err(format!(
                "failed to parse duration @every {duration}: time: invalid duration {duration:?}"
            )),
            None => Err(format!("unrecognized descriptor: {text}")),
        };
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    for (field, rule) in fields.iter().zip(FIELDS) {
        for part in field.split(',') {
            range(part, rule)?;
        }
    }
    Ok(())
}

fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
                .len();
        if digits == 0 {
            return false;
        }
        rest = rest.get(digits..).unwrap_or_default();
        let Some(unit) = ["ns", "us", "µs", "ms", "s", "m", "h"]
            .iter()
            .find(|unit| rest.starts_with(**unit))
        else {
            return false;
        };
        rest = rest.strip_prefix(unit).unwrap_or_default();
    }
    !text.is_empty()
}

fn range(part: &str, rule: (u32, u32, &[&str], u32)) -> Result<(), String> {
    let (least, most, _, _) = rule;
    let (base, step) = match part.split_once('/') {
        Some((base, step)) => (base, Some(step)),
        None => (part, None),
    };
    if step.is_some_and(|s| s.contains('/')) {
        return Err(format!("too many slashes: {part}"));
    }
    let (start, mut end) = if matches!(base, "*" | "?") {
        (least, most)
    } else {
        let mut ends = base.split('-');
        let start = number(ends.next().unwrap_or_default(), rule)?;
        let end = match ends.next() {
            Some(text) => number(text, rule)?,
            None => start,
        };
        if ends.next().is_some() {
            return Err(format!("too many hyphens: {part}"));
        }
        (start, end)
    };
    if let Some(step) = step {
        let step = number(step, (0, u32::MAX, &[], 0))?;
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        if !base.contains('-') {
            end = most;
        }
    }
    if start < least {
        return Err(format!(
            "beginning of range ({start}) below minimum ({least}): {part}"
        ));
    }
    if end > most {
        return Err(format!("end of range ({end}) above maximum ({most}): {part}"));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {part}"
        ));
    }
    Ok(())
}

fn number(text: &str, (_, _, names, first): (u32, u32, &[&str], u32)) -> Result<u32, String> {
    if let Some(i) = names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return Ok(u32::try_from(i).unwrap_or_default() + first);
    }
    match text.parse::<i64>() {
        Ok(n) if n < 0 => Err(format!("negative number ({n}) not allowed: {text}")),
        Ok(n) => Ok(u32::try_from(n).unwrap_or(u32::MAX)),
        Err(_) => Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_right_or_wrong() {
        for right in [
            "* * * * *",
            "*/5 0-12 1,15 jan-mar MON",
            "@hourly",
            "@every 1h30m",
            "0 0 ? * 6",
        ] {
            assert_eq!(parse(right), Ok(()), "{right}");
        }
        for (wrong, want) in [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            (
                "a * * * *",
                "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax",
            ),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(parse(wrong), Err(want.to_owned()), "{wrong}");
        }
    }
}
