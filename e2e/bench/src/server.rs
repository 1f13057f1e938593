//! Starts an API server over a fresh store: certificates, etcd where wanted, and flags that upstream's server has too.

use crate::access::Access;
use crate::options::{Serve, Store};
use crate::wire::{Call, Dialer};
use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// How long a server may take to be ready.
const READY: Duration = Duration::from_secs(180);
/// How long a binding may take to come into force.
const GRANTED: Duration = Duration::from_secs(20);
/// Who measures. Not in `system:masters`: the authorizers decide as they do for everybody.
pub(crate) const USER: &str = "rutter-bench";
/// The two users of the flood: plain people in no group, whom nothing is granted until the flood is prepared.
pub(crate) const FLOOD_USERS: [&str; 2] = ["rutter-bench-flood", "rutter-bench-single"];

/// What is started, and where.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) binary: PathBuf,
    pub(crate) store: Store,
    pub(crate) etcd: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) extra: Vec<String>,
}

/// A server that was started; it ends when this is dropped.
pub(crate) struct Running {
    plan: Plan,
    port: u16,
    etcd: Option<Etcd>,
    child: Child,
    /// From the program's start to `/readyz`.
    pub(crate) ready: Duration,
}

/// An etcd that was started.
struct Etcd {
    child: Child,
    ports: EtcdPorts,
}

/// Where etcd listens.
#[derive(Clone, Copy)]
struct EtcdPorts {
    client: u16,
    peer: u16,
}

impl Plan {
    /// Starts etcd where it is wanted, and the server.
    pub(crate) async fn start(self) -> anyhow::Result<Running> {
        certificates(&self.dir)?;
        let etcd = match self.store {
            Store::Etcd => {
                let ports = EtcdPorts {
                    client: free_port()?,
                    peer: free_port()?,
                };
                let child = self.start_etcd(ports).await?;
                Some(Etcd { child, ports })
            }
            Store::Embedded | Store::Memory => None,
        };
        let port = free_port()?;
        let (child, ready) = self
            .start_server(port, etcd.as_ref().map(|etcd| etcd.ports.client))
            .await?;
        let running = Running {
            plan: self,
            port,
            etcd,
            child,
            ready,
        };
        running.admit().await?;
        Ok(running)
    }

    fn is_ours(&self) -> bool {
        self.binary
            .file_name()
            .is_some_and(|name| name.to_string_lossy().contains("rutter"))
    }

