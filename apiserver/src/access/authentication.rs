//! The chain of authenticators that the flags ask for, in upstream's order: proxies, client certificates, static tokens, service
//! accounts, bootstrap tokens, issuers, the webhook, and last who comes without anything.

use super::metrics::{AccessMetrics, Configuration};
use super::remote::{Issuers, webhook};
use super::{Background, reload};
use crate::cache::CacheReader;
use crate::options::{OidcOptions, Options};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use jiff::SignedDuration;
use rutter_auth::authenticate::jwt::Algorithm;
use rutter_auth::authenticate::oidc::config::{
    AnonymousConfig, ClaimRule, Issuer, JwtAuthenticator, Mapping,
};
use rutter_auth::authenticate::oidc::{AuthenticationConfiguration, Oidc};
use rutter_auth::authenticate::service_account::{Config, VerifyingKey};
use rutter_auth::authenticate::webhook::Version;
use rutter_auth::authenticate::{
    Anonymous, BootstrapTokens, Cached, ClientCertificates, RequestHeader, ServiceAccountTokens, TokenFile,
    Union, WebhookTokens, request_header,
};
use rutter_auth::{Authenticated, AuthenticationError, Authenticator, Clock, Credentials};
use rutter_outbound::Outbound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long a server waits before it tries again to reach an issuer.
const AGAIN: Duration = Duration::from_secs(10);
/// How long all issuers of a changed configuration may take to answer.
const READY: Duration = Duration::from_secs(60);

/// What authenticators are made from.
pub struct Sources<'a> {
    /// The flags.
    pub options: &'a Options,
    /// Objects.
    pub reader: &'a Arc<CacheReader>,
    /// The time.
    pub clock: &'a Clock,
    /// The keys of service account tokens.
    pub keys: &'a [VerifyingKey],
    /// This server's audiences.
    pub audiences: &'a [String],
    /// The way out.
    pub outbound: &'a Outbound,
    /// What is counted.
    pub metrics: &'a AccessMetrics,
}

/// The authenticators, and what they need.
pub struct Authentication {
    /// All of them.
    pub authenticator: Arc<dyn Authenticator>,
    /// The authorities of certificates with their files, to be read again.
    pub authorities: Vec<(PathBuf, Arc<ClientCertificates>)>,
    /// What runs beside.
    pub background: Vec<Background>,
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(read(path)?).with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Makes them.
pub fn build(from: &Sources<'_>) -> anyhow::Result<Authentication> {
    let options = from.options;
    let mut members: Vec<Arc<dyn Authenticator>> = Vec::new();
    let mut authorities = Vec::new();
    let mut background: Vec<Background> = Vec::new();
    if let Some(file) = &options.requestheader_client_ca_file {
        let proxies = Arc::new(ClientCertificates::new(&read(file)?, from.clock.clone())?);
        authorities.push((file.clone(), proxies.clone()));
        let headers = request_header::Headers {
            user: options.requestheader_username_headers.clone(),
            uid: options.requestheader_uid_headers.clone(),
            group: options.requestheader_group_headers.clone(),
            extra_prefix: options.requestheader_extra_headers_prefix.clone(),
        };
        let allowed = options.requestheader_allowed_names.clone();
        members.push(Arc::new(RequestHeader::new(proxies, allowed, headers)));
    }
    if let Some(file) = &options.client_ca_file {
        let clients = Arc::new(ClientCertificates::new(&read(file)?, from.clock.clone())?);
        authorities.push((file.clone(), clients.clone()));
        members.push(clients);
    }
    let (issuers, anonymous) = issuers(from, &mut background)?;
    let tokens = tokens(from, issuers)?;
    members.push(Arc::new(Cached::new(
        Arc::new(Union::new(tokens, None)),
        from.clock.clone(),
    )));
    Ok(Authentication {
        authenticator: Arc::new(Union::new(members, Some(anonymous))),
        authorities,
        background,
    })
}

fn tokens(
    from: &Sources<'_>,
    issuers: Arc<dyn Authenticator>,
) -> anyhow::Result<Vec<Arc<dyn Authenticator>>> {
    let (options, clock) = (from.options, from.clock);
    let mut tokens: Vec<Arc<dyn Authenticator>> = Vec::new();
    if let Some(file) = &options.token_auth_file {
        tokens.push(Arc::new(TokenFile::parse(&read_text(file)?)?));
    }
    let config = Config {
        issuers: options.service_account_issuer.clone(),
        audiences: from.audiences.to_vec(),
        keys: from.keys.to_vec(),
        lookup: options.service_account_lookup,
    };
    let reader = from.reader.clone();
    tokens.push(Arc::new(ServiceAccountTokens::new(
        config,
        reader.clone(),
        clock.clone(),
    )));
    if options.enable_bootstrap_token_auth {
        tokens.push(Arc::new(BootstrapTokens::new(reader, clock.clone())));
    }
    tokens.push(issuers);
    if let Some(file) = &options.authentication_token_webhook_config_file {
        let version = &options.authentication_token_webhook_version;
        let version = Version::parse(version);
        let version = version.context("--authentication-token-webhook-version is neither v1 nor v1beta1")?;
        let remote = webhook(from.outbound, file)?;
        let webhook = WebhookTokens::new(remote, version, from.audiences.to_vec());
        let kept = SignedDuration::try_from(options.authentication_token_webhook_cache_ttl)?;
        tokens.push(Arc::new(Cached::with_times(
            Arc::new(webhook),
            clock.clone(),
            kept,
            kept,
        )));
    }
    Ok(tokens)
}

/// The issuers of the moment.
#[derive(Default)]
struct Issuing {
    issuers: Vec<Arc<Oidc>>,
    anonymous: Option<Anonymous>,
}

/// Issuers that a changed configuration replaces.
struct Issued(Arc<ArcSwap<Issuing>>, AccessMetrics);

#[async_trait]
impl Authenticator for Issued {
    async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        if credentials.bearer_token.is_none() {
            return Ok(None);
        }
        let now = self.0.load_full();
        for issuer in &now.issuers {
            // A token names one issuer, and no two are of one name.
            let since = Instant::now();
            let answer = issuer.authenticate(credentials).await;
            if !matches!(answer, Ok(None)) {
                let took = since.elapsed();
                self.1.token_checked(issuer.issuer(), answer.is_ok(), took);
                return answer;
            }
        }
        Ok(None)
    }
}

