//! `Impersonate-*` headers: to act as another, for who may.

use crate::server::Server;
use http::HeaderMap;
use rutter_api::{StatusError, UserInfo};
use rutter_auth::{Attributes, Decision, names};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// Who the headers ask to be; none when they don't.
pub fn read(headers: &HeaderMap) -> Result<Option<UserInfo>, StatusError> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let groups: Vec<String> = headers
        .get_all(GROUP)
        .iter()
        .filter_map(|value| value.to_str().ok().map(str::to_owned))
        .collect();
    let mut user = UserInfo {
        name: text(USER).to_owned(),
        uid: text(UID).to_owned(),
        groups,
        ..UserInfo::default()
    };
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            let value = value.to_str().unwrap_or_default().to_owned();
            user.extra.entry(percent_decoded(key)).or_default().push(value);
        }
    }
    if user == UserInfo::default() {
        return Ok(None);
    }
    if user.name.is_empty() {
        return Err(StatusError::bad_request(
            "requested impersonation without impersonating a user".to_owned(),
        ));
    }
    Ok(Some(user))
}

fn percent_decoded(text: &str) -> String {
    crate::streaming::target::Query::parse(&format!("x={}", text.replace('+', "%2B")))
        .first("x")
        .unwrap_or(text)
        .to_owned()
}

/// The other user, when `user` may be them.
pub async fn allow(server: &Server, user: &UserInfo, mut other: UserInfo) -> Result<UserInfo, StatusError> {
    let mut asked: Vec<Attributes<'_>> = Vec::new();
    let basic = |group: &'static str, resource: &'static str, name: String| Attributes {
        verb: "impersonate".into(),
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        name: name.into(),
        ..Attributes::default()
    };
    match names::split_service_account(&other.name) {
        Some((namespace, name)) => asked.push(Attributes {
            namespace: namespace.to_owned().into(),
            ..basic("", "serviceaccounts", name.to_owned())
        }),
        None => asked.push(basic("", "users", other.name.clone())),
    }
    asked.extend(
        other
            .groups
            .iter()
            .map(|group| basic("", "groups", group.clone())),
    );
    if !other.uid.is_empty() {
        asked.push(basic("authentication.k8s.io", "uids", other.uid.clone()));
    }
    for (key, values) in &other.extra {
        asked.extend(values.iter().map(|value| Attributes {
            subresource: key.clone().into(),
            ..basic("authentication.k8s.io", "userextras", value.clone())
        }));
    }
    for attributes in &asked {
        match server.authorizer.authorize(user, attributes).await {
            Decision::Allow(_) => {}
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                return Err(rutter_auth::forbidden(user, attributes, &reason));
            }
        }
    }
    drop(asked);
    if let Some((namespace, _)) = names::split_service_account(&other.name)
        && other.groups.is_empty()
    {
        let all = names::SERVICE_ACCOUNTS;
        other.groups = vec![all.to_owned(), format!("{all}:{namespace}")];
    }
    let has = |group: &str, user: &UserInfo| user.in_group(group);
    if other.name == names::ANONYMOUS {
        if !has(names::UNAUTHENTICATED, &other) {
            other.groups.push(names::UNAUTHENTICATED.to_owned());
        }
    } else if !has(names::AUTHENTICATED, &other) && !has(names::UNAUTHENTICATED, &other) {
        other.groups.push(names::AUTHENTICATED.to_owned());
    }
    Ok(other)
}
