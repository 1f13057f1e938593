//! Deployments, replica sets, stateful sets, daemon sets, jobs, cron jobs and autoscalers.

use super::pod::template;
use super::writer::{Writer, int, items, labels, or, strings, text, time};
use crate::line;
use crate::resource::selector;
use serde_json::Value;

/// How many pods are in each phase.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// Running.
    pub running: usize,
    /// Pending.
    pub waiting: usize,
    /// Succeeded.
    pub succeeded: usize,
    /// Failed.
    pub failed: usize,
}

impl Phases {
    /// Counts the pods that an object controls.
    pub fn of(pods: &[Value], uid: &Value) -> Self {
        let mut out = Self::default();
        for pod in pods {
            let owned = items(&pod["metadata"]["ownerReferences"])
                .iter()
                .any(|o| o["controller"] == true && o["uid"] == *uid);
            if !owned {
                continue;
            }
            match pod["status"]["phase"].as_str() {
                Some("Running") => out.running += 1,
                Some("Pending") => out.waiting += 1,
                Some("Succeeded") => out.succeeded += 1,
                Some("Failed") => out.failed += 1,
                _ => {}
            }
        }
        out
    }
}

impl std::fmt::Display for Phases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} Running / {} Waiting / {} Succeeded / {} Failed",
            self.running, self.waiting, self.succeeded, self.failed
        )
    }
}

fn named(w: &mut Writer, object: &Value) {
    line!(w, 0, "Name:\t{}", text(&object["metadata"]["name"]));
    line!(w, 0, "Namespace:\t{}", text(&object["metadata"]["namespace"]));
}

fn marks(w: &mut Writer, object: &Value) {
    w.pairs("Labels", &object["metadata"]["labels"]);
    w.annotations("Annotations", &object["metadata"]["annotations"]);
}

/// `web-1 (3/3 replicas created)`
pub fn replica_sets(sets: &[&Value]) -> String {
    if sets.is_empty() {
        return "<none>".to_owned();
    }
    let each: Vec<String> = sets
        .iter()
        .map(|s| {
            let (has, wants) = (int(&s["status"]["replicas"]), int(&s["spec"]["replicas"]));
            format!(
                "{} ({has}/{wants} replicas created)",
                text(&s["metadata"]["name"])
            )
        })
        .collect();
    each.join(", ")
}

/// A deployment, with the replica sets it owns.
pub fn deployment(d: &Value, owned: &[Value], events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    let (spec, status) = (&d["spec"], &d["status"]);
    named(&mut w, d);
    line!(
        w,
        0,
        "CreationTimestamp:\t{}",
        time(&d["metadata"]["creationTimestamp"])
    );
    marks(&mut w, d);
    line!(w, 0, "Selector:\t{}", selector::to_text(&spec["selector"]));
    line!(
        w,
        0,
        "Replicas:\t{} desired | {} updated | {} total | {} available | {} unavailable",
        int(&spec["replicas"]),
        int(&status["updatedReplicas"]),
        int(&status["replicas"]),
        int(&status["availableReplicas"]),
        int(&status["unavailableReplicas"])
    );
    line!(w, 0, "StrategyType:\t{}", text(&spec["strategy"]["type"]));
    line!(w, 0, "MinReadySeconds:\t{}", int(&spec["minReadySeconds"]));
    let rolling = &spec["strategy"]["rollingUpdate"];
    if rolling.is_object() {
        line!(
            w,
            0,
            "RollingUpdateStrategy:\t{} max unavailable, {} max surge",
            text(&rolling["maxUnavailable"]),
            text(&rolling["maxSurge"])
        );
    }
    template(&mut w, &spec["template"]);
    w.conditions(&status["conditions"]);
    let current = crate::cmd::rollout::current_set(d, owned);
    let (mut old, mut new): (Vec<&Value>, Vec<&Value>) = (Vec::new(), Vec::new());
    for set in owned {
        if Some(&set["metadata"]["uid"]) == current.map(|c| &c["metadata"]["uid"]) {
            new.push(set);
        } else {
            old.push(set);
        }
    }
    if !old.is_empty() || !new.is_empty() {
        line!(w, 0, "OldReplicaSets:\t{}", replica_sets(&old));
        line!(w, 0, "NewReplicaSet:\t{}", replica_sets(&new));
    }
    w.events(events);
    w.finish()
}

/// A replica set or a replication controller.
pub fn replica_set(r: &Value, phases: Phases, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    named(&mut w, r);
    line!(w, 0, "Selector:\t{}", selector::to_text(&r["spec"]["selector"]));
    marks(&mut w, r);
    w.controller(r);
    line!(
        w,
        0,
        "Replicas:\t{} current / {} desired",
        int(&r["status"]["replicas"]),
        int(&r["spec"]["replicas"])
    );
    line!(w, 0, "Pods Status:\t{phases}");
    template(&mut w, &r["spec"]["template"]);
    w.conditions(&r["status"]["conditions"]);
    w.events(events);
    w.finish()
}

