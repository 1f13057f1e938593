//! To act as another: who the `Impersonate-*` headers ask to be, and whether the caller may be them.
//!
//! Constrained impersonation (KEP 5284) first: the caller needs `impersonate:<mode>` on whom they become, and
//! `impersonate-on:<mode>:<verb>` on what they are about to do. Who has the older `impersonate` may do anything as another.
//! The way that last worked for a caller is tried first, so that neither costs the other.

use crate::authenticate::request_header::unescape;
use crate::{Attributes, Authorizer, Decision, forbidden, names};
use http::HeaderMap;
use parking_lot::Mutex;
use rutter_api::{StatusError, UserInfo, validation};
use std::borrow::Cow;
use std::collections::HashMap;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// What a caller's extra facts are told as when it becomes the node that it runs on.
const NODE_KEYS: &str = "authentication.kubernetes.io/associated-node-keys";
/// From so many groups or extra values on, the right to all of them is asked for first.
const MANY: usize = 4;
/// Of how many callers the way that worked is remembered.
const REMEMBERED: usize = 10_000;

/// Who the headers ask to be; none when they don't.
///
/// # Errors
/// A 400 when they ask for groups, a uid or extra facts of nobody.
pub fn read(headers: &HeaderMap) -> Result<Option<UserInfo>, StatusError> {
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut user = UserInfo {
        name: text(USER),
        uid: text(UID),
        groups: headers
            .get_all(GROUP)
            .iter()
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect(),
        ..UserInfo::default()
    };
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            let value = value.to_str().unwrap_or_default().to_owned();
            user.extra.entry(unescape(key)).or_default().push(value);
        }
    }
    match user.name.is_empty() {
        false => Ok(Some(user)),
        true if user == UserInfo::default() => Ok(None),
        true => Err(StatusError::bad_request(
            "requested impersonation of groups, a uid or extra values without impersonating a user name",
        )),
    }
}

/// Whom the caller became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonated {
    /// The user from now on.
    pub user: UserInfo,
    /// The verb that allowed it, for the audit log; empty for the older `impersonate`.
    pub constraint: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

const MODES: [Mode; 5] = [
    Mode::AssociatedNode,
    Mode::ArbitraryNode,
    Mode::ServiceAccount,
    Mode::UserInfo,
    Mode::Legacy,
];

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    fn verb(self) -> String {
        match self {
            Self::Legacy => "impersonate".to_owned(),
            other => format!("impersonate:{}", other.name()),
        }
    }

    /// Whether this is the way to become `wanted`.
    fn is_for(self, caller: &UserInfo, wanted: &UserInfo) -> bool {
        let node = node_name(&wanted.name);
        let account = names::split_service_account(&wanted.name).is_some();
        let name_alone = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        match self {
            Self::AssociatedNode => {
                let on = caller.extra.get(NODE_NAME).map(Vec::as_slice);
                name_alone
                    && names::split_service_account(&caller.name).is_some()
                    && node.is_some_and(|node| matches!(on, Some([on]) if on == node))
            }
            Self::ArbitraryNode => name_alone && node.is_some(),
            Self::ServiceAccount => name_alone && account,
            Self::UserInfo => node.is_none() && !account,
            Self::Legacy => true,
        }
    }
}

fn node_name(user: &str) -> Option<&str> {
    let name = user.strip_prefix(names::NODE_PREFIX)?;
    validation::dns_subdomain(name).is_empty().then_some(name)
}

/// Decides who may act as whom, and remembers which way worked.
#[derive(Debug, Default)]
pub struct Impersonation {
    worked: Mutex<HashMap<String, Mode>>,
}

impl Impersonation {
    /// `wanted`, when `caller` may do what `request` says as them.
    ///
    /// # Errors
    /// A 403 of the first right that was missing.
    pub async fn allow(
        &self,
        authorizer: &dyn Authorizer,
        caller: &UserInfo,
        wanted: &UserInfo,
        request: &Attributes<'_>,
    ) -> Result<Impersonated, StatusError> {
        let first = self.worked.lock().get(&caller.name).copied();
        let others = MODES.into_iter().filter(|mode| Some(*mode) != first);
        let mut refusal = None;
        for mode in first.into_iter().chain(others) {
            if !mode.is_for(caller, wanted) {
                continue;
            }
            match become_by(mode, authorizer, caller, wanted, request).await {
                Ok(allowed) => {
                    if Some(mode) != first {
                        let mut worked = self.worked.lock();
                        if worked.len() >= REMEMBERED {
                            worked.clear();
                        }
                        worked.insert(caller.name.clone(), mode);
                    }
                    return Ok(allowed);
                }
                Err(error) => {
                    refusal.get_or_insert(error);
                }
            }
        }
        // The older way is for everybody, so there is always a refusal here.
        Err(refusal.unwrap_or_else(|| StatusError::internal("no way of impersonation applies")))
    }
}

