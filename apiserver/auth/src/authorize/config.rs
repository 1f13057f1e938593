//! `AuthorizationConfiguration` (`--authorization-config`): its form and its rules.

use super::webhook::{Settings, Version};
use crate::cel::{Expression, Variable, Wanted};
use jiff::SignedDuration;
use rutter_api::{FieldError, Path, Value, duration, validation};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

const GROUP: &str = "apiserver.config.k8s.io/";
/// The types of authorizers, in the order of their names.
pub const TYPES: [&str; 6] = ["ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const MOST_CONDITIONS: usize = 64;
const LONGEST: Duration = Duration::from_secs(30);

/// The file of `--authorization-config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationConfiguration {
    /// `apiserver.config.k8s.io/v1`
    pub api_version: String,
    /// `AuthorizationConfiguration`
    pub kind: String,
    /// Who decides, in order.
    #[serde(default)]
    pub authorizers: Vec<AuthorizerConfig>,
}

/// One authorizer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizerConfig {
    /// One of [`TYPES`].
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is called; of webhooks there may be several.
    pub name: String,
    /// How a webhook is asked.
    pub webhook: Option<WebhookConfig>,
}

/// A webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// How long a yes is remembered; five minutes when not said.
    #[serde(rename = "authorizedTTL")]
    pub authorized_ttl: Option<String>,
    /// Whether it is remembered at all.
    pub cache_authorized_requests: Option<bool>,
    /// How long anything else is remembered; thirty seconds when not said.
    #[serde(rename = "unauthorizedTTL")]
    pub unauthorized_ttl: Option<String>,
    /// Whether it is remembered at all.
    pub cache_unauthorized_requests: Option<bool>,
    /// How long an answer may take; at most thirty seconds.
    pub timeout: Option<String>,
    /// `v1` or `v1beta1`
    pub subject_access_review_version: String,
    /// `v1`: what match conditions see.
    pub match_condition_subject_access_review_version: String,
    /// `NoOpinion` or `Deny`
    pub failure_policy: String,
    /// Where it is.
    pub connection_info: ConnectionInfo,
    /// What must be true for it to be asked.
    pub match_conditions: Vec<MatchCondition>,
}

/// Where a webhook is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConnectionInfo {
    /// `KubeConfigFile`, or `InClusterConfig`, which this server has none of.
    #[serde(rename = "type")]
    pub kind: String,
    /// The file.
    pub kube_config_file: Option<PathBuf>,
}

/// What must be true for a webhook to be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MatchCondition {
    /// An expression over `request`, the `spec` of a SubjectAccessReview.
    pub expression: String,
}

/// An authorizer as it is to be made.
pub enum Planned {
    /// One of this server's own.
    Own(String),
    /// A webhook, found by a kubeconfig file.
    Webhook(Settings, PathBuf),
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not of the right form.
    #[error("the authorization configuration cannot be read: {0}")]
    Form(String),
    /// It says what makes no sense.
    #[error("the authorization configuration is invalid: {}", rutter_api::field::aggregate(.0))]
    Invalid(Vec<FieldError>),
}

impl AuthorizationConfiguration {
    /// Reads a file's text, YAML or JSON, strictly.
    ///
    /// # Errors
    /// When the form is wrong. What it says is judged by [`AuthorizationConfiguration::plan`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_yaml_ng::from_str(text).map_err(|e| ConfigError::Form(e.to_string()))?;
        let version = config.api_version.strip_prefix(GROUP).unwrap_or_default();
        if !matches!(version, "v1" | "v1beta1" | "v1alpha1") || config.kind != "AuthorizationConfiguration" {
            return Err(ConfigError::Form(format!(
                "no kind {:?} is registered for version {:?}",
                config.kind, config.api_version
            )));
        }
        Ok(config)
    }

    /// Judges it and says what is to be made of it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn plan(&self) -> Result<Vec<Planned>, ConfigError> {
        let root = Path::new("authorizers");
        let mut errors = Vec::new();
        if self.authorizers.is_empty() {
            let why = "at least one authorization mode must be defined";
            errors.push(FieldError::required(&root, why));
        }
        let (mut types, mut names) = (BTreeSet::new(), BTreeSet::new());
        let mut planned = Vec::new();
        for (index, authorizer) in self.authorizers.iter().enumerate() {
            let path = root.index(index);
            let kind = authorizer.kind.as_str();
            let at = path.child("type");
            if kind.is_empty() {
                errors.push(FieldError::required(&at, ""));
                continue;
            }
            if !TYPES.contains(&kind) {
                errors.push(FieldError::not_supported(&at, kind, &TYPES));
                continue;
            }
            if !types.insert(kind) && kind != "Webhook" {
                errors.push(FieldError::duplicate(&at, kind));
                continue;
            }
            check_name(&authorizer.name, &mut names, &path.child("name"), &mut errors);
            match (kind, &authorizer.webhook) {
                ("Webhook", None) => {
                    errors.push(FieldError::required(
                        &path.child("webhook"),
                        "required when type=Webhook",
                    ));
                }
                ("Webhook", Some(webhook)) => {
                    planned.extend(webhook.plan(&authorizer.name, &path, &mut errors))
                }
                (_, Some(_)) => errors.push(FieldError::invalid(
                    &path.child("webhook"),
                    "non-null",
                    "may only be specified when type=Webhook",
                )),
                (_, None) => planned.push(Planned::Own(kind.to_owned())),
            }
        }
        if errors.is_empty() {
            Ok(planned)
        } else {
            Err(ConfigError::Invalid(errors))
        }
    }
}

