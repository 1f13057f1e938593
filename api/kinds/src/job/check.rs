//! What is wrong with a Job.

use super::{NAME_LABELS, UID_LABELS};
use crate::check::{enumerated, not_negative, plain, with_diff};
use crate::pod::{copy, same};
use crate::podcheck::{self, Leniency};
use crate::workload;
use rutter_api::object::ObjectExt;
use rutter_api::validation::{At, dns_label, qualified_name};
use rutter_api::{ErrorList, FieldError, Value};
use std::collections::BTreeSet;

/// A new job.
pub(super) fn create(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    generated_selector(&root, &mut errors);
    let spec = root.child("spec");
    if spec.child("selector").is_null() {
        errors.push(spec.child("selector").required(""));
    }
    job_spec(&spec, Leniency::default(), &mut errors);
    workload::selected(&spec, &mut errors);
    let completions = spec.child("completions").int().unwrap_or_default();
    if spec.child("completionMode").text() == "Indexed" && completions > 0 {
        let hostname = format!("{}-{}", object.name(), completions - 1);
        let wrong = dns_label(&hostname);
        if !wrong.is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {hostname}");
            let metadata = root.child("metadata");
            errors.push(metadata.child("name").invalid(detail));
        }
    }
    errors
}

fn generated_selector(root: &At<'_, '_>, errors: &mut ErrorList) {
    let spec = root.child("spec");
    let selector = spec.child("selector");
    if spec.child("manualSelector").flag() || selector.is_null() {
        return;
    }
    let (name, uid) = (root.value.name(), root.value.uid());
    let template = spec.child("template");
    let metadata = template.child("metadata");
    let labels = metadata.child("labels");
    for (label, want) in [
        (UID_LABELS[0], uid),
        (NAME_LABELS[0], name),
        (UID_LABELS[1], uid),
        (NAME_LABELS[1], name),
    ] {
        let at = labels.key(label);
        if at.is_null() {
            errors.push(at.required(format!("must be '{want}'")));
        } else if at.text() != want {
            errors.push(at.invalid_as(labels.value.clone(), format!("must be '{want}'")));
        }
    }
    let matched = selector.child("matchLabels");
    if matched.key(UID_LABELS[1]).text() != uid && matched.key(UID_LABELS[0]).text() != uid {
        errors.push(selector.invalid("`selector` not auto-generated"));
    }
}

/// The spec of a job, or of a cron job's template.
pub(crate) fn job_spec(spec: &At<'_, '_>, lenient: Leniency, errors: &mut ErrorList) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(&spec.child(field), errors);
    }
    if spec.child("maxFailedIndexes").is_set() && spec.child("backoffLimitPerIndex").is_null() {
        errors.push(
            spec.child("backoffLimitPerIndex")
                .required("when maxFailedIndexes is specified"),
        );
    }
    let manager = spec.child("managedBy");
    if manager.is_set() {
        let text = manager.text();
        let prefixed = text.split('/').count() == 2 && qualified_name(text).is_empty();
        if !prefixed {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(manager.invalid(detail));
        }
        if text.len() > 63 {
            errors.push(FieldError::too_long(&manager.path(), 63));
        }
    }
    let mode = spec.child("completionMode");
    if mode.is_set() {
        enumerated(&mode, &["NonIndexed", "Indexed"], errors);
    }
    if mode.text() == "Indexed" {
        indexed(spec, errors)
    } else {
        not_indexed(spec, errors)
    }
    if spec.child("podFailurePolicy").is_set() {
        failure_policy(spec, errors);
    }
    success_policy(spec, errors);
    let replacement = spec.child("podReplacementPolicy");
    if replacement.is_set() {
        let supported: &[&str] = if spec.child("podFailurePolicy").is_set() {
            &["Failed"]
        } else {
            &["Failed", "TerminatingOrFailed"]
        };
        enumerated(&replacement, supported, errors);
    }
    let template = spec.child("template");
    podcheck::template(&template, lenient, errors);
    let pod_spec = template.child("spec");
    let policy = pod_spec.child("restartPolicy");
    match policy.text() {
        "Never" => {}
        "OnFailure" => {
            if spec.child("podFailurePolicy").is_set() {
                let detail = "only \"Never\" is supported when podFailurePolicy is specified";
                errors.push(policy.invalid(detail));
            }
        }
        "" | "Always" => errors.push(policy.required("valid values: \"OnFailure\", \"Never\"")),
        _ => errors.push(policy.not_supported(&["OnFailure", "Never"])),
    }
}