async fn become_by(
    mode: Mode,
    authorizer: &dyn Authorizer,
    caller: &UserInfo,
    wanted: &UserInfo,
    request: &Attributes<'_>,
) -> Result<Impersonated, StatusError> {
    let caller = match mode {
        Mode::AssociatedNode => Cow::Owned(UserInfo {
            extra: [(NODE_KEYS.to_owned(), caller.extra.keys().cloned().collect())].into(),
            ..caller.clone()
        }),
        _ => Cow::Borrowed(caller),
    };
    if mode != Mode::Legacy {
        let on = Attributes {
            verb: format!("impersonate-on:{}:{}", mode.name(), request.verb).into(),
            ..request.clone()
        };
        ask(authorizer, &caller, &on).await?;
    }
    for check in checks(mode, &caller, wanted)? {
        if let Some(all) = &check.all
            && ask(authorizer, &caller, all).await.is_ok()
        {
            continue;
        }
        for one in &check.each {
            ask(authorizer, &caller, one).await?;
        }
    }
    Ok(Impersonated {
        user: whole(mode, wanted),
        constraint: match mode {
            Mode::Legacy => String::new(),
            other => other.verb(),
        },
    })
}

async fn ask(
    authorizer: &dyn Authorizer,
    caller: &UserInfo,
    attributes: &Attributes<'_>,
) -> Result<(), StatusError> {
    match authorizer.authorize(caller, attributes).await {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(caller, attributes, &reason)),
    }
}

/// Rights of which either the one to all or every single one is needed.
struct Check {
    all: Option<Attributes<'static>>,
    each: Vec<Attributes<'static>>,
}

/// What must be allowed for each thing that is asked for: the name, the uid, the groups, the extra facts.
fn checks(mode: Mode, caller: &UserInfo, wanted: &UserInfo) -> Result<Vec<Check>, StatusError> {
    let constrained = mode != Mode::Legacy;
    let authentication = "authentication.k8s.io";
    let of = |group: &'static str, resource: &'static str, name: &str| Attributes {
        verb: mode.verb().into(),
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        name: name.to_owned().into(),
        ..Attributes::default()
    };
    let subject_group = if constrained { authentication } else { "" };
    let name = match (
        names::split_service_account(&wanted.name),
        node_name(&wanted.name),
    ) {
        (Some((namespace, name)), _) => Attributes {
            namespace: namespace.to_owned().into(),
            ..of(subject_group, "serviceaccounts", name)
        },
        (None, Some(_)) if mode == Mode::AssociatedNode => of(subject_group, "nodes", "*"),
        (None, Some(node)) if constrained => of(subject_group, "nodes", node),
        _ => of(subject_group, "users", &wanted.name),
    };
    let mut all = vec![Check {
        all: None,
        each: vec![name],
    }];
    if !wanted.uid.is_empty() {
        all.push(Check {
            all: None,
            each: vec![of(authentication, "uids", &wanted.uid)],
        });
    }
    let groups = |name: &str| of(subject_group, "groups", name);
    if constrained {
        sane_groups(wanted).map_err(|(name, why)| forbidden(caller, &groups(name), why))?;
        sane_extra(wanted).map_err(|why| forbidden(caller, &of(authentication, "userextras", ""), &why))?;
    }
    if !wanted.groups.is_empty() {
        all.push(Check {
            all: (constrained && wanted.groups.len() >= MANY).then(|| groups("*")),
            each: wanted.groups.iter().map(|group| groups(group)).collect(),
        });
    }
    if !wanted.extra.is_empty() {
        let extra = |key: &str, value: &str| Attributes {
            subresource: key.to_owned().into(),
            ..of(authentication, "userextras", value)
        };
        let each: Vec<Attributes<'static>> = wanted
            .extra
            .iter()
            .flat_map(|(key, values)| values.iter().map(|value| extra(key, value)))
            .collect();
        all.push(Check {
            all: (constrained && each.len() >= MANY).then(|| extra("*", "*")),
            each,
        });
    }
    Ok(all)
}

