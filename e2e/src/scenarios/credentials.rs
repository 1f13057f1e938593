//! Who is not known, not known any more, or known and not allowed. Each answer is read as the API gives it: code, reason, message.

use super::{busybox_pod, pod_ready, text};
use crate::cluster::{Cluster, SOON, node_address};
use crate::report::{eventually, step};
use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// The scenario.
pub(super) fn run(cluster: &Cluster) -> anyhow::Result<()> {
    let api = Api::new(cluster)?;
    step("nobody is nobody", || anonymous(&api))?;
    step("tokens: good, forged, for others, expired", || {
        tokens(cluster, &api)
    })?;
    step("tokens end with what they are bound to", || {
        bound_tokens(cluster, &api)
    })?;
    step(
        "client certificates: good, expired, not yet valid, of another CA",
        || certificates(cluster, &api),
    )?;
    step("programs say it as they should", || by_programs(cluster))?;
    cluster
        .rctl
        .ok(&["delete", "serviceaccount", "keeper"])
        .map(|_| ())
}

/// What is answered.
struct Answer {
    code: u16,
    body: Value,
}

impl Answer {
    fn is(&self, code: u16, reason: &str, message: &str) -> anyhow::Result<()> {
        ensure!(
            self.code == code
                && self.body["kind"] == "Status"
                && self.body["status"] == "Failure"
                && self.body["code"] == code
                && self.body["reason"] == reason
                && text(&self.body["message"]) == message,
            "wanted {code} {reason} {message:?}, got {} {}",
            self.code,
            self.body
        );
        Ok(())
    }

    fn unauthorized(&self) -> anyhow::Result<()> {
        self.is(401, "Unauthorized", "Unauthorized")
    }

    fn forbidden(&self, user: &str) -> anyhow::Result<()> {
        let message = format!(
            "secrets is forbidden: User \"{user}\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\""
        );
        self.is(403, "Forbidden", &message)
    }
}

/// The API server, as curl reaches it.
struct Api {
    folder: PathBuf,
    authority: PathBuf,
}

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

impl Api {
    fn new(cluster: &Cluster) -> anyhow::Result<Self> {
        let folder = cluster.scratch().join("credentials");
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            folder,
            authority: cluster.pki().join("ca.crt"),
        })
    }

    fn ask(&self, path: &str, flags: &[&str]) -> anyhow::Result<Answer> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
            .arg(&self.authority)
            .args(["--write-out", "\n%{http_code}"])
            .args(flags)
            .arg(format!("https://{}:6443{path}", node_address(1)))
            .output()
            .context("starting curl")?;
        let told = String::from_utf8(output.stdout)?;
        let (body, code) = told.rsplit_once('\n').context("no answer")?;
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Answer {
            code: code.parse()?,
            body: serde_json::from_str(body).with_context(|| format!("no JSON: {body} {why}"))?,
        })
    }

    /// Lists Secrets with a token.
    fn with_token(&self, token: &str) -> anyhow::Result<Answer> {
        self.ask(SECRETS, &["--header", &format!("Authorization: Bearer {token}")])
    }

    /// Lists Secrets with a client certificate.
    fn with_certificate(&self, name: &str) -> anyhow::Result<Answer> {
        let file = |kind: &str| {
            self.folder
                .join(format!("{name}.{kind}"))
                .to_string_lossy()
                .into_owned()
        };
        self.ask(SECRETS, &["--cert", &file("crt"), "--key", &file("key")])
    }
}

fn anonymous(api: &Api) -> anyhow::Result<()> {
    api.ask(SECRETS, &[])?.forbidden("system:anonymous")?;
    let version = api.ask("/version", &[])?;
    ensure!(
        version.code == 200 && version.body["major"] == "1",
        "{}",
        version.body
    );
    Ok(())
}

const KEEPER: &str = "system:serviceaccount:default:keeper";

