//! Requests: paths, parameters, tokens of lists, what a client accepts.

use crate::make::Maker;
use http::{HeaderMap, HeaderValue, Method};
use rutter_api::Value;
use rutter_apiserver::registry::list::Token;
use rutter_apiserver::request::params::{DeleteOptions, ListOptions, WriteOptions, parse_version};
use rutter_apiserver::request::{Accept, RequestInfo};
use rutter_apiserver::streaming::target::{Query, path};
use rutter_storage::Revision;

const KEYS: &[&str] = &[
    "labelSelector",
    "fieldSelector",
    "resourceVersion",
    "resourceVersionMatch",
    "limit",
    "continue",
    "allowWatchBookmarks",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
    "dryRun",
    "fieldManager",
    "fieldValidation",
    "force",
    "gracePeriodSeconds",
    "propagationPolicy",
    "orphanDependents",
    "pretty",
];

const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "true",
    "false",
    "True",
    "All",
    "Exact",
    "NotOlderThan",
    "Strict",
    "Ignore",
    "a=b",
    "metadata.name=x",
    "Orphan",
    "Background",
    "9223372036854775808",
    "18446744073709551616",
    "1e3",
    "+1",
];

/// What is written into a query is read from it, and each reader of parameters accepts or refuses.
pub fn parameters(data: &[u8]) {
    let mut maker = Maker::speaking(data, VALUES);
    let pairs: Vec<(&str, String)> = (0..maker.count(6))
        .map(|_| (maker.pick(KEYS), maker.word()))
        .collect();
    let segments: Vec<String> = (0..maker.count(8))
        .map(|_| match maker.below(3) {
            0 => maker.text(),
            _ => maker
                .pick(&[
                    "api",
                    "apis",
                    "v1",
                    "apps",
                    "namespaces",
                    "pods",
                    "n",
                    "status",
                    "watch",
                    "proxy",
                ])
                .to_owned(),
        })
        .collect();
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    let written = path(&words, &pairs);
    let (place, text) = written.split_once('?').unwrap_or((&written, ""));
    let query = Query::parse(text);
    for (key, value) in &pairs {
        assert!(
            query.all(key).any(|read| read == value),
            "{value:?} is lost: {written}"
        );
    }
    for (key, value) in pairs.iter().rev() {
        if pairs.iter().filter(|(other, _)| other == key).count() == 1 {
            assert_eq!(query.first(key), Some(value.as_str()));
        }
    }
    for method in [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ] {
        info(&method, place, &query, &words);
    }
    read(&query);
    token(&mut maker);
    accept(&mut maker, &query);
    read(&Query::parse(&String::from_utf8_lossy(maker.rest())));
}

fn info(method: &Method, place: &str, query: &Query, words: &[&str]) {
    let info = RequestInfo::new(method, place, query);
    assert_eq!(
        info,
        RequestInfo::new(method, &format!("{place}/"), query).with_path(place),
        "a slash at the end"
    );
    if info.is_resource {
        assert!(!info.prefix.is_empty() && !info.version.is_empty() || words.contains(&""));
        let named = [&info.namespace, &info.resource, &info.name, &info.subresource];
        for name in named {
            let known =
                name.is_empty() || words.contains(&name.as_str()) || query.first("fieldSelector").is_some();
            assert!(known, "{name:?} comes from nowhere: {place}");
        }
    } else {
        assert!(info.resource.is_empty() && info.namespace.is_empty());
    }
}

/// For comparing what paths mean.
trait WithPath {
    fn with_path(self, path: &str) -> Self;
}

impl WithPath for RequestInfo {
    fn with_path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }
}

fn read(query: &Query) {
    for watch in [false, true] {
        if let Ok(options) = ListOptions::read(query, watch) {
            assert_eq!(options.labels, query.first("labelSelector").unwrap_or_default());
            if let Ok(Some(revision)) = options.revision() {
                assert_eq!(parse_version(&revision.to_string()).ok(), Some(Some(revision)));
            }
        }
    }
    for kind in ["CreateOptions", "UpdateOptions", "PatchOptions"] {
        if let Ok(options) = WriteOptions::read(query, kind) {
            assert_eq!(options.dry_run, query.all("dryRun").any(|text| text == "All"));
            assert_eq!(options.object["kind"], kind);
        }
    }
    if let Ok(options) = DeleteOptions::read(query, Value::Null) {
        // Sent as a body it means the same.
        let again =
            DeleteOptions::read(&Query::default(), options.object.clone()).expect("it was read before");
        assert_eq!(
            (again.grace, again.propagation, again.dry_run),
            (options.grace, options.propagation, options.dry_run)
        );
    }
}

fn token(maker: &mut Maker<'_>) {
    let text = maker.text();
    if let Some(token) = Token::decode(&text) {
        assert_eq!(Token::decode(&token.encode()), Some(token));
    }
    let revision = Some(maker.int().unsigned_abs()).filter(|n| *n > 0).map(Revision);
    let after = text.trim_end_matches('\0').to_owned();
    let token = Token { revision, after };
    if !token.after.contains("..") {
        assert_eq!(Token::decode(&token.encode()), Some(token));
    }
}

fn accept(maker: &mut Maker<'_>, query: &Query) {
    let kinds = [
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
        "*/*",
        "application/json;as=Table;g=meta.k8s.io;v=v1",
        "application/json;q=0.5",
        "text/html",
        "",
    ];
    let parts: Vec<String> = (0..maker.count(4))
        .map(|_| {
            if maker.once_in(4) {
                maker.word()
            } else {
                maker.pick(&kinds).to_owned()
            }
        })
        .collect();
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(&parts.join(",")) {
        headers.insert("accept", value);
    }
    let by = |tables, protobuf| Accept::negotiate(&headers, query, tables, protobuf);
    if by(false, false).is_ok() {
        assert!(by(true, true).is_ok(), "more forms refuse nobody: {headers:?}");
    }
}
