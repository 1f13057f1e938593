//! Who somebody is and what they may do: policy files, tokens, claims, and the ciphers of what is stored.

use super::now;
use crate::make::Maker;
use jiff::Timestamp;
use rutter_api::{UserInfo, Value};
use rutter_audit::Stage;
use rutter_audit::policy::{Policy, Subject};
use rutter_auth::authenticate::jwt::{self, SigningKey};
use rutter_auth::authenticate::oidc::claims;
use rutter_auth::authenticate::oidc::config::AuthenticationConfiguration;
use rutter_auth::authenticate::token_file::TokenFile;
use rutter_auth::authorize::Abac;
use rutter_auth::authorize::config::AuthorizationConfiguration;
use rutter_auth::{Attributes, Authorizer, Decision};
use rutter_encryption::ciphers::{Cipher, Seed};
use rutter_encryption::config;
use serde_json::json;
use std::path::Path;
use std::sync::LazyLock;

const WORDS: &[&str] = &[
    "*",
    "alice",
    "bob",
    "system:authenticated",
    "default",
    "kube-system",
    "pods",
    "pods/log",
    "pods/*",
    "secrets",
    "get",
    "list",
    "create",
    "/healthz",
    "/api*",
    "apps",
    "",
    "None",
    "Metadata",
    "Request",
    "RequestResponse",
    "RequestReceived",
    "ResponseComplete",
    "v1",
];

/// Policy files: a file is the sum of its lines, and the first rule that matches decides.
pub fn policies(data: &[u8]) {
    let mut maker = Maker::speaking(data, WORDS);
    match maker.below(4) {
        0 => abac(&mut maker),
        1 => audit(&mut maker),
        2 => token_file(&mut maker),
        _ => configurations(&mut maker),
    }
}

fn user(maker: &mut Maker<'_>) -> UserInfo {
    UserInfo {
        name: maker.pick(&["alice", "bob", "system:anonymous"]).to_owned(),
        groups: vec![maker.pick(&["system:authenticated", "*", "dev"]).to_owned()],
        ..UserInfo::default()
    }
}

fn abac(maker: &mut Maker<'_>) {
    let mut lines = Vec::new();
    for _ in 0..maker.count(4) {
        let mut spec = serde_json::Map::new();
        for field in [
            "user",
            "group",
            "namespace",
            "resource",
            "apiGroup",
            "nonResourcePath",
        ] {
            if maker.flip() {
                spec.insert(field.to_owned(), json!(maker.word()));
            }
        }
        if maker.flip() {
            spec.insert("readonly".to_owned(), json!(maker.flip()));
        }
        let spec = Value::Object(spec);
        lines.push(match maker.below(8) {
            0 => maker.text(),
            1 => spec.to_string(),
            _ => json!({"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": spec}).to_string(),
        });
    }
    let user = user(maker);
    let (verb, resource) = (
        maker.pick(&["get", "create", "list"]),
        maker.pick(&["pods", "secrets", ""]),
    );
    let attributes = Attributes {
        verb: verb.into(),
        namespace: maker.pick(&["default", "kube-system", ""]).into(),
        resource: resource.into(),
        path: maker.pick(&["/healthz", "/api/v1", "/"]).into(),
        ..Attributes::default()
    };
    let allows = |text: &str| {
        let policy = Abac::parse(text).ok()?;
        Some(matches!(
            now(policy.authorize(&user, &attributes)),
            Decision::Allow(_)
        ))
    };
    let each: Vec<Option<bool>> = lines.iter().map(|line| allows(line)).collect();
    let whole = allows(&lines.join("\n"));
    let sum = each.iter().copied().collect::<Option<Vec<bool>>>();
    assert_eq!(whole, sum.map(|all| all.contains(&true)), "{lines:?}");
}

