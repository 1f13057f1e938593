//! The last in the chain: whoever gave no credentials is `system:anonymous`.

use crate::names;
use crate::{Authenticated, AuthenticationError, Authenticator, Credentials};
use async_trait::async_trait;
use rutter_api::UserInfo;

/// Lets everybody in as `system:anonymous` in the group `system:unauthenticated` (`--anonymous-auth`), everywhere or to some
/// paths alone (`anonymous.conditions` of the authentication configuration).
#[derive(Clone, Debug, Default)]
pub struct Anonymous {
    /// The paths, exactly as they are asked for; all when empty.
    pub paths: Vec<String>,
}

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
        if !self.paths.is_empty() && !self.paths.iter().any(|path| path == credentials.path) {
            return Ok(None);
        }
        Ok(Some(Authenticated {
            user: user(),
            audiences: credentials.audiences.to_vec(),
        }))
    }
}
