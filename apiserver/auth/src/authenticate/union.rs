//! The chain of authenticators: the first that knows the caller decides.

use crate::names;
use crate::{Authenticated, AuthenticationError, Authenticator, Credentials};
use async_trait::async_trait;
use std::sync::Arc;

/// Asks its members in order and adds the group `system:authenticated` to whom they know.
///
/// A bearer token that nobody knows, and any refused credential, is an error: such a caller does not fall through to
/// the anonymous user. Only who brought no credentials at all does.
pub struct Union {
    members: Vec<Arc<dyn Authenticator>>,
    anonymous: Option<Arc<dyn Authenticator>>,
}

impl Union {
    /// A chain. `anonymous` is asked when no credentials were given, if there is one.
    pub fn new(members: Vec<Arc<dyn Authenticator>>, anonymous: Option<Arc<dyn Authenticator>>) -> Self {
        Self { members, anonymous }
    }
}

#[async_trait]
impl Authenticator for Union {
    async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let mut errors = Vec::new();
        for member in &self.members {
            match member.authenticate(credentials).await {
                Ok(Some(mut known)) => {
                    add_authenticated(&mut known);
                    return Ok(Some(known));
                }
                Ok(None) => {}
                Err(error) => errors.push(error.0),
            }
        }
        if credentials.bearer_token.is_some() {
            errors.push("invalid bearer token".to_owned());
        }
        match errors.len() {
            0 => {}
            1 => return Err(AuthenticationError(errors.remove(0))),
            _ => return Err(AuthenticationError(format!("[{}]", errors.join(", ")))),
        }
        match &self.anonymous {
            Some(anonymous) => anonymous.authenticate(credentials).await,
            None => Ok(None),
        }
    }
}

fn add_authenticated(known: &mut Authenticated) {
    let user = &mut known.user;
    if user.name != names::ANONYMOUS
        && !user.in_group(names::AUTHENTICATED)
        && !user.in_group(names::UNAUTHENTICATED)
    {
        user.groups.push(names::AUTHENTICATED.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::{Anonymous, TokenFile};

    #[tokio::test]
    async fn only_who_brings_nothing_is_anonymous() {
        let tokens = TokenFile::parse("sekret,jane,7,\"dev,ops\"\n").unwrap();
        let chain = Union::new(vec![Arc::new(tokens)], Some(Arc::new(Anonymous::default())));
        let nothing = chain
            .authenticate(&Credentials::default())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(nothing.user.name, "system:anonymous");
        assert_eq!(nothing.user.groups, ["system:unauthenticated"]);
        let good = Credentials {
            bearer_token: Some("sekret"),
            ..Credentials::default()
        };
        let known = chain.authenticate(&good).await.unwrap().unwrap();
        assert_eq!(known.user.groups, ["dev", "ops", "system:authenticated"]);
        let paths = vec!["/livez".to_owned()];
        let some = Union::new(Vec::new(), Some(Arc::new(Anonymous { paths })));
        for (path, want) in [("/livez", true), ("/livez/etcd", false), ("/api", false)] {
            let credentials = Credentials {
                path,
                ..Credentials::default()
            };
            assert_eq!(
                some.authenticate(&credentials).await.unwrap().is_some(),
                want,
                "{path}"
            );
        }
        let bad = Credentials {
            bearer_token: Some("wrong"),
            ..Credentials::default()
        };
        assert_eq!(
            chain.authenticate(&bad).await.unwrap_err().0,
            "invalid bearer token"
        );
    }
}