fn audit(maker: &mut Maker<'_>) {
    let rules: Vec<Value> = (0..maker.count(4)).map(|_| audit_rule(maker)).collect();
    let read = |rules: &[Value]| {
        Policy::read(&json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}))
    };
    let user = user(maker);
    let resource = maker.pick(&["pods", "secrets", ""]);
    let subject = Subject {
        user: maker.flip().then_some(&user),
        is_resource: !resource.is_empty(),
        verb: maker.pick(&["get", "create", "list"]),
        group: maker.pick(&["", "apps"]),
        resource,
        subresource: maker.pick(&["", "log"]),
        namespace: maker.pick(&["default", ""]),
        name: maker.pick(&["n", ""]),
        path: maker.pick(&["/healthz", "/api/v1"]),
    };
    let Ok(policy) = read(&rules) else {
        let good = !rules.is_empty() && rules.iter().all(|rule| read(std::slice::from_ref(rule)).is_ok());
        assert!(!good, "all rules are good, the policy isn't: {rules:?}");
        return;
    };
    let decision = policy.decide(&subject);
    // A rule that matches everything, put behind the others, decides only what none of them does.
    let everything = json!({"level": "Request", "omitStages": ["Panic"]});
    let longer = [rules.as_slice(), &[everything.clone()]].concat();
    let behind = read(&longer).expect("a good rule more").decide(&subject);
    let shorter = read(&[everything]).expect("a good rule").decide(&subject);
    assert!(behind == decision || behind == shorter, "{rules:?}");
    assert_eq!(policy.decide(&subject), decision);
    let _ = decision.records(Stage::RequestReceived);
}

fn audit_rule(maker: &mut Maker<'_>) -> Value {
    let mut rule = serde_json::Map::new();
    rule.insert(
        "level".to_owned(),
        json!(maker.pick(&["None", "Metadata", "Request", "RequestResponse", "x"])),
    );
    for field in [
        "users",
        "userGroups",
        "verbs",
        "namespaces",
        "nonResourceURLs",
        "omitStages",
        "resources",
    ] {
        if !maker.once_in(3) {
            continue;
        }
        let items = (0..maker.count(3)).map(|_| match field {
            "resources" => {
                json!({"group": maker.word(), "resources": [maker.word()], "resourceNames": [maker.word()]})
            }
            "omitStages" => json!(maker.pick(&["RequestReceived", "ResponseComplete", "Panic", "x"])),
            _ => json!(maker.word()),
        });
        rule.insert(field.to_owned(), Value::Array(items.collect()));
    }
    if maker.once_in(16) {
        rule.insert(maker.word(), maker.tree());
    }
    Value::Object(rule)
}

fn token_file(maker: &mut Maker<'_>) {
    let lines: Vec<String> = String::from_utf8_lossy(&maker.bytes())
        .lines()
        .map(str::to_owned)
        .collect();
    let whole = TokenFile::parse(&lines.join("\n"));
    let each = lines.iter().all(|line| TokenFile::parse(line).is_ok());
    assert_eq!(whole.is_ok(), each, "{lines:?}");
}

fn configurations(maker: &mut Maker<'_>) {
    let mut tree = maker.tree();
    if let Value::Object(map) = &mut tree {
        let (group, kind) = maker.pick(&[
            ("apiserver.config.k8s.io/v1", "AuthenticationConfiguration"),
            ("apiserver.config.k8s.io/v1", "AuthorizationConfiguration"),
            ("apiserver.config.k8s.io/v1", "EncryptionConfiguration"),
        ]);
        map.insert("apiVersion".to_owned(), json!(group));
        map.insert("kind".to_owned(), json!(kind));
        match kind {
            "AuthenticationConfiguration" => drop(map.insert("jwt".to_owned(), json!([issuer(maker)]))),
            "AuthorizationConfiguration" => {
                drop(map.insert("authorizers".to_owned(), json!([authorizer(maker)])))
            }
            _ => drop(map.insert("resources".to_owned(), json!([providers(maker)]))),
        }
        map.retain(|key, _| {
            ["apiVersion", "kind", "jwt", "authorizers", "resources", "a"].contains(&key.as_str())
        });
    }
    let text = tree.to_string();
    if let Ok(config) = AuthenticationConfiguration::parse(&text)
        && let Ok(compiled) = config.compile(&["https://own".to_owned()])
    {
        let claims = claims_of(maker);
        for compiled in &compiled {
            mapped(compiled, &claims);
        }
    }
    if let Ok(config) = AuthorizationConfiguration::parse(&text) {
        let _ = config.plan();
    }
    let _ = config::parse(Path::new("file"), text.as_bytes());
}

