//! An authenticating proxy in front (`--requestheader-*`): it proves itself by a client certificate and says in headers
//! for whom it speaks.

use super::x509::ClientCertificates;
use crate::{Authenticated, AuthenticationError, Authenticator, Credentials};
use async_trait::async_trait;
use http::HeaderMap;
use rutter_api::UserInfo;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which headers carry what.
#[derive(Clone, Debug)]
pub struct Headers {
    /// `--requestheader-username-headers`: the first that is not empty is the user.
    pub user: Vec<String>,
    /// `--requestheader-uid-headers`
    pub uid: Vec<String>,
    /// `--requestheader-group-headers`: all values are groups.
    pub group: Vec<String>,
    /// `--requestheader-extra-headers-prefix`
    pub extra_prefix: Vec<String>,
}

/// Believes the headers of proxies whose certificate it verifies.
pub struct RequestHeader {
    proxies: Arc<ClientCertificates>,
    allowed_names: Vec<String>,
    headers: Headers,
}

impl RequestHeader {
    /// `proxies` holds `--requestheader-client-ca-file`; `allowed_names` is `--requestheader-allowed-names`, empty for any.
    pub fn new(proxies: Arc<ClientCertificates>, allowed_names: Vec<String>, headers: Headers) -> Self {
        Self {
            proxies,
            allowed_names,
            headers,
        }
    }
}

#[async_trait]
impl Authenticator for RequestHeader {
    async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let (Some(headers), false) = (credentials.headers, credentials.certificates.is_empty()) else {
            return Ok(None);
        };
        let Some(user) = read(headers, &self.headers) else {
            return Ok(None);
        };
        let proxy = match self.proxies.verify(credentials.certificates) {
            Ok(proxy) => proxy,
            // The certificate may be an ordinary client's, for the next authenticator to judge.
            Err(_) => return Ok(None),
        };
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&proxy.name) {
            return Err(AuthenticationError(format!(
                "x509: subject with cn={} is not in the allowed list",
                proxy.name
            )));
        }
        Ok(Some(Authenticated {
            user,
            audiences: Vec::new(),
        }))
    }
}

/// The user that the headers name.
fn read(headers: &HeaderMap, names: &Headers) -> Option<UserInfo> {
    let first = |names: &[String]| {
        names
            .iter()
            .filter_map(|n| headers.get(n)?.to_str().ok())
            .find(|v| !v.is_empty())
            .map(str::to_owned)
    };
    let name = first(&names.user)?;
    let groups = names
        .group
        .iter()
        .flat_map(|n| headers.get_all(n))
        .filter_map(|v| v.to_str().ok())
        .filter(|v| !v.is_empty())
        .map(str::to_owned)
        .collect();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        for prefix in &names.extra_prefix {
            if let Some(key) = header.as_str().strip_prefix(prefix.to_ascii_lowercase().as_str())
                && let Ok(value) = value.to_str()
            {
                extra.entry(unescape(key)).or_default().push(value.to_owned());
            }
        }
    }
    Some(UserInfo {
        name,
        uid: first(&names.uid).unwrap_or_default(),
        groups,
        extra,
    })
}

/// Undoes percent-encoding; text that is not validly encoded stays as it is.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (digit(bytes.next()), digit(bytes.next())) {
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            _ => return text.to_owned(),
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_a_user() {
        let names = Headers {
            user: vec!["X-Remote-User".into()],
            uid: vec!["X-Remote-Uid".into()],
            group: vec!["X-Remote-Group".into()],
            extra_prefix: vec!["X-Remote-Extra-".into()],
        };
        let mut headers = HeaderMap::new();
        assert!(read(&headers, &names).is_none());
        headers.insert("x-remote-user", "jane".parse().unwrap());
        headers.append("x-remote-group", "dev".parse().unwrap());
        headers.append("x-remote-group", "ops".parse().unwrap());
        headers.insert("x-remote-extra-acme.com%2fproject", "p1".parse().unwrap());
        let user = read(&headers, &names).unwrap();
        assert_eq!((user.name.as_str(), user.groups.len()), ("jane", 2));
        assert_eq!(user.extra["acme.com/project"], ["p1"]);
    }
}
