//! From an authorized request on a resource to the registry.

use crate::answer::{self, Answer, Body};
use crate::corridor::{Passage, memory};
use crate::crd::Custom;
use crate::registry::Call;
use crate::request::{Accept, RequestInfo, body};
use crate::server::Server;
use crate::streaming::BoxError;
use crate::streaming::target::Query;
use crate::streaming::websocket::{self, Socket};
use bytes::Bytes;
use http::header::USER_AGENT;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use rutter_admission::Operation;
use rutter_api::{StatusError, UserInfo, Value, removed};
use rutter_audit::Level;
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const STREAMS: &[&str] = &["log", "exec", "attach", "portforward", "proxy"];

/// Answers a request on a resource.
pub async fn resource<B>(
    server: Arc<Server>,
    user: UserInfo,
    info: RequestInfo,
    query: Query,
    request: Request<B>,
    passage: Passage,
    sever: CancellationToken,
) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError>,
{
    let served = server.served.load_full();
    let Some(resource) = served.scheme.get(&info.group_version(), &info.resource).cloned() else {
        let removed = removed::by_resource(&info.group, &info.version, &info.resource);
        let nothing = StatusError::path_not_found();
        return Err(removed.map_or(nothing, StatusError::removed));
    };
    if resource.namespaced && info.namespace.is_empty() && !info.name.is_empty() && !is_collection(&info) {
        return Err(StatusError::path_not_found());
    }
    if !resource.namespaced && !info.namespace.is_empty() && info.resource != "namespaces" {
        return Err(StatusError::path_not_found());
    }
    let known = info.subresource.is_empty() || resource.subresource(&info.subresource).is_some();
    if !known {
        return Err(StatusError::path_not_found());
    }
    let custom = served.custom(&resource);
    // What isn't stored has no metadata to make a table of.
    let tables = resource.storage_prefix.is_some();
    let accept = Accept::negotiate(request.headers(), &query, tables, custom.is_none())?;
    let warnings: Mutex<Vec<String>> = Mutex::default();
    if let Some(text) = custom.and_then(Custom::deprecation) {
        warnings.lock().push(text.to_owned());
    }
    let agent = request
        .headers()
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok());
    let mut info = info;
    if !resource.namespaced {
        info.namespace.clear();
    }
    let call = Arc::new(Call {
        now: (server.clock)(),
        agent: agent.unwrap_or_default().to_owned(),
        served,
        resource,
        info,
        query,
        user,
        accept,
        warnings,
        annotations: Mutex::default(),
        record: passage.record.clone(),
        passage: Mutex::new(passage),
        server,
    });
    let answered = if STREAMS.contains(&call.info.subresource.as_str()) {
        stream(&call, request).await
    } else {
        verb(&call, request).await
    };
    if let Some(record) = &call.record {
        for (key, value) in std::mem::take(&mut *call.annotations.lock()) {
            record.annotate(key, value);
        }
        if let Err(error) = &answered {
            record.failed(error);
        }
    }
    let warned = !call.warnings.lock().is_empty();
    // Who is refused is warned all the same.
    let mut response = match answered {
        Err(error) if warned => {
            let accept = Accept {
                shape: crate::request::Shape::Object,
                ..call.accept
            };
            answer::failure(&error, &accept)
        }
        other => other?,
    };
    let warnings = std::mem::take(&mut *call.warnings.lock());
    answer::warn(response.headers_mut(), &warnings);
    let room = call.passage.lock().answer.take();
    Ok(match room {
        Some(room) => call.server.memory.hold(response, room, sever),
        None => response,
    })
}

fn is_collection(info: &RequestInfo) -> bool {
    matches!(info.verb.as_str(), "list" | "watch" | "deletecollection")
}

