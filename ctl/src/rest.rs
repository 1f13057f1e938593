//! Requests to the apiserver: raw paths and JSON trees over a `kube::Client`.
//!
//! Every failure is an [`Error`]: the server's own `Status` where it sent one. Warnings that the server adds to a
//! response are printed to standard error once each.

use crate::error::{Error, Result, Status};
use crate::kubeconfig::Effective;
use crate::request_log::RequestLog;
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig as KubeKubeconfig};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Duration;

/// A connection.
pub struct Rest {
    client: kube::Client,
    /// The server's base URL.
    pub server: String,
    timeout: Option<Duration>,
    seen: RefCell<HashSet<String>>,
    warnings_fail: bool,
    log: RequestLog,
}

/// Query parameters.
pub type Query<'a> = &'a [(&'a str, String)];

/// Content types of patches.
pub mod patch {
    /// RFC 6902.
    pub const JSON: &str = "application/json-patch+json";
    /// RFC 7386.
    pub const MERGE: &str = "application/merge-patch+json";
    /// Kubernetes' own.
    pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
    /// Server-side apply.
    pub const APPLY: &str = "application/apply-patch+yaml";
}

const JSON: &str = "application/json";
/// Asks for a table, and takes the object where the server has none.
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

/// Percent-encodes for a query or a path segment.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// A path with its query.
pub fn with_query(path: &str, query: Query<'_>) -> String {
    let mut out = path.to_owned();
    for (at, (key, value)) in query.iter().enumerate() {
        out.push(if at == 0 && !path.contains('?') { '?' } else { '&' });
        out.push_str(&encode(key));
        out.push('=');
        out.push_str(&encode(value));
    }
    out
}

impl Rest {
    /// Prepares a connection; nothing is sent yet.
    pub async fn connect(
        effective: &Effective,
        timeout: Option<Duration>,
        warnings_fail: bool,
        log: RequestLog,
    ) -> Result<Self> {
        // Another part of the process may have chosen a provider already; it is the same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut config = if effective.in_cluster {
            kube::Config::incluster().map_err(|e| Error::new(crate::error::chain(&e)))?
        } else {
            from_kubeconfig(effective).await?
        };
        config.default_retry = false;
        config.connect_timeout = Some(timeout.unwrap_or(Duration::from_secs(30)));
        config.read_timeout = None;
        config.write_timeout = None;
        config.headers.push((
            http::header::USER_AGENT,
            http::HeaderValue::from_static(concat!("rctl/", env!("CARGO_PKG_VERSION"))),
        ));
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = crate::transport::client(config).map_err(|e| Error::new(crate::error::chain(&e)))?;
        Ok(Self {
            client,
            server,
            timeout,
            seen: RefCell::default(),
            warnings_fail,
            log,
        })
    }

    /// Fails unless the server has this program's version.
    pub async fn match_version(&self) -> Result<()> {
        let server = self.get("/version").await?;
        let own = crate::cmd::version::COMPATIBLE.2;
        let other = server["gitVersion"].as_str().unwrap_or("");
        // What stands behind a plus says who built it, not which version it is.
        if other.split('+').next() == Some(own) {
            return Ok(());
        }
        Err(Error::new(format!(
            "server version ({other}) differs from client version ({own})"
        )))
    }

    /// The client below.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// Sends a request and gives the response of a success; anything else is an error.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Body>> {
        let response = self.send_any(request).await?;
        if response.status().is_success() || response.status().as_u16() == 101 {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let body = response
            .into_body()
            .collect()
            .await
            .map(|b| b.to_bytes())
            .unwrap_or_default();
        self.log.body("Response Body", &body);
        Err(failure(code, &body))
    }

    /// Sends a request and gives the response whatever it is.
    pub async fn send_any(&self, request: Request<Body>) -> Result<Response<Body>> {
        let (method, path) = (request.method().clone(), request.uri().to_string());
        self.log.request(&self.server, &request);
        let began = std::time::Instant::now();
        let sending = self.client.send(request);
        let response = match self.timeout {
            None => sending.await,
            Some(limit) => match tokio::time::timeout(limit, sending).await {
                Ok(r) => r,
                Err(_) => {
                    return Err(Error::Connect(
                        "Unable to connect to the server: net/http: request canceled (Client.Timeout exceeded while awaiting headers)".to_owned(),
                    ));
                }
            },
        }
        .inspect_err(|_| self.log.unanswered(&self.server, &method, &path, began.elapsed()))
        .map_err(|e| self.connect_error(e))?;
        self.log
            .response(&self.server, &method, &path, &response, began.elapsed());
        self.warn(&response);
        Ok(response)
    }

    fn connect_error(&self, e: kube::Error) -> Error {
        let text = crate::error::chain(&e);
        let host = self
            .server
            .split_once("://")
            .map_or(self.server.as_str(), |(_, h)| h);
        let host = host.split('/').next().unwrap_or(host);
        if text.to_lowercase().contains("connection refused") {
            return Error::Connect(format!(
                "The connection to the server {host} was refused - did you specify the right host or port?"
            ));
        }
        match e {
            kube::Error::Api(_) => e.into(),
            _ => {
                let text = match text.as_str() {
                    t if t.contains("UnknownIssuer") => {
                        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
                            .to_owned()
                    }
                    t if t.contains("Expired") && t.contains("certificate") => {
                        "tls: failed to verify certificate: x509: certificate has expired or is not yet valid"
                            .to_owned()
                    }
                    t if t.contains("failed to lookup address") => {
                        let name = host.rsplit_once(':').map_or(host, |(h, _)| h);
                        format!("dial tcp: lookup {name}: no such host")
                    }
                    _ => text,
                };
                Error::Connect(format!("Unable to connect to the server: {text}"))
            }
        }
    }

    fn warn(&self, response: &Response<Body>) {
        for header in response.headers().get_all(http::header::WARNING) {
            let Some(text) = header.to_str().ok().and_then(warning_text) else {
                continue;
            };
            if self.seen.borrow_mut().insert(text.clone()) {
                crate::errln!("Warning: {text}");
            }
        }
    }

    /// An error if the server warned and warnings are to be treated as errors.
    pub fn check_warnings(&self) -> Result<()> {
        let count = self.seen.borrow().len();
        match (self.warnings_fail, count) {
            (false, _) | (_, 0) => Ok(()),
            (true, 1) => Err(Error::new("1 warning received")),
            (true, n) => Err(Error::new(format!("{n} warnings received"))),
        }
    }

    /// Builds a request.
    pub fn request(
        method: Method,
        path: &str,
        accept: &str,
        content: Option<(&str, Vec<u8>)>,
    ) -> Result<Request<Body>> {
        let mut builder = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::ACCEPT, accept);
        let body = match content {
            Some((kind, bytes)) => {
                builder = builder.header(http::header::CONTENT_TYPE, kind);
                Body::from(bytes)
            }
            None => Body::empty(),
        };
        builder.body(body).map_err(|e| Error::new(e.to_string()))
    }

    /// One exchange whose answer is a JSON tree.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        content: Option<(&str, Vec<u8>)>,
    ) -> Result<Value> {
        let bytes = self.bytes(method, path, accept, content).await?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|e| Error::new(format!("the server's answer isn't JSON: {e}")))
    }

    /// One exchange whose answer is bytes.
    pub async fn bytes(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        content: Option<(&str, Vec<u8>)>,
    ) -> Result<Bytes> {
        if let Some((_, body)) = &content {
            self.log.body("Request Body", body);
        }
        let response = self.send(Self::request(method, path, accept, content)?).await?;
        let collected = response
            .into_body()
            .collect()
            .await
            .map_err(|e| self.connect_error(e_into(e)))?;
        let bytes = collected.to_bytes();
        self.log.body("Response Body", &bytes);
        Ok(bytes)
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, JSON, None).await
    }
    /// GET, asking for another form.
    pub async fn get_as(&self, path: &str, accept: &str) -> Result<Value> {
        self.call(Method::GET, path, accept, None).await
    }
    /// POST.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, path, JSON, Some((JSON, serde_json::to_vec(body)?)))
            .await
    }
    /// PUT.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::PUT, path, JSON, Some((JSON, serde_json::to_vec(body)?)))
            .await
    }
    /// PATCH with one of the types in [`patch`].
    pub async fn patch(&self, path: &str, kind: &str, body: Vec<u8>) -> Result<Value> {
        self.call(Method::PATCH, path, JSON, Some((kind, body))).await
    }
    /// DELETE with `DeleteOptions`.
    pub async fn delete(&self, path: &str, options: &Value) -> Result<Value> {
        self.call(
            Method::DELETE,
            path,
            JSON,
            Some((JSON, serde_json::to_vec(options)?)),
        )
        .await
    }

    /// GET whose answer is read as it comes.
    pub async fn stream(&self, path: &str, accept: &str) -> Result<ByteStream> {
        let response = self.send(Self::request(Method::GET, path, accept, None)?).await?;
        Ok(ByteStream {
            until: self.timeout.map(|limit| tokio::time::Instant::now() + limit),
            inner: Box::pin(
                response
                    .into_body()
                    .into_data_stream()
                    .map(|r| r.map_err(|e| Error::new(crate::error::chain(&e)))),
            ),
            buffer: Vec::new(),
        })
    }

    /// A watch: events as they come.
    pub async fn watch(&self, path: &str, query: Query<'_>, accept: &str) -> Result<ByteStream> {
        let mut all: Vec<(&str, String)> = query.to_vec();
        all.push(("watch", "true".to_owned()));
        self.stream(&with_query(path, &all), accept).await
    }
}

