//! Webhook configurations and admission policies.

mod policy;
mod webhook;

pub(crate) use policy::{AdmissionPolicy, AdmissionPolicyBinding};
pub(crate) use webhook::WebhookConfiguration;
