//! Webhook configurations and admission policies.

mod check;
mod policy;
mod webhook;

pub(crate) use check::client_config;
pub(crate) use policy::{AdmissionPolicy, AdmissionPolicyBinding};
pub(crate) use webhook::WebhookConfiguration;
