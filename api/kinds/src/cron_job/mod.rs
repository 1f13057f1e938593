//! CronJob.

mod check;

use crate::fill::{absent, inside, made, spec, text};
use crate::job::default_job_template_spec;
use crate::print::{self, AGE, CONTAINERS, IMAGES, NAME, NONE, SELECTOR};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, ErrorList, Strategy, Value};

/// CronJob.
pub(crate) struct CronJob;

impl Strategy for CronJob {
    fn default_object(&self, object: &mut Value) {
        let Some(spec) = spec(object) else { return };
        text(spec, "concurrencyPolicy", "Allow");
        absent(spec, "suspend", false);
        absent(spec, "successfulJobsHistoryLimit", 3);
        absent(spec, "failedJobsHistoryLimit", 1);
        if let Some(job) = inside(spec, "jobTemplate").and_then(|template| made(template, "spec")) {
            default_job_template_spec(job);
        }
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        check::cron_job(object, None)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        if cx.subresource == "status" {
            ErrorList::new()
        } else {
            check::cron_job(object, Some(old))
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        crate::podcheck::warnings::template(object, old, "spec.jobTemplate.spec.template")
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Schedule", "When it runs, as cron says it."),
            print::text("Timezone", "The time zone of the schedule."),
            print::boolean("Suspend", "Whether it waits."),
            print::integer("Active", "How many of its jobs are running."),
            print::text("Last Schedule", "Time since it ran last."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let job = object.at("spec.jobTemplate.spec");
        let [names, images] = print::containers(job.at("template.spec"));
        let suspend = match object.bool_at("spec.suspend") {
            Some(true) => "True",
            Some(false) => "False",
            None => print::UNSET,
        };
        let last = match object.str_at("status.lastScheduleTime") {
            "" => Value::from(NONE),
            _ => print::since(object, "status.lastScheduleTime", cx),
        };
        vec![
            print::name(object),
            Value::from(object.str_at("spec.schedule")),
            print::text_or(object, "spec.timeZone", NONE),
            Value::from(suspend),
            Value::from(object.list_at("status.active").len()),
            last,
            print::age(object, cx),
            names,
            images,
            Value::from(print::selector(job.at("selector"))),
        ]
    }
}