fn e_into(e: impl std::fmt::Display) -> kube::Error {
    kube::Error::Service(e.to_string().into())
}

/// A body that is read piece by piece.
pub struct ByteStream {
    inner: std::pin::Pin<Box<dyn futures::Stream<Item = Result<Bytes>>>>,
    buffer: Vec<u8>,
    /// When `--request-timeout` is over.
    until: Option<tokio::time::Instant>,
}

impl ByteStream {
    async fn more(&mut self) -> Result<Option<Bytes>> {
        let Some(until) = self.until else {
            return self.inner.next().await.transpose();
        };
        match tokio::time::timeout_at(until, self.inner.next()).await {
            Ok(more) => more.transpose(),
            Err(_) => Err(Error::new("context deadline exceeded")),
        }
    }

    /// The next bytes, None at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if !self.buffer.is_empty() {
            return Ok(Some(Bytes::from(std::mem::take(&mut self.buffer))));
        }
        self.more().await
    }
    /// The next line without its end, None at the end.
    pub async fn line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self
                .buffer
                .get(searched..)
                .and_then(|b| b.iter().position(|c| *c == b'\n'))
            {
                let rest = self.buffer.split_off(searched + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            match self.more().await? {
                Some(more) => self.buffer.extend_from_slice(&more),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Ok(Some(std::mem::take(&mut self.buffer))),
            }
        }
    }
    /// The next event of a watch: its type and object, None at its end or when its time is over.
    pub async fn event(&mut self) -> Result<Option<(String, Value)>> {
        loop {
            let line = match self.line().await {
                Err(_) if self.until.is_some_and(|u| u <= tokio::time::Instant::now()) => None,
                other => other?,
            };
            let Some(line) = line else {
                return Ok(None);
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let mut event: Value = serde_json::from_slice(&line)?;
            let kind = event["type"].as_str().unwrap_or("").to_owned();
            let object = event["object"].take();
            if kind == "ERROR" {
                return Err(Error::Status(Box::new(Status::from_value(&object))));
            }
            return Ok(Some((kind, object)));
        }
    }
}