fn indexed(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let (completions, parallelism) = (spec.child("completions"), spec.child("parallelism"));
    let failed = spec.child("maxFailedIndexes");
    let above = |at: &At<'_, '_>, most: i64| at.int().is_some_and(|n| n > most);
    if completions.is_null() {
        errors.push(completions.required("when completion mode is Indexed"));
    }
    if above(&parallelism, 100_000) {
        let detail = "must be less than or equal to 100000 when completion mode is Indexed";
        errors.push(parallelism.invalid(detail));
    }
    if let (Some(all), Some(failed_limit)) = (completions.int(), failed.int())
        && failed_limit > all
    {
        errors.push(failed.invalid("must be less than or equal to completions"));
    }
    if above(&failed, 100_000) {
        errors.push(failed.invalid("must be less than or equal to 100000"));
    }
    if above(&completions, 100_000) && spec.child("backoffLimitPerIndex").is_set() {
        let when = "when completions are above 100000 and used with backoff limit per index";
        if failed.is_null() {
            errors.push(failed.required("must be specified when completions is above 100000"));
        }
        if above(&parallelism, 10_000) {
            errors.push(parallelism.invalid(format!("must be less than or equal to 10000 {when}")));
        }
        if above(&failed, 10_000) {
            errors.push(failed.invalid(format!("must be less than or equal to 10000 {when}")));
        }
    }
}

fn not_indexed(spec: &At<'_, '_>, errors: &mut ErrorList) {
    for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        if spec.child(field).is_set() {
            errors.push(spec.child(field).invalid("requires indexed completion mode"));
        }
    }
}

fn failure_policy(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let policy = spec.child("podFailurePolicy");
    let rules = policy.child("rules");
    if rules.len() > 20 {
        errors.push(FieldError::too_many(&rules.path(), rules.len(), 20));
    }
    let template = spec.value.at("template.spec");
    let names: BTreeSet<&str> = template
        .list_at("containers")
        .iter()
        .chain(template.list_at("initContainers"))
        .map(|c| c.str_at("name"))
        .collect();
    for rule in rules.items() {
        let action = rule.child("action");
        let actions = &["Count", "FailIndex", "FailJob", "Ignore"];
        if action.is_empty() {
            errors.push(action.required(format!("valid values: [{}]", quoted(actions))));
        } else if action.text() == "FailIndex" {
            if spec.child("backoffLimitPerIndex").is_null() {
                errors.push(action.invalid("requires the backoffLimitPerIndex to be set"));
            }
        } else {
            enumerated(&action, actions, errors);
        }
        let (codes, conditions) = (rule.child("onExitCodes"), rule.child("onPodConditions"));
        if codes.is_set() {
            exit_codes(&codes, &names, errors);
        }
        if conditions.len() > 20 {
            errors.push(FieldError::too_many(&conditions.path(), conditions.len(), 20));
        }
        for pattern in conditions.items() {
            let kind = pattern.child("type");
            errors.extend(
                qualified_name(kind.text())
                    .into_iter()
                    .map(|e| kind.invalid_as(kind.text(), e)),
            );
            let status = pattern.child("status");
            let statuses = &["False", "True", "Unknown"];
            if status.is_empty() {
                errors.push(status.required(format!("valid values: [{}]", quoted(statuses))));
            } else {
                enumerated(&status, statuses, errors);
            }
        }
        match (codes.is_set(), !conditions.is_empty()) {
            (true, true) => {
                errors.push(plain(
                    &rule,
                    "specifying both OnExitCodes and OnPodConditions is not supported",
                ));
            }
            (false, false) => {
                errors.push(plain(
                    &rule,
                    "specifying one of OnExitCodes and OnPodConditions is required",
                ));
            }
            _ => {}
        }
    }
}

