//! Clients under the identity of a controller's own service account.
//!
//! Tokens are asked for an hour and renewed when four fifths of it are over. A service account that is missing is made.

use crate::frame::{is_already_exists, is_not_found};
use anyhow::Context as _;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, header::AUTHORIZATION};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;

const LIFETIME_SECONDS: i64 = 3600;
const NAMESPACE: &str = "kube-system";

/// A client that acts as `kube-system/<account>`. `root` may make service accounts and their tokens; `anonymous` is a client without
/// credentials, whose connections all identities share.
pub async fn client(
    root: &kube::Client,
    anonymous: &kube::Client,
    account: &'static str,
    stop: CancellationToken,
) -> anyhow::Result<kube::Client> {
    let first = token(root, account).await?;
    let current = Arc::new(RwLock::new(header(&first)?));
    let (renewed, root) = (current.clone(), root.clone());
    tokio::spawn(async move {
        let mut pause = Duration::from_secs(LIFETIME_SECONDS as u64 * 4 / 5);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = match token(&root, account).await.and_then(|t| header(&t)) {
                Ok(value) => {
                    *renewed.write() = value;
                    Duration::from_secs(LIFETIME_SECONDS as u64 * 4 / 5)
                }
                Err(error) => {
                    tracing::warn!(
                        account,
                        "renewing a controller's token failed; trying again: {error:#}"
                    );
                    Duration::from_secs(10)
                }
            };
        }
    });
    let service = ServiceBuilder::new()
        .map_request(move |mut request: Request<kube::client::Body>| {
            request
                .headers_mut()
                .insert(AUTHORIZATION, current.read().clone());
            request
        })
        .service(Connections(anonymous.clone()));
    Ok(kube::Client::new(service, NAMESPACE))
}

/// A client as the innermost service of another one.
#[derive(Clone)]
struct Connections(kube::Client);

impl tower::Service<Request<kube::client::Body>> for Connections {
    type Response = http::Response<kube::client::Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move { client.send(request).await })
    }
}

fn header(token: &str) -> anyhow::Result<HeaderValue> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {token}")).context("the token is no header value")?;
    value.set_sensitive(true);
    Ok(value)
}

async fn token(root: &kube::Client, account: &str) -> anyhow::Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(root.clone(), NAMESPACE);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(LIFETIME_SECONDS),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let params = PostParams::default();
    let mut answer = accounts.create_token_request(account, &params, &request).await;
    if answer.as_ref().is_err_and(is_not_found) {
        let mut made = ServiceAccount::default();
        made.metadata.name = Some(account.to_owned());
        match accounts.create(&params, &made).await {
            Err(error) if !is_already_exists(&error) => {
                return Err(error).context("making a controller's service account");
            }
            _ => answer = accounts.create_token_request(account, &params, &request).await,
        }
    }
    let answer = answer.with_context(|| format!("asking for a token of {NAMESPACE}/{account}"))?;
    let token = answer.status.and_then(|s| s.token);
    token.context("the answer to a token request has no token")
}
