//! `proxy`: the API on a port of this machine, with this user's rights.

use crate::cli::{Call, Command, bool, int, text};
use crate::error::{Error, Result, io_text};
use crate::rest::Rest;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use regex::Regex;
use std::rc::Rc;

/// The command.
pub static COMMAND: Command = Command {
    name: "proxy",
    short: "Run a proxy to the Kubernetes API server",
    long: "Creates a proxy server or application-level gateway between localhost and the Kubernetes API server. It also allows serving static content over specified HTTP path. All incoming data enters through one port and gets forwarded to the remote Kubernetes API server port, except for the path matching the static content path.",
    examples: "
        # The whole API on port 8001
        {} proxy

        # Beside files of one's own
        {} proxy --port=8011 --www=./local/www/",
    usage: "[--port=PORT] [--www=static-dir] [--www-prefix=prefix] [--api-prefix=prefix]",
    flags: &[&[
        text(
            "accept-hosts",
            r"^localhost$,^127\.0\.0\.1$,^\[::1\]$",
            "Regular expression for hosts that the proxy should accept.",
        ),
        text(
            "accept-paths",
            "^.*",
            "Regular expression for paths that the proxy should accept.",
        ),
        text("address", "127.0.0.1", "The IP address on which to serve on."),
        text("api-prefix", "/", "Prefix to serve the proxied API under."),
        bool(
            "disable-filter",
            "If true, disable request filtering in the proxy. This is dangerous, and can leave you vulnerable to XSRF attacks, when used with an accessible port.",
        ),
        int(
            "port",
            "8001",
            "The port on which to run the proxy. Set to 0 to pick a random port.",
        )
        .short('p'),
        text(
            "reject-methods",
            "^$",
            "Regular expression for HTTP methods that the proxy should reject (example --reject-methods='POST,PUT,PATCH').",
        ),
        text(
            "reject-paths",
            "^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach",
            "Regular expression for paths that the proxy should reject. Paths specified here will be rejected even accepted by --accept-paths.",
        ),
        text("unix-socket", "", "Unix socket on which to run the proxy.").short('u'),
        text(
            "www",
            "",
            "Also serve static files from the given directory under the specified prefix.",
        )
        .short('w'),
        text(
            "www-prefix",
            "/static/",
            "Prefix to serve static files under, if static file directory is specified.",
        )
        .short('P'),
    ]],
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

/// What is let through.
struct Filter {
    hosts: Vec<Regex>,
    paths: Vec<Regex>,
    not_paths: Vec<Regex>,
    not_methods: Vec<Regex>,
    off: bool,
}

fn expressions(text: &str) -> Result<Vec<Regex>> {
    text.split(',')
        .map(|e| Regex::new(e).map_err(|x| Error::new(format!("error parsing regexp {e}: {x}"))))
        .collect()
}

impl Filter {
    fn accepts(&self, method: &str, path: &str, host: &str) -> bool {
        let any = |list: &[Regex], text: &str| list.iter().any(|r| r.is_match(text));
        let host = match host.rsplit_once(':') {
            Some((h, port)) if port.bytes().all(|b| b.is_ascii_digit()) => h,
            _ => host,
        };
        self.off
            || (!any(&self.not_paths, path)
                && !any(&self.not_methods, method)
                && any(&self.paths, path)
                && any(&self.hosts, host))
    }
}

struct Proxy {
    rest: Rc<Rest>,
    filter: Filter,
    prefix: String,
    www: Option<(String, std::path::PathBuf)>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut r = Response::new(
        Full::new(text.into())
            .map_err(|never| match never {})
            .boxed_unsync(),
    );
    *r.status_mut() = status;
    r
}

impl Proxy {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        if let Some((prefix, directory)) = &self.www
            && let Some(rest) = path.strip_prefix(prefix.as_str())
        {
            return file(directory, rest);
        }
        let host = request
            .headers()
            .get(header::HOST)
            .and_then(|h| h.to_str().ok())
            .unwrap_or("")
            .to_owned();
        if !self.filter.accepts(request.method().as_str(), &path, &host) {
            return plain(StatusCode::FORBIDDEN, "Forbidden\n");
        }
        let whole = request
            .uri()
            .path_and_query()
            .map_or("/", |p| p.as_str())
            .to_owned();
        let Some(target) = whole
            .strip_prefix(self.prefix.trim_end_matches('/'))
            .map(str::to_owned)
        else {
            return plain(StatusCode::NOT_FOUND, "404 page not found\n");
        };
        self.forward(request, &target).await
    }

    async fn forward(&self, mut request: Request<Incoming>, target: &str) -> Answer {
        let upgrade = request.headers().get(header::UPGRADE).is_some();
        let on_client = upgrade.then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let mut out = Request::builder().method(parts.method).uri(target);
        for (name, value) in &parts.headers {
            let hop = [header::HOST, header::AUTHORIZATION, header::TRANSFER_ENCODING].contains(name)
                || (!upgrade && [header::CONNECTION, header::UPGRADE].contains(name));
            if !hop {
                out = out.header(name, value);
            }
        }
        // Requests are small; answers may be endless and are passed on as they come.
        let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            return plain(StatusCode::BAD_REQUEST, "the request broke off\n");
        };
        let Ok(out) = out.body(Body::from(body)) else {
            return plain(StatusCode::BAD_REQUEST, "bad request\n");
        };
        let mut response = match self.rest.send_any(out).await {
            Ok(r) => r,
            Err(e) => return plain(StatusCode::BAD_GATEWAY, format!("{}\n", e.message())),
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(client) = on_client
        {
            let server = hyper::upgrade::on(&mut response);
            tokio::task::spawn_local(async move {
                if let (Ok(a), Ok(b)) = (client.await, server.await) {
                    rutter_client::splice::splice(TokioIo::new(a), TokioIo::new(b)).await;
                }
            });
        }
        let (mut parts, body) = response.into_parts();
        parts.headers.remove(header::TRANSFER_ENCODING);
        Response::from_parts(
            parts,
            body.map_err(|e| -> Box<dyn std::error::Error + Send + Sync> { e.to_string().into() })
                .boxed_unsync(),
        )
    }
}