fn tokens(cluster: &Cluster, api: &Api) -> anyhow::Result<()> {
    let rctl = &cluster.rctl;
    rctl.ok(&["create", "serviceaccount", "keeper"])?;
    let token = rctl.ok(&["create", "token", "keeper"])?;
    // Known, and without rights.
    api.with_token(&token)?.forbidden(KEEPER)?;
    let (content, signature) = token.rsplit_once('.').context("no signature")?;
    let (head, claims) = content.split_once('.').context("no claims")?;
    // Another signature, none, other claims under the same one, another algorithm.
    let flipped: String = signature.chars().rev().collect();
    let mut other: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    other["sub"] = json!("system:serviceaccount:kube-system:generic-garbage-collector");
    let other = URL_SAFE_NO_PAD.encode(other.to_string());
    let none = URL_SAFE_NO_PAD.encode(json!({"alg": "none", "typ": "JWT"}).to_string());
    for forged in [
        format!("{content}.{flipped}"),
        format!("{content}."),
        format!("{head}.{other}.{signature}"),
        format!("{none}.{claims}."),
        "not-a-token".to_owned(),
    ] {
        api.with_token(&forged)?.unauthorized()?;
    }
    let elsewhere = rctl.ok(&["create", "token", "keeper", "--audience=elsewhere"])?;
    api.with_token(&elsewhere)?.unauthorized()?;
    // Signed with the cluster's own key: as it was, and as it will have been.
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    let sign = |from: i64, to: i64| signed(&cluster.pki().join("sa.key"), head, &claims, from, to);
    api.with_token(&sign(-60, 600)?)?.forbidden(KEEPER)?;
    api.with_token(&sign(-7200, -3600)?)?.unauthorized()?;
    api.with_token(&sign(3600, 7200)?)?.unauthorized()
}

/// A token with the same claims and another time, in seconds from now.
fn signed(key: &Path, head: &str, claims: &Value, from: i64, to: i64) -> anyhow::Result<String> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs();
    let now = i64::try_from(now)?;
    let mut claims = claims.clone();
    claims["iat"] = json!(now + from);
    claims["nbf"] = json!(now + from);
    claims["exp"] = json!(now + to);
    let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head)?)?;
    let mut header = jsonwebtoken::Header::new(text(&head["alg"]).parse()?);
    header.kid = head["kid"].as_str().map(str::to_owned);
    let key = jsonwebtoken::EncodingKey::from_ec_pem(&std::fs::read(key)?)?;
    Ok(jsonwebtoken::encode(&header, &claims, &key)?)
}

fn bound_tokens(cluster: &Cluster, api: &Api) -> anyhow::Result<()> {
    let rctl = &cluster.rctl;
    rctl.ok(&["create", "secret", "generic", "holder", "--from-literal=a=b"])?;
    let holder = busybox_pod("holder", "sleep 3600", "  serviceAccountName: keeper\n");
    rctl.ok_file(&["create"], &holder)?;
    pod_ready(cluster, "holder")?;
    // The one that the pod itself was given, too.
    let path = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let given = rctl.ok(&["exec", "holder", "--", "cat", path])?;
    let bound = |kind: &str, name: &str| {
        let kind = format!("--bound-object-kind={kind}");
        let name = format!("--bound-object-name={name}");
        rctl.ok(&["create", "token", "keeper", &kind, &name])
    };
    let (to_pod, to_secret) = (bound("Pod", "holder")?, bound("Secret", "holder")?);
    let plain = rctl.ok(&["create", "token", "keeper"])?;
    for token in [&given, &to_pod, &to_secret, &plain] {
        api.with_token(token)?.forbidden(KEEPER)?;
    }
    let ends = |what: &str, tokens: &[&String]| {
        eventually(what, SOON, || {
            tokens
                .iter()
                .try_for_each(|token| api.with_token(token)?.unauthorized())
        })
    };
    rctl.ok(&["delete", "secret", "holder"])?;
    ends("  a deleted Secret's token is not taken", &[&to_secret])?;
    rctl.ok(&["delete", "pod", "holder", "--now"])?;
    ends("  a deleted pod's tokens are not taken", &[&to_pod, &given])?;
    api.with_token(&plain)?.forbidden(KEEPER)?;
    rctl.ok(&["delete", "serviceaccount", "keeper"])?;
    ends("  a deleted service account's token is not taken", &[&plain])?;
    // One of the same name is another one.
    rctl.ok(&["create", "serviceaccount", "keeper"])?;
    api.with_token(&plain)?.unauthorized()
}

