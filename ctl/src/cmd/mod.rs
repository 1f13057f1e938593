//! One file per command.

pub mod api_resources;
pub mod apply;
pub mod apply_annotation;
pub mod apply_migrate;
pub mod common;
pub mod config;
pub mod config_set;
pub mod create;
pub mod delete;
pub mod describe;
pub mod edit;
pub mod get;
pub mod logs;
pub mod options;
pub mod plugin;
pub mod pods;
pub mod prune;
pub mod rollout;
pub mod scale;
pub mod version;
