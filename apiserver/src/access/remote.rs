//! The network behind authenticators and authorizers: webhooks and issuers over [`rutter_outbound`].

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request};
use rutter_auth::authenticate::oidc::Fetch;
use rutter_auth::remote::{Remote, RemoteError};
use rutter_outbound::tls::Trust;
use rutter_outbound::{Authorization, Caller, Endpoint, Failure, Outbound, body, endpoint_of_kubeconfig};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How large an answer may be.
const LARGEST: usize = 1 << 20;
/// How long an issuer may take.
const ISSUER: Duration = Duration::from_secs(30);

/// A webhook that a kubeconfig file describes.
struct Webhook(Caller);

/// The webhook of a kubeconfig file.
pub fn webhook(outbound: &Outbound, file: &Path) -> anyhow::Result<Arc<dyn Remote>> {
    let endpoint = endpoint_of_kubeconfig(file)?;
    let caller = outbound.caller(endpoint);
    let caller = caller.with_context(|| format!("cannot use {}", file.display()))?;
    Ok(Arc::new(Webhook(caller)))
}

#[async_trait]
impl Remote for Webhook {
    async fn ask(&self, question: Bytes, timeout: Duration) -> Result<Bytes, RemoteError> {
        let answer = self.0.post_json("", question, timeout, LARGEST).await;
        answer.map_err(|error| RemoteError {
            again: matches!(
                error.failure,
                Failure::Status(429 | 500.., _)
                    | Failure::Told(429 | 500.., _)
                    | Failure::Broken(_)
                    | Failure::Connect(_)
            ),
            text: error.to_string(),
        })
    }
}

/// Issuers' documents.
pub struct Issuers {
    outbound: Outbound,
    trust: Trust,
}

impl Issuers {
    /// Issuers whose servers these authorities (PEM) vouch for; the machine's when empty.
    pub fn new(outbound: Outbound, authorities: &str) -> Self {
        let trust = match authorities {
            "" => Trust::System,
            pem => Trust::Authorities(Arc::from(pem.as_bytes())),
        };
        Self { outbound, trust }
    }

    async fn fetch(&self, url: &str, token: Option<&str>) -> Result<Bytes, String> {
        let failed = |why: &dyn std::fmt::Display| format!("Get {url:?}: {why}");
        let mut endpoint = Endpoint::url(url, self.trust.clone()).map_err(|error| failed(&error))?;
        endpoint.authorization = token.map(|token| Authorization::Bearer(token.to_owned()));
        let caller = self.outbound.caller(endpoint).map_err(|error| failed(&error))?;
        let mut request = Request::new(body::empty());
        *request.method_mut() = Method::GET;
        let response = caller.request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let bytes = body::read(response.into_body(), LARGEST)
            .await
            .map_err(|error| failed(&error))?;
        if status.is_success() {
            Ok(bytes)
        } else {
            let text: String = String::from_utf8_lossy(&bytes).chars().take(256).collect();
            Err(failed(&format_args!("{status}: {text}")))
        }
    }
}

#[async_trait]
impl Fetch for Issuers {
    async fn get(&self, url: &str, token: Option<&str>) -> Result<Bytes, String> {
        match tokio::time::timeout(ISSUER, self.fetch(url, token)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(format!("Get {url:?}: context deadline exceeded")),
        }
    }
}
