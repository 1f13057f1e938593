//! What every binary does first and last: logging, signals, and the HTTPS server with health, metrics and version.
//!
//! `/healthz`, `/livez` and `/readyz` answer anybody; everything else asks the apiserver who the caller is (TokenReview, or a client
//! certificate of the cluster's CA) and whether they may (SubjectAccessReview), as upstream's components do.

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// The version of Kubernetes whose API this is.
pub const KUBERNETES_VERSION: &str = "v1.36.0";

/// Logging flags.
#[derive(Clone, Debug, clap::Args)]
pub struct LogArgs {
    /// How much is logged: 0 to 1 warnings and news, 2 to 3 more news, 4 to 5 debugging, 6 and above everything. `RUST_LOG` overrides it.
    #[arg(short, long, value_name = "LEVEL", default_value_t = 2)]
    pub v: u8,
    /// `text` or `json`.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub logging_format: String,
}

type Reloader = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;
static RELOADER: OnceLock<Reloader> = OnceLock::new();

fn level(v: u8) -> &'static str {
    match v {
        0..=3 => "info",
        4..=5 => "debug",
        _ => "trace",
    }
}

/// Starts logging to standard error. The first call counts.
pub fn init_logging(args: &LogArgs) {
    crate::panics::install();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(format!(
            "{},h2=info,hyper=info,rustls=info,tower=info",
            level(args.v)
        ))
    });
    let (filter, handle) = reload::Layer::new(filter);
    let registry = Registry::default().with(filter);
    let started = if args.logging_format == "json" {
        registry
            .with(fmt::layer().json().with_writer(std::io::stderr))
            .try_init()
    } else {
        registry
            .with(fmt::layer().with_writer(std::io::stderr).with_ansi(false))
            .try_init()
    };
    if started.is_ok() {
        let _ = RELOADER.set(Box::new(move |text| {
            let filter = EnvFilter::try_new(text).map_err(|e| e.to_string())?;
            handle.reload(filter).map_err(|e| e.to_string())
        }));
    }
}

/// Changes what is logged while running: a number as for `-v`, or a filter such as `info,rutter_proxy=debug`.
pub fn set_log_level(text: &str) -> Result<(), String> {
    let text = text.trim();
    let filter = text
        .parse::<u8>()
        .map_or_else(|_| text.to_owned(), |v| level(v).to_owned());
    match RELOADER.get() {
        Some(reload) => reload(&filter),
        None => Err("logging was not started by this process".to_owned()),
    }
}

/// A token that is cancelled by the first SIGTERM or SIGINT; the second one ends the process at once.
pub fn shutdown_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::error!("signals can't be caught; only SIGKILL will end this process");
            return;
        };
        for second in [false, true] {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            if second {
                std::process::exit(1);
            }
            stop.cancel();
        }
    });
    token
}

/// Flags of the component's own HTTPS server.
#[derive(Clone, Debug, clap::Args)]
pub struct ServingArgs {
    /// The address to serve health and metrics on.
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// The certificate to serve with; without one, a self-signed one is made in memory.
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// The certificate's key.
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Paths that anybody may get without authorization, besides none.
    #[arg(
        long,
        value_name = "PATH,...",
        value_delimiter = ',',
        default_value = "/healthz,/readyz,/livez"
    )]
    pub authorization_always_allow_paths: Vec<String>,
}

type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Named checks behind `/healthz`, `/livez` and `/readyz`.
#[derive(Clone, Default)]
pub struct Health {
    ready: Arc<Mutex<Vec<(String, Check)>>>,
    live: Arc<Mutex<Vec<(String, Check)>>>,
}

impl Health {
    /// Health with no checks, which is good.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check to `/readyz`.
    pub fn add_ready(&self, name: &str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.ready.lock().push((name.to_owned(), Arc::new(check)));
    }

    /// Adds a check to `/livez`, `/healthz` and `/readyz`.
    pub fn add_live(&self, name: &str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        let check: Check = Arc::new(check);
        self.live.lock().push((name.to_owned(), check.clone()));
        self.ready.lock().push((name.to_owned(), check));
    }