/// A daemon set.
pub fn daemon_set(d: &Value, phases: Phases, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    let s = &d["status"];
    named(&mut w, d);
    line!(w, 0, "Selector:\t{}", selector::to_text(&d["spec"]["selector"]));
    line!(
        w,
        0,
        "Node-Selector:\t{}",
        labels(&d["spec"]["template"]["spec"]["nodeSelector"])
    );
    marks(&mut w, d);
    line!(
        w,
        0,
        "Desired Number of Nodes Scheduled: {}",
        int(&s["desiredNumberScheduled"])
    );
    line!(
        w,
        0,
        "Current Number of Nodes Scheduled: {}",
        int(&s["currentNumberScheduled"])
    );
    line!(
        w,
        0,
        "Number of Nodes Scheduled with Up-to-date Pods: {}",
        int(&s["updatedNumberScheduled"])
    );
    line!(
        w,
        0,
        "Number of Nodes Scheduled with Available Pods: {}",
        int(&s["numberAvailable"])
    );
    line!(
        w,
        0,
        "Number of Nodes Misscheduled: {}",
        int(&s["numberMisscheduled"])
    );
    line!(w, 0, "Pods Status:\t{phases}");
    template(&mut w, &d["spec"]["template"]);
    w.events(events);
    w.finish()
}

/// A stateful set.
pub fn stateful_set(s: &Value, phases: Phases, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    let spec = &s["spec"];
    named(&mut w, s);
    line!(
        w,
        0,
        "CreationTimestamp:\t{}",
        time(&s["metadata"]["creationTimestamp"])
    );
    line!(w, 0, "Selector:\t{}", selector::to_text(&spec["selector"]));
    marks(&mut w, s);
    line!(
        w,
        0,
        "Replicas:\t{} desired | {} total",
        int(&spec["replicas"]),
        int(&s["status"]["replicas"])
    );
    line!(
        w,
        0,
        "Update Strategy:\t{}",
        text(&spec["updateStrategy"]["type"])
    );
    let rolling = &spec["updateStrategy"]["rollingUpdate"];
    if !rolling["partition"].is_null() {
        line!(w, 1, "Partition:\t{}", int(&rolling["partition"]));
        if !rolling["maxUnavailable"].is_null() {
            line!(w, 1, "MaxUnavailable:\t{}", text(&rolling["maxUnavailable"]));
        }
    }
    line!(w, 0, "Pods Status:\t{phases}");
    template(&mut w, &spec["template"]);
    let claims = items(&spec["volumeClaimTemplates"]);
    line!(
        w,
        0,
        "Volume Claims:{}",
        if claims.is_empty() { "\t<none>" } else { "" }
    );
    for c in claims {
        line!(w, 1, "Name:\t{}", text(&c["metadata"]["name"]));
        line!(w, 1, "StorageClass:\t{}", text(&c["spec"]["storageClassName"]));
        w.pairs("  Labels", &c["metadata"]["labels"]);
        w.pairs("  Annotations", &c["metadata"]["annotations"]);
        line!(
            w,
            1,
            "Capacity:\t{}",
            or(&c["spec"]["resources"]["requests"]["storage"], "<default>")
        );
        line!(
            w,
            1,
            "Access Modes:\t[{}]",
            strings(&c["spec"]["accessModes"]).join(" ")
        );
    }
    w.events(events);
    w.finish()
}

