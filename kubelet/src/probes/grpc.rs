//! gRPC health probes: `grpc.health.v1.Health/Check`, by hand, since it is one message with one field each way.

use super::tracker::Verdict;
use std::time::Duration;
use tonic::transport::Endpoint;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

/// Asks a server whether a service is serving.
pub(crate) async fn probe(host: &str, port: i32, service: &str, limit: Duration) -> Verdict {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let address = format!("http://{host}:{port}");
    match tokio::time::timeout(limit, check(&address, service)).await {
        Ok(Ok(SERVING)) => Verdict::Success,
        Ok(Ok(_)) => Verdict::Failure(format!(
            "service unhealthy (responded with \"NOT_SERVING\") at {address}"
        )),
        Ok(Err(error)) => Verdict::Failure(error),
        Err(_) => Verdict::Failure(format!(
            "timeout: failed to connect service {address:?} within {limit:?}"
        )),
    }
}

async fn check(address: &str, service: &str) -> Result<i32, String> {
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|e| e.to_string())?;
    let channel = endpoint
        .connect()
        .await
        .map_err(|e| format!("failed to connect service {address:?}: {e}"))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|e| e.to_string())?;
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let request = tonic::Request::new(HealthCheckRequest {
        service: service.to_owned(),
    });
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let response = client
        .unary(request, path, codec)
        .await
        .map_err(|e| format!("health rpc probe failed: {}", e.message()))?;
    Ok(response.into_inner().status)
}