fn issuer(maker: &mut Maker<'_>) -> Value {
    let expression = maker.pick(&[
        "claims.sub",
        "'u:' + claims.sub",
        "claims.groups",
        "claims.?name.orValue('x')",
        "claims.a.b",
        "[claims.sub]",
        "1",
        "claims.",
    ]);
    let username = match maker.below(3) {
        0 => json!({"expression": expression}),
        1 => json!({"claim": maker.pick(&["sub", "email", "name"]), "prefix": maker.pick(&["", "p:"])}),
        _ => json!({"claim": "sub"}),
    };
    json!({
        "issuer": {
            "url": maker.pick(&["https://issuer", "http://issuer", "https://own", "x"]),
            "audiences": ["a"],
            "audienceMatchPolicy": maker.pick(&["", "MatchAny"]),
        },
        "claimMappings": {
            "username": username,
            "groups": {"claim": "groups", "prefix": maker.pick(&["", "g:"])},
            "uid": {"expression": expression},
            "extra": [{"key": maker.pick(&["example.com/a", "a"]), "valueExpression": expression}],
        },
        "claimValidationRules": [{"expression": maker.pick(&["claims.sub != ''", "claims.a", "true"]), "message": "m"}],
        "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "m"}],
    })
}

fn authorizer(maker: &mut Maker<'_>) -> Value {
    json!({
        "type": maker.pick(&["Webhook", "RBAC", "Node", "x"]),
        "name": maker.word(),
        "webhook": maker.tree(),
    })
}

fn providers(maker: &mut Maker<'_>) -> Value {
    let keys =
        json!([{"name": maker.word(), "secret": maker.pick(&["c2VjcmV0IGlzIHNlY3VyZQ==", "AA==", "?"])}]);
    json!({"resources": [maker.word()], "providers": [{maker.pick(&["aesgcm", "aescbc", "secretbox"]): {"keys": keys}}, {"identity": {}}]})
}

fn claims_of(maker: &mut Maker<'_>) -> Value {
    let mut claims = json!({"iss": "https://issuer", "aud": ["a"], "exp": 2_000_000_000});
    for name in ["sub", "email", "email_verified", "name", "groups", "jti", "a"] {
        claims[name] = match maker.below(4) {
            0 => maker.tree(),
            1 => json!([maker.word()]),
            _ => json!(maker.word()),
        };
    }
    claims
}

fn mapped(compiled: &rutter_auth::authenticate::oidc::config::Compiled, claims: &Value) {
    let mapped = claims::user(compiled, claims);
    if let Ok(user) = &mapped {
        let name = &compiled.config.claim_mappings.username;
        if !name.claim.is_empty() {
            let prefix = name.prefix.as_deref().unwrap_or_default();
            assert!(user.name.starts_with(prefix), "{} has no {prefix}", user.name);
        }
        assert!(
            !user.name.starts_with("system:"),
            "a rule was passed over: {user:?}"
        );
    }
    assert_eq!(mapped, claims::user(compiled, claims));
}

/// Made for this test alone.
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgTeUkdcnP12byDTsI
61YGzwuU8pb7725fw/GjQFnLm1yhRANCAARxKKGK3hrTr+3MujhltPr2nAkTt1TV
Ty9wP7bgIgUr0yuNSwUAxBS0u0QpzDrpz4pBcSrYU4+T9Dp591FxaHFZ
-----END PRIVATE KEY-----
";

static SIGNING: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::parse(KEY.as_bytes()).expect("a key"));

