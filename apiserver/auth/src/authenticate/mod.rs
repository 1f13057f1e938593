//! Authenticators, one file each.

pub mod anonymous;
pub mod bootstrap_token;
pub mod cache;
pub mod jwt;
pub mod oidc;
pub mod request_header;
pub mod service_account;
pub mod token_file;
pub mod union;
pub mod webhook;
pub mod x509;

pub use anonymous::Anonymous;
pub use bootstrap_token::BootstrapTokens;
pub use cache::Cached;
pub use oidc::Oidc;
pub use request_header::RequestHeader;
pub use service_account::ServiceAccountTokens;
pub use token_file::TokenFile;
pub use union::Union;
pub use webhook::WebhookTokens;
pub use x509::ClientCertificates;
