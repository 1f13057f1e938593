//! Decides which Job a CronJob starts, stops and forgets.

use super::schedule::Schedule;
use crate::common::owners::{controller_reference, name, uid};
use crate::common::time::time;
use crate::job::plan::{is_finished, true_condition};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rutter_client::events::EventType;
use std::sync::Arc;
use std::time::Duration;

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
const MANY: i64 = 100;

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Jobs to delete: replaced ones, and old ones beyond the limits.
    pub delete: Vec<Arc<Job>>,
    /// The Job to start, and the time it stands for.
    pub start: Option<(Box<Job>, Timestamp)>,
    /// The status, before the Job is started.
    pub status: CronJobStatus,
    /// Things to tell.
    pub events: Vec<(EventType, &'static str, String)>,
    /// When to look again.
    pub again: Option<Duration>,
}

/// The schedule and the zone it is in.
fn schedule(cron: &CronJob) -> Result<(Schedule, TimeZone), (&'static str, String)> {
    let mut text = cron.spec.schedule.clone();
    let mut zone = cron.spec.time_zone.clone();
    for prefix in ["TZ=", "CRON_TZ="] {
        if let Some((name, rest)) = text.strip_prefix(prefix).and_then(|t| t.split_once(' ')) {
            zone = Some(name.to_owned());
            text = rest.to_owned();
            break;
        }
    }
    let zone = match zone {
        None => TimeZone::UTC,
        Some(zone) => TimeZone::get(&zone)
            .map_err(|e| ("UnknownTimeZone", format!("invalid timeZone: {zone:?}: {e}")))?,
    };
    let parsed = Schedule::parse(&text).map_err(|e| {
        (
            "UnparseableSchedule",
            format!("unparseable schedule: {text:?} : {e}"),
        )
    })?;
    Ok((parsed, zone))
}

/// The latest time that is due, and whether suspiciously many before it were missed.
fn due(
    schedule: &Schedule,
    zone: &TimeZone,
    earliest: Timestamp,
    now: Timestamp,
) -> (Option<Timestamp>, bool) {
    let Some(first) = schedule.next(earliest, zone).filter(|t| *t <= now) else {
        return (None, false);
    };
    let Some(second) = schedule.next(first, zone).filter(|t| *t <= now) else {
        return (Some(first), false);
    };
    let apart = second.duration_since(first).as_secs().max(1);
    let missed = now.duration_since(first).as_secs() / apart + 1;
    // Regular schedules are jumped over, not walked through.
    let jump = first
        .checked_add(SignedDuration::from_secs((missed - 2).max(0) * apart))
        .unwrap_or(first);
    let mut latest = None;
    let mut at = jump - SignedDuration::from_secs(1);
    while let Some(next) = schedule.next(at, zone).filter(|t| *t <= now) {
        latest = Some(next);
        at = next;
    }
    (latest.or(Some(second)), missed > MANY)
}

/// The name of the Job for a time: the same for every try, so that none is started twice.
pub fn job_name(cron: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", name(&cron.metadata), at.as_second() / 60)
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        field_path: None,
    }
}

