//! The last in the chain: whoever gave no credentials is `system:anonymous`.

use crate::names;
use crate::{Authenticated, AuthenticationError, Authenticator, Credentials};
use async_trait::async_trait;
use rutter_api::UserInfo;

/// Lets everybody in as `system:anonymous` in the group `system:unauthenticated` (`--anonymous-auth`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

/// The anonymous user.
pub fn user() -> UserInfo {
    UserInfo {
        name: names::ANONYMOUS.to_owned(),
        groups: vec![names::UNAUTHENTICATED.to_owned()],
        ..UserInfo::default()
    }
}

#[async_trait]
impl Authenticator for Anonymous {
    async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        Ok(Some(Authenticated {
            user: user(),
            audiences: credentials.audiences.to_vec(),
        }))
    }
}
