//! `AuthenticationConfiguration` (`--authentication-config`, also what `--oidc-*` flags amount to): its form and its rules.

use crate::cel::{Expression, Variable, Wanted};
use rutter_api::{FieldError, Path, Value, validation};
use serde::Deserialize;
use std::collections::BTreeSet;

const GROUP: &str = "apiserver.config.k8s.io/";
const MOST: usize = 64;

/// The file of `--authentication-config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticationConfiguration {
    /// `apiserver.config.k8s.io/v1`
    pub api_version: String,
    /// `AuthenticationConfiguration`
    pub kind: String,
    /// The issuers of tokens that are trusted.
    #[serde(default)]
    pub jwt: Vec<JwtAuthenticator>,
    /// Who may come without credentials.
    pub anonymous: Option<AnonymousConfig>,
}

/// Whether and where callers without credentials are let in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnonymousConfig {
    /// Whether they are.
    pub enabled: bool,
    /// Where alone they are; everywhere when empty.
    #[serde(default)]
    pub conditions: Vec<AnonymousCondition>,
}

/// A path that needs no credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnonymousCondition {
    /// The whole path.
    pub path: String,
}

/// One issuer of tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtAuthenticator {
    /// Who it is.
    pub issuer: Issuer,
    /// What claims must hold.
    #[serde(default)]
    pub claim_validation_rules: Vec<ClaimRule>,
    /// How claims become a user.
    #[serde(default)]
    pub claim_mappings: ClaimMappings,
    /// What must hold of the user.
    #[serde(default)]
    pub user_validation_rules: Vec<UserRule>,
}

/// An issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Issuer {
    /// What tokens name as their issuer.
    #[serde(default)]
    pub url: String,
    /// Where its discovery document is found, when not under its URL.
    #[serde(rename = "discoveryURL")]
    pub discovery_url: Option<String>,
    /// Who vouches for its server, in PEM; the machine's authorities when empty.
    #[serde(default)]
    pub certificate_authority: String,
    /// The audiences of which a token must have one.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// `MatchAny`
    #[serde(default)]
    pub audience_match_policy: String,
    /// `controlplane` or `cluster`: this server has one way out for both.
    #[serde(default)]
    pub egress_selector_type: String,
}

/// A rule on claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClaimRule {
    /// The claim that must have `required_value`.
    pub claim: String,
    /// The value.
    pub required_value: String,
    /// Or what must be true.
    pub expression: String,
    /// What is said when it isn't.
    pub message: String,
}

/// How claims become a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClaimMappings {
    /// The name.
    pub username: Mapping,
    /// The groups.
    pub groups: Mapping,
    /// The uid.
    pub uid: Mapping,
    /// Further facts.
    pub extra: Vec<ExtraMapping>,
}

/// A claim, behind a prefix, or an expression.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mapping {
    /// The claim.
    pub claim: String,
    /// What is put before it; must be given with a claim, if only as empty.
    pub prefix: Option<String>,
    /// Or the expression.
    pub expression: String,
}

/// A further fact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExtraMapping {
    /// Its key, with a domain.
    pub key: String,
    /// Its values.
    pub value_expression: String,
}

/// A rule on the user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UserRule {
    /// What must be true.
    pub expression: String,
    /// What is said when it isn't.
    pub message: String,
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not of the right form.
    #[error("the authentication configuration cannot be read: {0}")]
    Form(String),
    /// It says what makes no sense.
    #[error("the authentication configuration is invalid: {}", rutter_api::field::aggregate(.0))]
    Invalid(Vec<FieldError>),
}

