//! What is stored, and what is read of it, by configuration.

use super::*;
use parking_lot::Mutex;
use prometheus::Registry;
use rutter_proto::kms::key_management_service_server::{KeyManagementService, KeyManagementServiceServer};
use rutter_proto::kms::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

const SECRET: &str = "/registry/secrets/default/a";

fn folders() -> Folders {
    [
        ("/registry/secrets", Resource::new("secrets", "")),
        ("/registry/deployments", Resource::new("deployments", "apps")),
        ("/registry/services/specs", Resource::new("services", "")),
        ("/registry/leases", Resource::new("leases", "coordination.k8s.io")),
    ]
    .into_iter()
    .map(|(folder, resource)| (folder.to_owned(), resource))
    .collect()
}

struct Bench {
    folder: tempfile::TempDir,
    registry: Registry,
    metrics: Metrics,
}

impl Bench {
    fn new() -> Self {
        let registry = Registry::new();
        Self {
            folder: tempfile::tempdir().unwrap(),
            metrics: Metrics::register(&registry).unwrap(),
            registry,
        }
    }

    fn write(&self, resources: &str) -> PathBuf {
        let file = self.folder.path().join("encryption.yml");
        let text = format!(
            "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n{resources}"
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    async fn load(&self, resources: &str) -> Encryption {
        let file = self.write(resources);
        Encryption::load(&file, folders(), self.metrics.clone(), "server")
            .await
            .unwrap()
    }

    fn metric(&self, wanted: &str) -> String {
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap();
        text.lines()
            .find(|line| line.contains(wanted))
            .unwrap_or_default()
            .to_owned()
    }
}

fn keys(provider: &str, names: &[&str]) -> String {
    let keys = names.iter().map(|name| {
        let secret = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            hash(name.as_bytes()).as_bytes().get(7..39).unwrap(),
        );
        format!("{{name: {name}, secret: {secret}}}")
    });
    format!(
        "{{{provider}: {{keys: [{}]}}}}",
        keys.collect::<Vec<_>>().join(", ")
    )
}

fn entry(resources: &str, providers: &[String]) -> String {
    format!(
        "- {{resources: [{resources}], providers: [{}]}}\n",
        providers.join(", ")
    )
}

const IDENTITY: &str = "{identity: {}}";

#[tokio::test]
async fn the_first_key_writes_and_every_key_reads() {
    let bench = Bench::new();
    for provider in ["aesgcm", "aescbc", "secretbox"] {
        let old = bench.load(&entry("secrets", &[keys(provider, &["one"])])).await;
        let stored = old.seal(SECRET, "value".into()).await.unwrap();
        let prefix = format!("k8s:enc:{provider}:v1:one:");
        assert!(stored.starts_with(prefix.as_bytes()), "{provider}");
        let read = old.open(SECRET, stored.clone()).await.unwrap();
        assert_eq!((&*read.value, read.stale), (&b"value"[..], false), "{provider}");

        let rotated = bench
            .load(&entry("secrets", &[keys(provider, &["two", "one"])]))
            .await;
        let read = rotated.open(SECRET, stored.clone()).await.unwrap();
        assert_eq!((&*read.value, read.stale), (&b"value"[..], true), "{provider}");
        let written = rotated.seal(SECRET, "value".into()).await.unwrap();
        assert!(
            written.starts_with(format!("k8s:enc:{provider}:v1:two:").as_bytes()),
            "{provider}"
        );
        let name = if provider == "secretbox" {
            "Secretbox"
        } else {
            "AES"
        };
        assert_eq!(
            old.open(SECRET, written.clone()).await.unwrap_err(),
            format!("no matching key was found for the provided {name} transformer")
        );
        let leaving = entry("secrets", &[IDENTITY.to_owned(), keys(provider, &["two"])]);
        let leaving = bench.load(&leaving).await;
        assert_eq!(leaving.seal(SECRET, "value".into()).await.unwrap(), "value");
        assert!(leaving.open(SECRET, written).await.unwrap().stale);
        assert!(!leaving.open(SECRET, "value".into()).await.unwrap().stale);
    }
    let operations = "apiserver_storage_transformation_operations_total{resource=\"secrets\",status=\"OK\",transformation_type=\"to_storage\",transformer_prefix=\"k8s:enc:aesgcm:v1:\"} 2";
    assert_eq!(bench.metric(operations), operations);
}

#[tokio::test]
async fn values_that_no_provider_knows_are_refused_by_name() {
    let bench = Bench::new();
    let strict = bench
        .load(&entry("secrets", &[keys("secretbox", &["one"])]))
        .await;
    assert_eq!(
        strict.open(SECRET, "plain".into()).await.unwrap_err(),
        "no matching prefix found",
        "plain values are read where identity is a provider"
    );
    let stored = strict.seal(SECRET, "value".into()).await.unwrap();
    let none = Encryption::none(folders(), bench.metrics.clone());
    assert_eq!(
        none.open(SECRET, stored.clone()).await.unwrap_err(),
        "identity transformer tried to read encrypted data"
    );
    assert!(!none.is_plain(SECRET, &stored) && none.is_plain(SECRET, b"{}"));
    let bound = bench.load(&entry("secrets", &[keys("aesgcm", &["one"])])).await;
    let stored = bound.seal(SECRET, "value".into()).await.unwrap();
    assert!(
        bound.open("/registry/secrets/default/b", stored).await.is_err(),
        "a value of another key"
    );
}

#[tokio::test]
async fn wildcards_take_what_nothing_before_them_names() {
    let bench = Bench::new();
    let one = |name: &str| [keys("secretbox", &[name])];
    let rules = [
        entry("leases.coordination.k8s.io", &[IDENTITY.to_owned()]),
        entry("'*.apps'", &one("apps")),
        entry("secrets", &one("secrets")),
        entry("'*.'", &one("core")),
        entry("'*.*'", &one("all")),
    ];
    let encryption = bench.load(&rules.concat()).await;
    let cases = [
        (SECRET, "k8s:enc:secretbox:v1:secrets:"),
        ("/registry/deployments/default/a", "k8s:enc:secretbox:v1:apps:"),
        ("/registry/services/specs/default/a", "k8s:enc:secretbox:v1:core:"),
        ("/registry/leases/default/a", "value"),
        (
            "/registry/example.com/widgets/default/a",
            "k8s:enc:secretbox:v1:all:",
        ),
        ("/registry/masterleases/10.0.0.1", "value"),
        ("/registry/ranges/serviceips", "value"),
    ];
    for (key, expected) in cases {
        let stored = encryption.seal(key, "value".into()).await.unwrap();
        assert!(stored.starts_with(expected.as_bytes()), "{key}: {stored:?}");
    }
    let file = bench.write(&[entry("'*.*'", &one("all")), entry("secrets", &one("late"))].concat());
    let masked = Encryption::load(&file, folders(), bench.metrics.clone(), "server").await;
    let masked = masked.err().unwrap().to_string();
    assert!(
        masked.contains("resource \"secrets\" is masked by earlier rule \"*.*\""),
        "{masked}"
    );
}

#[tokio::test]
async fn a_changed_file_is_taken_over_and_a_bad_one_is_not() {
    let bench = Bench::new();
    let encryption = bench
        .load(&entry("secrets", &[keys("secretbox", &["one"])]))
        .await;
    let file = bench.write(&entry("secrets", &[keys("secretbox", &["one"])]));
    assert!(!encryption.reload(&file).await.unwrap(), "nothing changed");
    std::fs::write(&file, "kind: nonsense").unwrap();
    assert!(encryption.reload(&file).await.is_err());
    let stored = encryption.seal(SECRET, "value".into()).await.unwrap();
    assert!(stored.starts_with(b"k8s:enc:secretbox:v1:one:"));
    let file = bench.write(&entry("secrets", &[keys("secretbox", &["two", "one"])]));
    assert!(encryption.reload(&file).await.unwrap());
    assert!(encryption.open(SECRET, stored).await.unwrap().stale);
    for status in ["success", "failure"] {
        let line = bench.metric(&format!(
            "automatic_reloads_total{{apiserver_id_hash=\"{}\",status=\"{status}\"",
            hash(b"server")
        ));
        assert!(line.ends_with(" 1"), "{status}: {line}");
    }
}

/// A plugin that "seals" by turning bytes over, and counts.
#[derive(Clone, Default)]
struct FakePlugin(Arc<Mutex<FakeState>>);

#[derive(Default)]
struct FakeState {
    key: String,
    ill: bool,
    sealed: u32,
    opened: u32,
}

#[async_trait]
impl KeyManagementService for FakePlugin {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let state = self.0.lock();
        Ok(Response::new(StatusResponse {
            version: "v2".to_owned(),
            healthz: if state.ill { "no" } else { "ok" }.to_owned(),
            key_id: state.key.clone(),
        }))
    }

