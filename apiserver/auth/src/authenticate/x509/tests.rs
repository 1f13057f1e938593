use super::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Ca {
        pem,
        issuer: Issuer::new(params, key),
    }
}

fn client(ca: &Ca, usage: ExtendedKeyUsagePurpose, uid: Option<&str>) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "dev");
    params.distinguished_name.push(DnType::CommonName, "jane");
    if let Some(uid) = uid {
        params
            .distinguished_name
            .push(DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2]), uid);
    }
    params.extended_key_usages = vec![usage];
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    let key = KeyPair::generate().unwrap();
    params.signed_by(&key, &ca.issuer).unwrap().der().clone()
}

fn at(date: &str) -> Clock {
    let now: jiff::Timestamp = date.parse().unwrap();
    Arc::new(move || now)
}

#[test]
fn a_certificate_is_believed_when_signed_valid_and_meant_for_clients() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let good = client(&ours, ExtendedKeyUsagePurpose::ClientAuth, Some("u-1"));
    let now = "2026-06-01T00:00:00Z";
    let cases = [
        ("good", good.clone(), &ours, now, true),
        ("signed by another", good.clone(), &theirs, now, false),
        ("expired", good.clone(), &ours, "2027-06-01T00:00:00Z", false),
        (
            "not yet valid",
            good.clone(),
            &ours,
            "2024-06-01T00:00:00Z",
            false,
        ),
        (
            "for servers",
            client(&ours, ExtendedKeyUsagePurpose::ServerAuth, None),
            &ours,
            now,
            false,
        ),
    ];
    for (name, certificate, ca, date, want) in cases {
        let verifier = ClientCertificates::new(ca.pem.as_bytes(), at(date)).unwrap();
        let got = verifier.verify(&[certificate]);
        assert_eq!(got.is_ok(), want, "{name}: {got:?}");
        if let Ok(user) = got {
            assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "u-1"));
            assert_eq!(user.groups, ["dev"]);
            assert!(user.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
        }
    }
}

#[test]
fn authorities_can_be_replaced() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let verifier = ClientCertificates::new(ours.pem.as_bytes(), at("2026-06-01T00:00:00Z")).unwrap();
    let chain = [client(&theirs, ExtendedKeyUsagePurpose::ClientAuth, None)];
    assert!(verifier.verify(&chain).is_err());
    verifier.reload(theirs.pem.as_bytes()).unwrap();
    assert!(verifier.verify(&chain).is_ok());
    assert!(verifier.reload(b"nothing").is_err());
    assert!(verifier.verify(&chain).is_ok());
}

#[test]
fn a_chain_that_was_believed_is_believed_no_longer_than_it_is_valid() {
    let ours = authority("ours");
    let seconds = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let told = seconds.clone();
    let clock: Clock = Arc::new(move || {
        jiff::Timestamp::from_second(told.load(std::sync::atomic::Ordering::Relaxed)).unwrap_or_default()
    });
    let verifier = ClientCertificates::new(ours.pem.as_bytes(), clock).unwrap();
    let chain = [client(&ours, ExtendedKeyUsagePurpose::ClientAuth, None)];
    for (date, want) in [
        ("2026-06-01T00:00:00Z", true),
        ("2026-06-02T00:00:00Z", true),
        ("2027-06-01T00:00:00Z", false),
        ("2024-06-01T00:00:00Z", false),
        ("2026-06-03T00:00:00Z", true),
    ] {
        let now: jiff::Timestamp = date.parse().unwrap();
        seconds.store(now.as_second(), std::sync::atomic::Ordering::Relaxed);
        assert_eq!(verifier.verify(&chain).is_ok(), want, "{date}");
    }
    verifier.reload(authority("theirs").pem.as_bytes()).unwrap();
    assert!(verifier.verify(&chain).is_err(), "other authorities know nobody");
}