/// Who comes without credentials, by the configuration of the moment.
struct Nobody(Arc<ArcSwap<Issuing>>);

#[async_trait]
impl Authenticator for Nobody {
    async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let now = self.0.load_full();
        match &now.anonymous {
            Some(anonymous) => anonymous.authenticate(credentials).await,
            None => Ok(None),
        }
    }
}

/// What is needed to make the issuers of a configuration, now and again.
#[derive(Clone)]
struct Maker {
    own_issuers: Vec<String>,
    allowed: Vec<Algorithm>,
    /// Whether nobody in particular is let in when the configuration doesn't say.
    anonymous: bool,
    outbound: Outbound,
    clock: Clock,
}

impl Maker {
    fn make(&self, config: &AuthenticationConfiguration) -> anyhow::Result<Issuing> {
        let mut issuers = Vec::new();
        for compiled in config.compile(&self.own_issuers)? {
            let authorities = &compiled.config.issuer.certificate_authority;
            let fetch = Arc::new(Issuers::new(self.outbound.clone(), authorities));
            let oidc = Oidc::new(compiled, self.allowed.clone(), fetch, self.clock.clone());
            issuers.push(Arc::new(oidc));
        }
        let anonymous = match &config.anonymous {
            None => self.anonymous.then(Anonymous::default),
            Some(AnonymousConfig { enabled: false, .. }) => None,
            Some(AnonymousConfig { conditions, .. }) => Some(Anonymous {
                paths: conditions
                    .iter()
                    .map(|condition| condition.path.clone())
                    .collect(),
            }),
        };
        Ok(Issuing { issuers, anonymous })
    }
}

type Pair = (Arc<dyn Authenticator>, Arc<dyn Authenticator>);

/// The issuers, and who comes without credentials.
fn issuers(from: &Sources<'_>, background: &mut Vec<Background>) -> anyhow::Result<Pair> {
    let options = from.options;
    let config = match &options.authentication_config {
        Some(file) => AuthenticationConfiguration::parse(&read_text(file)?)?,
        None => of_flags(&options.oidc)?,
    };
    anyhow::ensure!(
        config.anonymous.is_none() || options.anonymous_auth.is_none(),
        "--anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file"
    );
    let allowed = match options.authentication_config {
        Some(_) => Algorithm::ALL.to_vec(),
        None => algorithms(&options.oidc.oidc_signing_algs)?,
    };
    let maker = Maker {
        own_issuers: options.service_account_issuer.clone(),
        allowed,
        anonymous: anonymous(options),
        outbound: from.outbound.clone(),
        clock: from.clock.clone(),
    };
    let first = maker.make(&config)?;
    for issuer in &first.issuers {
        let issuer = issuer.clone();
        background.push(Box::new(move |_, stop| Box::pin(reach(issuer, stop))));
    }
    let current = Arc::new(ArcSwap::from_pointee(first));
    if let Some(file) = options.authentication_config.clone() {
        let (current, metrics) = (current.clone(), from.metrics.clone());
        background.push(Box::new(move |_, stop| {
            Box::pin(async move {
                let files = vec![file.clone()];
                let changed = move || -> futures::future::BoxFuture<'static, anyhow::Result<()>> {
                    let taking = take_over(file.clone(), maker.clone(), current.clone());
                    let metrics = metrics.clone();
                    Box::pin(async move { metrics.reloaded(Configuration::Authentication, taking.await) })
                };
                reload::follow("the authentication configuration", files, stop, changed).await;
            })
        }));
    }
    let issued = Issued(current.clone(), from.metrics.clone());
    Ok((Arc::new(issued), Arc::new(Nobody(current))))
}