/// A job.
pub fn job(j: &Value, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    let (spec, status) = (&j["spec"], &j["status"]);
    named(&mut w, j);
    line!(w, 0, "Selector:\t{}", selector::to_text(&spec["selector"]));
    marks(&mut w, j);
    w.controller(j);
    if !spec["parallelism"].is_null() {
        line!(w, 0, "Parallelism:\t{}", int(&spec["parallelism"]));
    }
    line!(w, 0, "Completions:\t{}", or(&spec["completions"], "<unset>"));
    for (key, title) in [
        ("completionMode", "Completion Mode"),
        ("suspend", "Suspend"),
        ("backoffLimit", "Backoff Limit"),
        ("ttlSecondsAfterFinished", "TTL Seconds After Finished"),
    ] {
        if !spec[key].is_null() {
            line!(w, 0, "{title}:\t{}", text(&spec[key]));
        }
    }
    let (start, end) = (&status["startTime"], &status["completionTime"]);
    if start.is_string() {
        line!(w, 0, "Start Time:\t{}", time(start));
    }
    if end.is_string() {
        line!(w, 0, "Completed At:\t{}", time(end));
    }
    if let (Some(a), Some(b)) = (
        start.as_str().and_then(crate::duration::seconds),
        end.as_str().and_then(crate::duration::seconds),
    ) {
        line!(w, 0, "Duration:\t{}", crate::duration::human(b - a));
    }
    if !spec["activeDeadlineSeconds"].is_null() {
        line!(
            w,
            0,
            "Active Deadline Seconds:\t{}s",
            int(&spec["activeDeadlineSeconds"])
        );
    }
    let ready = if status["ready"].is_null() {
        String::new()
    } else {
        format!(" ({} Ready)", int(&status["ready"]))
    };
    line!(
        w,
        0,
        "Pods Statuses:\t{} Active{ready} / {} Succeeded / {} Failed",
        int(&status["active"]),
        int(&status["succeeded"]),
        int(&status["failed"])
    );
    if spec["completionMode"] == "Indexed" {
        line!(
            w,
            0,
            "Completed Indexes:\t{}",
            or(&status["completedIndexes"], "<none>")
        );
    }
    template(&mut w, &spec["template"]);
    w.events(events);
    w.finish()
}

/// A cron job.
pub fn cron_job(c: &Value, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    let (spec, status) = (&c["spec"], &c["status"]);
    w.metadata(c, true);
    line!(w, 0, "Schedule:\t{}", text(&spec["schedule"]));
    line!(w, 0, "Concurrency Policy:\t{}", text(&spec["concurrencyPolicy"]));
    let suspend = match spec["suspend"].as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    line!(w, 0, "Suspend:\t{suspend}");
    line!(w, 0, "Time Zone:\t{}", or(&spec["timeZone"], "<unset>"));
    line!(
        w,
        0,
        "Successful Job History Limit:\t{}",
        or(&spec["successfulJobsHistoryLimit"], "<unset>")
    );
    line!(
        w,
        0,
        "Failed Job History Limit:\t{}",
        or(&spec["failedJobsHistoryLimit"], "<unset>")
    );
    let deadline = if spec["startingDeadlineSeconds"].is_null() {
        "<unset>".to_owned()
    } else {
        format!("{}s", int(&spec["startingDeadlineSeconds"]))
    };
    line!(w, 0, "Starting Deadline Seconds:\t{deadline}");
    let job = &spec["jobTemplate"]["spec"];
    line!(
        w,
        0,
        "Selector:\t{}",
        if job["selector"].is_object() {
            selector::to_text(&job["selector"])
        } else {
            "<unset>".to_owned()
        }
    );
    line!(w, 0, "Parallelism:\t{}", or(&job["parallelism"], "<unset>"));
    line!(w, 0, "Completions:\t{}", or(&job["completions"], "<unset>"));
    if !job["activeDeadlineSeconds"].is_null() {
        line!(
            w,
            0,
            "Active Deadline Seconds:\t{}s",
            int(&job["activeDeadlineSeconds"])
        );
    }
    template(&mut w, &job["template"]);
    let last = if status["lastScheduleTime"].is_string() {
        time(&status["lastScheduleTime"])
    } else {
        "<unset>".to_owned()
    };
    line!(w, 0, "Last Schedule Time:\t{last}");
    let active: Vec<String> = items(&status["active"])
        .iter()
        .map(|j| text(&j["name"]))
        .collect();
    line!(
        w,
        0,
        "Active Jobs:\t{}",
        if active.is_empty() {
            "<none>".to_owned()
        } else {
            active.join(", ")
        }
    );
    w.events(events);
    w.finish()
}

/// A horizontal pod autoscaler.
pub fn autoscaler(h: &Value, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    let (spec, status) = (&h["spec"], &h["status"]);
    w.metadata(h, true);
    line!(
        w,
        0,
        "CreationTimestamp:\t{}",
        time(&h["metadata"]["creationTimestamp"])
    );
    line!(
        w,
        0,
        "Reference:\t{}/{}",
        text(&spec["scaleTargetRef"]["kind"]),
        text(&spec["scaleTargetRef"]["name"])
    );
    w.line(0, "Metrics:\t( current / target )");
    for (at, m) in items(&spec["metrics"]).iter().enumerate() {
        metric(&mut w, m, &status["currentMetrics"][at]);
    }
    line!(w, 0, "Min replicas:\t{}", or(&spec["minReplicas"], "<unset>"));
    line!(w, 0, "Max replicas:\t{}", int(&spec["maxReplicas"]));
    if spec["behavior"].is_object() {
        w.line(0, "Behavior:");
        for (key, title) in [("scaleUp", "Scale Up"), ("scaleDown", "Scale Down")] {
            behavior(&mut w, title, &spec["behavior"][key]);
        }
    }
    line!(
        w,
        0,
        "{} pods:\t{} current / {} desired",
        text(&spec["scaleTargetRef"]["kind"]),
        int(&status["currentReplicas"]),
        int(&status["desiredReplicas"])
    );
    if !items(&status["conditions"]).is_empty() {
        w.line(0, "Conditions:");
        w.line(1, "Type\tStatus\tReason\tMessage");
        w.line(1, "----\t------\t------\t-------");
        for c in items(&status["conditions"]) {
            line!(
                w,
                1,
                "{}\t{}\t{}\t{}",
                text(&c["type"]),
                text(&c["status"]),
                text(&c["reason"]),
                text(&c["message"])
            );
        }
    }
    w.events(events);
    w.finish()
}

