//! Rules that all kinds share: names, labels, annotations, metadata, selectors, addresses.
//!
//! Each rule is a pure function that gives the texts of what is wrong, worded as Kubernetes words them; none compiles a
//! regular expression.

mod at;
mod labels;
mod meta;
mod names;
mod network;

pub use at::At;
pub use labels::{label_selector, labels, selector_has_invalid_value};
pub use meta::{annotations, controllers, create, field_manager, immutable, name, update};
pub use names::{
    config_map_key, dns_label, dns_label_1035, dns_subdomain, dns_subdomain_underscore, env_name,
    fully_qualified_domain, label_value, max_len, path_segment, port_name, qualified_name, relaxed_env_name,
    wildcard_subdomain,
};
pub use network::{cidr, ip, port_number, strict_cidr, strict_ip};
