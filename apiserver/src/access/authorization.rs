//! The authorizers that the flags or the configuration file ask for, in order.

use super::metrics::{AccessMetrics, Configuration};
use super::remote::webhook;
use super::{Background, reload};
use crate::cache::CacheReader;
use crate::options::Options;
use anyhow::Context as _;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use jiff::SignedDuration;
use rutter_api::UserInfo;
use rutter_auth::authorize::config::{AuthorizationConfiguration, Planned};
use rutter_auth::authorize::webhook::{Settings, Version};
use rutter_auth::authorize::{
    Abac, AlwaysAllow, AlwaysDeny, NodeAuthorizer, Rbac, Union as Authorizers, Webhook,
};
use rutter_auth::{Attributes, Authorizer, Clock, Decision, Rules};
use rutter_outbound::Outbound;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long one answer of the webhook of `--authorization-webhook-config-file` may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The authorizers, and what they need.
pub struct Authorization {
    /// All of them.
    pub authorizer: Arc<dyn Authorizer>,
    /// RBAC by itself; none when it is off.
    pub rbac: Option<Arc<Rbac>>,
    /// What runs beside.
    pub background: Vec<Background>,
}

/// This server's own authorizers by their names, made once, and the way to webhooks.
#[derive(Clone)]
struct Maker {
    own: BTreeMap<String, Arc<dyn Authorizer>>,
    outbound: Outbound,
    clock: Clock,
    metrics: AccessMetrics,
}

impl Maker {
    fn make(&self, planned: Vec<Planned>) -> anyhow::Result<Authorizers> {
        let mut all: Vec<Arc<dyn Authorizer>> = Vec::new();
        let mut counters = Vec::new();
        for plan in planned {
            match plan {
                Planned::Own(kind) => {
                    counters.push(self.metrics.decisions_of(&kind, &kind.to_lowercase()));
                    let own = self.own.get(&kind);
                    all.push(
                        own.with_context(|| format!("{kind} cannot be added while running"))?
                            .clone(),
                    );
                }
                Planned::Webhook(settings, file) => {
                    counters.push(self.metrics.decisions_of("Webhook", &settings.name));
                    let remote = self
                        .metrics
                        .counted(&settings.name, webhook(&self.outbound, &file)?);
                    all.push(Arc::new(Webhook::new(settings, remote, self.clock.clone())));
                }
            }
        }
        let observer = move |at: usize, allowed: bool| {
            if let Some([allows, denies]) = counters.get(at) {
                if allowed { allows } else { denies }.inc();
            }
        };
        Ok(Authorizers::new(all).observed(Box::new(observer)))
    }
}

/// Authorizers that a changed configuration replaces.
struct Current(Arc<ArcSwap<Authorizers>>);

#[async_trait]
impl Authorizer for Current {
    async fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        self.0.load_full().authorize(user, attributes).await
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> Option<Rules> {
        self.0.load().rules(user, namespace)
    }
}

/// Makes them.
pub fn build(
    options: &Options,
    reader: &Arc<CacheReader>,
    clock: &Clock,
    outbound: &Outbound,
    metrics: &AccessMetrics,
) -> anyhow::Result<Authorization> {
    let planned = match &options.authorization_config {
        Some(file) => plan_of(file)?,
        None => of_flags(options)?,
    };
    let kinds = kinds(&planned);
    let mut own: BTreeMap<String, Arc<dyn Authorizer>> = BTreeMap::new();
    let mut rbac = None;
    for kind in &kinds {
        let made: Arc<dyn Authorizer> = match kind.as_str() {
            "Node" => Arc::new(NodeAuthorizer::new(reader.clone())),
            "RBAC" => {
                let made = Arc::new(Rbac::new(reader.clone()));
                rbac = Some(made.clone());
                made
            }
            "ABAC" => {
                let file = options.authorization_policy_file.as_ref();
                let file = file.context("authorization by ABAC needs --authorization-policy-file")?;
                let text = std::fs::read_to_string(file);
                let text = text.with_context(|| format!("cannot read {}", file.display()))?;
                Arc::new(Abac::parse(&text)?)
            }
            "AlwaysAllow" => Arc::new(AlwaysAllow),
            "AlwaysDeny" => Arc::new(AlwaysDeny),
            other => anyhow::bail!("authorization mode {other:?} is unknown"),
        };
        own.insert(kind.clone(), made);
    }
    let maker = Maker {
        own,
        outbound: outbound.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
    };
    let current = Arc::new(ArcSwap::from_pointee(maker.make(planned)?));
    let mut background: Vec<Background> = Vec::new();
    if let Some(file) = options.authorization_config.clone() {
        let current = current.clone();
        background.push(Box::new(move |_, stop| {
            Box::pin(async move {
                let files = vec![file.clone()];
                let changed = move || -> futures::future::BoxFuture<'static, anyhow::Result<()>> {
                    let taken = take_over(&file, &kinds_of(&maker), &maker, &current);
                    let taken = maker.metrics.reloaded(Configuration::Authorization, taken);
                    Box::pin(std::future::ready(taken))
                };
                reload::follow("the authorization configuration", files, stop, changed).await;
            })
        }));
    }
    Ok(Authorization {
        authorizer: Arc::new(Current(current)),
        rbac,
        background,
    })
}