    /// A flag that `/readyz` waits for.
    pub fn ready_flag(&self, name: &str) -> Arc<AtomicBool> {
        let flag = Arc::new(AtomicBool::new(false));
        let seen = flag.clone();
        self.add_ready(name, move || {
            if seen.load(Ordering::Acquire) {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        });
        flag
    }

    fn answer(checks: &[(String, Check)], path: &str, verbose: bool) -> (StatusCode, String) {
        let (mut text, mut failed) = (String::from("[+]ping ok\n"), false);
        for (name, check) in checks {
            match check() {
                Ok(()) => text.push_str(&format!("[+]{name} ok\n")),
                Err(why) => {
                    failed = true;
                    text.push_str(&format!("[-]{name} failed: {why}\n"));
                }
            }
        }
        let path = path.trim_start_matches('/');
        match (failed, verbose) {
            (true, _) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("{text}{path} check failed\n"),
            ),
            (false, true) => (StatusCode::OK, format!("{text}{path} check passed\n")),
            (false, false) => (StatusCode::OK, "ok".to_owned()),
        }
    }
}

/// Whether callers are let in: asks the apiserver.
#[derive(Clone)]
struct Gate {
    client: Option<kube::Client>,
    always: Arc<Vec<String>>,
}

impl Gate {
    async fn check(&self, method: &str, path: &str, headers: &HeaderMap) -> Result<(), (StatusCode, String)> {
        if self
            .always
            .iter()
            .any(|p| p == path || p.strip_suffix('*').is_some_and(|start| path.starts_with(start)))
        {
            return Ok(());
        }
        let denied = |code, text: &str| Err((code, text.to_owned()));
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.strip_prefix("Bearer "))
            .map(str::trim);
        let (Some(client), Some(token)) = (&self.client, token) else {
            return denied(StatusCode::UNAUTHORIZED, "Unauthorized");
        };
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: None,
            },
            ..TokenReview::default()
        };
        let failed = |error: kube::Error| {
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("asking the apiserver: {error}"),
            )
        };
        let review = Api::all(client.clone())
            .create(&PostParams::default(), &review)
            .await
            .map_err(failed)?;
        let Some(user) = review
            .status
            .filter(|s| s.authenticated == Some(true))
            .and_then(|s| s.user)
        else {
            return denied(StatusCode::UNAUTHORIZED, "Unauthorized");
        };
        let access = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username.clone(),
                uid: user.uid,
                groups: user.groups,
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some(path.to_owned()),
                    verb: Some(method.to_ascii_lowercase()),
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let access = Api::all(client.clone())
            .create(&PostParams::default(), &access)
            .await
            .map_err(failed)?;
        if access.status.is_some_and(|s| s.allowed) {
            return Ok(());
        }
        let user = user.username.unwrap_or_default();
        denied(
            StatusCode::FORBIDDEN,
            &format!(
                "Forbidden (user={user}, verb={}, path={path})",
                method.to_ascii_lowercase()
            ),
        )
    }
}