/// Whether callers without credentials are let in when the configuration doesn't say. Never where everything is allowed.
fn anonymous(options: &Options) -> bool {
    let wanted = options.anonymous_auth.unwrap_or(true);
    let everything = options
        .authorization_mode
        .iter()
        .any(|mode| mode == "AlwaysAllow");
    if wanted && everything {
        tracing::warn!("everything is allowed, so callers without credentials are refused");
    }
    wanted && !everything
}

/// Tries until the issuer's keys are there.
async fn reach(issuer: Arc<Oidc>, stop: CancellationToken) {
    while let Err(error) = issuer.initialize().await {
        tracing::warn!(
            issuer = issuer.issuer(),
            error,
            "an issuer of tokens cannot be reached"
        );
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// Takes a changed configuration over once all its issuers are there.
async fn take_over(file: PathBuf, maker: Maker, current: Arc<ArcSwap<Issuing>>) -> anyhow::Result<()> {
    let config = AuthenticationConfiguration::parse(&read_text(&file)?)?;
    let new = maker.make(&config)?;
    let never = CancellationToken::new();
    let reaching = new
        .issuers
        .iter()
        .map(|issuer| reach(issuer.clone(), never.clone()));
    let reached = tokio::time::timeout(READY, futures::future::join_all(reaching)).await;
    reached.map_err(|_| anyhow::anyhow!("not all of its issuers can be reached"))?;
    current.store(Arc::new(new));
    Ok(())
}

fn algorithms(names: &[String]) -> anyhow::Result<Vec<Algorithm>> {
    let parse = |name: &String| {
        Algorithm::parse(name)
            .with_context(|| format!("--oidc-signing-algs: unsupported signing alg: {name:?}"))
    };
    names.iter().map(parse).collect()
}

/// The configuration that the `--oidc-*` flags amount to.
fn of_flags(flags: &OidcOptions) -> anyhow::Result<AuthenticationConfiguration> {
    let mut config = AuthenticationConfiguration::default();
    let (Some(url), Some(client)) = (&flags.oidc_issuer_url, &flags.oidc_client_id) else {
        return Ok(config);
    };
    let prefix = match (
        flags.oidc_username_prefix.as_str(),
        flags.oidc_username_claim.as_str(),
    ) {
        ("-", _) | ("", "email") => String::new(),
        ("", _) => format!("{url}#"),
        (given, _) => given.to_owned(),
    };
    let mut jwt = JwtAuthenticator {
        issuer: Issuer {
            url: url.clone(),
            audiences: vec![client.clone()],
            certificate_authority: match &flags.oidc_ca_file {
                Some(file) => read_text(file)?,
                None => String::new(),
            },
            ..Issuer::default()
        },
        ..JwtAuthenticator::default()
    };
    jwt.claim_mappings.username = Mapping {
        claim: flags.oidc_username_claim.clone(),
        prefix: Some(prefix),
        ..Mapping::default()
    };
    if !flags.oidc_groups_claim.is_empty() {
        jwt.claim_mappings.groups = Mapping {
            claim: flags.oidc_groups_claim.clone(),
            prefix: Some(flags.oidc_groups_prefix.clone()),
            ..Mapping::default()
        };
    }
    for required in &flags.oidc_required_claim {
        let (claim, value) = required
            .split_once('=')
            .with_context(|| format!("--oidc-required-claim: {required:?} is not claim=value"))?;
        jwt.claim_validation_rules.push(ClaimRule {
            claim: claim.to_owned(),
            required_value: value.to_owned(),
            ..ClaimRule::default()
        });
    }
    config.jwt.push(jwt);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_amount_to_a_configuration() {
        let flags = |prefix: &str, claim: &str| OidcOptions {
            oidc_issuer_url: Some("https://issuer.example".to_owned()),
            oidc_client_id: Some("cluster".to_owned()),
            oidc_username_prefix: prefix.to_owned(),
            oidc_username_claim: claim.to_owned(),
            oidc_required_claim: vec!["hd=example.com".to_owned()],
            ..OidcOptions::default()
        };
        for (prefix, claim, want) in [
            ("", "sub", "https://issuer.example#"),
            ("", "email", ""),
            ("-", "sub", ""),
            ("x:", "email", "x:"),
        ] {
            let config = of_flags(&flags(prefix, claim)).unwrap();
            let mapping = &config.jwt[0].claim_mappings.username;
            assert_eq!(
                (mapping.prefix.as_deref(), mapping.claim.as_str()),
                (Some(want), claim)
            );
            assert_eq!(
                config.jwt[0].claim_validation_rules[0].required_value,
                "example.com"
            );
            assert_eq!(config.compile(&[]).unwrap().len(), 1);
        }
        assert!(of_flags(&OidcOptions::default()).unwrap().jwt.is_empty());
        assert!(algorithms(&["none".to_owned()]).is_err());
    }
}
