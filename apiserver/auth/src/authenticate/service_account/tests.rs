use super::*;
use crate::authorize::testing::Objects;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use issue::TokenSpec;
use serde_json::json;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn pem(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

fn ec_key() -> String {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    pem("PRIVATE KEY", document.as_ref())
}

fn rsa_key() -> String {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    pem("PRIVATE KEY", der.as_ref())
}

fn objects() -> Objects {
    let objects = Objects::default();
    objects.put(
        "serviceaccounts",
        json!({"metadata": {"name": "web", "namespace": "a", "uid": "sa-1"}}),
    );
    objects.put(
        "pods",
        json!({"metadata": {"name": "p", "namespace": "a", "uid": "pod-1"},
               "spec": {"serviceAccountName": "web", "nodeName": "n"}}),
    );
    objects.put("nodes", json!({"metadata": {"name": "n", "uid": "node-1"}}));
    objects.put(
        "secrets",
        json!({"metadata": {"name": "s", "namespace": "a", "uid": "secret-1"}}),
    );
    objects
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn clock(text: &str) -> Clock {
    let now = at(text);
    Arc::new(move || now)
}

fn checker(pem: &str, objects: &Objects, now: &str) -> ServiceAccountTokens {
    let config = Config {
        issuers: vec![ISSUER.to_owned()],
        audiences: vec![ISSUER.to_owned()],
        keys: VerifyingKey::parse_all(pem.as_bytes()).unwrap(),
        lookup: true,
    };
    ServiceAccountTokens::new(config, Arc::new(objects.clone()), clock(now))
}

fn requests(pem: &str, objects: &Objects) -> TokenRequests {
    let issuer = Issuer {
        issuer: ISSUER.to_owned(),
        key: SigningKey::parse(pem.as_bytes()).unwrap(),
    };
    TokenRequests::new(
        issuer,
        vec![ISSUER.to_owned()],
        Arc::new(objects.clone()),
        true,
        None,
    )
}

const T0: &str = "2026-01-01T00:00:00Z";

fn token(pem: &str, objects: &Objects, spec: Value) -> Value {
    let requests = requests(pem, objects);
    let prepared = requests
        .prepare(json!({"spec": spec}), "a", "web", at(T0))
        .unwrap();
    requests.issue(prepared, at(T0), "id-1").unwrap().object
}

#[test]
fn tokens_of_every_key_are_recognized_and_others_are_not() {
    let objects = objects();
    for key in [ec_key(), rsa_key()] {
        let issued = token(&key, &objects, json!({}));
        let text = issued.str_at("status.token");
        let user = checker(&key, &objects, T0)
            .check(text, &[])
            .unwrap()
            .unwrap()
            .user;
        assert_eq!(user.name, "system:serviceaccount:a:web");
        assert_eq!(
            user.groups,
            ["system:serviceaccounts", "system:serviceaccounts:a"]
        );
        assert_eq!(
            user.extra["authentication.kubernetes.io/credential-id"],
            ["JTI=id-1"]
        );
        let other = checker(&ec_key(), &objects, T0).check(text, &[]);
        assert_eq!(other.unwrap_err().0, "invalid signature, no keys found");
        let (head, tail) = text.rsplit_once('.').unwrap();
        let (header, _) = head.split_once('.').unwrap();
        let forged = format!(
            "{header}.{}.{tail}",
            URL_SAFE_NO_PAD.encode(json!({"iss": ISSUER, "sub": "x"}).to_string())
        );
        assert_eq!(
            checker(&key, &objects, T0).check(&forged, &[]).unwrap_err().0,
            "invalid signature"
        );
        assert!(
            checker(&key, &objects, T0)
                .check("abcdef.0123456789abcdef", &[])
                .unwrap()
                .is_none()
        );
    }
}

#[test]
fn a_token_lives_as_long_as_what_it_is_bound_to() {
    let key = ec_key();
    let all = objects();
    let pod = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}});
    let text = token(&key, &all, pod)["status"]["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let known = checker(&key, &all, T0).check(&text, &[]).unwrap().unwrap();
    assert_eq!(known.user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(
        known.user.extra["authentication.kubernetes.io/node-uid"],
        ["node-1"]
    );
    assert_eq!(known.audiences, [ISSUER]);
    type Change<'a> = &'a dyn Fn(&Objects);
    let cases: [(&str, Change<'_>, &str, &str); 5] = [
        (
            "pod deleted",
            &|o| o.delete("pods", "a", "p"),
            T0,
            "service account token has been invalidated",
        ),
        (
            "pod replaced",
            &|o| {
                o.put(
                    "pods",
                    json!({"metadata": {"name": "p", "namespace": "a", "uid": "pod-2"}}),
                )
            },
            T0,
            "pod UID (pod-2) does not match service account pod ref claim (pod-1)",
        ),
        (
            "account deleted",
            &|o| o.delete("serviceaccounts", "a", "web"),
            T0,
            "serviceaccounts \"web\" not found",
        ),
        (
            "expired",
            &|_| (),
            "2026-01-01T02:00:00Z",
            "service account token has expired",
        ),
        (
            "early",
            &|_| (),
            "2025-12-31T00:00:00Z",
            "service account token is not valid yet",
        ),
    ];
    for (name, change, now, want) in cases {
        let objects = objects();
        change(&objects);
        let got = checker(&key, &objects, now).check(&text, &[]);
        assert_eq!(got.unwrap_err().0, want, "{name}");
    }
    let other = ["vault".to_owned()];
    assert!(
        checker(&key, &all, T0)
            .check(&text, &other)
            .unwrap_err()
            .0
            .starts_with("token audiences")
    );
}

#[test]
fn requests_are_bounded_and_kubelets_are_stretched() {
    let (key, objects) = (ec_key(), objects());
    let requests = requests(&key, &objects);
    for (seconds, want) in [
        (599, Some("may not specify a duration less than 10 minutes")),
        (600, None),
        (1_i64 << 32, None),
        (
            (1_i64 << 32) + 1,
            Some("may not specify a duration larger than 2^32 seconds"),
        ),
    ] {
        let got = requests.prepare(
            json!({"spec": {"expirationSeconds": seconds}}),
            "a",
            "web",
            at(T0),
        );
        match want {
            None => assert!(got.is_ok(), "{seconds}"),
            Some(text) => assert!(got.unwrap_err().message.ends_with(text), "{seconds}"),
        }
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pod-1"});
    let issued = token(
        &key,
        &objects,
        json!({"boundObjectRef": pod, "expirationSeconds": 3607}),
    );
    assert_eq!(
        issued.str_at("status.expirationTimestamp"),
        "2026-01-01T01:00:07Z"
    );
    let claims = Claims::from_value(&keys::payload(issued.str_at("status.token")).unwrap()).unwrap();
    let now = at(T0).as_second();
    assert_eq!(claims.expires, Some(now + 365 * 24 * 3600));
    assert_eq!(claims.kubernetes.warn_after, Some(now + 3607));
    let wrong = requests
        .prepare(
            json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "x"}}}),
            "a",
            "web",
            at(T0),
        )
        .and_then(|r| requests.issue(r, at(T0), "i"));
    assert_eq!(wrong.unwrap_err().code, 409);
}

