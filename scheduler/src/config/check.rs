//! What a configuration may say.

use super::{ConfigError, Configuration};
use crate::framework::POINTS;
use std::collections::BTreeSet;

fn invalid(path: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        path: path.into(),
        problem: problem.into(),
    }
}

fn percentage(path: &str, value: Option<u32>) -> Result<(), ConfigError> {
    match value {
        Some(value) if value > 100 => Err(invalid(path, format!("{value} is not between 0 and 100"))),
        _ => Ok(()),
    }
}

impl Configuration {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.api_version != "kubescheduler.config.k8s.io/v1" || self.kind != "KubeSchedulerConfiguration" {
            return Err(ConfigError::Kind(self.api_version.clone(), self.kind.clone()));
        }
        self.check_supported()?;
        percentage("percentageOfNodesToScore", self.percentage_of_nodes_to_score)?;
        let initial = self.pod_initial_backoff_seconds.unwrap_or(1);
        let longest = self.pod_max_backoff_seconds.unwrap_or(10);
        if initial == 0 {
            return Err(invalid("podInitialBackoffSeconds", "must be greater than 0"));
        }
        if longest < initial {
            return Err(invalid(
                "podMaxBackoffSeconds",
                format!("{longest} is less than podInitialBackoffSeconds, {initial}"),
            ));
        }
        self.check_profiles()
    }

    fn check_supported(&self) -> Result<(), ConfigError> {
        let connection = &self.client_connection;
        let no_limit = "requests are not limited by a rate of the client";
        let json = "it always speaks JSON";
        let lock = self.leader_election.resource_lock.as_deref();
        let refused = [
            (
                self.parallelism.is_some(),
                "parallelism",
                "decisions are made by one thread",
            ),
            (
                self.enable_profiling == Some(true),
                "enableProfiling",
                "it has no profiling endpoints",
            ),
            (
                self.enable_contention_profiling == Some(true),
                "enableContentionProfiling",
                "it has no profiling endpoints",
            ),
            (!self.extenders.is_empty(), "extenders", "it calls no extenders"),
            (
                self.delay_cache_until_active == Some(true),
                "delayCacheUntilActive",
                "its caches are always current",
            ),
            (connection.qps.is_some(), "clientConnection.qps", no_limit),
            (connection.burst.is_some(), "clientConnection.burst", no_limit),
            (
                connection.content_type.is_some(),
                "clientConnection.contentType",
                json,
            ),
            (
                connection.accept_content_types.is_some(),
                "clientConnection.acceptContentTypes",
                json,
            ),
            (
                lock.is_some_and(|l| l != "leases"),
                "leaderElection.resourceLock",
                "leaders are elected by Leases",
            ),
        ];
        match refused.into_iter().find(|(given, ..)| *given) {
            Some((_, path, why)) => Err(ConfigError::Unsupported(path.to_owned(), why)),
            None => Ok(()),
        }
    }

    fn check_profiles(&self) -> Result<(), ConfigError> {
        let mut names = BTreeSet::new();
        for (i, profile) in self.profiles.iter().enumerate() {
            let path = format!("profiles[{i}]");
            let name = match &profile.scheduler_name {
                Some(name) if !name.is_empty() => name.as_str(),
                None if self.profiles.len() == 1 => "default-scheduler",
                _ => return Err(invalid(format!("{path}.schedulerName"), "a name is required")),
            };
            if !names.insert(name) {
                return Err(invalid(
                    format!("{path}.schedulerName"),
                    format!("two profiles are called {name:?}"),
                ));
            }
            percentage(
                &format!("{path}.percentageOfNodesToScore"),
                profile.percentage_of_nodes_to_score,
            )?;
            for point in profile.plugins.keys() {
                if point != "multiPoint" && !POINTS.iter().any(|(_, name)| name == point) {
                    return Err(invalid(
                        format!("{path}.plugins.{point}"),
                        "there is no such extension point",
                    ));
                }
            }
        }
        super::profiles(self).map(drop)
    }
}