fn quoted(texts: &[&str]) -> String {
    texts
        .iter()
        .map(|t| format!("{t:?}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn exit_codes(at: &At<'_, '_>, names: &BTreeSet<&str>, errors: &mut ErrorList) {
    let operator = at.child("operator");
    if operator.is_empty() {
        errors.push(operator.required(format!("valid values: [{}]", quoted(&["In", "NotIn"]))));
    } else {
        enumerated(&operator, &["In", "NotIn"], errors);
    }
    let name = at.child("containerName");
    if name.is_set() && !names.contains(name.text()) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.push(name.invalid(detail));
    }
    let values = at.child("values");
    if values.is_empty() {
        let shown = if values.is_null() {
            Value::Array(Vec::new())
        } else {
            values.value.clone()
        };
        errors.push(values.invalid_as(shown, "at least one value is required"));
    } else if values.len() > 255 {
        errors.push(FieldError::too_many(&values.path(), values.len(), 255));
    }
    let mut seen = BTreeSet::new();
    let mut ordered = true;
    let mut last = i64::MIN;
    for value in values.items() {
        let code = value.int().unwrap_or_default();
        if operator.text() == "In" && code == 0 {
            errors.push(value.invalid("must not be 0 for the In operator"));
        }
        if !seen.insert(code) {
            errors.push(value.duplicate());
        }
        ordered &= last <= code;
        last = code;
    }
    if !ordered {
        errors.push(values.invalid("must be ordered"));
    }
}

fn success_policy(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let policy = spec.child("successPolicy");
    if policy.is_null() {
        return;
    }
    if spec.child("completionMode").text() != "Indexed" {
        errors.push(policy.invalid("requires indexed completion mode"));
        return;
    }
    let rules = policy.child("rules");
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(rules.required(detail));
    }
    if rules.len() > 20 {
        errors.push(FieldError::too_many(&rules.path(), rules.len(), 20));
    }
    let completions = spec.child("completions").int().unwrap_or_default();
    for rule in rules.items() {
        let (count, indexes) = (rule.child("succeededCount"), rule.child("succeededIndexes"));
        if count.is_null() && indexes.is_null() {
            errors
                .push(rule.required("at least one of succeededCount or succeededIndexes must be specified"));
        }
        let mut total = None;
        if indexes.is_set() {
            if indexes.text().len() > 64 * 1024 {
                errors.push(FieldError::too_long(&indexes.path(), 64 * 1024));
            }
            match count_indexes(indexes.text(), completions) {
                Ok(n) => total = Some(n),
                Err(error) => {
                    errors.push(indexes.invalid(format!("error parsing succeededIndexes: {error}")))
                }
            }
        }
        not_negative(&count, errors);
        if let Some(n) = count.int() {
            if n > completions {
                errors.push(count.invalid(format!(
                    "must be less than or equal to {completions} (the number of specified completions)"
                )));
            }
            if let Some(total) = total
                && n > total
            {
                errors.push(count.invalid(format!("must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)")));
            }
        }
    }
}

/// How many indexes a text such as `1,3-5` names.
fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let mut total = 0;
    let mut last: Option<i64> = None;
    for interval in text.split(',') {
        let limits: Vec<&str> = interval.split('-').collect();
        if limits.len() > 2 {
            return Err(format!(
                "the fragment {interval:?} violates the requirement that an index interval can have at most two parts separated by '-'"
            ));
        }
        let parse = |text: &str| {
            let number: i64 = text
                .parse()
                .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
            if number >= completions {
                return Err(format!("too large index: {text:?}"));
            }
            Ok(number)
        };
        let first = parse(limits.first().copied().unwrap_or_default())?;
        if let Some(last) = last
            && first <= last
        {
            return Err(format!(
                "non-increasing order, previous: {last}, current: {first}"
            ));
        }
        let mut end = first;
        if let Some(text) = limits.get(1) {
            end = parse(text)?;
            if end <= first {
                return Err(format!("non-increasing order, previous: {first}, current: {end}"));
            }
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

fn is_true(object: &Value, kind: &str) -> bool {
    let mut conditions = object.list_at("status.conditions").iter();
    conditions.any(|c| c.str_at("type") == kind && c.str_at("status") == "True")
}

/// A changed job.
pub(super) fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    job_spec(&spec, Leniency::of(Some(old), "spec.template.spec"), &mut errors);
    workload::selected(&spec, &mut errors);
    let before = old.at("spec");
    let completions = spec.child("completions");
    if spec.child("completionMode").text() == "Indexed" {
        if completions.value != before.at("completions") {
            if completions.is_null() {
                errors.push(completions.required(""));
            } else if completions.value != spec.child("parallelism").value {
                errors.push(completions.invalid("can only be modified in tandem with spec.parallelism"));
            }
        }
    } else {
        crate::check::immutable(&completions, before.at("completions"), &mut errors);
    }
    crate::check::immutable(&spec.child("selector"), before.at("selector"), &mut errors);
    template_update(&spec, old, &mut errors);
    for field in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        crate::check::immutable(&spec.child(field), before.at(field), &mut errors);
    }
    errors
}