#[test]
fn a_legacy_token_must_be_the_one_in_its_secret() {
    let (key, objects) = (rsa_key(), objects());
    let issuer = Issuer {
        issuer: ISSUER.to_owned(),
        key: SigningKey::parse(key.as_bytes()).unwrap(),
    };
    let account = json!({"metadata": {"name": "web", "namespace": "a", "uid": "sa-1"}});
    let text = issuer.legacy(&account, "s").unwrap();
    let check = || checker(&key, &objects, T0).check(&text, &[]);
    assert_eq!(check().unwrap_err().0, "Token does not match server's copy");
    objects.put(
        "secrets",
        json!({"metadata": {"name": "s", "namespace": "a"}, "data": {"token": STANDARD.encode(&text)}}),
    );
    assert_eq!(check().unwrap().unwrap().user.uid, "sa-1");
    objects.delete("secrets", "a", "s");
    assert_eq!(check().unwrap_err().0, "Token has been invalidated");
}

#[test]
fn the_key_set_names_every_key_once() {
    let keys: Vec<_> = [ec_key(), rsa_key()]
        .iter()
        .flat_map(|k| VerifyingKey::parse_all(k.as_bytes()).unwrap())
        .collect();
    let set = discovery::key_set(&keys);
    assert_eq!(set["keys"][0]["crv"], "P-256");
    assert_eq!(set["keys"][1]["kty"], "RSA");
    assert_eq!(set["keys"][1]["e"], "AQAB");
    let document = discovery::configuration(ISSUER, "https://x/openid/v1/jwks", &keys);
    assert_eq!(
        document["id_token_signing_alg_values_supported"],
        json!(["ES256", "RS256"])
    );
}

#[test]
fn claims_survive_the_way_there_and_back() {
    let spec = TokenSpec {
        namespace: "a".into(),
        account: Reference {
            name: "web".into(),
            uid: "1".into(),
        },
        bound: BoundTo::Secret(Reference {
            name: "s".into(),
            uid: "2".into(),
        }),
        audiences: vec!["x".into()],
        seconds: 600,
        warn_after: None,
    };
    let claims = issue::claims(&spec, ISSUER, at(T0), "id");
    assert_eq!(Claims::from_value(&claims.to_value()), Some(claims));
}