impl AuthenticationConfiguration {
    /// Reads a file's text, YAML or JSON, strictly.
    ///
    /// # Errors
    /// When the form is wrong. What it says is judged by [`AuthenticationConfiguration::compile`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_yaml_ng::from_str(text).map_err(|e| ConfigError::Form(e.to_string()))?;
        let version = config.api_version.strip_prefix(GROUP).unwrap_or_default();
        if !matches!(version, "v1" | "v1beta1" | "v1alpha1") || config.kind != "AuthenticationConfiguration" {
            return Err(ConfigError::Form(format!(
                "no kind {:?} is registered for version {:?}",
                config.kind, config.api_version
            )));
        }
        Ok(config)
    }

    /// Judges it, and compiles its expressions. `own` are the issuers of service account tokens, which nobody else may be.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(&self, own: &[String]) -> Result<Vec<Compiled>, ConfigError> {
        let root = Path::new("jwt");
        let mut errors = Vec::new();
        if self.jwt.len() > MOST {
            errors.push(FieldError::too_many(&root, self.jwt.len(), MOST));
            return Err(ConfigError::Invalid(errors));
        }
        let mut compiled = Vec::new();
        let (mut urls, mut discoveries) = (BTreeSet::new(), BTreeSet::new());
        for (index, jwt) in self.jwt.iter().enumerate() {
            let path = root.index(index);
            compiled.push(jwt.compile(&path, own, &mut errors));
            let issuer = path.child("issuer");
            if !urls.insert(&jwt.issuer.url) {
                errors.push(FieldError::duplicate(
                    &issuer.child("url"),
                    jwt.issuer.url.as_str(),
                ));
            }
            if let Some(url) = jwt.issuer.discovery_url.as_ref().filter(|url| !url.is_empty())
                && !discoveries.insert(url)
            {
                errors.push(FieldError::duplicate(&issuer.child("discoveryURL"), url.as_str()));
            }
        }
        if self
            .anonymous
            .as_ref()
            .is_some_and(|a| !a.enabled && !a.conditions.is_empty())
        {
            errors.push(FieldError::invalid(
                &Path::new("anonymous").child("conditions"),
                Value::Null,
                "enabled should be set to true when conditions are defined",
            ));
        }
        if errors.is_empty() {
            Ok(compiled)
        } else {
            Err(ConfigError::Invalid(errors))
        }
    }
}

/// An issuer's part of a configuration with its expressions compiled.
#[derive(Debug, Default)]
pub struct Compiled {
    /// As configured.
    pub config: JwtAuthenticator,
    pub(super) username: Option<Expression>,
    pub(super) groups: Option<Expression>,
    pub(super) uid: Option<Expression>,
    pub(super) extra: Vec<(String, Expression)>,
    /// Expressions that must be true of the claims, with their messages.
    pub(super) claim_rules: Vec<(Expression, String)>,
    /// Expressions that must be true of the user, with their messages.
    pub(super) user_rules: Vec<(Expression, String)>,
}

impl JwtAuthenticator {
    /// Judges one issuer, as the whole configuration does.
    pub fn compile(&self, path: &Path, own: &[String], errors: &mut Vec<FieldError>) -> Compiled {
        self.issuer.check(&path.child("issuer"), own, errors);
        let mut compiled = Compiled {
            config: self.clone(),
            ..Compiled::default()
        };
        self.compile_claim_rules(&path.child("claimValidationRules"), &mut compiled, errors);
        self.compile_mappings(&path.child("claimMappings"), &mut compiled, errors);
        let rules = path.child("userValidationRules");
        let mut seen = BTreeSet::new();
        for (index, rule) in self.user_validation_rules.iter().enumerate() {
            let path = rules.index(index).child("expression");
            if rule.expression.is_empty() {
                errors.push(FieldError::required(&path, ""));
            } else if !seen.insert(&rule.expression) {
                errors.push(FieldError::duplicate(&path, rule.expression.as_str()));
            } else if let Some(made) = rule_of(&rule.expression, Variable::User, &path, errors) {
                compiled.user_rules.push((made, rule.message.clone()));
            }
        }
        compiled
    }

