//! What others need to verify our tokens: `/.well-known/openid-configuration` and `/openid/v1/jwks`.

use super::keys::VerifyingKey;
use rutter_api::Value;
use serde_json::json;

/// The path of the discovery document.
pub const CONFIGURATION_PATH: &str = "/.well-known/openid-configuration";
/// The path of the key set.
pub const KEYS_PATH: &str = "/openid/v1/jwks";
/// The content type of the key set.
pub const KEYS_CONTENT_TYPE: &str = "application/jwk-set+json";
/// `Cache-Control` of both.
pub const CACHE_CONTROL: &str = "public, max-age=3600";

/// The discovery document. `jwks_uri` is `--service-account-jwks-uri`, or the server's own address and [`KEYS_PATH`].
pub fn configuration(issuer: &str, jwks_uri: &str, keys: &[VerifyingKey]) -> Value {
    let mut algorithms: Vec<&str> = keys.iter().map(|key| key.algorithm().as_str()).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    json!({
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
    })
}

/// The key set.
pub fn key_set(keys: &[VerifyingKey]) -> Value {
    json!({"keys": keys.iter().map(VerifyingKey::jwk).collect::<Vec<_>>()})
}