fn make_job(cron: &CronJob, at: Timestamp, zone: &TimeZone) -> Job {
    let template = cron.spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let local = at.to_zoned(zone.clone());
    let text = if *zone == TimeZone::UTC {
        local.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    };
    annotations.insert(SCHEDULED_AT.to_owned(), text);
    Job {
        metadata: ObjectMeta {
            name: Some(job_name(cron, at)),
            namespace: cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// Decides from the CronJob and the Jobs that it controls.
pub fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let mut plan = Plan {
        status: cron.status.clone().unwrap_or_default(),
        ..Plan::default()
    };
    let spec = &cron.spec;
    follow_jobs(jobs, &mut plan);
    clear_history(cron, jobs, &mut plan);
    if cron.metadata.deletion_timestamp.is_some() || spec.suspend == Some(true) {
        return plan;
    }
    let (schedule, zone) = match schedule(cron) {
        Ok(found) => found,
        Err((reason, message)) => {
            plan.events.push((EventType::Warning, reason, message));
            return plan;
        }
    };
    let created = cron.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    let last = plan.status.last_schedule_time.as_ref().map_or(created, |t| t.0);
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    let earliest = deadline.map_or(last, |d| last.max(now - d));
    let (at, many) = due(&schedule, &zone, earliest, now);
    let next = schedule.next(at.unwrap_or(now).max(now), &zone);
    // A little later, so that clocks that differ a little don't matter.
    plan.again = next
        .map(|t| Duration::try_from(t.duration_since(now)).unwrap_or_default() + Duration::from_millis(100));
    let Some(at) = at else { return plan };
    if many {
        let text =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.events
            .push((EventType::Warning, "TooManyMissedTimes", text.to_owned()));
    }
    if deadline.is_some_and(|d| at + d < now) {
        let when = at.strftime("%a, %d %b %Y %H:%M:%S +0000");
        plan.events.push((
            EventType::Warning,
            "MissSchedule",
            format!("Missed scheduled time to start a job: {when}"),
        ));
        return plan;
    }
    start(cron, jobs, at, &zone, &mut plan);
    plan
}

fn start(cron: &CronJob, jobs: &[Arc<Job>], at: Timestamp, zone: &TimeZone, plan: &mut Plan) {
    let wanted = job_name(cron, at);
    let active = plan.status.active.clone().unwrap_or_default();
    let started = plan.status.last_schedule_time.as_ref().is_some_and(|t| t.0 == at);
    if started || active.iter().any(|r| r.name.as_deref() == Some(&wanted)) {
        return;
    }
    let policy = cron.spec.concurrency_policy.as_deref();
    match policy {
        Some("Forbid") if !active.is_empty() => {
            let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.events
                .push((EventType::Normal, "JobAlreadyActive", text.to_owned()));
            return;
        }
        Some("Replace") => {
            let ids: Vec<&str> = active.iter().filter_map(|r| r.uid.as_deref()).collect();
            plan.delete
                .extend(jobs.iter().filter(|j| ids.contains(&uid(&j.metadata))).cloned());
            plan.status.active = None;
        }
        _ => {}
    }
    plan.start = Some((Box::new(make_job(cron, at, zone)), at));
}

/// Keeps the list of running Jobs true.
fn follow_jobs(jobs: &[Arc<Job>], plan: &mut Plan) {
    let mut active = plan.status.active.take().unwrap_or_default();
    for job in jobs {
        let listed = active.iter().any(|r| r.uid == job.metadata.uid);
        if !is_finished(job) {
            if !listed && job.metadata.deletion_timestamp.is_none() {
                let text = format!(
                    "Saw a job that the controller did not create or forgot: {}",
                    name(&job.metadata)
                );
                plan.events.push((EventType::Warning, "UnexpectedJob", text));
                active.push(reference(job));
            }
            continue;
        }
        let complete = job
            .status
            .as_ref()
            .is_some_and(|s| true_condition(s, "Complete").is_some());
        if listed {
            let how = if complete { "Complete" } else { "Failed" };
            let text = format!("Saw completed job: {}, condition: {how}", name(&job.metadata));
            plan.events.push((EventType::Normal, "SawCompletedJob", text));
            active.retain(|r| r.uid != job.metadata.uid);
        }
        let ended = job
            .status
            .as_ref()
            .and_then(|s| s.completion_time.clone())
            .filter(|_| complete);
        if ended > plan.status.last_successful_time {
            plan.status.last_successful_time = ended;
        }
    }
    active.retain(|r| {
        let there = jobs.iter().any(|j| j.metadata.uid == r.uid);
        if !there {
            let text = format!("Active job went missing: {}", r.name.clone().unwrap_or_default());
            plan.events.push((EventType::Normal, "MissingJob", text));
        }
        there
    });
    plan.status.active = Some(active).filter(|a| !a.is_empty());
}

/// Picks ended Jobs beyond the limits, oldest first.
fn clear_history(cron: &CronJob, jobs: &[Arc<Job>], plan: &mut Plan) {
    let spec = &cron.spec;
    for (kind, limit) in [
        ("Complete", spec.successful_jobs_history_limit),
        ("Failed", spec.failed_jobs_history_limit),
    ] {
        let Some(limit) = limit.and_then(|l| usize::try_from(l).ok()) else {
            continue;
        };
        let ended = |j: &&Arc<Job>| {
            j.status
                .as_ref()
                .is_some_and(|s| true_condition(s, kind).is_some())
                && j.metadata.deletion_timestamp.is_none()
        };
        let mut ended: Vec<Arc<Job>> = jobs.iter().filter(ended).cloned().collect();
        ended.sort_by_key(|j| {
            (
                j.status.as_ref().and_then(|s| s.start_time.clone()),
                j.metadata.name.clone(),
            )
        });
        let excess = ended.len().saturating_sub(limit);
        plan.delete.extend(ended.into_iter().take(excess));
    }
}

/// The status after a Job was started.
pub fn started(status: &CronJobStatus, job: &Job, at: Timestamp) -> CronJobStatus {
    let mut status = status.clone();
    status.active.get_or_insert_default().push(reference(job));
    status.last_schedule_time = Some(time(at));
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn cron(spec: Value, status: Value) -> CronJob {
        let mut spec = spec;
        spec["jobTemplate"] = json!({"spec": {"template": {}}});
        serde_json::from_value(json!({
            "metadata": {"name": "c", "namespace": "default", "uid": "c", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": spec, "status": status,
        }))
        .unwrap()
    }

    fn job(name: &str, condition: Option<&str>) -> Arc<Job> {
        let conditions: Vec<Value> = condition
            .iter()
            .map(|c| json!({"type": c, "status": "True"}))
            .collect();
        let value = json!({"metadata": {"name": name, "uid": name}, "status": {"startTime": "2026-01-01T00:00:00Z", "conditions": conditions}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn started_name(plan: &Plan) -> Option<String> {
        plan.start.as_ref().and_then(|(j, _)| j.metadata.name.clone())
    }

    #[test]
    fn a_job_starts_when_its_time_has_come_and_only_once() {
        let hourly = json!({"schedule": "0 * * * *"});
        let early = plan(&cron(hourly.clone(), json!({})), &[], at("2026-01-01T00:59:00Z"));
        assert_eq!(started_name(&early), None);
        assert_eq!(early.again.map(|d| d.as_secs()), Some(60));
        let due = plan(&cron(hourly.clone(), json!({})), &[], at("2026-01-01T01:00:00Z"));
        let one = at("2026-01-01T01:00:00Z").as_second() / 60;
        assert_eq!(started_name(&due), Some(format!("c-{one}")));
        let done = plan(
            &cron(hourly, json!({"lastScheduleTime": "2026-01-01T01:00:00Z"})),
            &[],
            at("2026-01-01T01:00:30Z"),
        );
        assert_eq!(started_name(&done), None);
    }

    #[test]
    fn of_many_missed_times_the_last_one_counts() {
        let late = plan(
            &cron(json!({"schedule": "* * * * *"}), json!({})),
            &[],
            at("2026-01-03T00:00:30Z"),
        );
        assert_eq!(late.start.as_ref().map(|s| s.1), Some(at("2026-01-03T00:00:00Z")));
        assert!(late.events.iter().any(|e| e.1 == "TooManyMissedTimes"));
        let bounded = cron(
            json!({"schedule": "0 * * * *", "startingDeadlineSeconds": 60}),
            json!({}),
        );
        assert_eq!(
            started_name(&plan(&bounded, &[], at("2026-01-01T05:30:00Z"))),
            None,
            "too late for the last one"
        );
    }

    #[test]
    fn a_running_job_is_left_replaced_or_joined_by_policy() {
        let status = json!({"active": [{"name": "old", "uid": "old"}]});
        for (policy, starts, deletes) in [("Allow", true, 0), ("Forbid", false, 0), ("Replace", true, 1)] {
            let cron = cron(
                json!({"schedule": "0 * * * *", "concurrencyPolicy": policy}),
                status.clone(),
            );
            let plan = plan(&cron, &[job("old", None)], at("2026-01-01T01:00:00Z"));
            assert_eq!(
                (plan.start.is_some(), plan.delete.len()),
                (starts, deletes),
                "{policy}"
            );
        }
        let suspended = cron(json!({"schedule": "0 * * * *", "suspend": true}), json!({}));
        assert_eq!(
            started_name(&plan(&suspended, &[], at("2026-01-01T01:00:00Z"))),
            None
        );
    }

    #[test]
    fn ended_jobs_leave_the_list_and_old_ones_go() {
        let cron = cron(
            json!({"schedule": "0 * * * *", "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0}),
            json!({"active": [{"name": "a", "uid": "a"}, {"name": "lost", "uid": "lost"}]}),
        );
        let plan = plan(
            &cron,
            &[
                job("a", Some("Complete")),
                job("b", Some("Complete")),
                job("f", Some("Failed")),
            ],
            at("2026-01-01T00:30:00Z"),
        );
        assert_eq!(plan.status.active, None);
        let gone: Vec<&str> = plan.delete.iter().map(|j| name(&j.metadata)).collect();
        assert_eq!(gone, ["a", "f"]);
        let reasons: Vec<&str> = plan.events.iter().map(|e| e.1).collect();
        assert_eq!(reasons, ["SawCompletedJob", "MissingJob"]);
    }

    #[test]
    fn a_wrong_schedule_or_zone_is_told() {
        for (spec, reason) in [
            (json!({"schedule": "often"}), "UnparseableSchedule"),
            (
                json!({"schedule": "0 * * * *", "timeZone": "Mars/Base"}),
                "UnknownTimeZone",
            ),
        ] {
            let plan = plan(&cron(spec, json!({})), &[], at("2026-01-01T01:00:00Z"));
            assert_eq!(plan.events.first().map(|e| e.1), Some(reason));
        }
    }
}
