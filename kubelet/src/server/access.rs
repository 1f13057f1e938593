//! Who calls the kubelet, and whether they may: client certificates and TokenReview, then SubjectAccessReview about the node.

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use rutter_api::UserInfo;
use std::collections::HashMap;
use std::time::Duration;

const MAX_KEPT: usize = 4096;

/// How callers are judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) anonymous: bool,
    pub(crate) tokens: bool,
    /// Whether the apiserver decides; otherwise everybody who is known may.
    pub(crate) webhook: bool,
    pub(crate) token_ttl: Duration,
    pub(crate) allowed_ttl: Duration,
    pub(crate) denied_ttl: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            anonymous: false,
            tokens: true,
            webhook: true,
            token_ttl: Duration::from_secs(120),
            allowed_ttl: Duration::from_secs(300),
            denied_ttl: Duration::from_secs(30),
        }
    }
}

struct Kept<T> {
    value: T,
    until: Timestamp,
}

/// Decides about callers.
pub(crate) struct Access {
    client: kube::Client,
    node: String,
    rules: Rules,
    tokens: Mutex<HashMap<Vec<u8>, Kept<Option<UserInfo>>>>,
    decisions: Mutex<HashMap<String, Kept<bool>>>,
}

/// Why a caller is turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Nobody knows who it is.
    Unauthorized,
    /// It is known, and may not.
    Forbidden(String),
    /// Nobody could be asked.
    Unavailable(String),
}

/// Which subresources of the node a path may be allowed by, the most specific first. Pure.
pub(crate) fn subresources(path: &str) -> Vec<&'static str> {
    let under = |prefix: &str| {
        path == prefix
            || path
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    if under("/stats") {
        vec!["stats"]
    } else if under("/metrics") {
        vec!["metrics"]
    } else if under("/logs") {
        vec!["log"]
    } else if path == "/pods" || path == "/pods/" || path == "/runningpods/" || path == "/runningpods" {
        vec!["pods", "proxy"]
    } else if under("/healthz") {
        vec!["healthz", "proxy"]
    } else if path == "/configz" {
        vec!["configz", "proxy"]
    } else {
        vec!["proxy"]
    }
}

fn verb(method: &http::Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

impl Access {
    /// Judges callers of a node's kubelet.
    pub(crate) fn new(client: kube::Client, node: String, rules: Rules) -> Self {
        Self {
            client,
            node,
            rules,
            tokens: Mutex::default(),
            decisions: Mutex::default(),
        }
    }

    /// Lets a caller in or not.
    pub(crate) async fn check(
        &self,
        certificate: Option<&UserInfo>,
        token: Option<&str>,
        method: &http::Method,
        path: &str,
    ) -> Result<UserInfo, Denied> {
        let user = match (certificate, token) {
            (Some(user), _) => user.clone(),
            (None, Some(token)) if self.rules.tokens => {
                self.review(token).await?.ok_or(Denied::Unauthorized)?
            }
            (None, None) if self.rules.anonymous => UserInfo {
                name: "system:anonymous".to_owned(),
                groups: vec!["system:unauthenticated".to_owned()],
                ..UserInfo::default()
            },
            _ => return Err(Denied::Unauthorized),
        };
        if !self.rules.webhook {
            return Ok(user);
        }
        let options = subresources(path);
        for subresource in &options {
            if self.may(&user, verb(method), subresource).await? {
                return Ok(user);
            }
        }
        Err(Denied::Forbidden(format!(
            "Forbidden (user={}, verb={}, resource=nodes, subresource(s)={options:?})",
            user.name,
            verb(method)
        )))
    }

    async fn review(&self, token: &str) -> Result<Option<UserInfo>, Denied> {
        use sha2::Digest as _;
        let key = sha2::Sha256::digest(token.as_bytes()).to_vec();
        let now = Timestamp::now();
        if let Some(kept) = self.tokens.lock().get(&key).filter(|k| k.until > now) {
            return Ok(kept.value.clone());
        }
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: None,
            },
            ..TokenReview::default()
        };
        let answer = api
            .create(&PostParams::default(), &review)
            .await
            .map_err(|e| Denied::Unavailable(crate::objects::describe(&e)))?;
        let status = answer.status.unwrap_or_default();
        let user = status
            .user
            .filter(|_| status.authenticated == Some(true))
            .map(|u| UserInfo {
                name: u.username.unwrap_or_default(),
                uid: u.uid.unwrap_or_default(),
                groups: u.groups.unwrap_or_default(),
                extra: u.extra.unwrap_or_default(),
            });
        let ttl = if user.is_some() {
            self.rules.token_ttl
        } else {
            Duration::from_secs(10)
        };
        keep(&self.tokens, key, user.clone(), now, ttl);
        Ok(user)
    }

    async fn may(&self, user: &UserInfo, verb: &str, subresource: &str) -> Result<bool, Denied> {
        let key = format!(
            "{}\n{}\n{}\n{verb}\n{subresource}\n{:?}",
            user.name,
            user.uid,
            user.groups.join("\t"),
            user.extra
        );
        let now = Timestamp::now();
        if let Some(kept) = self.decisions.lock().get(&key).filter(|k| k.until > now) {
            return Ok(kept.value);
        }
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let text = |t: &str| (!t.is_empty()).then(|| t.to_owned());
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: text(&user.name),
                uid: text(&user.uid),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: text(verb),
                    group: Some(String::new()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: text(subresource),
                    name: text(&self.node),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = api
            .create(&PostParams::default(), &review)
            .await
            .map_err(|e| Denied::Unavailable(crate::objects::describe(&e)))?;
        let allowed = answer.status.is_some_and(|s| s.allowed);
        let ttl = if allowed {
            self.rules.allowed_ttl
        } else {
            self.rules.denied_ttl
        };
        keep(&self.decisions, key, allowed, now, ttl);
        Ok(allowed)
    }
}

fn keep<K: std::hash::Hash + Eq, T>(
    map: &Mutex<HashMap<K, Kept<T>>>,
    key: K,
    value: T,
    now: Timestamp,
    ttl: Duration,
) {
    let mut map = map.lock();
    if map.len() >= MAX_KEPT {
        map.retain(|_, kept| kept.until > now);
        if map.len() >= MAX_KEPT {
            map.clear();
        }
    }
    map.insert(
        key,
        Kept {
            value,
            until: now + ttl,
        },
    );
}

/// The user that a client certificate names.
pub(crate) fn certificate_user(der: &[u8]) -> Option<UserInfo> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> = subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok())
        .map(str::to_owned)
        .collect();
    groups.push("system:authenticated".to_owned());
    Some(UserInfo {
        name,
        groups,
        ..UserInfo::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_judged_as_parts_of_the_node() {
        for (path, want) in [
            ("/stats/summary", vec!["stats"]),
            ("/metrics/resource", vec!["metrics"]),
            ("/metricsx", vec!["proxy"]),
            ("/logs/syslog", vec!["log"]),
            ("/pods", vec!["pods", "proxy"]),
            ("/healthz", vec!["healthz", "proxy"]),
            ("/exec/ns/pod/c", vec!["proxy"]),
            ("/containerLogs/ns/pod/c", vec!["proxy"]),
        ] {
            assert_eq!(subresources(path), want, "{path}");
        }
    }
}
