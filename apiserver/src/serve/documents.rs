//! Discovery and OpenAPI documents, made once for each set of served resources.

use crate::aggregate;
use crate::answer::{self, Answer, Body};
use crate::crd::Custom;
use crate::server::{Served, Server};
use crate::streaming::target::Query;
use ahash::HashMap;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, ETAG};
use http::{HeaderValue, Request, Response, StatusCode};
use parking_lot::Mutex;
use rutter_api::{GroupVersion, Resource, StatusError, Value, discovery, openapi};
use serde_json::json;
use sha2::{Digest, Sha256};

/// The documents made so far.
#[derive(Debug, Default)]
pub struct Documents {
    made: Mutex<Made>,
}

#[derive(Debug, Default)]
struct Made {
    /// Counts how often all were forgotten.
    round: u64,
    documents: HashMap<String, Bytes>,
}

impl Documents {
    /// Forgets all of them: other resources are served.
    pub fn clear(&self) {
        let mut made = self.made.lock();
        made.round += 1;
        made.documents.clear();
    }

    /// A document. `make` must look at what is served itself: one made while that changes is given out, but not kept.
    fn get(&self, key: &str, make: impl FnOnce() -> Value) -> Bytes {
        self.get_bytes(key, || make().to_string().into())
    }

    fn get_bytes(&self, key: &str, make: impl FnOnce() -> Bytes) -> Bytes {
        let round = {
            let made = self.made.lock();
            if let Some(found) = made.documents.get(key) {
                return found.clone();
            }
            made.round
        };
        let bytes = make();
        let mut made = self.made.lock();
        if made.round == round {
            made.documents.insert(key.to_owned(), bytes.clone());
        }
        bytes
    }

    /// Aggregated discovery with its ETag.
    pub fn discovery(&self, server: &Server, core: bool) -> (Bytes, String) {
        let bytes = self.get(if core { "api" } else { "apis" }, || {
            let (served, routes) = (server.served.load(), server.aggregate.routes());
            if core || routes.is_empty() {
                return discovery::aggregated(&served.scheme, core);
            }
            let version = |version: &GroupVersion| {
                aggregate::discovery::version(&routes, version)
                    .unwrap_or_else(|| discovery::aggregated_version(&served.scheme, version))
            };
            let all = groups(server).into_iter().filter(|(group, _)| !group.is_empty());
            let all = all.map(|(group, versions)| (group, versions.iter().map(&version).collect()));
            aggregate::discovery::list(all.collect())
        });
        let etag = format!("\"{}\"", hash([&bytes[..]]));
        (bytes, etag)
    }
}

/// The groups that are served here or by aggregated servers, with their versions, in order of preference.
pub fn groups(server: &Server) -> Vec<(String, Vec<GroupVersion>)> {
    let own = discovery::groups(&server.served.load().scheme);
    aggregate::discovery::groups(own, &server.aggregate.routes())
}

fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
        hasher.update([0]);
    }
    let mut text = String::new();
    for byte in hasher.finalize() {
        text.push_str(&format!("{byte:02X}"));
    }
    text
}

/// The paths that `/` lists.
pub fn paths(server: &Server) -> Vec<String> {
    let mut paths: Vec<String> = [
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    for version in groups(server).into_iter().flat_map(|(_, versions)| versions) {
        if version.group.is_empty() {
            paths.push(format!("/api/{}", version.version));
        } else {
            paths.push(format!("/apis/{}", version.group));
            paths.push(format!("/apis/{version}"));
        }
    }
    paths.sort();
    paths.dedup();
    paths
}

fn custom(served: &Served) -> impl Fn(&Resource) -> Option<Value> + '_ {
    |resource| served.custom(resource).map(Custom::schema)
}

/// Changes when the document of a group version does.
fn version_hash(served: &Served, version: &GroupVersion) -> String {
    let mut parts = vec![env!("CARGO_PKG_VERSION").to_owned(), version.to_string()];
    for resource in served.scheme.resources(version) {
        parts.push(resource.plural.to_string());
        if let Some(custom) = served.custom(resource) {
            parts.push(custom.fingerprint().to_string());
        }
    }
    hash(parts.iter().map(String::as_bytes))
}

