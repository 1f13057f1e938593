//! An operator as people write them with kube-rs: a custom resource whose objects become ConfigMaps, with an owner and a finalizer.

use crate::cluster::{Cluster, SOON};
use crate::report::{eventually, step};
use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::watcher;
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: greetings.example.org
spec:
  group: example.org
  names: {kind: Greeting, plural: greetings, singular: greeting}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: Text, type: string, jsonPath: .spec.text}
    - {name: Said, type: string, jsonPath: .status.said}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [text]
            properties:
              text: {type: string, minLength: 1}
              times: {type: integer, default: 2, maximum: 5}
          status:
            type: object
            properties:
              said: {type: string}
"#;
const GREETING: &str =
    "apiVersion: example.org/v1\nkind: Greeting\nmetadata: {name: hello}\nspec: {text: hi}\n";
const FINALIZER: &str = "example.org/said";

/// The scenario.
pub(super) fn run(cluster: &Cluster) -> anyhow::Result<()> {
    let rctl = &cluster.rctl;
    step("a definition is established", || {
        rctl.ok_file(&["apply"], DEFINITION)?;
        rctl.ok(&[
            "wait",
            "crd/greetings.example.org",
            "--for=condition=Established",
            "--timeout=30s",
        ])
    })?;
    let operator = Operator::start(&cluster.kubeconfig())?;
    rctl.ok_file(&["create"], GREETING)?;
    let said = |text: &str| {
        eventually(&format!("the operator says {text:?}"), SOON, || {
            let map = cluster.get(&["configmap", "hello"])?;
            ensure!(map["data"]["said"] == text, "it says {}", map["data"]);
            ensure!(
                map["metadata"]["ownerReferences"][0]["kind"] == "Greeting",
                "{map}"
            );
            let row = rctl.ok(&["get", "greetings", "hello", "--no-headers"])?;
            let cells: Vec<&str> = row.split_whitespace().collect();
            ensure!(cells.get(2).is_some_and(|said| *said == text), "{row}");
            Ok(())
        })
    };
    said("hihi")?;
    rctl.ok(&[
        "patch",
        "greeting",
        "hello",
        "--type=merge",
        "-p",
        r#"{"spec":{"times":3}}"#,
    ])?;
    said("hihihi")?;
    rctl.ok(&["delete", "configmap", "hello"])?;
    said("hihihi")?;
    let refused = rctl.fails(&[
        "patch",
        "greeting",
        "hello",
        "--type=merge",
        "-p",
        r#"{"spec":{"times":9}}"#,
    ])?;
    ensure!(refused.contains("should be less than or equal to 5"), "{refused}");
    step(
        "a deleted object waits for its finalizer and takes its ConfigMap along",
        || rctl.ok(&["delete", "greeting", "hello", "--timeout=30s"]),
    )?;
    eventually("both are gone", SOON, || {
        rctl.fails(&["get", "configmap", "hello"])?;
        rctl.fails(&["get", "greeting", "hello"])
    })?;
    operator.stop()?;
    rctl.ok(&["delete", "crd", "greetings.example.org", "--timeout=30s"])
        .map(|_| ())
}

/// A controller on a thread of its own.
struct Operator {
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl Operator {
    fn start(kubeconfig: &Path) -> anyhow::Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let config =
                    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
                let client = Client::try_from(config)?;
                let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("example.org", "v1", "Greeting"));
                let greetings: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &kind);
                let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
                let context = Arc::new((greetings.clone(), maps.clone()));
                Controller::new_with(greetings, watcher::Config::default(), kind)
                    .owns(maps, watcher::Config::default())
                    .graceful_shutdown_on(async move {
                        // Told to stop, or nobody is left to tell.
                        let _ = stopped.await;
                    })
                    .run(
                        reconcile,
                        |_, _, _| Action::requeue(Duration::from_millis(200)),
                        context,
                    )
                    .for_each(|_| std::future::ready(()))
                    .await;
                Ok(())
            })
        });
        Ok(Self { stop, thread })
    }

    fn stop(self) -> anyhow::Result<()> {
        // An operator that has ended by itself says why.
        let _ = self.stop.send(());
        self.thread.join().ok().context("the operator panicked")?
    }
}

type Apis = (Api<DynamicObject>, Api<ConfigMap>);

async fn reconcile(
    greeting: Arc<DynamicObject>,
    apis: Arc<Apis>,
) -> Result<Action, kube::runtime::finalizer::Error<kube::Error>> {
    finalizer(&apis.0, FINALIZER, greeting, |event| async {
        if let Event::Apply(greeting) = event {
            say(&greeting, &apis).await?;
        }
        Ok(Action::await_change())
    })
    .await
}

/// Applies the ConfigMap of a greeting and tells in its status what is said.
async fn say(greeting: &DynamicObject, (greetings, maps): &Apis) -> Result<(), kube::Error> {
    let name = greeting.name_any();
    let spec = &greeting.data["spec"];
    let times = spec["times"].as_u64().and_then(|n| usize::try_from(n).ok());
    let said = spec["text"]
        .as_str()
        .unwrap_or_default()
        .repeat(times.unwrap_or_default());
    let manager = PatchParams::apply("greeter").force();
    let owner = json!({"apiVersion": "example.org/v1", "kind": "Greeting", "name": name, "uid": greeting.uid(), "controller": true});
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "data": {"said": said},
    });
    maps.patch(&name, &manager, &Patch::Apply::<Value>(map)).await?;
    let status = json!({"apiVersion": "example.org/v1", "kind": "Greeting", "status": {"said": said}});
    greetings
        .patch_status(&name, &manager, &Patch::Apply(status))
        .await?;
    Ok(())
}
