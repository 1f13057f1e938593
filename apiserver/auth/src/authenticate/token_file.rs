//! Static tokens from a CSV file (`--token-auth-file`): token, user, uid and an optional quoted list of groups.

use crate::{Authenticated, AuthenticationError, Authenticator, Credentials};
use async_trait::async_trait;
use rutter_api::UserInfo;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// Why a token file was refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// A line has fewer than three columns.
    #[error("token file, line {0}: must have at least 3 columns (token, user name, user uid)")]
    Columns(usize),
    /// A line's token is empty.
    #[error("token file, line {0}: empty token")]
    Empty(usize),
    /// A quote is not closed.
    #[error("token file, line {0}: a quoted column is not closed")]
    Quote(usize),
}

/// The tokens, kept by their hash so that looking one up tells nothing about the others by its time.
#[derive(Debug, Default)]
pub struct TokenFile {
    users: HashMap<[u8; 32], UserInfo>,
}

impl TokenFile {
    /// Reads the file's text. Empty lines and lines that begin with `#` are skipped.
    pub fn parse(text: &str) -> Result<Self, TokenFileError> {
        let mut users = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let columns = split(line).ok_or(TokenFileError::Quote(number))?;
            let [token, name, uid, rest @ ..] = columns.as_slice() else {
                return Err(TokenFileError::Columns(number));
            };
            if token.is_empty() {
                return Err(TokenFileError::Empty(number));
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default();
            let groups = groups
                .split(',')
                .map(str::trim)
                .filter(|g| !g.is_empty())
                .map(str::to_owned);
            let user = UserInfo {
                name: name.clone(),
                uid: uid.clone(),
                groups: groups.collect(),
                ..UserInfo::default()
            };
            users.insert(Sha256::digest(token).into(), user);
        }
        Ok(Self { users })
    }
}

/// The columns of one CSV line; none when a quote stays open.
fn split(line: &str) -> Option<Vec<String>> {
    let mut columns = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        let column = columns.last_mut()?;
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                column.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(String::new()),
            ' ' if !quoted && column.is_empty() => {}
            other => column.push(other),
        }
    }
    (!quoted).then_some(columns)
}

#[async_trait]
impl Authenticator for TokenFile {
    async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let Some(token) = credentials.bearer_token else {
            return Ok(None);
        };
        let hash: [u8; 32] = Sha256::digest(token).into();
        Ok(self.users.get(&hash).map(|user| Authenticated {
            user: user.clone(),
            audiences: Vec::new(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_split_as_csv() {
        assert_eq!(split(r#"t,u,1,"a,b""#).unwrap(), ["t", "u", "1", "a,b"]);
        assert_eq!(split(r#""a ""b""",c"#).unwrap(), [r#"a "b""#, "c"]);
        assert!(split(r#"a,"b"#).is_none());
        assert!(matches!(TokenFile::parse("a,b"), Err(TokenFileError::Columns(1))));
    }
}