/// `299 - "text"`
fn warning_text(header: &str) -> Option<String> {
    let rest = header.trim().strip_prefix("299 ")?;
    let (_, quoted) = rest.split_once(' ')?;
    let inner = quoted.trim().strip_prefix('"')?;
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            '"' => break,
            c => out.push(c),
        }
    }
    Some(out)
}

/// The error of an answer: its `Status`, or what the code says.
pub fn failure(code: u16, body: &[u8]) -> Error {
    if let Ok(value) = serde_json::from_slice::<Value>(body)
        && value["kind"] == json!("Status")
    {
        return Error::Status(Box::new(Status::from_value(&value)));
    }
    let text = String::from_utf8_lossy(body).trim().to_owned();
    let (reason, message) = match code {
        400 => ("BadRequest", "the server rejected our request for an unknown reason".to_owned()),
        401 => ("Unauthorized", "the server has asked for the client to provide credentials".to_owned()),
        403 => ("Forbidden", if text.is_empty() { "unknown".to_owned() } else { text.clone() }),
        404 => ("NotFound", "the server could not find the requested resource".to_owned()),
        405 => ("MethodNotAllowed", "the server does not allow this method on the requested resource".to_owned()),
        406 => ("NotAcceptable", if text.is_empty() { "unknown".to_owned() } else { text.clone() }),
        409 => ("Conflict", "the server reported a conflict".to_owned()),
        410 => ("Gone", "the server has no longer the requested version".to_owned()),
        415 => ("UnsupportedMediaType", if text.is_empty() { "unknown".to_owned() } else { text.clone() }),
        422 => ("Invalid", "the server rejected our request due to an error in our request".to_owned()),
        429 => ("TooManyRequests", "the server has received too many requests and has asked us to try again later".to_owned()),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request".to_owned()),
        504 => ("Timeout", "the server was unable to return a response in the time allotted, but may still be processing the request".to_owned()),
        500.. => ("InternalError", format!(
            "an error on the server ({}) has prevented the request from succeeding",
            crate::error::go_quote(if text.is_empty() { "unknown" } else { &text })
        )),
        _ => ("", format!("the server responded with the status code {code} but did not return more information")),
    };
    Error::Status(Box::new(Status {
        code,
        reason: reason.to_owned(),
        message,
        details: Value::Null,
    }))
}