async fn gate(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    match gate
        .check(request.method().as_str(), request.uri().path(), request.headers())
        .await
    {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

fn routes(health: Health) -> Router {
    let checks = move |ready: bool| {
        let health = health.clone();
        get(move |request: Request| async move {
            let checks = if ready {
                health.ready.lock().clone()
            } else {
                health.live.lock().clone()
            };
            let verbose = request
                .uri()
                .query()
                .is_some_and(|q| q.split('&').any(|p| p == "verbose" || p.starts_with("verbose=")));
            Health::answer(&checks, request.uri().path(), verbose)
        })
    };
    Router::new()
        .route("/healthz", checks(false))
        .route("/livez", checks(false))
        .route("/readyz", checks(true))
        .route(
            "/metrics",
            get(|| async {
                (
                    [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
                    metrics_text(),
                )
            }),
        )
        .route("/version", get(|| async { axum::Json(version()) }))
        .route(
            "/debug/flags/v",
            put(|body: String| async move {
                match set_log_level(&body) {
                    Ok(()) => (
                        StatusCode::OK,
                        format!("successfully set -v to {}\n", body.trim()),
                    ),
                    Err(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")),
                }
            }),
        )
}

/// All metrics of the process's default registry, in the text format.
pub fn metrics_text() -> String {
    prometheus::TextEncoder::new()
        .encode_to_string(&prometheus::gather())
        .unwrap_or_default()
}

/// The document of `/version` (`version.Info` of Kubernetes' apimachinery, whose nine first fields clients require). What a build isn't told
/// by the environment variables `RUTTER_GIT_COMMIT` and `RUTTER_BUILD_DATE` (RFC 3339) has the values of Kubernetes' own unstamped builds.
pub fn version() -> serde_json::Value {
    serde_json::json!({
        "major": "1",
        "minor": "36",
        "gitVersion": format!("{KUBERNETES_VERSION}+rutter.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": option_env!("RUTTER_GIT_COMMIT").unwrap_or_default(),
        "gitTreeState": "clean",
        "buildDate": option_env!("RUTTER_BUILD_DATE").unwrap_or("1970-01-01T00:00:00Z"),
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("linux/{}", go_arch()),
    })
}

/// This machine's architecture as Kubernetes names it.
pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The text of `--version`: Kubernetes' version, then ours.
pub fn version_text() -> &'static str {
    concat!("v1.36.0 (Rutter ", env!("CARGO_PKG_VERSION"), ")")
}

/// Serves health, metrics and version over HTTPS on `port` until `stop`; 0 serves nothing. `client` asks the apiserver about callers.
///
/// # Errors
/// When the address can't be bound or the certificate can't be read.
pub async fn serve(
    args: &ServingArgs,
    port: u16,
    health: Health,
    client: Option<kube::Client>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    if port == 0 {
        return Ok(());
    }
    let acceptor = TlsAcceptor::from(Arc::new(tls_config(
        args.tls_cert_file.as_deref(),
        args.tls_private_key_file.as_deref(),
    )?));
    let address = SocketAddr::new(args.bind_address, port);
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("listening on {address} for health and metrics"))?;
    let guard = Gate {
        client,
        always: Arc::new(args.authorization_always_allow_paths.clone()),
    };
    let router = routes(health).layer(axum::middleware::from_fn_with_state(guard, gate));
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors, mostly: give others time to close some.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let Ok(Ok(stream)) =
                    tokio::time::timeout(std::time::Duration::from_secs(10), acceptor.accept(stream)).await
                else {
                    return;
                };
                let service = hyper_util::service::TowerToHyperService::new(router);
                let builder =
                    hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                let _ = builder
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(())
}

fn tls_config(cert: Option<&Path>, key: Option<&Path>) -> anyhow::Result<rustls::ServerConfig> {
    crate::connect::install_crypto_provider();
    let (chain, key) = match (cert, key) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .with_context(|| format!("reading the certificate {}", cert.display()))?;
            let key = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("reading the key {}", key.display()))?;
            (chain, key)
        }
        _ => {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
                .context("making a certificate")?;
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
                .map_err(|why| anyhow::anyhow!("making a certificate: {why}"))?;
            (vec![made.cert.der().clone()], key)
        }
    };
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate and its key don't fit")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_check_is_named_and_turns_the_answer_red() {
        let health = Health::new();
        let flag = health.ready_flag("caches");
        let answer = |verbose| Health::answer(&health.ready.lock(), "/readyz", verbose);
        let (code, text) = answer(false);
        assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(
            text.contains("[-]caches failed: not yet") && text.ends_with("readyz check failed\n"),
            "{text}"
        );
        flag.store(true, Ordering::Release);
        assert_eq!(answer(false), (StatusCode::OK, "ok".to_owned()));
        assert!(answer(true).1.ends_with("readyz check passed\n"));
    }

    #[tokio::test]
    async fn paths_that_are_not_open_need_a_token() {
        let gate = Gate {
            client: None,
            always: Arc::new(vec!["/healthz".to_owned(), "/open/*".to_owned()]),
        };
        for (path, want) in [
            ("/healthz", None),
            ("/open/x", None),
            ("/metrics", Some(StatusCode::UNAUTHORIZED)),
        ] {
            let got = gate
                .check("GET", path, &HeaderMap::new())
                .await
                .err()
                .map(|e| e.0);
            assert_eq!(got, want, "{path}");
        }
    }
}
