//! What a request asks for, read from its method and path by upstream's rules.
//!
//! Guarantee: authorization and dispatch look at the same [`RequestInfo`], so what is allowed is what is done.

use http::Method;
use rutter_api::{FieldSelector, GroupVersion};

use crate::streaming::target::Query;

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether it is about a resource.
    pub is_resource: bool,
    /// The whole path.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, ...; the lower-case method when it is about no resource.
    pub verb: String,
    /// `api` or `apis`.
    pub prefix: String,
    /// The API group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The namespace; empty for cluster-scoped requests.
    pub namespace: String,
    /// The plural resource.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The object's name.
    pub name: String,
    /// What follows the subresource, for proxies, without the leading slash.
    pub rest: Vec<String>,
}

impl RequestInfo {
    /// Reads a request.
    pub fn new(method: &Method, path: &str, query: &Query) -> Self {
        let mut info = Self {
            path: path.to_owned(),
            verb: method.as_str().to_ascii_lowercase(),
            ..Self::default()
        };
        let mut parts: Vec<String> = path.trim_matches('/').split('/').map(decode_segment).collect();
        if path.trim_matches('/').is_empty() || parts.len() < 3 {
            return info;
        }
        match parts.first().map(String::as_str) {
            Some("api") => info.prefix = "api".to_owned(),
            Some("apis") if parts.len() >= 4 => {
                info.prefix = "apis".to_owned();
                info.group = parts.remove(1);
            }
            _ => return info,
        }
        info.is_resource = true;
        info.version = parts.get(1).cloned().unwrap_or_default();
        parts.drain(..2);
        info.verb = verb_of(method).to_owned();
        if parts.len() > 1 && parts.first().is_some_and(|part| part == "watch") {
            info.verb = "watch".to_owned();
            parts.remove(0);
        }
        info.place(parts);
        info.refine(query);
        info
    }

    /// Its group and version.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(&self.group, &self.version)
    }

    /// Namespace, resource, name and subresource.
    fn place(&mut self, mut parts: Vec<String>) {
        if parts.len() > 1 && parts.first().is_some_and(|part| part == "namespaces") {
            self.namespace = parts.get(1).cloned().unwrap_or_default();
            let of_namespace = parts
                .get(2)
                .is_some_and(|part| matches!(part.as_str(), "status" | "finalize"));
            if parts.len() > 2 && !of_namespace {
                parts.drain(..2);
            }
        }
        let mut parts = parts.into_iter();
        self.resource = parts.next().unwrap_or_default();
        self.name = parts.next().unwrap_or_default();
        self.subresource = parts.next().unwrap_or_default();
        self.rest = parts.collect();
    }

    /// Verbs of collections, and the name that a field selector gives.
    fn refine(&mut self, query: &Query) {
        if self.name.is_empty() && self.verb == "get" {
            self.verb = if query.flag("watch") { "watch" } else { "list" }.to_owned();
        } else if self.verb == "get" && self.subresource.is_empty() && query.flag("watch") {
            // Upstream ignores it on a single object.
        }
        if matches!(self.verb.as_str(), "list" | "watch")
            && self.name.is_empty()
            && let Some(text) = query.first("fieldSelector")
            && let Ok(selector) = FieldSelector::parse(text)
            && let Some(name) = selector.exact("metadata.name")
        {
            self.name = name.to_owned();
        }
        if self.name.is_empty() && self.verb == "delete" {
            self.verb = "deletecollection".to_owned();
        }
    }
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

fn decode_segment(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes
            .get(at + 1..at + 3)
            .filter(|_| byte == b'%')
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match hex {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_upstream_reads_them() {
        // method, path, verb, group, version, namespace, resource, subresource, name
        #[rustfmt::skip]
        let table = [
            ("GET", "/api/v1/namespaces", "list", "", "v1", "", "namespaces", "", ""),
            ("GET", "/api/v1/namespaces/other", "get", "", "v1", "other", "namespaces", "", "other"),
            ("PUT", "/api/v1/namespaces/other/finalize", "update", "", "v1", "other", "namespaces", "finalize", "other"),
            ("GET", "/api/v1/namespaces/other/pods", "list", "", "v1", "other", "pods", "", ""),
            ("GET", "/api/v1/namespaces/other/pods/foo", "get", "", "v1", "other", "pods", "", "foo"),
            ("HEAD", "/api/v1/namespaces/other/pods/foo", "get", "", "v1", "other", "pods", "", "foo"),
            ("GET", "/api/v1/pods", "list", "", "v1", "", "pods", "", ""),
            ("GET", "/api/v1/pods?watch=true", "watch", "", "v1", "", "pods", "", ""),
            ("GET", "/api/v1/pods?watch=false", "list", "", "v1", "", "pods", "", ""),
            ("GET", "/api/v1/watch/pods", "watch", "", "v1", "", "pods", "", ""),
            ("GET", "/api/v1/watch/namespaces/other/pods", "watch", "", "v1", "other", "pods", "", ""),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx", "list", "", "v1", "", "pods", "", "x"),
            ("POST", "/api/v1/namespaces/other/pods/foo/exec", "create", "", "v1", "other", "pods", "exec", "foo"),
            ("DELETE", "/apis/apps/v1/namespaces/other/deployments", "deletecollection", "apps", "v1", "other", "deployments", "", ""),
            ("PATCH", "/apis/apps/v1/namespaces/other/deployments/a/scale", "patch", "apps", "v1", "other", "deployments", "scale", "a"),
            ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node", "get", "rbac.authorization.k8s.io", "v1", "", "clusterroles", "", "system:node"),
        ];
        for (method, uri, verb, group, version, namespace, resource, subresource, name) in table {
            let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
            let got = RequestInfo::new(&method.parse().unwrap(), path, &Query::parse(query));
            assert!(got.is_resource, "{uri}");
            let got = [
                &got.verb,
                &got.group,
                &got.version,
                &got.namespace,
                &got.resource,
                &got.subresource,
                &got.name,
            ];
            assert_eq!(
                got,
                [verb, group, version, namespace, resource, subresource, name],
                "{method} {uri}"
            );
        }
        for path in [
            "/",
            "/api",
            "/apis",
            "/api/v1",
            "/apis/apps",
            "/apis/apps/v1",
            "/healthz",
            "/version",
            "/openapi/v3/apis/apps/v1",
        ] {
            let got = RequestInfo::new(&Method::GET, path, &Query::default());
            assert_eq!((got.is_resource, got.verb.as_str()), (false, "get"), "{path}");
        }
    }
}