    async fn start_etcd(&self, ports: EtcdPorts) -> anyhow::Result<Child> {
        let EtcdPorts { client, peer } = ports;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let child = Command::new(&self.etcd)
            .arg("--data-dir")
            .arg(self.dir.join("etcd"))
            .args([
                "--listen-client-urls",
                &url(client),
                "--advertise-client-urls",
                &url(client),
            ])
            .args([
                "--listen-peer-urls",
                &url(peer),
                "--initial-advertise-peer-urls",
                &url(peer),
            ])
            .args(["--initial-cluster", &format!("default={}", url(peer))])
            .args(["--quota-backend-bytes", "8589934592"])
            .stdin(Stdio::null())
            .stdout(log(&self.dir, "etcd.log")?)
            .stderr(log(&self.dir, "etcd.log")?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.etcd.display()))?;
        let began = Instant::now();
        // One that only listens hasn't a leader yet, and its start would be measured as the server's.
        while !is_healthy(client).await {
            anyhow::ensure!(
                began.elapsed() < READY,
                "etcd is not healthy: {}",
                last_words(&self.dir.join("etcd.log").display().to_string())
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(child)
    }

    async fn start_server(&self, port: u16, etcd: Option<u16>) -> anyhow::Result<(Child, Duration)> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let mut command = Command::new(&self.binary);
        command
            .args(["--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1"])
            .args(["--secure-port", &port.to_string()])
            .args([
                "--tls-cert-file",
                &file("server.crt"),
                "--tls-private-key-file",
                &file("server.key"),
            ])
            .args(["--client-ca-file", &file("ca.crt")])
            .args(["--service-account-issuer", "https://kubernetes.default.svc"])
            .args(["--service-account-signing-key-file", &file("server.key")])
            .args(["--service-account-key-file", &file("server.pub")])
            .args([
                "--service-cluster-ip-range",
                "10.96.0.0/16",
                "--authorization-mode",
                "Node,RBAC",
            ]);
        if let Some(etcd) = etcd {
            command.args(["--etcd-servers", &format!("http://127.0.0.1:{etcd}")]);
        }
        if self.is_ours() {
            let store = match self.store {
                Store::Embedded => "embedded",
                Store::Etcd => "etcd",
                Store::Memory => "memory",
            };
            command.args(["--storage", store, "--data-dir", &file("data")]);
        } else {
            anyhow::ensure!(etcd.is_some(), "only our server has a store of its own");
            command.args(["--endpoint-reconciler-type", "none"]);
        }
        let began = Instant::now();
        let mut child = command
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(log(&self.dir, "server.log")?)
            .stderr(log(&self.dir, "server.log")?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.binary.display()))?;
        let dialer = Dialer::new(&self.access(port, "admin")?)?;
        while !is_ready(&dialer, port).await {
            if let Some(status) = child.try_wait()? {
                anyhow::bail!(
                    "the server ended with {status}: {}",
                    last_words(&file("server.log"))
                );
            }
            anyhow::ensure!(
                began.elapsed() < READY,
                "the server is not ready: {}",
                last_words(&file("server.log"))
            );
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        Ok((child, began.elapsed()))
    }

    fn access(&self, port: u16, who: &str) -> anyhow::Result<Access> {
        let path = self.dir.join(format!("{who}.kubeconfig"));
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bench", "cluster": {
                "server": format!("https://127.0.0.1:{port}"), "certificate-authority": self.dir.join("ca.crt")}}],
            "users": [{"name": who, "user": {
                "client-certificate": self.dir.join(format!("{who}.crt")), "client-key": self.dir.join(format!("{who}.key"))}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": who}}],
            "current-context": "bench",
        });
        std::fs::write(&path, config.to_string())?;
        Access::of_kubeconfig(&path)
    }
}

impl Running {
    /// How whoever measures reaches it.
    pub(crate) fn access(&self) -> anyhow::Result<Access> {
        self.plan.access(self.port, USER)
    }

    /// How the flood's users reach it.
    pub(crate) fn flood_access(&self) -> anyhow::Result<[Access; 2]> {
        let [flood, single] = FLOOD_USERS;
        Ok([
            self.plan.access(self.port, flood)?,
            self.plan.access(self.port, single)?,
        ])
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// etcd's process.
    pub(crate) fn store_pid(&self) -> Option<u32> {
        self.etcd.as_ref().and_then(|etcd| etcd.child.id())
    }

    /// SIGKILL to the server; the store stays.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("killing the server")
    }

    /// Starts the server again on the same port over the same store.
    pub(crate) async fn revive(&mut self) -> anyhow::Result<()> {
        let etcd = self.etcd.as_ref().map(|etcd| etcd.ports.client);
        (self.child, self.ready) = self.plan.start_server(self.port, etcd).await?;
        Ok(())
    }

    /// SIGKILL to etcd; the server stays.
    pub(crate) async fn kill_etcd(&mut self) -> anyhow::Result<()> {
        let etcd = self.etcd.as_mut().context("no etcd was started")?;
        etcd.child.kill().await.context("killing etcd")
    }

    /// Starts etcd again on the same ports over the same data.
    pub(crate) async fn revive_etcd(&mut self) -> anyhow::Result<()> {
        let etcd = self.etcd.as_mut().context("no etcd was started")?;
        etcd.child = self.plan.start_etcd(etcd.ports).await?;
        Ok(())
    }

