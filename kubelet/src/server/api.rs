//! The server's paths.

use super::Server;
use super::access::Denied;
use super::logs::LogOptions;
use super::remote::{self, Wanted};
use super::upgrade::{self, UpgradeError, is_spdy, is_websocket, offered};
use crate::pods::PodExt;
use crate::runtime::observed::{ContainerState, ObservedContainer};
use crate::worker::View;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use rutter_api::UserInfo;
use rutter_proto::cri::{AttachRequest, ExecRequest, PortForwardRequest};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

/// A response's body.
pub(crate) type Body = BoxBody<Bytes, io::Error>;

/// No body.
pub(crate) fn empty() -> Body {
    full("")
}

/// A body that is there at once.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed()
}

/// A plain answer.
pub(crate) fn text(status: StatusCode, message: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(message));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// An answer in JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(full(bytes));
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                header::HeaderValue::from_static("application/json"),
            );
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// A query's pairs, decoded.
pub(crate) fn query(uri: &hyper::Uri) -> Vec<(String, String)> {
    uri.query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let hex: Vec<u8> = bytes.by_ref().take(2).collect();
                match std::str::from_utf8(&hex)
                    .ok()
                    .and_then(|h| u8::from_str_radix(h, 16).ok())
                {
                    Some(value) => out.push(value),
                    None => {
                        out.push(b'%');
                        out.extend_from_slice(&hex);
                    }
                }
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn refuse(denied: Denied) -> Response<Body> {
    match denied {
        Denied::Unauthorized => text(StatusCode::UNAUTHORIZED, "Unauthorized"),
        Denied::Forbidden(message) => text(StatusCode::FORBIDDEN, message),
        Denied::Unavailable(message) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("Authorization error: {message}"),
        ),
    }
}