fn sane_groups(wanted: &UserInfo) -> Result<(), (&'static str, &'static str)> {
    if wanted.in_group("") {
        return Err(("", "impersonating the empty string group is not allowed"));
    }
    if wanted.in_group(names::MASTERS) {
        return Err((
            names::MASTERS,
            "impersonating the system:masters group is not allowed",
        ));
    }
    Ok(())
}

fn sane_extra(wanted: &UserInfo) -> Result<(), String> {
    for (key, values) in &wanted.extra {
        let key_is_good = key.split_once('/').is_some_and(|(domain, path)| {
            validation::dns_subdomain(domain).is_empty()
                && !path.is_empty()
                && path
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte))
        });
        if key.is_empty() {
            return Err("impersonating the empty string key in extra is not allowed".to_owned());
        }
        if !key_is_good {
            return Err(format!(
                "impersonating an invalid key in extra is not allowed: {key:?} must be a domain-prefixed path (such as \"acme.io/foo\")"
            ));
        }
        if key.chars().any(char::is_uppercase) {
            return Err(format!(
                "impersonating a non-lowercase key in extra is not allowed: {key:?}"
            ));
        }
        if values.iter().any(String::is_empty) {
            return Err("impersonating the empty string value in extra is not allowed".to_owned());
        }
    }
    Ok(())
}