fn kinds_of(maker: &Maker) -> Vec<String> {
    maker.own.keys().cloned().collect()
}

/// The kinds of this server's own authorizers, ordered.
fn kinds(planned: &[Planned]) -> Vec<String> {
    let own = planned.iter().filter_map(|plan| match plan {
        Planned::Own(kind) => Some(kind.clone()),
        Planned::Webhook(..) => None,
    });
    let mut kinds: Vec<String> = own.collect();
    kinds.sort();
    kinds
}

fn plan_of(file: &Path) -> anyhow::Result<Vec<Planned>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(AuthorizationConfiguration::parse(&text)?.plan()?)
}

fn take_over(
    file: &Path,
    before: &[String],
    maker: &Maker,
    current: &ArcSwap<Authorizers>,
) -> anyhow::Result<()> {
    let planned = plan_of(file)?;
    let now = kinds(&planned);
    anyhow::ensure!(
        now == before,
        "only webhooks may change while running: the other types were {before:?} and would be {now:?}"
    );
    current.store(Arc::new(maker.make(planned)?));
    Ok(())
}

/// What the flags ask for.
fn of_flags(options: &Options) -> anyhow::Result<Vec<Planned>> {
    let mut planned = Vec::new();
    for (index, mode) in options.authorization_mode.iter().enumerate() {
        anyhow::ensure!(
            !options.authorization_mode[..index].contains(mode),
            "authorization mode {mode:?} is specified more than once"
        );
        if mode != "Webhook" {
            planned.push(Planned::Own(mode.clone()));
            continue;
        }
        let file = options.authorization_webhook_config_file.clone();
        let file = file.context("authorization mode Webhook needs --authorization-webhook-config-file")?;
        let version = Version::parse(&options.authorization_webhook_version);
        let settings = Settings {
            name: "default".to_owned(),
            version: version.context("--authorization-webhook-version is neither v1 nor v1beta1")?,
            timeout: TIMEOUT,
            authorized: SignedDuration::try_from(options.authorization_webhook_cache_authorized_ttl)?,
            unauthorized: SignedDuration::try_from(options.authorization_webhook_cache_unauthorized_ttl)?,
            failure_denies: false,
            conditions: Vec::new(),
        };
        planned.push(Planned::Webhook(settings, file));
    }
    anyhow::ensure!(
        options.authorization_webhook_config_file.is_none()
            || planned.iter().any(|plan| matches!(plan, Planned::Webhook(..))),
        "--authorization-webhook-config-file is of no use without authorization mode Webhook"
    );
    Ok(planned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn the_flags_are_taken_in_their_order_or_refused() {
        let plan = |flags: &[&str]| {
            let all = [
                "x",
                "--tls-cert-file=a",
                "--tls-private-key-file=b",
                "--service-account-issuer=c",
                "--service-account-signing-key-file=d",
            ];
            of_flags(&Options::parse_from(all.iter().chain(flags)))
        };
        let webhook = "--authorization-webhook-config-file=/w";
        for (flags, want) in [
            (vec![], Ok("Node RBAC")),
            (
                vec!["--authorization-mode=Webhook,RBAC", webhook],
                Ok("webhook RBAC"),
            ),
            (vec!["--authorization-mode=RBAC,RBAC"], Err("more than once")),
            (
                vec!["--authorization-mode=Webhook"],
                Err("needs --authorization-webhook-config-file"),
            ),
            (vec![webhook], Err("of no use")),
            (
                vec![
                    "--authorization-mode=Webhook",
                    webhook,
                    "--authorization-webhook-version=v7",
                ],
                Err("neither v1 nor v1beta1"),
            ),
        ] {
            match (plan(&flags), want) {
                (Ok(planned), Ok(want)) => {
                    let names = planned.iter().map(|plan| match plan {
                        Planned::Own(kind) => kind.as_str(),
                        Planned::Webhook(..) => "webhook",
                    });
                    assert_eq!(names.collect::<Vec<_>>().join(" "), want);
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, _) => panic!("{flags:?}: {:?}", got.map(|planned| planned.len())),
            }
        }
    }
}