fn check_name<'a>(name: &'a str, seen: &mut BTreeSet<&'a str>, path: &Path, errors: &mut Vec<FieldError>) {
    let wrong = validation::dns_subdomain(name);
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !seen.insert(name) {
        errors.push(FieldError::duplicate(path, name));
    } else if !wrong.is_empty() {
        let why = format!("authorizer name is invalid: {}", wrong.join(", "));
        errors.push(FieldError::invalid(path, name, why));
    }
}

impl WebhookConfig {
    fn plan(&self, name: &str, path: &Path, errors: &mut Vec<FieldError>) -> Option<Planned> {
        let before = errors.len();
        let timeout = time(self.timeout.as_deref(), None, &path.child("timeout"), errors);
        if timeout > LONGEST {
            let text = self.timeout.clone().unwrap_or_default();
            let why = "must be > 0s and <= 30s";
            errors.push(FieldError::invalid(&path.child("timeout"), text, why));
        }
        let mut ttl = |text: &Option<String>, seconds, name: &str| {
            time(
                text.as_deref(),
                Some(Duration::from_secs(seconds)),
                &path.child(name),
                errors,
            )
        };
        let authorized = ttl(&self.authorized_ttl, 300, "authorizedTTL");
        let unauthorized = ttl(&self.unauthorized_ttl, 30, "unauthorizedTTL");
        let mut one_of = |field: &str, value: &str, known: &[&str], required: bool| {
            let path = path.child(field);
            if value.is_empty() && required {
                errors.push(FieldError::required(&path, ""));
            } else if !value.is_empty() && !known.contains(&value) {
                errors.push(FieldError::not_supported(&path, value, known));
            }
        };
        let version = &self.subject_access_review_version;
        one_of("subjectAccessReviewVersion", version, &["v1", "v1beta1"], true);
        let seen = &self.match_condition_subject_access_review_version;
        one_of("matchConditionSubjectAccessReviewVersion", seen, &["v1"], false);
        one_of(
            "failurePolicy",
            &self.failure_policy,
            &["NoOpinion", "Deny"],
            true,
        );
        if seen.is_empty() && !self.match_conditions.is_empty() {
            let why = "required if match conditions are specified";
            let path = path.child("matchConditionSubjectAccessReviewVersion");
            errors.push(FieldError::required(&path, why));
        }
        let file = self.connection_info.check(&path.child("connectionInfo"), errors);
        let conditions = self.conditions(&path.child("matchConditions"), errors);
        let kept = |time: Duration, kept: Option<bool>| match kept {
            Some(false) => SignedDuration::ZERO,
            _ => SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX),
        };
        let settings = Settings {
            name: name.to_owned(),
            version: Version::parse(version)?,
            timeout,
            authorized: kept(authorized, self.cache_authorized_requests),
            unauthorized: kept(unauthorized, self.cache_unauthorized_requests),
            failure_denies: self.failure_policy == "Deny",
            conditions,
        };
        (errors.len() == before).then_some(Planned::Webhook(settings, file?))
    }

    fn conditions(&self, path: &Path, errors: &mut Vec<FieldError>) -> Vec<Expression> {
        if self.match_conditions.len() > MOST_CONDITIONS {
            errors.push(FieldError::too_many(
                path,
                self.match_conditions.len(),
                MOST_CONDITIONS,
            ));
            return Vec::new();
        }
        let mut seen = BTreeSet::new();
        let mut made = Vec::new();
        for (index, condition) in self.match_conditions.iter().enumerate() {
            let path = path.index(index).child("expression");
            let text = condition.expression.as_str();
            if text.trim().is_empty() {
                errors.push(FieldError::required(&path, ""));
            } else if !seen.insert(text) {
                errors.push(FieldError::duplicate(&path, text));
            } else {
                match Expression::compile(text, Variable::Request, Wanted::Bool) {
                    Ok(expression) => made.push(expression),
                    Err(why) => errors.push(FieldError::invalid(&path, text, why)),
                }
            }
        }
        made
    }
}