async fn from_kubeconfig(effective: &Effective) -> Result<kube::Config> {
    let mut user = effective.user.clone();
    let mut headers: Vec<(String, String)> = Vec::new();
    if let Some(map) = user.as_object_mut() {
        if let Some(name) = map.remove("as").as_ref().and_then(Value::as_str) {
            headers.push(("impersonate-user".to_owned(), name.to_owned()));
        }
        if let Some(uid) = map.remove("as-uid").as_ref().and_then(Value::as_str) {
            headers.push(("impersonate-uid".to_owned(), uid.to_owned()));
        }
        for group in map
            .remove("as-groups")
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            headers.push((
                "impersonate-group".to_owned(),
                group.as_str().unwrap_or("").to_owned(),
            ));
        }
        for (key, values) in map
            .remove("as-user-extra")
            .as_ref()
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            for value in values.as_array().into_iter().flatten() {
                headers.push((
                    format!("impersonate-extra-{}", encode(key).to_lowercase()),
                    value.as_str().unwrap_or("").to_owned(),
                ));
            }
        }
    }
    if headers.iter().any(|(k, _)| k != "impersonate-user")
        && headers.iter().all(|(k, _)| k != "impersonate-user")
    {
        return Err(Error::new(format!(
            "requesting uid, groups or user-extra for {} without impersonating a user",
            effective.user_name
        )));
    }
    let mut cluster = effective.cluster.clone();
    if cluster["insecure-skip-tls-verify"] == json!(true)
        && ["certificate-authority", "certificate-authority-data"]
            .iter()
            .any(|k| cluster[*k].as_str().is_some_and(|v| !v.is_empty()))
    {
        return Err(Error::new(
            "specifying a root certificates file with the insecure flag is not allowed",
        ));
    }
    for (key, entry) in [
        ("certificate-authority", &cluster),
        ("client-certificate", &user),
        ("client-key", &user),
    ] {
        if let Some(path) = entry[key].as_str()
            && let Err(e) = std::fs::File::open(path)
        {
            return Err(Error::new(format!(
                "unable to read {key} {path} for c due to open {path}: {}",
                crate::error::io_text(&e)
            )));
        }
    }
    if let Some(map) = cluster.as_object_mut() {
        map.retain(|_, v| v.as_str() != Some(""));
    }
    let server = cluster["server"]
        .as_str()
        .unwrap_or("")
        .trim_end_matches('/')
        .to_owned();
    cluster["server"] = json!(server);
    let document = json!({
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    });
    let kubeconfig: KubeKubeconfig = serde_json::from_value(document)
        .map_err(|e| Error::new(format!("error loading config file: {e}")))?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|e| Error::new(crate::error::chain(&e)))?;
    for (name, value) in headers {
        let name: http::HeaderName = name
            .parse()
            .map_err(|_| Error::new("invalid impersonation header"))?;
        let value =
            http::HeaderValue::from_str(&value).map_err(|_| Error::new("invalid impersonation value"))?;
        config.headers.push((name, value));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        assert_eq!(
            with_query(
                "/api/v1/pods",
                &[("labelSelector", "a in (b,c)".into()), ("limit", "5".into())]
            ),
            "/api/v1/pods?labelSelector=a%20in%20%28b%2Cc%29&limit=5"
        );
    }

    #[test]
    fn warnings_are_unquoted() {
        assert_eq!(
            warning_text(r#"299 - "unknown field \"spec.x\"""#).as_deref(),
            Some(r#"unknown field "spec.x""#)
        );
        assert_eq!(warning_text("110 - stale"), None);
    }

    #[test]
    fn answers_that_are_no_status_get_the_text_of_their_code() {
        assert_eq!(
            failure(404, b"404 page not found").report(),
            "Error from server (NotFound): the server could not find the requested resource"
        );
    }
}