/// Tokens: what is signed is verified, and nothing else is.
pub fn tokens(data: &[u8]) {
    let mut maker = Maker::speaking(data, WORDS);
    let keys = [SIGNING.verifying_key().clone()];
    let claims = claims_of(&mut maker);
    match maker.below(8) {
        0 => {
            let token = SIGNING.sign(&claims).expect("claims are signed");
            assert!(jwt::verify(&token, &keys).is_ok());
            assert_eq!(jwt::payload(&token), Some(claims.clone()));
            let at = maker.below(token.len());
            let other = maker.pick(&['A', 'b', '.', '0']);
            let mut forged: Vec<char> = token.chars().collect();
            forged[at] = other;
            let forged: String = forged.into_iter().collect();
            // The last character of a part may hold bits that mean nothing.
            if forged != token && jwt::payload(&forged) != Some(claims.clone()) {
                assert!(jwt::verify(&forged, &keys).is_err(), "{forged} was never signed");
            }
        }
        1 => {
            let header =
                json!({"alg": maker.pick(&["ES256", "none", "HS256", "RS256"]), "kid": maker.word()});
            let parts = [header.to_string(), claims.to_string(), maker.text()];
            let token = parts.map(|part| base64(part.as_bytes())).join(".");
            assert!(jwt::verify(&token, &keys).is_err(), "{token} was never signed");
            assert!(jwt::payload(&token).is_some());
        }
        2 => assert!(jwt::verify(&String::from_utf8_lossy(maker.rest()), &keys).is_err()),
        3 => {
            let _ = jwt::VerifyingKey::of_key_set(&json!({"keys": [jwk(&mut maker)]}));
        }
        _ => {
            let seconds = maker.int() % 4_000_000_000;
            let time = Timestamp::from_second(seconds).unwrap_or_default();
            let mut claims = claims.clone();
            claims["exp"] = maker.pick(&[
                json!(seconds),
                json!(seconds as f64 + 0.5),
                json!("x"),
                json!(1e300),
                json!(-1e300),
            ]);
            claims["nbf"] = maker.pick(&[json!(seconds - 1), json!(null), json!(1e300)]);
            claims["aud"] = maker.pick(&[json!("a"), json!(["b", "a"]), json!("b"), json!(1)]);
            let good = claims::check(&claims, &["a".to_owned()], time).is_ok();
            if good {
                assert!(
                    claims["exp"]
                        .as_f64()
                        .is_some_and(|end| end >= time.as_second() as f64)
                );
                assert!(claims["aud"] != "b" && claims["aud"] != 1);
            }
        }
    }
}

fn jwk(maker: &mut Maker<'_>) -> Value {
    let mut key = SIGNING.verifying_key().jwk().clone();
    let name = maker.pick(&["kty", "crv", "x", "y", "alg", "use", "n", "e"]);
    key[name] = json!(maker.word());
    key
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// Ciphers: what is sealed is opened with its key and its place, and garbage is refused.
pub fn ciphers(data: &[u8]) {
    let mut maker = Maker::new(data);
    let key: Vec<u8> = maker
        .bytes()
        .into_iter()
        .chain(std::iter::repeat(7))
        .take(32)
        .collect();
    let other: Vec<u8> = key.iter().map(|byte| byte ^ 1).collect();
    let (bound, elsewhere) = (maker.word(), maker.word());
    let length = maker.pick(&[16, 24, 32]);
    let value = maker.bytes();
    let flip = maker.below(256);
    let garbage = maker.rest();
    type Make = fn(&[u8]) -> Result<Cipher, String>;
    let kinds: [(Make, usize, bool, bool); 3] = [
        (Cipher::gcm, length, true, true),
        (Cipher::cbc, length, false, false),
        (Cipher::secretbox, 32, true, false),
    ];
    for (make, length, authentic, binds) in kinds {
        let cipher = make(&key[..length]).expect("a key of a good length");
        let mut sealed = Vec::new();
        cipher
            .seal(&bound, &value, &mut sealed)
            .expect("anything is sealed");
        assert_eq!(cipher.open(&bound, &sealed), Ok(value.clone()));
        let _ = cipher.open(&bound, garbage);
        if authentic {
            assert!(cipher.open(&bound, garbage).is_err(), "garbage was opened");
            assert!(make(&other[..length]).is_ok_and(|other| other.open(&bound, &sealed).is_err()));
            let at = flip % sealed.len();
            sealed[at] ^= 1;
            assert!(
                cipher.open(&bound, &sealed).is_err(),
                "a changed value was opened"
            );
            sealed[at] ^= 1;
        }
        if binds && bound != elsewhere {
            assert!(
                cipher.open(&elsewhere, &sealed).is_err(),
                "a value of another place was opened"
            );
        }
    }
    let seed = Seed::new(&key).expect("a seed of a good length");
    let sealed = seed.seal(&bound, &value).expect("anything is sealed");
    assert_eq!(seed.open(&bound, &sealed), Ok(value));
    assert!(seed.open(&bound, garbage).is_err(), "garbage was opened");
}