/// The user with the groups that they have by being who they are.
fn whole(mode: Mode, wanted: &UserInfo) -> UserInfo {
    let mut user = wanted.clone();
    if user.groups.is_empty() {
        if let Some((namespace, _)) = names::split_service_account(&user.name) {
            let all = names::SERVICE_ACCOUNTS;
            user.groups = vec![all.to_owned(), format!("{all}:{namespace}")];
        } else if mode != Mode::Legacy && node_name(&user.name).is_some() {
            user.groups = vec![names::NODES.to_owned()];
        }
    }
    let unauthenticated = user.in_group(names::UNAUTHENTICATED);
    if user.name == names::ANONYMOUS {
        if !unauthenticated {
            user.groups.push(names::UNAUTHENTICATED.to_owned());
        }
    } else if !unauthenticated && !user.in_group(names::AUTHENTICATED) {
        user.groups.push(names::AUTHENTICATED.to_owned());
    }
    user
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;

    /// Allows what is listed: `verb group/resource[/subresource] namespace/name`.
    struct Listed(&'static [&'static str]);

    #[async_trait]
    impl Authorizer for Listed {
        async fn authorize(&self, _user: &UserInfo, a: &Attributes<'_>) -> Decision {
            let resource = [&*a.resource, &*a.subresource].join("/");
            let asked = format!("{} {}/{resource} {}/{}", a.verb, a.group, a.namespace, a.name);
            if self.0.contains(&asked.as_str()) {
                Decision::Allow(String::new())
            } else {
                Decision::NoOpinion(asked)
            }
        }
    }

    fn user(name: &str, groups: &[&str]) -> UserInfo {
        UserInfo {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..UserInfo::default()
        }
    }

    fn list_pods() -> Attributes<'static> {
        Attributes {
            verb: "list".into(),
            namespace: "dev".into(),
            version: "v1".into(),
            resource: "pods".into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn headers_say_who_one_wants_to_be() {
        let mut headers = HeaderMap::new();
        assert_eq!(read(&headers).unwrap(), None);
        headers.append("impersonate-group", "dev".parse().unwrap());
        assert_eq!(read(&headers).unwrap_err().code, 400);
        headers.insert("impersonate-user", "jane".parse().unwrap());
        headers.append("impersonate-group", "ops".parse().unwrap());
        headers.insert("impersonate-uid", "7".parse().unwrap());
        headers.append("impersonate-extra-acme.com%2fproject", "a".parse().unwrap());
        headers.append("impersonate-extra-acme.com%2fproject", "b".parse().unwrap());
        let wanted = read(&headers).unwrap().unwrap();
        assert_eq!((wanted.name.as_str(), wanted.uid.as_str()), ("jane", "7"));
        assert_eq!(wanted.groups, ["dev", "ops"]);
        assert_eq!(wanted.extra["acme.com/project"], ["a", "b"]);
    }

    #[tokio::test]
    async fn one_becomes_another_by_the_rights_on_each_part_of_them() {
        let mut rich = user("jane", &["dev"]);
        rich.uid = "7".to_owned();
        rich.extra.insert("acme.com/p".to_owned(), vec!["a".to_owned()]);
        let masters = user("jane", &["system:masters"]);
        let bot = "system:serviceaccount:dev:bot";
        // what is allowed, who is wanted, the groups then and the constraint; or a part of the refusal
        type Want = Result<(&'static [&'static str], &'static str), &'static str>;
        let table: [(&'static [&'static str], UserInfo, Want); 10] = [
            (
                &["impersonate /users/ /jane"],
                user("jane", &[]),
                Ok((&["system:authenticated"], "")),
            ),
            (&[], user("jane", &[]), Err("impersonate-on:user-info:list")),
            (
                &["impersonate /users/ /jane", "impersonate /groups/ /dev"],
                rich.clone(),
                Err("impersonate-on:user-info:list"),
            ),
            (
                &[
                    "impersonate /users/ /jane",
                    "impersonate /groups/ /dev",
                    "impersonate authentication.k8s.io/uids/ /7",
                    "impersonate authentication.k8s.io/userextras/acme.com/p /a",
                ],
                rich,
                Ok((&["dev", "system:authenticated"], "")),
            ),
            (
                &["impersonate /serviceaccounts/ dev/bot"],
                user(bot, &[]),
                Ok((
                    &[
                        "system:serviceaccounts",
                        "system:serviceaccounts:dev",
                        "system:authenticated",
                    ],
                    "",
                )),
            ),
            (
                &[
                    "impersonate-on:user-info:list /pods/ dev/",
                    "impersonate:user-info authentication.k8s.io/users/ /jane",
                ],
                user("jane", &[]),
                Ok((&["system:authenticated"], "impersonate:user-info")),
            ),
            (
                &["impersonate-on:user-info:list /pods/ dev/"],
                masters,
                Err("impersonating the system:masters group is not allowed"),
            ),
            (
                &[
                    "impersonate-on:arbitrary-node:list /pods/ dev/",
                    "impersonate:arbitrary-node authentication.k8s.io/nodes/ /n1",
                ],
                user("system:node:n1", &[]),
                Ok((
                    &["system:nodes", "system:authenticated"],
                    "impersonate:arbitrary-node",
                )),
            ),
            (
                &["impersonate /users/ /system:anonymous"],
                user("system:anonymous", &[]),
                Ok((&["system:unauthenticated"], "")),
            ),
            (
                &[
                    "impersonate-on:user-info:list /pods/ dev/",
                    "impersonate:user-info authentication.k8s.io/users/ /jane",
                    "impersonate:user-info authentication.k8s.io/groups/ /*",
                ],
                user("jane", &["a", "b", "c", "d"]),
                Ok((
                    &["a", "b", "c", "d", "system:authenticated"],
                    "impersonate:user-info",
                )),
            ),
        ];
        for (rights, wanted, want) in table {
            let got = Impersonation::default()
                .allow(&Listed(rights), &user("joe", &[]), &wanted, &list_pods())
                .await;
            match (got, want) {
                (Ok(got), Ok((groups, constraint))) => {
                    assert_eq!(got.user.groups, groups, "{wanted:?}");
                    assert_eq!(got.constraint, constraint, "{wanted:?}");
                }
                (Err(error), Err(part)) => {
                    assert_eq!(error.code, 403);
                    assert!(error.message.contains(part), "{}", error.message);
                }
                (got, want) => panic!("{wanted:?}: {got:?}, not {want:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_pod_becomes_the_node_it_runs_on_and_no_other() {
        let rights = Listed(&[
            "impersonate-on:associated-node:list /pods/ dev/",
            "impersonate:associated-node authentication.k8s.io/nodes/ /*",
        ]);
        let mut agent = user("system:serviceaccount:dev:agent", &[]);
        agent.extra.insert(NODE_NAME.to_owned(), vec!["n1".to_owned()]);
        let way = Impersonation::default();
        let wanted = user("system:node:n1", &[]);
        let got = way.allow(&rights, &agent, &wanted, &list_pods()).await.unwrap();
        assert_eq!(got.user.name, "system:node:n1");
        assert_eq!(got.constraint, "impersonate:associated-node");
        let other = user("system:node:n2", &[]);
        assert!(way.allow(&rights, &agent, &other, &list_pods()).await.is_err());
    }
}