fn upgrade_failed(error: &UpgradeError) -> Response<Body> {
    let status = match error {
        UpgradeError::Refused(status, _) if status.is_client_error() => *status,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    text(status, error.to_string())
}

type Answer = Result<Response<Body>, Box<Response<Body>>>;

fn no(status: StatusCode, message: impl Into<String>) -> Box<Response<Body>> {
    Box::new(text(status, message.into()))
}

impl Server {
    /// Answers a request.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        caller: Option<UserInfo>,
    ) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let method = request.method().clone();
        let token = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.strip_prefix("Bearer "))
            .map(|t| t.trim().to_owned());
        if let Err(denied) = self
            .access
            .check(caller.as_ref(), token.as_deref(), &method, &path)
            .await
        {
            return refuse(denied);
        }
        let parts: Vec<String> = path.split('/').filter(|p| !p.is_empty()).map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let answer = match parts.as_slice() {
            ["healthz", ..] => Ok(self.healthz()),
            ["pods"] => Ok(self.pods(false)),
            ["runningpods"] => Ok(self.pods(true)),
            ["configz"] => Ok(json(&self.config)),
            ["metrics"] => Ok(super::exposition::own(&self)),
            ["metrics", "resource"] => Ok(super::metrics::resource(&self).await),
            ["metrics", "cadvisor"] => Ok(super::exposition::cadvisor(&self).await),
            ["metrics", "probes"] => Ok(super::exposition::probes(&self)),
            ["stats", "summary"] => Ok(super::metrics::summary(&self).await),
            ["logs"] => system_log("").await,
            ["logs", rest @ ..] => system_log(&rest.join("/")).await,
            ["containerLogs", namespace, pod, container] => {
                self.container_logs(&request, namespace, pod, container).await
            }
            ["exec", namespace, pod, container] => self.exec(request, namespace, pod, None, container).await,
            ["exec", namespace, pod, uid, container] => {
                self.exec(request, namespace, pod, Some(uid), container).await
            }
            ["attach", namespace, pod, container] => {
                self.attach(request, namespace, pod, None, container).await
            }
            ["attach", namespace, pod, uid, container] => {
                self.attach(request, namespace, pod, Some(uid), container).await
            }
            ["portForward", namespace, pod] => self.port_forward(request, namespace, pod, None).await,
            ["portForward", namespace, pod, uid] => {
                self.port_forward(request, namespace, pod, Some(uid)).await
            }
            ["run", namespace, pod, container] => self.run_command(&request, namespace, pod, container).await,
            ["run", namespace, pod, _, container] => {
                self.run_command(&request, namespace, pod, container).await
            }
            _ => Err(no(StatusCode::NOT_FOUND, "404 page not found")),
        };
        answer.unwrap_or_else(|response| *response)
    }

    fn healthz(&self) -> Response<Body> {
        match self.pleg.problem() {
            None => text(StatusCode::OK, "ok"),
            Some(problem) => text(StatusCode::INTERNAL_SERVER_ERROR, problem),
        }
    }

    fn pods(&self, running: bool) -> Response<Body> {
        let items: Vec<Pod> = self
            .pool
            .list()
            .into_iter()
            .filter(|(_, view)| !running || view.observed.has_running())
            .map(|(pod, view)| {
                let mut pod = (*pod).clone();
                if view.status.phase.is_some() {
                    pod.status = Some(view.status);
                }
                pod
            })
            .collect();
        json(&serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
    }

    fn find(
        &self,
        namespace: &str,
        pod: &str,
        uid: Option<&str>,
    ) -> Result<(Arc<Pod>, View), Box<Response<Body>>> {
        self.pool.find(namespace, pod, uid).ok_or_else(|| {
            no(
                StatusCode::NOT_FOUND,
                format!("pod {:?} not found", format!("{pod}_{namespace}")),
            )
        })
    }

    fn running(
        &self,
        view: &View,
        pod: &str,
        container: &str,
    ) -> Result<ObservedContainer, Box<Response<Body>>> {
        view.observed
            .container(container)
            .filter(|c| c.state == ContainerState::Running)
            .cloned()
            .ok_or_else(|| {
                no(
                    StatusCode::NOT_FOUND,
                    format!("container not found ({container:?}) in pod {pod:?}, or not running"),
                )
            })
    }

    async fn container_logs(
        &self,
        request: &Request<Incoming>,
        namespace: &str,
        name: &str,
        container: &str,
    ) -> Answer {
        let options = LogOptions::parse(&query(request.uri()), Timestamp::now())
            .map_err(|message| no(StatusCode::UNPROCESSABLE_ENTITY, message))?;
        let (pod, view) = self.find(namespace, name, None)?;
        if pod.container(container).is_none() {
            return Err(no(
                StatusCode::NOT_FOUND,
                format!("container {container:?} not found in pod {name:?}"),
            ));
        }
        let mut seen = view.observed.containers.iter().filter(|c| c.name == container);
        let newest = seen.next();
        let chosen = match (options.previous, newest) {
            (false, Some(newest)) if newest.state == ContainerState::Created => seen.next(),
            (false, newest) => newest,
            (true, Some(newest)) if newest.state != ContainerState::Exited => seen.next(),
            (true, Some(newest)) => {
                // The newest has ended and is about to be started again: it is the previous one of the status.
                let waiting = view
                    .status
                    .container_statuses
                    .iter()
                    .flatten()
                    .chain(view.status.init_container_statuses.iter().flatten())
                    .any(|s| s.name == container && s.state.as_ref().is_some_and(|s| s.waiting.is_some()));
                if waiting { Some(newest) } else { seen.next() }
            }
            (true, None) => None,
        };
        let Some(chosen) = chosen.cloned() else {
            let message = if options.previous {
                format!("previous terminated container {container:?} in pod {name:?} not found")
            } else {
                let why = view
                    .status
                    .container_statuses
                    .iter()
                    .flatten()
                    .chain(view.status.init_container_statuses.iter().flatten())
                    .find(|s| s.name == container)
                    .and_then(|s| s.state.as_ref()?.waiting.as_ref()?.reason.clone())
                    .unwrap_or_else(|| "ContainerCreating".to_owned());
                format!("container {container:?} in pod {name:?} is waiting to start: {why}")
            };
            return Err(no(StatusCode::BAD_REQUEST, message));
        };
        let path = std::path::PathBuf::from(&chosen.log_path);
        if !path.exists() {
            return Err(no(
                StatusCode::NOT_FOUND,
                format!("the log file of container {container:?} is not there"),
            ));
        }
        let (sender, receiver) = mpsc::channel(8);
        let pool = self.pool.clone();
        let uid = pod.uid();
        let id = chosen.id.clone();
        let ended = move || {
            pool.get(&uid).is_none_or(|(_, view)| {
                view.observed
                    .containers
                    .iter()
                    .find(|c| c.id == id)
                    .is_none_or(|c| c.state != ContainerState::Running)
            })
        };
        tokio::spawn(async move {
            if let Err(error) = super::logs::read(path, options, sender.clone(), ended).await {
                let _ = sender.send(Err(error)).await;
            }
        });
        let body = StreamBody::new(ReceiverStream::new(receiver).map(|r| r.map(Frame::data)));
        let mut response = Response::new(BodyExt::boxed(body));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("text/plain"),
        );
        Ok(response)
    }

    async fn exec(
        &self,
        request: Request<Incoming>,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
        container: &str,
    ) -> Answer {
        let query = query(request.uri());
        let wanted = wanted(&query);
        check_streams(wanted)?;
        let cmd: Vec<String> = query
            .into_iter()
            .filter(|(n, _)| n == "command")
            .map(|(_, v)| v)
            .collect();
        if cmd.is_empty() {
            return Err(no(
                StatusCode::BAD_REQUEST,
                "you must specify at least one command for the container",
            ));
        }
        let (_, view) = self.find(namespace, name, uid)?;
        let target = self.running(&view, name, container)?;
        let asked = ExecRequest {
            container_id: target.id,
            cmd,
            tty: wanted.tty,
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr && !wanted.tty,
        };
        let url = self.shared().cri.exec(asked).await.map_err(runtime_failed)?;
        stream(request, &url, wanted).await
    }

    async fn attach(
        &self,
        request: Request<Incoming>,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
        container: &str,
    ) -> Answer {
        let mut wanted = wanted(&query(request.uri()));
        let (pod, view) = self.find(namespace, name, uid)?;
        let target = self.running(&view, name, container)?;
        // A container has a terminal or not; the caller can't choose.
        wanted.tty = pod.container(container).is_some_and(|c| c.tty == Some(true));
        check_streams(wanted)?;
        let asked = AttachRequest {
            container_id: target.id,
            tty: wanted.tty,
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr && !wanted.tty,
        };
        let url = self.shared().cri.attach(asked).await.map_err(runtime_failed)?;
        stream(request, &url, wanted).await
    }

    async fn port_forward(
        &self,
        request: Request<Incoming>,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
    ) -> Answer {
        const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
        let (_, view) = self.find(namespace, name, uid)?;
        let sandbox = view
            .observed
            .sandboxes
            .first()
            .filter(|s| s.ready)
            .ok_or_else(|| {
                no(
                    StatusCode::NOT_FOUND,
                    format!("no sandbox of pod {name:?} is running"),
                )
            })?;
        let ports: Vec<i32> = query(request.uri())
            .iter()
            .filter(|(n, _)| n == "port" || n == "ports")
            .flat_map(|(_, v)| v.split(','))
            .filter_map(|p| p.parse().ok())
            .collect();
        let asked = PortForwardRequest {
            pod_sandbox_id: sandbox.id.clone(),
            port: ports.clone(),
        };
        let url = self
            .shared()
            .cri
            .port_forward(asked)
            .await
            .map_err(runtime_failed)?;
        if is_websocket(request.headers()) && offered(request.headers()).iter().any(|p| p == TUNNEL) {
            let answer = remote::tunnel(request, &url, TUNNEL)
                .await
                .map_err(|e| Box::new(upgrade_failed(&e)))?;
            return answer
                .ok_or_else(|| no(StatusCode::BAD_REQUEST, "the request is no WebSocket handshake"));
        }
        if is_websocket(request.headers()) || is_spdy(request.headers()) {
            let list: Vec<String> = ports.iter().map(|p| format!("port={p}")).collect();
            let url = if is_websocket(request.headers()) && !list.is_empty() {
                format!("{url}?{}", list.join("&"))
            } else {
                url
            };
            return upgrade::splice(request, &url)
                .await
                .map_err(|e| Box::new(upgrade_failed(&e)));
        }
        Err(no(StatusCode::BAD_REQUEST, "Upgrade request required"))
    }

    async fn run_command(
        &self,
        request: &Request<Incoming>,
        namespace: &str,
        name: &str,
        container: &str,
    ) -> Answer {
        if request.method() != Method::POST {
            return Err(no(StatusCode::METHOD_NOT_ALLOWED, "use POST"));
        }
        let (_, view) = self.find(namespace, name, None)?;
        let target = self.running(&view, name, container)?;
        let command = query(request.uri())
            .into_iter()
            .find(|(n, _)| n == "cmd")
            .map(|(_, v)| v)
            .unwrap_or_default();
        let cmd: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        let answer = self
            .shared()
            .cri
            .exec_sync(&target.id, cmd, Duration::ZERO)
            .await
            .map_err(runtime_failed)?;
        let output = [answer.stdout, answer.stderr].concat();
        if answer.exit_code != 0 {
            let tail = String::from_utf8_lossy(&output).into_owned();
            return Err(no(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("command exited with {}: {tail}", answer.exit_code),
            ));
        }
        Ok(text(StatusCode::OK, output))
    }
}

