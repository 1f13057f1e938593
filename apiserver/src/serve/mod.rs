//! Paths that are no resource: health, version, discovery, OpenAPI, metrics, token keys.

pub mod documents;
pub mod health;

use crate::answer::{self, Answer, Body};
use crate::request::{Accept, RequestInfo};
use crate::server::Server;
use crate::streaming::target::Query;
use http::header::{ACCEPT, CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use rutter_api::{GroupVersion, StatusError, UserInfo, Value, discovery};
use rutter_auth::authenticate::service_account::discovery as keys;
use serde_json::json;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Answers a health check; none when the request is about something else.
pub async fn health(
    server: &Server,
    info: &RequestInfo,
    query: &Query,
    method: &Method,
) -> Option<Response<Body>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    health::answer(server, info.path.trim_end_matches('/'), query).await
}

/// Answers a request that is about no resource and no health check.
pub fn other<B>(
    server: &Server,
    _user: &UserInfo,
    info: &RequestInfo,
    query: &Query,
    request: &Request<B>,
) -> Answer {
    let path = info.path.trim_end_matches('/');
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(StatusError::method_not_allowed());
    }
    let accept = Accept::negotiate(request.headers(), query, false, false);
    let value = |value: &Value| {
        let accept = accept.clone()?;
        Ok(answer::object(
            StatusCode::OK,
            value,
            &accept,
            rutter_api::schema::builtin(),
            "",
        ))
    };
    let served = server.served.load();
    let scheme = &served.scheme;
    match path {
        "" => value(&json!({"paths": documents::paths(server)})),
        "/version" => value(&version()),
        "/metrics" => Ok(answer::typed(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            server.metrics.text(),
        )),
        "/api" if wants_aggregated(request) => aggregated(server, true, request),
        "/apis" if wants_aggregated(request) => aggregated(server, false, request),
        "/api" => value(&discovery::api_versions(&server.external_address)),
        "/apis" => value(&discovery::group_list_of(&documents::groups(server))),
        "/openapi/v2" => documents::v2(server, request),
        "/openapi/v3" => documents::v3_index(server),
        keys::CONFIGURATION_PATH => {
            let of = &server.token_keys;
            token_keys(
                "application/json",
                &keys::configuration(&of.issuer, &of.jwks_uri, &of.keys),
            )
        }
        keys::KEYS_PATH => token_keys(keys::KEYS_CONTENT_TYPE, &keys::key_set(&server.token_keys.keys)),
        _ => {
            if let Some(rest) = path.strip_prefix("/openapi/v3/") {
                return documents::v3(server, rest, query);
            }
            if let Some(page) = path.strip_prefix("/debug/api_priority_and_fairness/") {
                return crate::fairness::debug(server.fairness.as_deref(), page, query, (server.clock)());
            }
            let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
            let found = match parts.as_slice() {
                ["api", version] => discovery::resource_list(scheme, &GroupVersion::new("", *version)),
                ["apis", group] => discovery::group_of(&documents::groups(server), group),
                ["apis", group, version] => {
                    discovery::resource_list(scheme, &GroupVersion::new(*group, *version))
                }
                _ => None,
            };
            value(&found.ok_or_else(StatusError::path_not_found)?)
        }
    }
}

fn token_keys(media_type: &'static str, value: &Value) -> Answer {
    let mut response = answer::typed(StatusCode::OK, media_type, value.to_string());
    let cache = HeaderValue::from_static(keys::CACHE_CONTROL);
    response.headers_mut().insert(CACHE_CONTROL, cache);
    Ok(response)
}

/// `/version`: every component's, and which versions this server emulates (KEP-4330).
pub fn version() -> Value {
    let mut version = rutter_client::component::version();
    for (field, value) in [
        ("emulationMajor", "1"),
        ("emulationMinor", "36"),
        ("minCompatibilityMajor", "1"),
        ("minCompatibilityMinor", "35"),
    ] {
        version[field] = value.into();
    }
    version
}

fn wants_aggregated<B>(request: &Request<B>) -> bool {
    let accept = request
        .headers()
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    accept.split(',').any(|clause| {
        let has = |part: &str| clause.split(';').any(|have| have.trim() == part);
        has("as=APIGroupDiscoveryList") && has("g=apidiscovery.k8s.io") && has("v=v2")
    })
}

fn aggregated<B>(server: &Server, core: bool, request: &Request<B>) -> Answer {
    let (bytes, etag) = server.documents.discovery(server, core);
    let same = request
        .headers()
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        == Some(etag.as_str());
    let mut response = if same {
        let mut response = Response::new(answer::full(""));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        answer::typed(StatusCode::OK, AGGREGATED, bytes)
    };
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    Ok(response)
}
