//! Why a call failed.

use rutter_api::object::ObjectExt;
use std::fmt;

/// At which step a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The Service has no place to call; nothing was sent.
    Resolve(String),
    /// No connection came about; nothing was sent.
    Connect(String),
    /// The other side is not who it should be, or speaks no TLS that we do; nothing was sent.
    Tls(String),
    /// It took too long. The other side may have acted.
    Timeout,
    /// It answered with another status than a 2xx; with the beginning of its body.
    Status(u16, String),
    /// It answered with another status than a 2xx, and a `Status` with this message.
    Told(u16, String),
    /// Its answer is longer than this many bytes.
    TooLarge(usize),
    /// The connection broke, or what came was not HTTP. The other side may have acted.
    Broken(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(why)
            | Self::Connect(why)
            | Self::Tls(why)
            | Self::Broken(why)
            | Self::Told(_, why) => f.write_str(why),
            Self::Timeout => f.write_str("context deadline exceeded"),
            Self::Status(code, body) => status(f, *code, body),
            Self::TooLarge(limit) => write!(f, "the answer is larger than {limit} bytes"),
        }
    }
}

impl Failure {
    /// The failure that an answer other than a 2xx is.
    pub fn of_answer(code: u16, body: &[u8]) -> Self {
        let parsed = rutter_api::codec::json::parse(body).map(|(value, _)| value);
        let message = parsed
            .as_ref()
            .ok()
            .filter(|value| value.str_at("kind") == "Status")
            .map(|value| value.str_at("message"));
        match message.filter(|message| !message.is_empty()) {
            Some(message) => Self::Told(code, message.to_owned()),
            None => Self::Status(code, String::from_utf8_lossy(body).into_owned()),
        }
    }
}

/// What client libraries of Kubernetes say of a status that came without a `Status`.
fn status(f: &mut fmt::Formatter<'_>, code: u16, body: &str) -> fmt::Result {
    let body = body.trim();
    match code {
        401 => f.write_str("the server has asked for the client to provide credentials"),
        403 if !body.is_empty() => f.write_str(body),
        404 => f.write_str("the server could not find the requested resource"),
        405 => f.write_str("the server does not allow this method on the requested resource"),
        406 => write!(
            f,
            "the server was unable to respond with a content type that the client supports: {body}"
        ),
        409 => f.write_str("the server reported a conflict"),
        415 => write!(
            f,
            "the media type in the request was not accepted by the server: {body}"
        ),
        422 => f.write_str("the server rejected our request due to an error in our request"),
        429 => f.write_str(
            "the server has received too many requests and has asked us to try again later",
        ),
        503 => f.write_str("the server is currently unable to handle the request"),
        504 => f.write_str(
            "the server was unable to return a response in the time allotted, but may still be processing the request",
        ),
        500.. => write!(
            f,
            "an error on the server ({body:?}) has prevented the request from succeeding"
        ),
        _ => f.write_str("the server rejected our request for an unknown reason"),
    }
}

/// A call that failed: what was called, and why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    /// The method.
    pub method: http::Method,
    /// The URL, without credentials.
    pub url: String,
    /// Why.
    pub failure: Failure,
}

impl std::error::Error for CallError {}

impl fmt::Display for CallError {
    /// As Go's HTTP client tells it: `Post "https://...": context deadline exceeded`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.failure, Failure::Status(..) | Failure::Told(..)) {
            return self.failure.fmt(f);
        }
        let (first, rest) = self.method.as_str().split_at(1);
        write!(
            f,
            "{first}{} {:?}: {}",
            rest.to_lowercase(),
            self.url,
            self.failure
        )
    }
}