/// The template stays, but for scheduling directives while the job has yet to start.
fn template_update(spec: &At<'_, '_>, old: &Value, errors: &mut ErrorList) {
    let template = spec.child("template");
    let mut allowed = old.at("spec.template").clone();
    let suspended = old.bool_at("spec.suspend") == Some(true);
    if suspended && old.at("status.startTime").is_null() {
        for field in ["nodeSelector", "tolerations", "schedulingGates"] {
            copy_deep(&mut allowed, template.value, &format!("spec.{field}"));
        }
        copy_deep(&mut allowed, template.value, "spec.affinity.nodeAffinity");
        copy_deep(&mut allowed, template.value, "metadata.labels");
        copy_deep(&mut allowed, template.value, "metadata.annotations");
    }
    if suspended {
        for list in ["containers", "initContainers"] {
            let containers = allowed.at_mut("spec").list_at_mut(list).into_iter().flatten();
            for (container, new) in containers.zip(template.value.at("spec").list_at(list)) {
                copy(container, new, "resources");
            }
        }
    }
    if !same(&allowed, template.value) {
        let detail = with_diff("field is immutable", &allowed, template.value);
        let short = detail.lines().next().unwrap_or_default().to_owned();
        errors.push(template.invalid(short));
    }
}

fn copy_deep(to: &mut Value, from: &Value, path: &str) {
    match from.at(path) {
        Value::Null => {
            to.take_at(path);
        }
        value => to.set(path, value.clone()),
    }
}

/// A changed status.
pub(super) fn status(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let status = root.child("status");
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        not_negative(&status.child(field), &mut errors);
    }
    let conditions = status.child("conditions");
    let (complete, failed) = (is_true(object, "Complete"), is_true(object, "Failed"));
    let (met, target) = (
        is_true(object, "SuccessCriteriaMet"),
        is_true(object, "FailureTarget"),
    );
    let mut conflict = |wrong: bool, detail: &str| {
        if wrong {
            errors.push(plain(&conditions, detail));
        }
    };
    conflict(
        complete && failed,
        "cannot set Complete=True and Failed=true conditions",
    );
    conflict(
        complete && target,
        "cannot set Complete=True and FailureTarget=true conditions",
    );
    conflict(
        met && failed,
        "cannot set SuccessCriteriaMet=True and Failed=true conditions",
    );
    conflict(
        met && target,
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    );
    for kind in ["Failed", "Complete", "FailureTarget"] {
        let detail = format!("cannot disable the terminal {kind}=True condition");
        conflict(is_true(old, kind) && !is_true(object, kind), &detail);
    }
    let finished = (complete || failed) && !(is_true(old, "Complete") || is_true(old, "Failed"));
    conflict(
        finished && failed && !target,
        "cannot set Failed=True condition without the FailureTarget=true condition",
    );
    conflict(
        finished && complete && !met,
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    );
    let time = status.child("completionTime");
    if finished && complete && time.is_null() {
        errors.push(time.required("completionTime is required for Complete jobs"));
    }
    if time.is_set() && !complete {
        errors.push(time.invalid("cannot set completionTime when there is no Complete=True condition"));
    }
    let active = status.child("active");
    if finished && active.int().unwrap_or_default() > 0 {
        errors.push(active.invalid("active>0 is invalid for finished job"));
    }
    if finished && status.child("startTime").is_null() {
        errors.push(
            status
                .child("startTime")
                .required("startTime is required for finished job"),
        );
    }
    for counter in ["failed", "succeeded"] {
        let at = status.child(counter);
        if at.int().unwrap_or_default() < old.at("status").int_at(counter).unwrap_or_default() {
            let detail = format!("cannot decrease the {counter} counter");
            errors.push(at.invalid_as(at.int().unwrap_or_default(), detail));
        }
    }
    errors
}
