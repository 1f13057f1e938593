//! Who is let in and what they may, shown over the whole corridor: an issuer of tokens, webhooks and a policy file, all made by
//! the tests, and what is refused.

use crate::loopback::{Ca, Loopback, Seen};
use crate::tests::world_with;
use rutter_api::Value;
use rutter_api::object::ObjectExt;
use rutter_auth::authenticate::jwt::SigningKey;
use serde_json::json;
use std::sync::Arc;

const PODS: &str = "/api/v1/namespaces/default/pods";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

fn signer() -> SigningKey {
    let pair = rcgen::KeyPair::generate().unwrap();
    SigningKey::parse(pair.serialize_pem().as_bytes()).unwrap()
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Jane reads pods, ops read everything, and nobody else does anything.
const POLICIES: &str = r#"
{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"user":"oidc:jane","namespace":"default","resource":"pods","readonly":true}}
{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"group":"ops","namespace":"*","resource":"*","apiGroup":"*","readonly":true}}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_vouches_for_its_users_and_a_policy_file_says_what_they_may() {
    let (ca, own, foreign) = (Ca::new(), signer(), signer());
    let keys = json!({"keys": [own.verifying_key().jwk()]});
    let answer = move |seen: &Seen| {
        let issuer = format!("https://{}", seen.headers["host"].to_str().unwrap());
        match seen.path.as_str() {
            "/.well-known/openid-configuration" => (
                200,
                json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")}),
            ),
            "/keys" => (200, keys.clone()),
            _ => (404, Value::Null),
        }
    };
    let server = Loopback::serve(&ca, &["127.0.0.1"], None, Arc::new(answer)).await;
    let issuer = format!("https://127.0.0.1:{}", server.port);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let world = world_with(&[
        format!("--oidc-issuer-url={issuer}"),
        "--oidc-client-id=cluster".to_owned(),
        "--oidc-username-prefix=oidc:".to_owned(),
        "--oidc-groups-claim=groups".to_owned(),
        "--oidc-signing-algs=ES256".to_owned(),
        format!("--oidc-ca-file={}", file("ca.crt", &ca.pem)),
        "--authorization-mode=ABAC".to_owned(),
        format!("--authorization-policy-file={}", file("policies", POLICIES)),
    ])
    .await;
    let token = |key: &SigningKey, change: Value| {
        let mut claims = json!({"iss": issuer, "aud": "cluster", "sub": "jane", "exp": now() + 60});
        claims
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        format!("Bearer {}", key.sign(&claims).unwrap())
    };
    let good = token(&own, json!({}));
    // The issuer's keys are fetched while the server is already serving.
    while world.anybody(PODS, &[("authorization", &good)]).await.0 == 401 {
        tokio::task::yield_now().await;
    }
    for (what, token, path, status) in [
        ("jane reads pods", good.clone(), PODS, 200),
        ("jane does not read secrets", good.clone(), SECRETS, 403),
        (
            "ops read secrets",
            token(&own, json!({"sub": "joe", "groups": ["ops"]})),
            SECRETS,
            200,
        ),
        (
            "joe alone reads nothing",
            token(&own, json!({"sub": "joe"})),
            PODS,
            403,
        ),
        ("another key", token(&foreign, json!({})), PODS, 401),
        ("an old token", token(&own, json!({"exp": now() - 5})), PODS, 401),
        (
            "a token for others",
            token(&own, json!({"aud": "vault"})),
            PODS,
            401,
        ),
        (
            "a token of others",
            token(&own, json!({"iss": "https://other.example"})),
            PODS,
            401,
        ),
        ("no token at all", "Bearer nonsense".to_owned(), PODS, 401),
    ] {
        let (got, answer) = world.anybody(path, &[("authorization", &token)]).await;
        assert_eq!(got, status, "{what}: {answer}");
        if status == 401 {
            assert_eq!(answer.str_at("message"), "Unauthorized", "{what}");
            assert_eq!(
                (answer.str_at("kind"), answer.str_at("reason")),
                ("Status", "Unauthorized")
            );
        }
    }
    let text = world.server.metrics.text();
    for (name, labels) in [
        ("apiserver_authorization_decisions_total", "type=\"ABAC\""),
        (
            "apiserver_authentication_jwt_authenticator_latency_seconds_count",
            "result=\"success\"",
        ),
        (
            "apiserver_authentication_jwt_authenticator_latency_seconds_count",
            "result=\"failure\"",
        ),
        ("authentication_attempts", "result=\"error\""),
        ("authorization_attempts_total", "result=\"no-opinion\""),
        ("authenticated_user_requests", "username=\"other\""),
    ] {
        let counted = text
            .lines()
            .any(|line| line.starts_with(name) && line.contains(labels) && !line.ends_with(" 0"));
        assert!(counted, "{name} {labels}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_say_whose_a_token_is_and_what_its_holder_may() {
    let ca = Ca::new();
    let answer = |seen: &Seen| {
        let spec = seen.body.at("spec");
        let status = match seen.body.str_at("kind") {
            "TokenReview" if spec.str_at("token") == "sesame" => {
                json!({"authenticated": true, "user": {"username": "ali", "groups": ["merchants"]}})
            }
            "TokenReview" => json!({"authenticated": false}),
            _ if spec.str_at("resourceAttributes.resource") == "secrets" => {
                json!({"allowed": false, "denied": true, "reason": "nobody reads these"})
            }
            _ => json!({"allowed": spec.str_at("user") == "ali"}),
        };
        let mut review = seen.body.clone();
        review.set("status", status);
        (200, review)
    };
    let server = Loopback::serve(&ca, &["127.0.0.1"], None, Arc::new(answer)).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("webhook.conf");
    use base64::Engine as _;
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "w",
        "clusters": [{"name": "w", "cluster": {
            "server": format!("https://127.0.0.1:{}/review", server.port),
            "certificate-authority-data": base64::engine::general_purpose::STANDARD.encode(&ca.pem),
        }}],
        "users": [{"name": "w", "user": {}}],
        "contexts": [{"name": "w", "context": {"cluster": "w", "user": "w"}}],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    let file = path.display();
    let world = world_with(&[
        format!("--authentication-token-webhook-config-file={file}"),
        "--authentication-token-webhook-version=v1".to_owned(),
        "--authorization-mode=Webhook".to_owned(),
        format!("--authorization-webhook-config-file={file}"),
        "--authorization-webhook-version=v1".to_owned(),
    ])
    .await;
    for (token, path, status, part) in [
        ("sesame", PODS, 200, ""),
        ("sesame", SECRETS, 403, "nobody reads these"),
        ("simsim", PODS, 401, "Unauthorized"),
    ] {
        let bearer = format!("Bearer {token}");
        let (got, answer) = world.anybody(path, &[("authorization", &bearer)]).await;
        assert_eq!(got, status, "{token} {path}: {answer}");
        assert!(answer.str_at("message").contains(part), "{answer}");
    }
    let anonymous = world.anybody(PODS, &[]).await;
    assert_eq!(anonymous.0, 403, "{}", anonymous.1);
    let seen = server.seen.lock();
    assert!(seen.iter().all(|seen| seen.path == "/review"));
    let asked = |kind: &str| {
        seen.iter()
            .filter(|seen| seen.body.str_at("kind") == kind)
            .count()
    };
    assert_eq!(asked("TokenReview"), 2, "a known token is remembered");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_impersonate_acts_as_another_and_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "t,carol,1\n").unwrap();
    let world = world_with(&[format!("--token-auth-file={}", tokens.display())]).await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "as-jane"},
        "rules": [
            {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["jane"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["userextras/acme.com/project"], "verbs": ["impersonate"], "resourceNames": ["p"]},
        ],
    });
    let reader = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
    });
    let bind = |name: &str, role: &str, user: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        })
    };
    for (path, object) in [
        ("clusterroles", role),
        ("clusterroles", reader),
        ("clusterrolebindings", bind("a", "as-jane", "carol")),
        ("clusterrolebindings", bind("b", "reader", "jane")),
    ] {
        let (status, answer) = world.admin("POST", &format!("{rbac}/{path}"), object).await;
        assert_eq!(status, 201, "{answer}");
    }
    // Who decides reads from the cache.
    world.server.cache.consistent().await.unwrap();
    let own = ("authorization", "Bearer t");
    for (headers, status, part) in [
        (vec![own], 403, "User \"carol\" cannot list resource \"pods\""),
        (vec![own, ("impersonate-user", "jane")], 200, ""),
        (
            vec![
                own,
                ("impersonate-user", "jane"),
                ("impersonate-extra-acme.com%2Fproject", "p"),
            ],
            200,
            "",
        ),
        (
            vec![
                own,
                ("impersonate-user", "jane"),
                ("impersonate-extra-acme.com%2Fproject", "q"),
            ],
            403,
            "userextras/acme.com/project",
        ),
        (vec![own, ("impersonate-user", "joe")], 403, "cannot"),
        (
            vec![
                own,
                ("impersonate-user", "jane"),
                ("impersonate-group", "system:masters"),
            ],
            403,
            "groups",
        ),
        (
            vec![own, ("impersonate-group", "dev")],
            400,
            "without impersonating a user",
        ),
    ] {
        let (got, answer) = world.anybody(PODS, &headers).await;
        assert_eq!(got, status, "{headers:?}: {answer}");
        assert!(answer.str_at("message").contains(part), "{headers:?}: {answer}");
    }
    let (status, answer) = world
        .admin(
            "POST",
            WHOAMI,
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}),
        )
        .await;
    assert_eq!(
        (status, answer.str_at("status.userInfo.username")),
        (201, "admin")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_is_a_401_and_not_nobody() {
    let world = world_with(&[]).await;
    let (certificate, _) = Ca::new().sign("admin", &[]);
    let (status, answer) = world.bearer_of(certificate.der().clone(), "/version").await;
    assert_eq!(
        (status, answer.str_at("message")),
        (401, "Unauthorized"),
        "{answer}"
    );
    assert_eq!(world.anybody("/version", &[]).await.0, 200, "nobody may ask this");
}