impl ConnectionInfo {
    fn check(&self, path: &Path, errors: &mut Vec<FieldError>) -> Option<PathBuf> {
        let kind = path.child("type");
        let at = path.child("kubeConfigFile");
        match (self.kind.as_str(), &self.kube_config_file) {
            ("KubeConfigFile", Some(file)) if file.is_absolute() => return Some(file.clone()),
            ("KubeConfigFile", Some(file)) if !file.as_os_str().is_empty() => {
                let file = file.display().to_string();
                errors.push(FieldError::invalid(&at, file, "must be an absolute path"));
            }
            ("KubeConfigFile", _) => errors.push(FieldError::required(&at, "")),
            ("", _) => errors.push(FieldError::required(&kind, "")),
            ("InClusterConfig", _) => errors.push(FieldError::invalid(
                &kind,
                "InClusterConfig",
                "this server does not run in a pod, so it has no such configuration",
            )),
            (other, _) => {
                errors.push(FieldError::not_supported(
                    &kind,
                    other,
                    &["InClusterConfig", "KubeConfigFile"],
                ));
            }
        }
        None
    }
}

/// A duration that must be longer than nothing.
fn time(text: Option<&str>, usual: Option<Duration>, path: &Path, errors: &mut Vec<FieldError>) -> Duration {
    let Some(text) = text.filter(|text| !text.is_empty() && *text != "0" && *text != "0s") else {
        if usual.is_none() {
            errors.push(FieldError::required(path, ""));
        }
        return usual.unwrap_or_default();
    };
    match duration::parse_go(text) {
        Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos.unsigned_abs()),
        Ok(_) => {
            errors.push(FieldError::invalid(path, text, "must be > 0s"));
            Duration::default()
        }
        Err(_) => {
            errors.push(FieldError::invalid(
                path,
                Value::from(text),
                "must be a duration such as 3s",
            ));
            Duration::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- {type: Node, name: node}
- type: Webhook
  name: opa
  webhook:
    timeout: 3s
    subjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: /etc/opa.conf}
- {type: RBAC, name: rbac}
"#;

    #[test]
    fn a_configuration_is_judged_field_by_field() {
        // what of the good one is replaced by what, and a part of the refusal
        #[rustfmt::skip]
        let table = [
            ("3s", "3s", ""),
            ("{type: RBAC, name: rbac}", "{type: Node, name: again}", "authorizers[2].type: Duplicate value: \"Node\""),
            ("{type: RBAC, name: rbac}", "{type: Magic, name: m}", "authorizers[2].type: Unsupported value: \"Magic\""),
            ("name: rbac", "name: node", "authorizers[2].name: Duplicate value: \"node\""),
            ("name: rbac", "name: A_b", "authorizer name is invalid"),
            ("timeout: 3s", "timeout: 31s", "must be > 0s and <= 30s"),
            ("    timeout: 3s\n", "", "authorizers[1].timeout: Required value"),
            ("3s", "soon", "must be a duration"),
            ("Version: v1\n", "Version: v3\n", "subjectAccessReviewVersion: Unsupported value: \"v3\""),
            ("Deny", "Perhaps", "failurePolicy: Unsupported value: \"Perhaps\""),
            ("/etc/opa.conf", "opa.conf", "must be an absolute path"),
            ("type: KubeConfigFile", "type: Elsewhere", "connectionInfo.type: Unsupported value"),
            ("    failurePolicy", "    matchConditions: [{expression: ''}]\n    failurePolicy", "matchConditions[0].expression: Required value"),
            ("    failurePolicy", "    matchConditionSubjectAccessReviewVersion: v1\n    matchConditions: [{expression: request.user == 'a'}]\n    failurePolicy", ""),
            ("    failurePolicy", "    matchConditions: [{expression: request.user == 'a'}]\n    failurePolicy", "required if match conditions are specified"),
            ("    failurePolicy", "    matchConditionSubjectAccessReviewVersion: v1\n    matchConditions: [{expression: request.nobody}]\n    failurePolicy", "matchConditions[0].expression: Invalid value"),
            ("webhook:", "webhook: null\n  x:", "unknown field"),
            ("kind: Auth", "kind: Other", "no kind"),
        ];
        for (what, by, part) in table {
            let text = GOOD.replace(what, by);
            match AuthorizationConfiguration::parse(&text).and_then(|config| config.plan()) {
                Ok(planned) => assert!(part.is_empty() && planned.len() == 3, "{text}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!part.is_empty() && error.contains(part), "{error}\n{text}");
                }
            }
        }
    }

    #[test]
    fn answers_are_kept_as_long_as_configured() {
        let kept = |more: &str| {
            let text = GOOD.replace("    timeout: 3s", &format!("    timeout: 3s\n    {more}"));
            let planned = AuthorizationConfiguration::parse(&text).unwrap().plan().unwrap();
            match planned.into_iter().nth(1) {
                Some(Planned::Webhook(settings, _)) => {
                    (settings.authorized.as_secs(), settings.unauthorized.as_secs())
                }
                _ => panic!("no webhook"),
            }
        };
        assert_eq!(kept(""), (300, 30));
        assert_eq!(kept("authorizedTTL: 1m"), (60, 30));
        assert_eq!(kept("cacheUnauthorizedRequests: false"), (300, 0));
    }
}