async fn verb<B>(call: &Arc<Call>, mut request: Request<B>) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError>,
{
    let (verb, subresource) = (call.info.verb.as_str(), call.info.subresource.as_str());
    let allowed = match call.resource.subresource(subresource) {
        Some(sub) => sub.verbs.iter().any(|known| known == verb),
        None => call.resource.verbs.iter().any(|known| known == verb),
    };
    if !allowed {
        return Err(StatusError::method_not_supported(&call.group_resource(), verb));
    }
    let media_type = body::media_type(request.headers());
    match (verb, subresource) {
        ("get", "scale") => return call.get_scale().await,
        ("get", _) => return call.get().await,
        ("list", _) => return call.list().await,
        ("watch", _) if websocket::is_wanted(&request) => {
            let socket = Socket::of_watch(&mut request)?;
            return call.clone().watch_messages(socket).await;
        }
        ("watch", _) => return call.clone().watch().await,
        _ => {}
    }
    let memory = &call.server.memory;
    let _body = memory.body(body::most(request.body())).await?;
    let bytes = body::read(request.into_body()).await?;
    // Of a collection one object after the other is deleted, and the room that the answer needs comes first.
    if verb != "deletecollection" {
        let trees = memory::of_written(&media_type, &bytes) + call.stored_trees();
        let work = memory.work(trees).await?;
        call.passage.lock().work = Some(work);
    }
    if let Some(record) = call
        .record
        .as_ref()
        .filter(|record| record.level() >= Level::Request)
        && let Some(object) = crate::audit::request_object(call.types(), &media_type, &bytes)
    {
        record.request(object);
    }
    match (verb, subresource) {
        ("create", "") if call.resource.storage_prefix.is_none() => call.ask(&media_type, bytes).await,
        ("create", "") if !call.info.name.is_empty() => Err(StatusError::method_not_allowed()),
        ("create", "") => call.create(&media_type, bytes).await,
        ("create", "binding") => call.bind(&media_type, bytes).await,
        ("create", "eviction") => call.evict(&media_type, bytes).await,
        ("create", "token") => call.token(&media_type, bytes).await,
        ("update", "scale") => call.replace_scale(&media_type, bytes).await,
        ("patch", "scale") => call.patch_scale(&media_type, bytes).await,
        ("update", _) => call.replace(&media_type, bytes).await,
        ("patch", _) => call.patch(&media_type, bytes).await,
        ("delete", "") => call.delete(&media_type, bytes).await,
        ("deletecollection", "") => call.delete_collection(&media_type, bytes).await,
        _ => Err(StatusError::method_not_supported(&call.group_resource(), verb)),
    }
}

/// Logs, exec, attach, port-forward and the proxies.
async fn stream<B>(call: &Arc<Call>, mut request: Request<B>) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError>,
{
    let subresource = call.info.subresource.clone();
    let (namespace, name) = (call.info.namespace.clone(), call.info.name.clone());
    if subresource == "log" {
        if request.method() != Method::GET {
            return Err(StatusError::method_not_supported(
                &call.group_resource(),
                &call.info.verb,
            ));
        }
        call.settle("").await?;
        let socket = websocket::is_wanted(&request)
            .then(|| Socket::of_log(&mut request))
            .transpose()?;
        let answer = call.server.streaming.log(request, &namespace, &name).await?;
        return match socket {
            Some(socket) => socket.send_body(answer.into_body()),
            None => Ok(unsync(answer)),
        };
    }
    connect(call, &name).await?;
    let streaming = &call.server.streaming;
    let rest = rest(call, request.uri().path());
    let answer = match (subresource.as_str(), &*call.resource.plural) {
        ("exec", _) => streaming.exec(request, &namespace, &name).await,
        ("attach", _) => streaming.attach(request, &namespace, &name).await,
        ("portforward", _) => streaming.port_forward(request, &namespace, &name).await,
        ("proxy", "pods") => streaming.pod_proxy(request, &namespace, &name, &rest).await,
        ("proxy", "services") => streaming.service_proxy(request, &namespace, &name, &rest).await,
        ("proxy", "nodes") => streaming.node_proxy(request, &name, &rest).await,
        _ => return Err(StatusError::path_not_found()),
    };
    answer.map(unsync)
}

/// What follows `/proxy` in the path, with its slash and as it was sent.
fn rest(call: &Call, path: &str) -> String {
    let marker = if call.resource.namespaced { 8 } else { 6 };
    let mut parts = path.splitn(marker + 1, '/');
    let rest = parts.nth(marker);
    rest.map(|rest| format!("/{rest}")).unwrap_or_default()
}

fn unsync(response: Response<crate::streaming::StreamBody>) -> Response<Body> {
    response.map(BodyExt::boxed_unsync)
}

/// Admission of connections.
async fn connect(call: &Call, name: &str) -> Result<(), StatusError> {
    let kind = call
        .resource
        .subresource(&call.info.subresource)
        .and_then(|sub| sub.kind.clone());
    let kind = kind.unwrap_or_else(|| call.resource.gvk());
    let mut options = json!({"kind": kind.kind, "apiVersion": kind.api_version()});
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        if call.query.first(flag).is_some() {
            options[flag] = Value::from(call.query.flag(flag));
        }
    }
    for text in ["container", "path"] {
        if let Some(value) = call.query.first(text) {
            options[text] = Value::from(value);
        }
    }
    let command: Vec<&str> = call.query.all("command").collect();
    if !command.is_empty() {
        options["command"] = json!(command);
    }
    let mut attributes = call.attributes(
        Operation::Connect,
        name,
        options,
        &Value::Null,
        &Value::Null,
        false,
    );
    call.admit_change(&mut attributes).await?;
    call.admit(&mut attributes).await
}