    fn compile_claim_rules(&self, path: &Path, compiled: &mut Compiled, errors: &mut Vec<FieldError>) {
        let (mut claims, mut expressions) = (BTreeSet::new(), BTreeSet::new());
        for (index, rule) in self.claim_validation_rules.iter().enumerate() {
            let path = path.index(index);
            match (rule.claim.is_empty(), rule.expression.is_empty()) {
                (false, false) => errors.push(FieldError::invalid(
                    &path,
                    rule.claim.as_str(),
                    "claim and expression can't both be set",
                )),
                (true, true) => errors.push(FieldError::required(&path, "claim or expression is required")),
                (false, true) => {
                    if !rule.message.is_empty() {
                        errors.push(FieldError::invalid(
                            &path.child("message"),
                            rule.message.as_str(),
                            "may not be specified when claim is set",
                        ));
                    }
                    if !claims.insert(&rule.claim) {
                        errors.push(FieldError::duplicate(&path.child("claim"), rule.claim.as_str()));
                    }
                }
                (true, false) => {
                    if !rule.required_value.is_empty() {
                        errors.push(FieldError::invalid(
                            &path.child("requiredValue"),
                            rule.required_value.as_str(),
                            "may not be specified when expression is set",
                        ));
                    }
                    let path = path.child("expression");
                    if !expressions.insert(&rule.expression) {
                        errors.push(FieldError::duplicate(&path, rule.expression.as_str()));
                    } else if let Some(made) = rule_of(&rule.expression, Variable::Claims, &path, errors) {
                        compiled.claim_rules.push((made, rule.message.clone()));
                    }
                }
            }
        }
    }

    fn compile_mappings(&self, path: &Path, compiled: &mut Compiled, errors: &mut Vec<FieldError>) {
        let mappings = &self.claim_mappings;
        compiled.username = mappings.username.compile(&path.child("username"), true, errors);
        compiled.groups = mappings.groups.compile(&path.child("groups"), false, errors);
        let uid = path.child("uid");
        if mappings.uid.prefix.is_some() {
            errors.push(FieldError::forbidden(&uid.child("prefix"), "a uid has no prefix"));
        }
        if !mappings.uid.claim.is_empty() && !mappings.uid.expression.is_empty() {
            errors.push(FieldError::invalid(
                &uid,
                "",
                "claim and expression can't both be set",
            ));
        } else if !mappings.uid.expression.is_empty() {
            let at = uid.child("expression");
            compiled.uid = mapping_of(&mappings.uid.expression, &at, errors);
        }
        let mut keys = BTreeSet::new();
        for (index, extra) in mappings.extra.iter().enumerate() {
            let path = path.child("extra").index(index);
            check_extra_key(&extra.key, &path.child("key"), errors);
            let at = path.child("valueExpression");
            if !keys.insert(&extra.key) {
                errors.push(FieldError::duplicate(&path.child("key"), extra.key.as_str()));
            } else if extra.value_expression.is_empty() {
                errors.push(FieldError::required(&at, ""));
            } else if let Some(made) = mapping_of(&extra.value_expression, &at, errors) {
                compiled.extra.push((extra.key.clone(), made));
            }
        }
        let uses = |expression: &Expression, field: &str| expression.selects("claims", field);
        let email = compiled.username.as_ref().is_some_and(|e| uses(e, "email"));
        let mut all = (compiled.username.iter())
            .chain(compiled.extra.iter().map(|(_, e)| e))
            .chain(compiled.claim_rules.iter().map(|(e, _)| e));
        if email && !all.any(|expression| uses(expression, "email_verified")) {
            errors.push(FieldError::invalid(
                &path.child("username").child("expression"),
                mappings.username.expression.as_str(),
                "claims.email_verified must be used in claimMappings.username.expression or \
                 claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is \
                 used in claimMappings.username.expression",
            ));
        }
    }
}

impl Mapping {
    fn compile(&self, path: &Path, required: bool, errors: &mut Vec<FieldError>) -> Option<Expression> {
        match (self.claim.is_empty(), self.expression.is_empty()) {
            (false, false) => {
                errors.push(FieldError::invalid(
                    path,
                    "",
                    "claim and expression can't both be set",
                ));
            }
            (true, true) if required => {
                errors.push(FieldError::required(path, "claim or expression is required"));
            }
            (true, true) => {}
            (false, true) if self.prefix.is_none() => errors.push(FieldError::required(
                &path.child("prefix"),
                "prefix is required when claim is set. It can be set to an empty string to disable prefixing",
            )),
            (false, true) => {}
            (true, false) => {
                if let Some(prefix) = &self.prefix {
                    errors.push(FieldError::invalid(
                        &path.child("prefix"),
                        prefix.as_str(),
                        "may not be specified when expression is set",
                    ));
                }
                return mapping_of(&self.expression, &path.child("expression"), errors);
            }
        }
        None
    }
}