fn certificates(cluster: &Cluster, api: &Api) -> anyhow::Result<()> {
    let pki = cluster.pki();
    let key = KeyPair::from_pem(&std::fs::read_to_string(pki.join("ca.key"))?)?;
    let ours = Issuer::from_ca_cert_pem(&std::fs::read_to_string(pki.join("ca.crt"))?, key)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    // The very name of the cluster's CA: only the key tells them apart.
    params.distinguished_name.push(DnType::CommonName, "kubernetes");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let foreign = Issuer::from_ca_cert_pem(&params.self_signed(&key)?.pem(), key)?;
    let hour = 3600;
    issue(api, "good", &ours, "jane", "", (-hour, hour))?;
    issue(api, "master", &ours, "root", "system:masters", (-hour, hour))?;
    issue(
        api,
        "expired",
        &ours,
        "root",
        "system:masters",
        (-2 * hour, -hour),
    )?;
    issue(api, "early", &ours, "root", "system:masters", (hour, 2 * hour))?;
    issue(api, "foreign", &foreign, "root", "system:masters", (-hour, hour))?;
    api.with_certificate("good")?.forbidden("jane")?;
    let listed = api.with_certificate("master")?;
    ensure!(
        listed.code == 200 && listed.body["kind"] == "SecretList",
        "{}",
        listed.body
    );
    for refused in ["expired", "early", "foreign"] {
        api.with_certificate(refused)?
            .unauthorized()
            .with_context(|| refused.to_owned())?;
    }
    Ok(())
}

/// Writes a client certificate, valid between two times, in seconds from now.
fn issue(
    api: &Api,
    name: &str,
    by: &Issuer<'_, KeyPair>,
    user: &str,
    group: &str,
    valid: (i64, i64),
) -> anyhow::Result<()> {
    let at = |seconds: i64| {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let now = SystemTime::now();
        let time = if seconds < 0 {
            now - distance
        } else {
            now + distance
        };
        time.into()
    };
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, user);
    if !group.is_empty() {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.not_before = at(valid.0);
    params.not_after = at(valid.1);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, by)?;
    std::fs::write(api.folder.join(format!("{name}.crt")), certificate.pem())?;
    std::fs::write(api.folder.join(format!("{name}.key")), key.serialize_pem())?;
    Ok(())
}

/// `rctl` and `kubectl` with such credentials.
fn by_programs(cluster: &Cluster) -> anyhow::Result<()> {
    let token = cluster.rctl.ok(&["create", "token", "keeper"])?;
    let file = cluster.scratch().join("credentials.kubeconfig");
    for (token, wanted) in [
        (
            token.as_str(),
            format!(
                "Error from server (Forbidden): secrets is forbidden: User \"{KEEPER}\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"\n"
            ),
        ),
        (
            "not-a-token",
            "error: You must be logged in to the server (Unauthorized)\n".to_owned(),
        ),
    ] {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {
                "server": format!("https://{}:6443", node_address(1)),
                "certificate-authority": cluster.pki().join("ca.crt")}}],
            "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        std::fs::write(&file, config.to_string())?;
        for tool in cluster.tools() {
            let told = tool.with_kubeconfig(&file).fails(&["get", "secrets"])?;
            // Finding out which resources there are is refused first, and a client may say so, too.
            ensure!(told.ends_with(&wanted), "{}: {told}", tool.name);
        }
    }
    Ok(())
}
