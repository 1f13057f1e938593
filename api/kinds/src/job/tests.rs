use super::*;
use serde_json::json;

fn cx() -> Context<'static> {
    Context {
        now: jiff::Timestamp::UNIX_EPOCH,
        user: "u",
        subresource: "",
        dry_run: false,
    }
}

#[test]
fn jobs_are_filled_in() {
    for (spec, completions, parallelism, backoff, replacement) in [
        (json!({}), json!(1), 1, 6, "TerminatingOrFailed"),
        (
            json!({"parallelism": 3}),
            json!(null),
            3,
            6,
            "TerminatingOrFailed",
        ),
        (json!({"completions": 4}), json!(4), 1, 6, "TerminatingOrFailed"),
        (
            json!({"backoffLimitPerIndex": 1}),
            json!(1),
            1,
            2147483647_i64,
            "TerminatingOrFailed",
        ),
        (
            json!({"podFailurePolicy": {"rules": []}}),
            json!(1),
            1,
            6,
            "Failed",
        ),
    ] {
        let mut job = json!({"spec": spec});
        Job.default_object(&mut job);
        Job.default_object(&mut job);
        assert_eq!(job.at("spec.completions"), &completions);
        assert_eq!(job.int_at("spec.parallelism"), Some(parallelism));
        assert_eq!(job.int_at("spec.backoffLimit"), Some(backoff));
        assert_eq!(job.str_at("spec.podReplacementPolicy"), replacement);
    }
}

#[test]
fn a_new_job_selects_its_pods_by_its_uid() {
    let mut job = json!({"metadata": {"name": "j", "uid": "u-1"}, "spec": {"template": {"spec": {}}}});
    Job.prepare_create(&mut job, &cx());
    assert_eq!(
        job.at("spec.selector"),
        &json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}})
    );
    assert_eq!(
        job.at("spec.template.metadata.labels"),
        &json!({"job-name": "j", "batch.kubernetes.io/job-name": "j", "controller-uid": "u-1",
            "batch.kubernetes.io/controller-uid": "u-1"})
    );
}
