//! Records to a webhook: lists of them, posted to the endpoint of a kubeconfig file, and again after failures that may pass.

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use rutter_api::Value;
use rutter_audit::backend::Deliver;
use rutter_outbound::{Caller, Failure, Outbound, endpoint_of_kubeconfig};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How large an answer may be; nothing in it is of interest.
const LARGEST: usize = 64 * 1024;
/// How often a delivery is tried, and how much longer each pause is than the one before.
const ATTEMPTS: u32 = 5;
const FACTOR: f64 = 1.5;
const JITTER: f64 = 0.2;

/// The webhook.
pub(super) struct Webhook {
    caller: Caller,
    /// The first pause.
    backoff: Duration,
}

impl Webhook {
    /// The webhook of a kubeconfig file.
    pub(super) fn open(outbound: &Outbound, file: &Path, backoff: Duration) -> anyhow::Result<Self> {
        let caller = outbound.caller(endpoint_of_kubeconfig(file)?);
        let caller = caller.with_context(|| format!("cannot use {}", file.display()))?;
        Ok(Self { caller, backoff })
    }
}

#[async_trait]
impl Deliver for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    async fn deliver(&self, records: &[Arc<Value>]) -> Result<(), String> {
        let body = list(records);
        let mut pause = self.backoff;
        for attempt in 1.. {
            let posted = self.caller.post_json("", body.clone(), TIMEOUT, LARGEST).await;
            let Err(error) = posted else { break };
            if attempt == ATTEMPTS || !may_pass(&error.failure) {
                return Err(error.to_string());
            }
            tracing::debug!(%error, attempt, "the audit webhook did not take records; they are sent again");
            tokio::time::sleep(pause.mul_f64(1.0 + JITTER * rand::random::<f64>())).await;
            pause = pause.mul_f64(FACTOR);
        }
        Ok(())
    }
}

/// `EventList` of `audit.k8s.io/v1`.
fn list(records: &[Arc<Value>]) -> Bytes {
    let mut body =
        b"{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":{},\"items\":[".to_vec();
    for (at, record) in records.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&rutter_api::codec::json::to_vec(record));
    }
    body.extend_from_slice(b"]}\n");
    body.into()
}

/// Whether a failure may be over at the next attempt.
fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::Status(code, _) | Failure::Told(code, _) => *code == 429 || *code >= 500,
        Failure::Resolve(_) | Failure::Connect(_) | Failure::Timeout | Failure::Broken(_) => true,
        Failure::Tls(_) | Failure::TooLarge(_) => false,
    }
}