fn runtime_failed(error: crate::runtime::cri::CriError) -> Box<Response<Body>> {
    no(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

fn wanted(query: &[(String, String)]) -> Wanted {
    let on = |names: &[&str]| {
        query
            .iter()
            .any(|(n, v)| names.contains(&n.as_str()) && matches!(v.as_str(), "1" | "true"))
    };
    let tty = on(&["tty"]);
    Wanted {
        stdin: on(&["input", "stdin"]),
        stdout: on(&["output", "stdout"]),
        stderr: on(&["error", "stderr"]),
        tty,
    }
}

fn check_streams(wanted: Wanted) -> Result<(), Box<Response<Body>>> {
    if wanted.stdin || wanted.stdout || wanted.stderr {
        Ok(())
    } else {
        Err(no(
            StatusCode::BAD_REQUEST,
            "you must specify at least 1 of stdin, stdout, stderr",
        ))
    }
}

async fn stream(request: Request<Incoming>, url: &str, wanted: Wanted) -> Answer {
    if is_websocket(request.headers()) {
        let offers = offered(request.headers()).join(", ");
        let answer = remote::serve(request, url, wanted)
            .await
            .map_err(|e| Box::new(upgrade_failed(&e)))?;
        return answer.ok_or_else(|| {
            no(
                StatusCode::FORBIDDEN,
                format!(
                    "none of the offered protocols [{offers}] is known; these are: {}",
                    remote::protocols()
                ),
            )
        });
    }
    if is_spdy(request.headers()) {
        return upgrade::splice(request, url)
            .await
            .map_err(|e| Box::new(upgrade_failed(&e)));
    }
    Err(no(StatusCode::BAD_REQUEST, "Upgrade request required"))
}

/// A file or the list of a folder below `/var/log`, never outside of it.
async fn system_log(path: &str) -> Answer {
    let root = std::path::Path::new("/var/log");
    let full = tokio::fs::canonicalize(root.join(path))
        .await
        .map_err(|_| no(StatusCode::NOT_FOUND, "404 page not found"))?;
    let root = tokio::fs::canonicalize(root)
        .await
        .map_err(|e| no(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    if !full.starts_with(&root) {
        return Err(no(StatusCode::NOT_FOUND, "404 page not found"));
    }
    if full.is_dir() {
        let mut names: Vec<String> = Vec::new();
        let mut entries = tokio::fs::read_dir(&full)
            .await
            .map_err(|e| no(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
        while let Ok(Some(entry)) = entries.next_entry().await {
            let slash = if entry.file_type().await.is_ok_and(|t| t.is_dir()) {
                "/"
            } else {
                ""
            };
            let name = entry
                .file_name()
                .to_string_lossy()
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('"', "&quot;");
            names.push(format!("<a href=\"{name}{slash}\">{name}{slash}</a>\n"));
        }
        names.sort();
        let mut response = Response::new(full_page(&names));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("text/html; charset=utf-8"),
        );
        return Ok(response);
    }
    let file = tokio::fs::File::open(&full)
        .await
        .map_err(|e| no(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    let chunks = tokio_util::io::ReaderStream::new(file).map(|r| r.map(Frame::data));
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(chunks)));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Ok(response)
}

fn full_page(lines: &[String]) -> Body {
    full(format!("<pre>\n{}</pre>\n", lines.concat()))
}
