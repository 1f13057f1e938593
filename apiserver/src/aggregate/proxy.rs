//! Passing a request on to an aggregated server, in the caller's name.

use super::Route;
use crate::answer::{self, Answer, Body};
use crate::streaming::BoxError;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use rutter_api::UserInfo;
use std::fmt::Write as _;

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA: &str = "x-remote-extra-";

/// Passes a request on and its answer back, streams and upgrades included.
pub async fn pass<B>(route: &Route, user: &UserInfo, request: Request<B>) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError>,
{
    if !route.is_available() {
        return Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "service unavailable"));
    }
    let caller = match &route.caller {
        Ok(caller) => caller,
        Err(why) => return Ok(plain(StatusCode::INTERNAL_SERVER_ERROR, why)),
    };
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    let mut request = request.map(|body| body.map_err(Into::into).boxed());
    identify(request.headers_mut(), user);
    match caller.forward(request, &path).await {
        Ok(response) => Ok(response.map(BodyExt::boxed_unsync)),
        Err(error) => {
            tracing::info!(api_service = route.name, %error, "an aggregated server did not answer");
            let text = format!("error trying to reach service: {error}");
            Ok(plain(StatusCode::SERVICE_UNAVAILABLE, &text))
        }
    }
}

/// What no object says: a text, as upstream's aggregator answers, which clients make a status of by its code.
fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = answer::text(status, format!("{text}\n"));
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(http::header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// Puts the caller into the headers, and takes out what the caller put there itself.
pub fn identify(headers: &mut HeaderMap, user: &UserInfo) {
    let own: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name.starts_with(EXTRA) || [USER, UID, GROUP].iter().any(|header| header == name)
        })
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
    let mut add = |name: HeaderName, value: &str| {
        // What can't stand in a header was no name that a client certificate or a token could have had either.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.append(name, value);
        }
    };
    add(USER, &user.name);
    if !user.uid.is_empty() {
        add(UID, &user.uid);
    }
    for group in &user.groups {
        add(GROUP, group);
    }
    for (key, values) in &user.extra {
        let Ok(name) = HeaderName::try_from(format!("{EXTRA}{}", escape(key))) else {
            continue;
        };
        for value in values {
            add(name.clone(), value);
        }
    }
}

/// What a header's name can't carry, and `%`, percent-encoded.
fn escape(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_say_who_calls_and_not_who_the_caller_claims_to_be() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", "root"),
            ("x-remote-group", "system:masters"),
            ("x-remote-extra-a", "b"),
            ("x-remote-uid", "0"),
            ("accept", "application/json"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let user = UserInfo {
            name: "jane".to_owned(),
            uid: "7".to_owned(),
            groups: vec!["dev".to_owned(), "ops".to_owned()],
            extra: [("acme.com/Project".to_owned(), vec!["p".to_owned()])].into(),
        };
        identify(&mut headers, &user);
        let all = |name: &str| -> Vec<&str> {
            headers
                .get_all(name)
                .iter()
                .map(|value| value.to_str().unwrap())
                .collect()
        };
        assert_eq!(all("x-remote-user"), ["jane"]);
        assert_eq!(all("x-remote-uid"), ["7"]);
        assert_eq!(all("x-remote-group"), ["dev", "ops"]);
        assert_eq!(all("x-remote-extra-acme.com%2fproject"), ["p"]);
        assert!(all("x-remote-extra-a").is_empty());
        assert_eq!(all("accept"), ["application/json"]);
    }
}