    /// Lets whoever measures do everything, by RBAC.
    async fn admit(&self) -> anyhow::Result<()> {
        let wire = Dialer::new(&self.plan.access(self.port, "admin")?)?
            .dial()
            .await?;
        let body = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": USER},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}],
        });
        let call = Call {
            method: Method::POST,
            path: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings".to_owned(),
            content: "application/json",
            accept: "application/json",
            body: body.to_string().into(),
        };
        let (status, answer) = wire.fetch(&call).await?;
        anyhow::ensure!(
            matches!(status, 201 | 409),
            "the binding was refused: {}",
            String::from_utf8_lossy(&answer)
        );
        // An authorizer learns of it a moment later.
        let wire = Dialer::new(&self.access()?)?.dial().await?;
        let call = Call {
            method: Method::GET,
            path: "/api/v1/namespaces".to_owned(),
            body: Bytes::new(),
            ..call
        };
        let began = Instant::now();
        while wire.fetch(&call).await?.0 != 200 {
            anyhow::ensure!(began.elapsed() < GRANTED, "the binding does not come into force");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// Starts a server and keeps it until Ctrl-C.
pub(crate) async fn serve(options: &Serve) -> anyhow::Result<()> {
    let folder = Folder::of(options.dir.as_deref())?;
    let mut running = folder.plan(options).start().await?;
    running.flood_access()?;
    let [flood, single] = FLOOD_USERS.map(|user| folder.path.join(format!("{user}.kubeconfig")));
    let told = json!({
        "kubeconfig": folder.path.join(format!("{USER}.kubeconfig")),
        "adminKubeconfig": folder.path.join("admin.kubeconfig"),
        "floodKubeconfig": flood,
        "singleKubeconfig": single,
        "pid": running.pid(),
        "storePid": running.store_pid(),
        "log": folder.path.join("server.log"),
        "readyAfterSeconds": running.ready.as_secs_f64(),
    });
    println!("{told:#}");
    tokio::select! {
        ended = tokio::signal::ctrl_c() => ended.context("waiting for Ctrl-C"),
        ended = running.child.wait() => anyhow::bail!("the server ended with {}", ended?),
    }
}

/// A folder for a server: one that stays, or one that goes with the value.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Folder {
    pub(crate) fn of(dir: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(dir) = dir {
            std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
            return Ok(Self {
                path: dir.canonicalize()?,
                _temporary: None,
            });
        }
        let temporary = tempfile::Builder::new().prefix("rutter-bench-").tempdir()?;
        Ok(Self {
            path: temporary.path().to_owned(),
            _temporary: Some(temporary),
        })
    }

    /// A folder of its own below one, gone with the value.
    pub(crate) fn fresh(below: Option<&Path>) -> anyhow::Result<Self> {
        let Some(below) = below else {
            return Self::of(None);
        };
        std::fs::create_dir_all(below)?;
        let temporary = tempfile::Builder::new()
            .prefix("rutter-bench-")
            .tempdir_in(below)?;
        Ok(Self {
            path: temporary.path().canonicalize()?,
            _temporary: Some(temporary),
        })
    }

    pub(crate) fn plan(&self, options: &Serve) -> Plan {
        Plan {
            binary: options.binary.clone(),
            store: options.store,
            etcd: options.etcd.clone(),
            dir: self.path.clone(),
            extra: options.extra.clone(),
        }
    }
}

/// Whether an etcd says that it is.
async fn is_healthy(port: u16) -> bool {
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), ask).await;
    answer.is_ok_and(|answer| answer.is_ok_and(|text| text.contains("\"health\":\"true\"")))
}

async fn is_ready(dialer: &Dialer, port: u16) -> bool {
    if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        return false;
    }
    let Ok(wire) = dialer.dial().await else {
        return false;
    };
    let call = Call {
        method: Method::GET,
        path: "/readyz".to_owned(),
        content: "",
        accept: "*/*",
        body: Bytes::new(),
    };
    wire.fetch(&call).await.is_ok_and(|(status, _)| status == 200)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The end of a log, for an error: its file may be gone when that is read.
