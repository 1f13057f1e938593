//! Decides when a pod must leave a node that has been tainted.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};

/// Whether and when a pod leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Stay,
    /// It leaves then.
    LeaveAt(Timestamp),
}

/// Whether a toleration covers a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let (effect, key, operator) = (
        text(&toleration.effect),
        text(&toleration.key),
        text(&toleration.operator),
    );
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match operator.as_str() {
        "" | "Equal" => text(&toleration.value) == text(&taint.value),
        "Exists" => true,
        _ => false,
    }
}

/// The verdict for a pod on a node with these taints. The time a taint is tolerated begins when the taint came, or the pod if that was later.
pub fn plan(pod: &Pod, taints: &[Taint], now: Timestamp) -> Verdict {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|s| s.tolerations.clone())
        .unwrap_or_default();
    let created = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let mut leave: Option<Timestamp> = None;
    for taint in taints.iter().filter(|t| t.effect == "NoExecute") {
        let covering: Vec<&Toleration> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
        if covering.is_empty() {
            return Verdict::LeaveAt(now);
        }
        let Some(seconds) = covering.iter().filter_map(|t| t.toleration_seconds).min() else {
            continue;
        };
        let since = taint
            .time_added
            .as_ref()
            .map_or(now, |t| t.0)
            .max(created.unwrap_or(now));
        let at = since
            .checked_add(SignedDuration::from_secs(seconds.max(0)))
            .unwrap_or(Timestamp::MAX);
        leave = Some(leave.map_or(at, |l| l.min(at)));
    }
    leave.map_or(Verdict::Stay, Verdict::LeaveAt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn taint(key: &str) -> Taint {
        serde_json::from_value(
            json!({"key": key, "effect": "NoExecute", "timeAdded": "2026-01-01T00:01:00Z"}),
        )
        .unwrap()
    }

    #[test]
    fn a_pod_leaves_at_once_later_or_never_by_what_it_tolerates() {
        let now: Timestamp = "2026-01-01T00:02:00Z".parse().unwrap();
        let in_seconds = |s: i64| {
            Verdict::LeaveAt(
                "2026-01-01T00:01:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(s),
            )
        };
        let five = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        for (what, tolerations, taints, want) in [
            ("no taint", json!([]), vec![], Verdict::Stay),
            (
                "not tolerated",
                json!([]),
                vec![taint("a")],
                Verdict::LeaveAt(now),
            ),
            (
                "tolerated for good",
                json!([{"operator": "Exists"}]),
                vec![taint("a")],
                Verdict::Stay,
            ),
            (
                "tolerated for a while",
                json!([five]),
                vec![taint("a")],
                in_seconds(300),
            ),
            (
                "another is not tolerated",
                json!([five]),
                vec![taint("a"), taint("b")],
                Verdict::LeaveAt(now),
            ),
            (
                "no time at all",
                json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 0}]),
                vec![taint("a")],
                in_seconds(0),
            ),
            (
                "another value",
                json!([{"key": "a", "value": "x"}]),
                vec![taint("a")],
                Verdict::LeaveAt(now),
            ),
        ] {
            let created = "2026-01-01T00:00:00Z";
            let value: Value = json!({"metadata": {"creationTimestamp": created}, "spec": {"containers": [], "tolerations": tolerations}});
            let pod: Pod = serde_json::from_value(value).unwrap();
            assert_eq!(plan(&pod, &taints, now), want, "{what}");
        }
    }

    #[test]
    fn a_pod_that_came_after_the_taint_has_its_time_from_then() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"creationTimestamp": "2026-01-01T00:05:00Z"},
            "spec": {"containers": [], "tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 60}]},
        }))
        .unwrap();
        let want = Verdict::LeaveAt("2026-01-01T00:06:00Z".parse().unwrap());
        assert_eq!(
            plan(&pod, &[taint("a")], "2026-01-01T00:05:01Z".parse().unwrap()),
            want
        );
    }
}