    async fn encrypt(&self, request: Request<EncryptRequest>) -> Result<Response<EncryptResponse>, Status> {
        let mut state = self.0.lock();
        state.sealed += 1;
        Ok(Response::new(EncryptResponse {
            ciphertext: request.into_inner().plaintext.iter().map(|byte| !byte).collect(),
            key_id: state.key.clone(),
            annotations: [("kms.example.com".to_owned(), b"x".to_vec())].into(),
        }))
    }

    async fn decrypt(&self, request: Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        let mut state = self.0.lock();
        state.opened += 1;
        let request = request.into_inner();
        if state.ill || !request.annotations.contains_key("kms.example.com") {
            return Err(Status::internal("the plugin is ill"));
        }
        let plaintext = request.ciphertext.iter().map(|byte| !byte).collect();
        Ok(Response::new(DecryptResponse { plaintext }))
    }
}

#[tokio::test]
async fn keys_of_a_plugin_are_made_once_and_rotated_when_its_key_changes() {
    let bench = Bench::new();
    let socket = bench.folder.path().join("kms.sock");
    let plugin = FakePlugin::default();
    plugin.0.lock().key = "first".to_owned();
    let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
    let serving = tonic::transport::Server::builder()
        .add_service(KeyManagementServiceServer::new(plugin.clone()))
        .serve_with_incoming(listener);
    let serving = tokio::spawn(serving);
    let kms = |name: &str| {
        format!(
            "{{kms: {{apiVersion: v2, name: {name}, endpoint: 'unix://{}', timeout: 1s}}}}",
            socket.display()
        )
    };
    let resources = entry("secrets", &[kms("k"), IDENTITY.to_owned()]);
    let one = bench.load(&resources).await;
    assert!(one.has_plugins());
    one.check().await.unwrap();
    let stored = one.seal(SECRET, "value".into()).await.unwrap();
    assert!(stored.starts_with(b"k8s:enc:kms:v2:k:"));
    let more = one.seal(SECRET, "more".into()).await.unwrap();
    assert_eq!(one.open(SECRET, stored.clone()).await.unwrap().value, "value");
    let asked = || {
        let state = plugin.0.lock();
        (state.sealed, state.opened)
    };
    assert_eq!(asked(), (1, 0), "its own seed is known");
    // Another server has a seed of its own and asks for this one once.
    let other = bench.load(&resources).await;
    for (stored, value) in [(&stored, "value"), (&more, "more")] {
        let read = other.open(SECRET, stored.clone()).await.unwrap();
        assert_eq!((read.value, read.stale), (Bytes::from(value), false));
    }
    assert_eq!(asked().1, 1);
    plugin.0.lock().key = "second".to_owned();
    let rotated = bench.load(&resources).await;
    assert!(rotated.open(SECRET, stored.clone()).await.unwrap().stale);
    plugin.0.lock().ill = true;
    let late = bench.load(&resources).await;
    let why = late.open(SECRET, stored.clone()).await.unwrap_err();
    assert!(
        why.contains("failed to decrypt DEK") && why.contains("the plugin is ill"),
        "{why}"
    );
    let why = late.check().await.unwrap_err();
    assert!(
        why.contains("kms-provider-0") && why.contains("got unexpected healthz status: no"),
        "{why}"
    );
    assert_eq!(
        one.open(SECRET, stored).await.unwrap().value,
        "value",
        "what is known is read without the plugin"
    );
    serving.abort();
    let away = bench.load(&resources.replace("name: k", "name: k2")).await;
    assert!(
        away.seal(SECRET, "value".into()).await.is_err(),
        "nothing is written plain while the plugin is away"
    );
    let line = bench.metric("apiserver_envelope_encryption_kms_operations_latency_seconds_count{grpc_status_code=\"OK\",method_name=\"/v2.KeyManagementService/Encrypt\",provider_name=\"k\"}");
    assert!(line.ends_with(" 4"), "a seed for each server: {line}");
}