fn behavior(w: &mut Writer, title: &str, rules: &Value) {
    if !rules.is_object() {
        return;
    }
    line!(w, 1, "{title}:");
    if !rules["stabilizationWindowSeconds"].is_null() {
        line!(
            w,
            2,
            "Stabilization Window: {} seconds",
            int(&rules["stabilizationWindowSeconds"])
        );
    }
    if !items(&rules["policies"]).is_empty() {
        line!(w, 2, "Select Policy: {}", or(&rules["selectPolicy"], "Max"));
        w.line(2, "Policies:");
        for p in items(&rules["policies"]) {
            line!(
                w,
                3,
                "- Type: {}\tValue: {}\tPeriod: {} seconds",
                text(&p["type"]),
                int(&p["value"]),
                int(&p["periodSeconds"])
            );
        }
    }
}

fn metric(w: &mut Writer, m: &Value, current: &Value) {
    let now = |kind: &str, field: &str| or(&current[kind]["current"][field], "<unknown>");
    let utilization = |kind: &str| {
        let c = &current[kind]["current"];
        let used = if c["averageUtilization"].is_null() {
            "<unknown>".to_owned()
        } else {
            format!(
                "{}% ({})",
                int(&c["averageUtilization"]),
                text(&c["averageValue"])
            )
        };
        let t = &m[kind]["target"]["averageUtilization"];
        let target = if t.is_null() {
            "<auto>".to_owned()
        } else {
            format!("{}%", int(t))
        };
        format!("  (as a percentage of request):\t{used} / {target}")
    };
    match m["type"].as_str().unwrap_or("") {
        "External" => {
            let e = &m["external"];
            let name = crate::error::go_quote(&text(&e["metric"]["name"]));
            if e["target"]["averageValue"].is_null() {
                line!(
                    w,
                    1,
                    "{name} (target value):\t{} / {}",
                    now("external", "value"),
                    text(&e["target"]["value"])
                );
            } else {
                line!(
                    w,
                    1,
                    "{name} (target average value):\t{} / {}",
                    now("external", "averageValue"),
                    text(&e["target"]["averageValue"])
                );
            }
        }
        "Pods" => {
            let name = crate::error::go_quote(&text(&m["pods"]["metric"]["name"]));
            line!(
                w,
                1,
                "{name} on pods:\t{} / {}",
                now("pods", "averageValue"),
                text(&m["pods"]["target"]["averageValue"])
            );
        }
        "Object" => {
            let o = &m["object"];
            let head = format!(
                "\"{}\" on {}/{} ",
                text(&o["metric"]["name"]),
                text(&o["describedObject"]["kind"]),
                text(&o["describedObject"]["name"])
            );
            if o["target"]["type"] == "AverageValue" {
                line!(
                    w,
                    1,
                    "{head}(target average value):\t{} / {}",
                    now("object", "averageValue"),
                    text(&o["target"]["averageValue"])
                );
            } else {
                line!(
                    w,
                    1,
                    "{head}(target value):\t{} / {}",
                    now("object", "value"),
                    text(&o["target"]["value"])
                );
            }
        }
        kind @ ("Resource" | "ContainerResource") => {
            let key = if kind == "Resource" {
                "resource"
            } else {
                "containerResource"
            };
            let r = &m[key];
            let container = if kind == "Resource" {
                String::new()
            } else {
                format!(" of container \"{}\"", text(&r["container"]))
            };
            let head = format!("resource {}{container} on pods", text(&r["name"]));
            if r["target"]["averageValue"].is_null() {
                line!(w, 1, "{head}{}", utilization(key));
            } else {
                line!(
                    w,
                    1,
                    "{head}:\t{} / {}",
                    now(key, "averageValue"),
                    text(&r["target"]["averageValue"])
                );
            }
        }
        other => line!(w, 1, "<unknown metric type {}>", crate::error::go_quote(other)),
    }
}