fn last_words(log: &str) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(3)
        .collect();
    match lines.is_empty() {
        true => "it said nothing".to_owned(),
        false => lines.into_iter().rev().collect::<Vec<_>>().join(" | "),
    }
}

fn log(dir: &Path, name: &str) -> anyhow::Result<std::fs::File> {
    Ok(std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join(name))?)
}

/// A CA, the server's certificate, an administrator's, one of whoever measures, and those of the flood's users; kept when they
/// are there.
fn certificates(dir: &Path) -> anyhow::Result<()> {
    let [flood, single] = FLOOD_USERS;
    let there = |name: &str| dir.join(format!("{name}.crt")).exists();
    if ["ca", "server", "admin", USER, flood, single]
        .into_iter()
        .all(there)
    {
        return Ok(());
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "rutter-bench-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::from_ca_cert_pem(&authority, key)?;
    for (file, name, group, addresses) in [
        (
            "server",
            "kube-apiserver",
            "",
            vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
        ),
        ("admin", "admin", "system:masters", Vec::new()),
        (USER, USER, "", Vec::new()),
        (flood, flood, "", Vec::new()),
        (single, single, "", Vec::new()),
    ] {
        let serves = !addresses.is_empty();
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(addresses)?;
        params.distinguished_name.push(DnType::CommonName, name);
        if !group.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match serves {
            true => ExtendedKeyUsagePurpose::ServerAuth,
            false => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        std::fs::write(
            dir.join(format!("{file}.crt")),
            params.signed_by(&key, &issuer)?.pem(),
        )?;
        std::fs::write(dir.join(format!("{file}.key")), key.serialize_pem())?;
        std::fs::write(dir.join(format!("{file}.pub")), key.public_key_pem())?;
    }
    std::fs::write(dir.join("ca.crt"), authority)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(folder: &Folder, script: &str) -> Plan {
        use std::os::unix::fs::PermissionsExt as _;
        let binary = folder.path.join("rutter-test");
        std::fs::write(&binary, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
        Plan {
            binary,
            store: Store::Embedded,
            etcd: "etcd".into(),
            dir: folder.path.clone(),
            extra: vec!["--one".to_owned(), "--two=2,3".to_owned()],
        }
    }

    #[tokio::test]
    async fn a_server_that_ends_is_an_error_with_its_last_words() {
        let folder = Folder::of(None).unwrap();
        let script = "for flag; do last=$flag; done; echo \"no such flag: $last\" >&2; exit 3";
        let error = match plan(&folder, script).start().await {
            Ok(_) => panic!("it has ended"),
            Err(error) => format!("{error:#}"),
        };
        // More flags come last.
        assert_eq!(
            error,
            "the server ended with exit status: 3: no such flag: --two=2,3"
        );
    }

    #[test]
    fn credentials_are_of_one_user_each_and_stay() {
        let folder = Folder::of(None).unwrap();
        certificates(&folder.path).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path.join(format!("{name}.crt"))).unwrap();
        let [flood, single] = FLOOD_USERS.map(read);
        assert!(flood != single && flood != read(USER));
        certificates(&folder.path).unwrap();
        assert_eq!(read(FLOOD_USERS[0]), flood);
        let access = plan(&folder, "").access(1, FLOOD_USERS[0]).unwrap();
        assert_eq!((access.host.as_str(), access.port), ("127.0.0.1", 1));
        assert!(access.identity.is_some());
    }

    #[test]
    fn last_words_are_the_end_of_what_was_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        let name = file.display().to_string();
        assert_eq!(last_words(&name), "it said nothing");
        std::fs::write(&file, "a\nb\nc\n\nd\n").unwrap();
        assert_eq!(last_words(&name), "b | c | d");
    }
}