/// `/openapi/v3`
pub fn v3_index(server: &Server) -> Answer {
    let bytes = server.documents.get("v3", || {
        let served = server.served.load();
        let mut index = openapi::v3_index(&served.scheme, |version| version_hash(&served, version));
        for route in server.aggregate.routes().all() {
            let discovered = route.discovered.load();
            if let Some((hash, _)) = discovered.as_ref().and_then(|discovered| discovered.v3.as_ref()) {
                let key = format!("apis/{}", route.group_version);
                let url = format!("/openapi/v3/{key}?hash={hash}");
                index["paths"][key] = json!({"serverRelativeURL": url});
            }
        }
        index
    });
    Ok(answer::typed(StatusCode::OK, "application/json", bytes))
}

/// `/openapi/v3/<group version>`
pub fn v3(server: &Server, path: &str, query: &Query) -> Answer {
    let served = server.served.load();
    let version = match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => GroupVersion::new("", *version),
        ["apis", group, version] => GroupVersion::new(*group, *version),
        _ => return Err(StatusError::path_not_found()),
    };
    if let Some(route) = server.aggregate.routes().get(&version) {
        let discovered = route.discovered.load();
        let document = discovered.as_ref().and_then(|discovered| discovered.v3.clone());
        let (tag, bytes) = document.ok_or_else(StatusError::path_not_found)?;
        return Ok(v3_answer(bytes, &tag, query));
    }
    if !served.scheme.has(&version) {
        return Err(StatusError::path_not_found());
    }
    let bytes = server.documents.get(path, || {
        let served = server.served.load();
        let custom = custom(&served);
        openapi::v3_with(
            &served.scheme,
            rutter_api::schema::builtin(),
            &version,
            rutter_api_docs::docs(),
            &custom,
        )
    });
    Ok(v3_answer(bytes, &version_hash(&served, &version), query))
}

/// A document under its hash: who asks for it by the hash may keep it.
fn v3_answer(bytes: Bytes, tag: &str, query: &Query) -> Response<Body> {
    let mut response = answer::typed(StatusCode::OK, "application/json", bytes);
    if query.first("hash") == Some(tag) {
        let forever = HeaderValue::from_static("public, immutable");
        response.headers_mut().insert(CACHE_CONTROL, forever);
    }
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{tag}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// The media types of `/openapi/v2` as protobuf; the second is the older spelling.
const V2_PROTOBUF: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
];

/// `/openapi/v2`, as JSON or protobuf.
pub fn v2<B>(server: &Server, request: &Request<B>) -> Answer {
    let accept = request
        .headers()
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .filter(|accept| !accept.is_empty())
        .unwrap_or("*/*");
    let mut wanted = accept
        .split(',')
        .map(|clause| clause.split(';').next().unwrap_or_default().trim());
    let protobuf = wanted.find_map(|media| match media {
        "application/json" | "*/*" | "application/*" => Some(false),
        media => V2_PROTOBUF.contains(&media).then_some(true),
    });
    match protobuf {
        Some(false) => {
            let bytes = server.documents.get("v2", || v2_document(server));
            Ok(answer::typed(StatusCode::OK, "application/json", bytes))
        }
        Some(true) => {
            let make = || openapi::protobuf::document(&v2_document(server)).into();
            let bytes = server.documents.get_bytes("v2.protobuf", make);
            Ok(answer::typed(StatusCode::OK, V2_PROTOBUF[0], bytes))
        }
        None => Err(StatusError::not_acceptable(&["application/json", V2_PROTOBUF[0]])),
    }
}

fn v2_document(server: &Server) -> Value {
    let served = server.served.load();
    let custom = custom(&served);
    let mut document = openapi::v2_with(
        &served.scheme,
        rutter_api::schema::builtin(),
        rutter_api_docs::docs(),
        &custom,
    );
    for route in server.aggregate.routes().all() {
        let discovered = route.discovered.load();
        let part = discovered.as_ref().and_then(|discovered| discovered.v2.as_ref());
        if let Some(part) = part.and_then(|part| serde_json::from_slice::<Value>(part).ok()) {
            aggregate::openapi::add(&mut document, &part);
        }
    }
    document
}
