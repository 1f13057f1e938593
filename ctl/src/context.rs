//! What commands share: global flags, the configuration, the connection and discovery, each made when first needed.

use crate::cli::Values;
use crate::discovery::Discovery;
use crate::error::{Error, Result};
use crate::kubeconfig::{self, Effective, Kubeconfig, Overrides};
use crate::request_log::RequestLog;
use crate::rest::Rest;
use serde_json::{Map, json};
use std::rc::Rc;
use tokio::sync::OnceCell;

/// The context of one run.
#[derive(Default)]
pub struct Ctx {
    flags: Values,
    rest: OnceCell<Rc<Rest>>,
    discovery: OnceCell<Rc<Discovery>>,
    effective: std::cell::OnceCell<Effective>,
    openapi: OnceCell<Rc<crate::openapi::OpenApi>>,
}

impl Ctx {
    /// With the values of the global flags.
    pub fn new(flags: Values) -> Self {
        Self {
            flags,
            ..Self::default()
        }
    }

    /// The global flags.
    pub fn flags(&self) -> &Values {
        &self.flags
    }

    /// The merged kubeconfig files.
    pub fn kubeconfig(&self) -> Result<Kubeconfig> {
        kubeconfig::load(self.flags.given("kubeconfig"))
    }

    /// As [`Ctx::kubeconfig`], empty if the file that `--kubeconfig` names isn't there yet.
    pub fn kubeconfig_or_empty(&self) -> Result<Kubeconfig> {
        match self.flags.given("kubeconfig") {
            Some(path) if !std::path::Path::new(path).exists() => Ok(Kubeconfig::default()),
            _ => self.kubeconfig(),
        }
    }

    /// Flags that override the kubeconfig.
    pub fn overrides(&self) -> Overrides {
        let f = &self.flags;
        let mut cluster = Map::new();
        let mut user = Map::new();
        for (flag, key) in [
            ("server", "server"),
            ("certificate-authority", "certificate-authority"),
            ("tls-server-name", "tls-server-name"),
        ] {
            if let Some(v) = f.given(flag).filter(|v| !v.is_empty()) {
                let v = if flag == "server" && !v.contains("://") {
                    format!("http://{v}")
                } else {
                    v.to_owned()
                };
                cluster.insert(key.to_owned(), json!(v));
            }
        }
        if f.opt_bool("insecure-skip-tls-verify") {
            cluster.insert("insecure-skip-tls-verify".to_owned(), json!(true));
        }
        if f.opt_bool("disable-compression") {
            cluster.insert("disable-compression".to_owned(), json!(true));
        }
        for key in [
            "client-certificate",
            "client-key",
            "token",
            "username",
            "password",
            "as",
            "as-uid",
        ] {
            if let Some(v) = f.given(key).filter(|v| !v.is_empty()) {
                user.insert(key.to_owned(), json!(v));
            }
        }
        if f.changed("as-group") {
            user.insert("as-groups".to_owned(), json!(f.list("as-group")));
        }
        if f.changed("as-user-extra") {
            let mut extra: Map<String, serde_json::Value> = Map::new();
            for pair in f.list("as-user-extra") {
                let (key, value) = pair.split_once('=').unwrap_or((&pair, ""));
                if let Some(list) = extra.entry(key).or_insert_with(|| json!([])).as_array_mut() {
                    list.push(json!(value));
                }
            }
            user.insert("as-user-extra".to_owned(), json!(extra));
        }
        let text = |name: &str| f.given(name).unwrap_or("").to_owned();
        Overrides {
            context: text("context"),
            cluster: text("cluster"),
            user: text("user"),
            namespace: text("namespace"),
            cluster_fields: cluster,
            user_fields: user,
        }
    }

    /// The connection's description.
    pub fn effective(&self) -> Result<&Effective> {
        if let Some(e) = self.effective.get() {
            return Ok(e);
        }
        let e = kubeconfig::effective(&self.kubeconfig()?, &self.overrides())?;
        Ok(self.effective.get_or_init(|| e))
    }

    /// The namespace of the call.
    pub fn namespace(&self) -> Result<String> {
        Ok(self.effective()?.namespace.clone())
    }

    /// Whether `--namespace` was given.
    pub fn explicit_namespace(&self) -> bool {
        self.flags.given("namespace").is_some_and(|n| !n.is_empty())
    }

    /// The connection.
    pub async fn rest(&self) -> Result<Rc<Rest>> {
        self.rest
            .get_or_try_init(|| async {
                let timeout = request_timeout(self.flags.opt("request-timeout").unwrap_or("0"))?;
                let rest = Rest::connect(
                    self.effective()?,
                    timeout,
                    self.flags.opt_bool("warnings-as-errors"),
                    RequestLog::new(self.flags.opt("v").and_then(|v| v.parse().ok()).unwrap_or(0)),
                )
                .await?;
                if self.flags.opt_bool("match-server-version") {
                    rest.match_version().await?;
                }
                Ok(Rc::new(rest))
            })
            .await
            .cloned()
    }

    /// Called when the command is done.
    pub fn finish(&self) -> Result<()> {
        self.rest.get().map_or(Ok(()), |r| r.check_warnings())
    }

    /// What the server serves.
    pub async fn discovery(&self) -> Result<Rc<Discovery>> {
        self.discovery
            .get_or_try_init(|| async { Ok(Rc::new(Discovery::fetch(&*self.rest().await?).await?)) })
            .await
            .cloned()
    }

    /// What the server says about its types.
    pub async fn openapi(&self) -> Result<Rc<crate::openapi::OpenApi>> {
        self.openapi
            .get_or_try_init(|| async {
                Ok(Rc::new(crate::openapi::OpenApi::new(self.rest().await?).await?))
            })
            .await
            .cloned()
    }
}

/// `--request-timeout`: a duration, or seconds; 0 is none.
fn request_timeout(text: &str) -> Result<Option<std::time::Duration>> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Some(std::time::Duration::from_secs(seconds)));
    }
    match crate::duration::parse(text) {
        Ok(0) => Ok(None),
        Ok(n) => Ok(Some(std::time::Duration::from_nanos(
            u64::try_from(n).unwrap_or(0),
        ))),
        Err(_) => Err(Error::new(
            "Invalid timeout value. Timeout must be a single integer in seconds, or an integer followed by a corresponding time unit (e.g. 1s | 2m | 3h)",
        )),
    }
}