impl Issuer {
    fn check(&self, path: &Path, own: &[String], errors: &mut Vec<FieldError>) {
        let url = path.child("url");
        if self.url.is_empty() {
            errors.push(FieldError::required(&url, ""));
        } else {
            if own.contains(&self.url) {
                let why = format!(
                    "URL must not overlap with disallowed issuers: [{}]",
                    own.join(" ")
                );
                errors.push(FieldError::invalid(&url, self.url.as_str(), why));
            }
            check_url(&self.url, &url, errors);
        }
        if let Some(discovery) = self.discovery_url.as_deref().filter(|url| !url.is_empty()) {
            let path = path.child("discoveryURL");
            if discovery.trim_end_matches('/') == self.url.trim_end_matches('/') {
                let why = "discoveryURL must be different from URL";
                errors.push(FieldError::invalid(&path, discovery, why));
            }
            check_url(discovery, &path, errors);
        }
        self.check_audiences(path, errors);
        if !self.certificate_authority.is_empty() {
            use rustls::pki_types::{CertificateDer, pem::PemObject};
            let found = CertificateDer::pem_slice_iter(self.certificate_authority.as_bytes());
            if found.filter(Result::is_ok).count() == 0 {
                errors.push(FieldError::invalid(
                    &path.child("certificateAuthority"),
                    "<omitted>",
                    "data does not contain any valid RSA or ECDSA certificates",
                ));
            }
        }
        if !matches!(
            self.egress_selector_type.as_str(),
            "" | "controlplane" | "cluster"
        ) {
            errors.push(FieldError::invalid(
                &path.child("egressSelectorType"),
                self.egress_selector_type.as_str(),
                "egress selector must be either controlplane or cluster",
            ));
        }
    }

    fn check_audiences(&self, path: &Path, errors: &mut Vec<FieldError>) {
        let audiences = path.child("audiences");
        if self.audiences.is_empty() {
            let why = format!("at least one {audiences} is required");
            errors.push(FieldError::required(&audiences, why));
            return;
        }
        let mut seen = BTreeSet::new();
        for (index, audience) in self.audiences.iter().enumerate() {
            let path = audiences.index(index);
            if audience.is_empty() {
                errors.push(FieldError::required(&path, ""));
            }
            if !seen.insert(audience) {
                errors.push(FieldError::duplicate(&path, audience.as_str()));
            }
        }
        let why = match (self.audiences.len(), self.audience_match_policy.as_str()) {
            (_, "MatchAny") | (1, "") => return,
            (1, _) => "audienceMatchPolicy must be empty or MatchAny for single audience",
            _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
        };
        let policy = self.audience_match_policy.as_str();
        errors.push(FieldError::invalid(
            &path.child("audienceMatchPolicy"),
            policy,
            why,
        ));
    }
}

fn check_url(text: &str, path: &Path, errors: &mut Vec<FieldError>) {
    let mut wrong = |why: &str| errors.push(FieldError::invalid(path, text, why));
    let (plain, fragment) = text.split_once('#').unwrap_or((text, ""));
    let Ok(url) = plain.parse::<http::Uri>() else {
        return wrong("invalid URL");
    };
    if url.scheme_str() != Some("https") {
        wrong("URL scheme must be https");
    }
    if url
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        wrong("URL must not contain a username or password");
    }
    if url.query().is_some_and(|query| !query.is_empty()) {
        wrong("URL must not contain a query");
    }
    if !fragment.is_empty() {
        wrong("URL must not contain a fragment");
    }
}

/// Whether a text is a path behind a domain, such as `acme.io/foo`.
pub(crate) fn is_domain_prefixed_path(text: &str) -> bool {
    text.split_once('/').is_some_and(|(domain, path)| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte);
        validation::dns_subdomain(domain).is_empty() && !path.is_empty() && path.bytes().all(good)
    })
}

fn check_extra_key(key: &str, path: &Path, errors: &mut Vec<FieldError>) {
    if key.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if !is_domain_prefixed_path(key) {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(FieldError::invalid(path, key, why));
    }
    if key != key.to_lowercase() {
        errors.push(FieldError::invalid(path, key, "must be lowercase"));
    }
    let domain = key.split('/').next().unwrap_or_default();
    let reserved = |of: &str| domain == of || domain.strip_suffix(of).is_some_and(|d| d.ends_with('.'));
    if reserved("kubernetes.io") || reserved("k8s.io") {
        let why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
        errors.push(FieldError::invalid(path, key, why));
    }
}

