//! Job.

mod check;

pub(crate) use check::job_spec;

use crate::fill::{Fields, absent, each, inside, made, spec, text};
use crate::podspec::default_template;
use crate::print::{self, AGE, CONTAINERS, IMAGES, NAME, SELECTOR};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, ErrorList, Strategy, Value, duration};

pub(crate) const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
pub(crate) const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

/// Job.
pub(crate) struct Job;

/// The defaults of a job's spec.
fn default_job_spec(spec: &mut Fields) {
    if spec.get("completions").is_none_or(Value::is_null)
        && spec.get("parallelism").is_none_or(Value::is_null)
    {
        absent(spec, "completions", 1);
    }
    absent(spec, "parallelism", 1);
    let per_index = !spec.get("backoffLimitPerIndex").is_none_or(Value::is_null);
    absent(
        spec,
        "backoffLimit",
        if per_index { i64::from(i32::MAX) } else { 6 },
    );
    absent(spec, "completionMode", "NonIndexed");
    absent(spec, "suspend", false);
    absent(spec, "manualSelector", false);
    let policy = !spec.get("podFailurePolicy").is_none_or(Value::is_null);
    absent(
        spec,
        "podReplacementPolicy",
        if policy { "Failed" } else { "TerminatingOrFailed" },
    );
    default_job_template_spec(spec);
}

/// What is filled in also in a cron job's template of jobs.
pub(crate) fn default_job_template_spec(spec: &mut Fields) {
    if let Some(policy) = inside(spec, "podFailurePolicy") {
        for pattern in each(policy, "rules").flat_map(|rule| each(rule, "onPodConditions")) {
            text(pattern, "status", "True");
        }
    }
    default_template(spec, "template");
}

impl Strategy for Job {
    fn default_object(&self, object: &mut Value) {
        if object
            .map_at("metadata.labels")
            .is_none_or(|labels| labels.is_empty())
            && object
                .map_at("spec.template.metadata.labels")
                .is_some_and(|labels| !labels.is_empty())
        {
            object.set(
                "metadata.labels",
                object.at("spec.template.metadata.labels").clone(),
            );
        }
        if let Some(spec) = spec(object) {
            default_job_spec(spec);
        }
    }

    /// A job finds its pods by its own uid, unless it says that it knows better.
    fn prepare_create(&self, object: &mut Value, _cx: &Context<'_>) {
        object.take_at("status");
        if object.bool_at("spec.manualSelector") == Some(true) {
            return;
        }
        let shared = object.at("metadata.labels") == object.at("spec.template.metadata.labels")
            || object
                .map_at("metadata.labels")
                .is_none_or(|labels| labels.is_empty());
        let name = Value::from(object.name());
        let uid = Value::from(object.uid());
        let Some(spec) = spec(object) else { return };
        if let Some(labels) = made(spec, "template")
            .and_then(|template| made(template, "metadata"))
            .and_then(|metadata| made(metadata, "labels"))
        {
            for label in NAME_LABELS {
                labels.entry(label).or_insert_with(|| name.clone());
            }
            for label in UID_LABELS {
                labels.entry(label).or_insert_with(|| uid.clone());
            }
        }
        if let Some(labels) = made(spec, "selector").and_then(|selector| made(selector, "matchLabels")) {
            labels.entry(UID_LABELS[1]).or_insert(uid);
        }
        if shared {
            object.set(
                "metadata.labels",
                object.at("spec.template.metadata.labels").clone(),
            );
        }
    }

    fn default_orphans(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.successful"]
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        vec![object.int_at("status.succeeded").unwrap_or_default().to_string()]
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        check::create(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        if cx.subresource == "status" {
            check::status(object, old)
        } else {
            check::update(object, old)
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        crate::podcheck::warnings::template(object, old, "spec.template")
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Status", "What it is doing, in one word."),
            print::text("Completions", "Pods that succeeded, of those that should."),
            print::text("Duration", "How long it took, or has taken so far."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let [names, images] = print::containers(object.at("spec.template.spec"));
        vec![
            print::name(object),
            Value::from(status(object)),
            Value::from(completions(object)),
            Value::from(took(object, cx)),
            print::age(object, cx),
            names,
            images,
            Value::from(print::selector(object.at("spec.selector"))),
        ]
    }
}

fn status(job: &Value) -> &'static str {
    let is = |kind: &str| {
        let condition = job
            .list_at("status.conditions")
            .iter()
            .find(|c| c.str_at("type") == kind);
        condition.is_some_and(|c| c.str_at("status") == "True")
    };
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if job.is_deleting() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(job: &Value) -> String {
    let succeeded = job.int_at("status.succeeded").unwrap_or_default();
    match (
        job.int_at("spec.completions"),
        job.int_at("spec.parallelism").unwrap_or_default(),
    ) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn took(job: &Value, cx: &Context<'_>) -> String {
    let time = |path: &str| job.str_at(path).parse::<jiff::Timestamp>().ok();
    match (time("status.startTime"), time("status.completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => duration::human(end.unwrap_or(cx.now).as_second() - start.as_second()),
    }
}

#[cfg(test)]
mod tests;