fn file(directory: &std::path::Path, rest: &str) -> Answer {
    let inside = std::path::Path::new(rest.trim_start_matches('/'));
    if inside
        .components()
        .any(|c| !matches!(c, std::path::Component::Normal(_)))
    {
        return plain(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    let mut path = directory.join(inside);
    if path.is_dir() {
        path = path.join("index.html");
    }
    match std::fs::read(&path) {
        Ok(bytes) => plain(StatusCode::OK, bytes),
        Err(_) => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

async fn run(call: Call) -> Result<()> {
    let filter = Filter {
        hosts: expressions(call.str("accept-hosts"))?,
        paths: expressions(call.str("accept-paths"))?,
        not_paths: expressions(call.str("reject-paths"))?,
        not_methods: expressions(call.str("reject-methods"))?,
        off: call.bool("disable-filter"),
    };
    if filter.off {
        crate::errln!(
            "Request filter disabled, your proxy is vulnerable to XSRF attacks, please be cautious"
        );
    }
    let slash = |p: &str| format!("/{}/", p.trim_matches('/')).replace("//", "/");
    let www = (!call.str("www").is_empty()).then(|| {
        (
            slash(call.str("www-prefix")),
            std::path::PathBuf::from(call.str("www")),
        )
    });
    let proxy = Rc::new(Proxy {
        rest: call.ctx.rest().await?,
        filter,
        prefix: slash(call.str("api-prefix")),
        www,
    });
    let socket = call.str("unix-socket");
    if !socket.is_empty() {
        if call.changed("port") {
            return Err(Error::new("cannot set --unix-socket and --port at the same time"));
        }
        let listener = tokio::net::UnixListener::bind(socket).map_err(|e| Error::new(io_text(&e)))?;
        crate::outln!("Starting to serve on {socket}");
        loop {
            let (stream, _) = listener.accept().await?;
            serve(proxy.clone(), stream);
        }
    }
    let port = u16::try_from(call.flags.int("port")).map_err(|_| Error::new("invalid port"))?;
    let address = format!("{}:{port}", call.str("address"));
    let listener = tokio::net::TcpListener::bind(&address)
        .await
        .map_err(|e| Error::new(format!("listen tcp {address}: bind: {}", io_text(&e))))?;
    crate::outln!("Starting to serve on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        serve(proxy.clone(), stream);
    }
}

fn serve<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static + Send>(
    proxy: Rc<Proxy>,
    stream: S,
) {
    tokio::task::spawn_local(async move {
        let service = hyper::service::service_fn(move |request| {
            let proxy = proxy.clone();
            async move { Ok::<_, std::convert::Infallible>(proxy.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        // A client that breaks off is its own business.
        let _ = connection.await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_hosts_and_harmless_paths_are_let_through() {
        let filter = Filter {
            hosts: expressions(r"^localhost$,^127\.0\.0\.1$,^\[::1\]$").unwrap(),
            paths: expressions("^.*").unwrap(),
            not_paths: expressions("^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach").unwrap(),
            not_methods: expressions("^$").unwrap(),
            off: false,
        };
        assert!(filter.accepts("GET", "/api/v1/pods", "localhost:8001"));
        assert!(filter.accepts("GET", "/api/v1/pods", "[::1]:8001"));
        assert!(!filter.accepts("GET", "/api/v1/pods", "evil.example.com"));
        assert!(!filter.accepts("POST", "/api/v1/namespaces/a/pods/b/exec", "localhost"));
    }
}