/// A rule, which is true or false.
fn rule_of(text: &str, about: Variable, path: &Path, errors: &mut Vec<FieldError>) -> Option<Expression> {
    judged(Expression::compile(text, about, Wanted::Bool), text, path, errors)
}

/// A part of the user out of the claims.
fn mapping_of(text: &str, path: &Path, errors: &mut Vec<FieldError>) -> Option<Expression> {
    judged(
        Expression::compile(text, Variable::Claims, Wanted::Anything),
        text,
        path,
        errors,
    )
}

fn judged(
    made: Result<Expression, String>,
    text: &str,
    path: &Path,
    errors: &mut Vec<FieldError>,
) -> Option<Expression> {
    made.map_err(|why| errors.push(FieldError::invalid(path, text, why)))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: "https://issuer.example", audiences: [cluster]}
  claimMappings:
    username: {claim: sub, prefix: "oidc:"}
anonymous: {enabled: true, conditions: [{path: /livez}]}
"#;

    #[test]
    fn a_configuration_is_judged_field_by_field() {
        let own = ["https://own.example".to_owned()];
        // what of the good one is replaced by what, and a part of the refusal
        #[rustfmt::skip]
        let table = [
            ("cluster", "cluster", ""),
            ("https://issuer.example", "http://issuer.example", "jwt[0].issuer.url: Invalid value: \"http://issuer.example\": URL scheme must be https"),
            ("https://issuer.example", "https://own.example", "must not overlap with disallowed issuers"),
            ("https://issuer.example", "https://a:b@issuer.example", "must not contain a username"),
            ("https://issuer.example", "https://issuer.example?a=b", "must not contain a query"),
            ("https://issuer.example", "https://issuer.example#a", "must not contain a fragment"),
            ("[cluster]", "[]", "jwt[0].issuer.audiences: Required value"),
            ("[cluster]", "[a, a]", "jwt[0].issuer.audiences[1]: Duplicate value: \"a\""),
            ("[cluster]", "[a, b]", "audienceMatchPolicy must be MatchAny for multiple audiences"),
            ("[cluster]", "[a, b], audienceMatchPolicy: MatchAny", ""),
            ("[cluster]", "[a], certificateAuthority: x", "jwt[0].issuer.certificateAuthority: Invalid value: \"<omitted>\""),
            ("[cluster]", "[a], discoveryURL: 'https://issuer.example/'", "discoveryURL must be different from URL"),
            (", prefix: \"oidc:\"", "", "claimMappings.username.prefix: Required value"),
            ("{claim: sub, prefix: \"oidc:\"}", "{}", "claimMappings.username: Required value: claim or expression is required"),
            ("username:", "uid: {claim: a, expression: b}\n    username:", "claim and expression can't both be set"),
            ("username:", "extra: [{key: foo, valueExpression: claims.a}]\n    username:", "must be a domain-prefixed path"),
            ("username:", "extra: [{key: a.k8s.io/b, valueExpression: claims.a}]\n    username:", "reserved for Kubernetes use"),
            ("{claim: sub, prefix: \"oidc:\"}", "{expression: \"'oidc:' + claims.sub\"}", ""),
            ("{claim: sub, prefix: \"oidc:\"}", "{expression: \"'oidc:' +\"}", "claimMappings.username.expression: Invalid value"),
            ("{claim: sub, prefix: \"oidc:\"}", "{expression: claims.email}", "claims.email_verified must be used"),
            ("anonymous:", "  userValidationRules: [{expression: user.username}]\nanonymous:", "must evaluate to bool"),
            ("enabled: true", "enabled: false", "anonymous.conditions: Invalid value"),
            ("kind: Auth", "kind: Other", "no kind"),
            ("issuer: {", "issuer: {colour: red, ", "unknown field"),
        ];
        for (what, by, part) in table {
            let text = GOOD.replace(what, by);
            let got = AuthenticationConfiguration::parse(&text).and_then(|config| config.compile(&own));
            match got {
                Ok(compiled) => assert!(part.is_empty() && compiled.len() == 1, "{text}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!part.is_empty() && error.contains(part), "{error}\n{text}");
                }
            }
        }
    }
}
