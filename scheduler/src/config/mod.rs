//! KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1): read, checked, and made into profiles.
//!
//! Guarantee: what is in the file is honoured or refused with its path. Upstream's fields that mean nothing here (client QPS, profiling,
//! extenders, ...) are refused and not ignored.

mod build;
mod check;

pub use build::{default_profile, profiles};

use crate::queue::Timing;
use crate::scheduler::Settings;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("reading the configuration {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// The text doesn't fit the form.
    #[error("{0}")]
    Form(String),
    /// It isn't a KubeSchedulerConfiguration v1.
    #[error(
        "apiVersion {0:?}, kind {1:?}: only kubescheduler.config.k8s.io/v1, KubeSchedulerConfiguration is understood"
    )]
    Kind(String, String),
    /// A field that this scheduler doesn't honour.
    #[error("{0} is not supported by this scheduler: {1}; remove it")]
    Unsupported(String, &'static str),
    /// A value that can't be.
    #[error("{path}: {problem}")]
    Invalid {
        /// Where.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

/// The configuration as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Configuration {
    api_version: String,
    kind: String,
    /// Leader election.
    pub leader_election: LeaderElection,
    /// How to reach the apiserver.
    pub client_connection: ClientConnection,
    /// 0 to 100; 0 adapts to the number of nodes.
    pub percentage_of_nodes_to_score: Option<u32>,
    /// The first pause of a pod.
    pub pod_initial_backoff_seconds: Option<u64>,
    /// The longest pause of a pod.
    pub pod_max_backoff_seconds: Option<u64>,
    /// The profiles.
    pub profiles: Vec<ProfileConfiguration>,
    parallelism: Option<i64>,
    enable_profiling: Option<bool>,
    enable_contention_profiling: Option<bool>,
    extenders: Vec<serde_json::Value>,
    delay_cache_until_active: Option<bool>,
}

/// Leader election, where the file says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct LeaderElection {
    /// Whether.
    pub leader_elect: Option<bool>,
    /// How long others wait.
    pub lease_duration: Option<String>,
    /// How long the leader tries.
    pub renew_deadline: Option<String>,
    /// The pause between tries.
    pub retry_period: Option<String>,
    resource_lock: Option<String>,
    /// The Lease's name.
    pub resource_name: Option<String>,
    /// The Lease's namespace.
    pub resource_namespace: Option<String>,
}

/// How to reach the apiserver, where the file says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ClientConnection {
    /// The kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
    accept_content_types: Option<String>,
    content_type: Option<String>,
    qps: Option<f64>,
    burst: Option<i64>,
}

/// A profile.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ProfileConfiguration {
    /// What pods give as spec.schedulerName.
    pub scheduler_name: Option<String>,
    /// 0 to 100; takes precedence over the configuration's own.
    pub percentage_of_nodes_to_score: Option<u32>,
    /// Which plugins, by extension point in camelCase, and `multiPoint` for all points.
    pub plugins: BTreeMap<String, PluginSet>,
    /// The plugins' arguments.
    pub plugin_config: Vec<PluginConfig>,
}

/// Plugins switched on and off.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginSet {
    /// On, in this order.
    pub enabled: Vec<PluginRef>,
    /// Off; `*` is all defaults.
    pub disabled: Vec<PluginRef>,
}

/// A plugin's name and weight.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginRef {
    /// The name.
    pub name: String,
    /// What its score counts for; 0 means 1.
    pub weight: i64,
}

/// A plugin's arguments.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginConfig {
    /// The plugin.
    pub name: String,
    /// Its arguments.
    pub args: serde_json::Value,
}

impl Configuration {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Read(path.to_owned(), e))?;
        Self::parse(&text)
    }

    /// Parses YAML or JSON, and checks it.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let configuration: Self =
            serde_yaml_ng::from_str(text).map_err(|e| ConfigError::Form(e.to_string()))?;
        configuration.check()?;
        Ok(configuration)
    }

    /// The settings of all profiles.
    pub fn settings(&self) -> Settings {
        let default = Timing::default();
        let millis = |seconds: Option<u64>, default| seconds.map_or(default, |s| s * 1000);
        Settings {
            percentage_of_nodes_to_score: self.percentage_of_nodes_to_score.unwrap_or(0),
            timing: Timing {
                initial_backoff: millis(self.pod_initial_backoff_seconds, default.initial_backoff),
                max_backoff: millis(self.pod_max_backoff_seconds, default.max_backoff),
                ..default
            },
        }
    }
}
