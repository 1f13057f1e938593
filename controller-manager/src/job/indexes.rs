//! Completion indexes: sets of them as text, and how often an index has failed.

use crate::common::owners::annotation;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeSet;

/// The annotation and label of a pod's index.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the pod's index failed before it.
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How often it failed without that being counted.
pub const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// Parses `1,3-5,7`; what is no number, or beyond the completions, is left out.
pub fn parse(text: &str, completions: i32) -> BTreeSet<i32> {
    let mut set = BTreeSet::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse::<i32>(), last.trim().parse::<i32>()) else {
            continue;
        };
        set.extend(first.max(0)..=last.min(completions - 1));
    }
    set
}

/// Writes `1,3-5,7`; two neighbours are written apart.
pub fn format(set: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for index in set {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let texts: Vec<String> = runs
        .into_iter()
        .map(|(first, last)| match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        })
        .collect();
    texts.join(",")
}

/// A pod's index.
pub fn of(pod: &Pod) -> Option<i32> {
    annotation(&pod.metadata, INDEX)?
        .parse()
        .ok()
        .filter(|i: &i32| *i >= 0)
}

/// A count in an annotation; 0 when it is not there.
pub fn count(pod: &Pod, key: &str) -> i32 {
    annotation(&pod.metadata, key)
        .and_then(|c| c.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_indexes_are_written_as_runs_and_read_back() {
        for (set, text) in [
            (vec![], ""),
            (vec![0], "0"),
            (vec![0, 1], "0,1"),
            (vec![1, 3, 4, 5, 7, 8], "1,3-5,7,8"),
        ] {
            let set: BTreeSet<i32> = set.into_iter().collect();
            assert_eq!(format(&set), text);
            assert_eq!(parse(text, 100), set);
        }
        assert_eq!(parse("1,x,3-900,-4", 5), BTreeSet::from([1, 3, 4]));
    }
}
