//! `PodSecurity`: the three levels of the Pod Security Standards, by labels of the namespace.

/// What holds where a namespace has no labels, and whom no level holds for.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// `defaults.enforce` and `enforce-version`.
    pub enforce: LevelVersion,
    /// `defaults.audit` and `audit-version`.
    pub audit: LevelVersion,
    /// `defaults.warn` and `warn-version`.
    pub warn: LevelVersion,
    /// `exemptions.usernames`
    pub exempt_users: Vec<String>,
    /// `exemptions.namespaces`
    pub exempt_namespaces: Vec<String>,
    /// `exemptions.runtimeClasses`
    pub exempt_runtime_classes: Vec<String>,
}

/// A level of the standards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything goes.
    #[default]
    Privileged,
    /// No known way to more privileges.
    Baseline,
    /// Hardened.
    Restricted,
}

/// A level as of a minor version of Kubernetes; none for `latest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelVersion {
    /// The level.
    pub level: Level,
    /// The minor version, such as 36.
    pub minor: Option<u32>,
}
