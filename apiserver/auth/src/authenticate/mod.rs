//! Authenticators, one file each.

pub mod anonymous;
pub mod bootstrap_token;
pub mod cache;
pub mod request_header;
pub mod service_account;
pub mod token_file;
pub mod union;
pub mod x509;

pub use anonymous::Anonymous;
pub use bootstrap_token::BootstrapTokens;
pub use cache::Cached;
pub use request_header::RequestHeader;
pub use service_account::ServiceAccountTokens;
pub use token_file::TokenFile;
pub use union::Union;
pub use x509::ClientCertificates;
