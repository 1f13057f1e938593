//! `-v`: requests and their answers, told on standard error as kubectl tells them.
//!
//! From level 6 on: 6 tells the request and the answer in a line, 7 the headers, 8 the beginning of bodies, 9 more of
//! them and a curl command, 10 all of them. Credentials are added to a request below this, and are never told.

use http::{HeaderMap, Method, Request, Response};
use std::fmt::Write;
use std::time::Duration;

/// How much is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestLog {
    level: i64,
}

impl RequestLog {
    /// For a value of `-v`.
    pub fn new(level: i64) -> Self {
        Self { level }
    }

    /// Tells that a request is sent.
    pub fn request<B>(&self, server: &str, request: &Request<B>) {
        if self.level >= 9 {
            self.line(&format!(
                "\"Request\" curlCommand=<\n\t{}\n >",
                curl(server, request)
            ));
        } else if self.level >= 7 {
            self.line(&format!(
                "\"Request\" verb=\"{}\" url=\"{server}{}\"{}",
                request.method(),
                request.uri(),
                headers(request.headers())
            ));
        }
    }

    /// Tells what was answered.
    pub fn response<B>(
        &self,
        server: &str,
        method: &Method,
        path: &str,
        response: &Response<B>,
        took: Duration,
    ) {
        if self.level < 6 {
            return;
        }
        let shown = if self.level >= 8 {
            headers(response.headers())
        } else {
            String::new()
        };
        self.line(&format!(
            "\"Response\" verb=\"{method}\" url=\"{server}{path}\" status=\"{}\"{shown} milliseconds={}",
            response.status(),
            took.as_millis()
        ));
    }

    /// Tells that there was no answer.
    pub fn unanswered(&self, server: &str, method: &Method, path: &str, took: Duration) {
        if self.level >= 6 {
            self.line(&format!(
                "\"Response\" verb=\"{method}\" url=\"{server}{path}\" status=\"\" milliseconds={}",
                took.as_millis()
            ));
        }
    }

    /// Tells a body, or its beginning.
    pub fn body(&self, what: &str, body: &[u8]) {
        if let Some(text) = self.shown(body) {
            self.line(&format!("{what:?} body={text}"));
        }
    }

    fn shown(&self, body: &[u8]) -> Option<String> {
        let limit = match self.level {
            ..=7 => return None,
            8 => 1024,
            9 => 10_240,
            _ => usize::MAX,
        };
        let text = String::from_utf8_lossy(body);
        let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= limit);
        let mut out = match end {
            Some(end) => format!(
                "{} [truncated {} chars]",
                text.get(..end).unwrap_or(""),
                text.len() - end
            ),
            None => text.into_owned(),
        };
        if out.contains('\n') {
            out = format!("<\n\t{}\n >", out.trim_end().replace('\n', "\n\t"));
        } else {
            out = crate::error::go_quote(&out);
        }
        Some(out)
    }

    fn line(&self, text: &str) {
        let now = jiff::Zoned::now();
        crate::errln!(
            "I{} {:>7} rest.rs] {text}",
            now.strftime("%m%d %H:%M:%S%.6f"),
            std::process::id()
        );
    }
}

fn headers(map: &HeaderMap) -> String {
    let mut names: Vec<_> = map.keys().collect();
    names.sort_by_key(|n| n.as_str());
    let mut out = String::from(" headers=<");
    for name in names {
        for value in map.get_all(name) {
            // Writing to a string can't fail.
            let _ = write!(out, "\n\t{name}: {}", value.to_str().unwrap_or("<binary>"));
        }
    }
    out.push_str("\n >");
    out
}

fn curl<B>(server: &str, request: &Request<B>) -> String {
    let mut out = format!("curl -v -X{}", request.method());
    for (name, value) in request.headers() {
        let _ = write!(out, " -H \"{name}: {}\"", value.to_str().unwrap_or("<binary>"));
    }
    let _ = write!(out, " '{server}{}'", request.uri());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_told_by_level() {
        let long = "x".repeat(2000);
        let at = |level, body: &str| RequestLog::new(level).shown(body.as_bytes());
        assert_eq!(at(7, "a"), None);
        assert_eq!(at(8, "{\"a\":1}").as_deref(), Some("\"{\\\"a\\\":1}\""));
        assert_eq!(at(8, "a\nb\n").as_deref(), Some("<\n\ta\n\tb\n >"));
        assert!(at(8, &long).unwrap().ends_with("[truncated 976 chars]\""));
        assert_eq!(at(9, &long).unwrap().len(), 2002);
    }

    #[test]
    fn requests_become_curl_commands() {
        let request = Request::builder()
            .uri("/api/v1/pods?limit=5")
            .header("accept", "application/json")
            .body(())
            .unwrap();
        assert_eq!(
            curl("https://s:6443", &request),
            "curl -v -XGET -H \"accept: application/json\" 'https://s:6443/api/v1/pods?limit=5'"
        );
        assert_eq!(
            headers(request.headers()),
            " headers=<\n\taccept: application/json\n >"
        );
    }
}
