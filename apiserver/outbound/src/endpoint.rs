//! Where a call goes, and how both sides prove who they are.

use crate::tls::{Identity, TlsError, Trust};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use http::uri::PathAndQuery;
use rutter_api::Value;
use rutter_api::object::ObjectExt;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A Service's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceReference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The port of the Service.
    pub port: u16,
}

/// What is sent as `Authorization`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Authorization {
    /// A token.
    Bearer(String),
    /// A file with a token, which is read again when it changes.
    BearerFile(PathBuf),
    /// A user name and a password.
    Basic(String, String),
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer(..)",
            Self::BearerFile(_) => "BearerFile(..)",
            Self::Basic(..) => "Basic(..)",
        })
    }
}

/// Where a call goes, and how both sides prove who they are. Equal endpoints can share a [`crate::Caller`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Scheme, host and port; the path is what calls are made to.
    pub url: Uri,
    /// The Service behind the URL's name; without it the name is looked up.
    pub service: Option<ServiceReference>,
    /// Whose certificates are taken.
    pub trust: Trust,
    /// Our certificate.
    pub identity: Option<Identity>,
    /// What we send as `Authorization`.
    pub authorization: Option<Authorization>,
    /// The name that the certificate must have, when that is not the URL's.
    pub server_name: Option<String>,
    /// Whether HTTP/2 is offered. One such connection carries all calls to one of several servers behind an address, so
    /// webhooks don't.
    pub http2: bool,
}

/// Why something is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The URL cannot be used.
    #[error("invalid URL {url:?}: {why}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Neither a URL nor a Service is given.
    #[error("either url or service is required")]
    Nothing,
    /// The CA bundle is no base64.
    #[error("caBundle is not valid base64")]
    Bundle(#[source] base64::DecodeError),
    /// Certificates or keys cannot be used.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// A kubeconfig file cannot be used.
    #[error("kubeconfig {file:?} cannot be used: {why}")]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Endpoint {
    /// The endpoint of an `https` URL.
    pub fn url(url: &str, trust: Trust) -> Result<Self, EndpointError> {
        let bad = |why: &str| EndpointError::Url {
            url: url.to_owned(),
            why: why.to_owned(),
        };
        let parsed: Uri = url
            .parse()
            .map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
        if parsed.host().is_none() {
            return Err(bad("it names no host"));
        }
        if !matches!(parsed.scheme_str(), Some("https" | "http")) {
            return Err(bad("its scheme is not https"));
        }
        Ok(Self {
            url: parsed,
            service: None,
            trust,
            identity: None,
            authorization: None,
            server_name: None,
            http2: false,
        })
    }

    /// The endpoint of a Service: `https://<name>.<namespace>.svc:<port><path>`.
    pub fn service(service: ServiceReference, path: &str, trust: Trust) -> Result<Self, EndpointError> {
        let slash = if path.starts_with('/') || path.is_empty() {
            ""
        } else {
            "/"
        };
        let url = format!(
            "https://{}.{}.svc:{}{slash}{path}",
            service.name, service.namespace, service.port
        );
        let mut endpoint = Self::url(&url, trust)?;
        endpoint.service = Some(service);
        Ok(endpoint)
    }

    /// The endpoint of a `clientConfig`, as webhook configurations and conversions have it: `url` or `service`, and `caBundle`.
    pub fn of_client_config(config: &Value) -> Result<Self, EndpointError> {
        let trust = match config.str_at("caBundle") {
            "" => Trust::System,
            bundle => {
                let pem = STANDARD.decode(bundle).map_err(EndpointError::Bundle)?;
                Trust::Authorities(Arc::from(pem))
            }
        };
        let service = config.at("service");
        if service.is_object() {
            let port = service.int_at("port").and_then(|port| u16::try_from(port).ok());
            let reference = ServiceReference {
                namespace: service.str_at("namespace").to_owned(),
                name: service.str_at("name").to_owned(),
                port: port.unwrap_or(443),
            };
            return Self::service(reference, service.str_at("path"), trust);
        }
        match config.str_at("url") {
            "" => Err(EndpointError::Nothing),
            url => Self::url(url, trust),
        }
    }

    /// The URL of a call: the endpoint's path, then `path` (with its slash, or empty), then `query`.
    pub fn join(&self, path: &str, query: &str) -> Result<Uri, EndpointError> {
        let base = match (self.url.path(), path) {
            (base, "") => base,
            (base, _) => base.trim_end_matches('/'),
        };
        let mut text = format!("{base}{path}");
        if text.is_empty() {
            text.push('/');
        }
        let own = self.url.query().unwrap_or_default();
        for (part, mark) in [(own, '?'), (query, if own.is_empty() { '?' } else { '&' })] {
            if !part.is_empty() {
                text.push(mark);
                text.push_str(part);
            }
        }
        let bad = |why: String| EndpointError::Url {
            url: text.clone(),
            why,
        };
        let target: PathAndQuery = text
            .parse()
            .map_err(|error: http::uri::InvalidUri| bad(error.to_string()))?;
        let mut parts = self.url.clone().into_parts();
        parts.path_and_query = Some(target);
        Uri::from_parts(parts).map_err(|error| bad(error.to_string()))
    }
}
