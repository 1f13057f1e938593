//! Pod workers against the fake runtime.

use super::fake_api::FakeApi;
use super::fake_cri::FakeCri;
use crate::backoff::Backoff;
use crate::cgroups::{Cgroups, Driver};
use crate::images::Images;
use crate::objects::Objects;
use crate::pods::PodExt as _;
use crate::resources::LimitRules;
use crate::resources::ResourceList;
use crate::runtime::cri::Cri;
use crate::runtime::sandbox::DnsSettings;
use crate::shared::{Settings, Shared};
use crate::tokens::Tokens;
use crate::volumes::Volumes;
use crate::worker::View;
use crate::worker::pool::Pool;
use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::{Pod, Service};
use parking_lot::Mutex;
use rutter_client::events::Recorder;
use rutter_client::informer::Store;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

struct Bench {
    cri: FakeCri,
    api: FakeApi,
    pool: Pool,
    _dir: tempfile::TempDir,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().expect("a folder");
    let (cri, api) = (FakeCri::default(), FakeApi::default());
    let socket = cri.serve(dir.path());
    cri.add_image("x:1");
    let client = api.client();
    let runtime = Cri::new(socket, None, Duration::from_secs(5));
    let (recorder, _notes) = Recorder::to_channel();
    let (objects, _changes) = Objects::new(&client);
    let root = dir.path().join("kubelet");
    let volumes = Volumes::new(
        root.clone(),
        objects.clone(),
        Tokens::new(client.clone()),
        client.clone(),
    );
    let images = Images::new(runtime.clone(), objects.clone(), recorder.clone(), 4, Vec::new());
    let links = dir.path().join("containers");
    std::fs::create_dir_all(&links).expect("a folder");
    let settings = Settings {
        node_name: "n1".into(),
        root,
        pod_logs: dir.path().join("pods-logs"),
        container_logs: links,
        dns: DnsSettings::default(),
        limits: LimitRules {
            cpu_quota: true,
            period_micros: 100_000,
            memory_capacity: 1 << 30,
            unified: false,
            single_process_oom_kill: true,
        },
        pod_pids_limit: None,
        seccomp_default: false,
        allocatable: ResourceList::new(),
        runtime_name: "fake".into(),
        no_image_volumes: None,
        resync_seconds: 60,
        max_crash_backoff_seconds: 300,
    };
    let shared = Arc::new(Shared {
        settings,
        cri: runtime,
        client,
        recorder,
        objects,
        volumes,
        images,
        id_maps: crate::userns::IdMaps::new(dir.path().join("kubelet"), 10),
        devices: crate::devices::Devices::new(&dir.path().join("kubelet"), Arc::default()),
        network_changed: tokio::sync::Notify::new(),
        cgroups: Cgroups::new(&dir.path().join("no-cgroups"), "", Driver::Cgroupfs, false),
        services: Store::<Service>::default(),
        host_ips: ArcSwap::from_pointee(vec!["192.168.0.1".into()]),
        network_ready: ArcSwap::from_pointee(None),
        crash_backoff: Mutex::new(Backoff::new(10, 300)),
        user_namespaces: AtomicBool::new(false),
    });
    Bench {
        cri,
        api,
        pool: Pool::new(shared),
        _dir: dir,
    }
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "default", "uid": "u", "resourceVersion": "1"}, "spec": spec}))
        .expect("a pod")
}

impl Bench {
    fn put(&self, pod: &Pod) {
        self.pool.put(Arc::new(pod.clone()), &|_, _| Ok(()));
    }

    /// Waits until the worker's view is as wanted; the test's own time limit ends the waiting.
    async fn until(&self, what: &str, wanted: impl Fn(&View) -> bool) -> View {
        let looking = async {
            loop {
                if let Some((_, view)) = self.pool.get(&crate::pods::Uid::new("u"))
                    && wanted(&view)
                {
                    return view;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), looking)
            .await
            .unwrap_or_else(|_| panic!("never {what}"))
    }
}

fn phase(view: &View) -> &str {
    view.status.phase.as_deref().unwrap_or_default()
}

#[tokio::test]
async fn a_pod_runs_reports_and_goes_without_a_trace() {
    let bench = bench();
    let mut pod = pod(json!({"containers": [{"name": "a", "image": "x:1"}]}));
    bench.put(&pod);
    bench.until("running", |v| phase(v) == "Running").await;
    assert_eq!(bench.cri.running(), ["a"]);
    pod.metadata.deletion_timestamp = Some(crate::pods::api_time(jiff::Timestamp::now()));
    pod.metadata.deletion_grace_period_seconds = Some(5);
    bench.put(&pod);
    bench.until("terminated", |v| v.terminated).await;
    let gone = async {
        while bench.api.of("DELETE", "/pods/p").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone)
        .await
        .expect("the object is removed");
    let calls = bench.cri.calls();
    assert_eq!(
        calls,
        [
            "RunPodSandbox p",
            "CreateContainer a",
            "StopContainer a",
            "StopPodSandbox p",
            "RemovePodSandbox p"
        ]
    );
    let statuses = bench.api.of("PATCH", "/pods/p/status");
    assert!(
        statuses.iter().any(|s| s.body["status"]["phase"] == "Running"),
        "{statuses:?}"
    );
}

#[tokio::test]
async fn init_containers_run_in_turn_and_a_finished_pod_succeeds() {
    let bench = bench();
    bench.put(&pod(json!({"restartPolicy": "Never", "initContainers": [{"name": "i", "image": "x:1"}, {"name": "j", "image": "x:1"}],
        "containers": [{"name": "a", "image": "x:1"}]})));
    for name in ["i", "j", "a"] {
        bench
            .until("started", |v| v.observed.container(name).is_some())
            .await;
        let running = async {
            while bench.cri.running() != [name] {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), running)
            .await
            .expect(name);
        bench.cri.exit(name, 0);
        bench.pool.wake(&crate::pods::Uid::new("u"));
    }
    bench
        .until("succeeded", |v| phase(v) == "Succeeded" && v.terminated)
        .await;
    assert_eq!(
        bench
            .cri
            .calls()
            .iter()
            .filter(|c| c.starts_with("Create"))
            .count(),
        3
    );
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_the_containers_reason() {
    let bench = bench();
    bench.cri.fail("PullImage", u32::MAX);
    bench.put(&pod(json!({"containers": [{"name": "a", "image": "none:2"}]})));
    let view = bench
        .until("waiting", |v| {
            reason(v).is_some_and(|r| r == "ErrImagePull" || r == "ImagePullBackOff")
        })
        .await;
    assert_eq!(phase(&view), "Pending");
}

fn reason(view: &View) -> Option<String> {
    view.status
        .container_statuses
        .as_ref()?
        .first()?
        .state
        .as_ref()?
        .waiting
        .as_ref()?
        .reason
        .clone()
}

#[tokio::test]
async fn a_crashing_container_is_restarted_once_and_then_held_back() {
    let bench = bench();
    bench.put(&pod(json!({"containers": [{"name": "a", "image": "x:1"}]})));
    bench.until("running", |v| phase(v) == "Running").await;
    let uid = crate::pods::Uid::new("u");
    bench.cri.exit("a", 1);
    bench.pool.wake(&uid);
    bench
        .until("restarted", |v| {
            v.observed
                .container("a")
                .is_some_and(|c| c.restart_count == 1 && c.exit_code == 0)
        })
        .await;
    bench.cri.exit("a", 1);
    bench.pool.wake(&uid);
    let view = bench
        .until("held back", |v| reason(v).as_deref() == Some("CrashLoopBackOff"))
        .await;
    assert_eq!(phase(&view), "Running");
    assert!(bench.cri.running().is_empty());
}

#[tokio::test]
async fn every_call_may_fail_once_and_the_pod_runs_all_the_same() {
    for call in [
        "RunPodSandbox",
        "PodSandboxStatus",
        "ListPodSandbox",
        "CreateContainer",
        "ListContainers",
        "ContainerStatus",
        "ImageStatus",
    ] {
        let bench = bench();
        bench.cri.fail(call, 1);
        bench.put(&pod(json!({"containers": [{"name": "a", "image": "x:1"}]})));
        let uid = crate::pods::Uid::new("u");
        let running = async {
            while bench.cri.running() != ["a"] {
                bench.pool.wake(&uid);
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), running)
            .await
            .expect(call);
        let view = bench.until("running", |v| phase(v) == "Running").await;
        assert!(view.observed.sandboxes.len() <= 2, "{call}");
    }
}

#[tokio::test]
async fn a_pod_that_is_not_admitted_fails_without_a_container() {
    let bench = bench();
    let refused = crate::worker::Failure {
        reason: "OutOfcpu".into(),
        message: "no".into(),
        grace: None,
        rejected: true,
        disruption: None,
    };
    let pod = pod(json!({"containers": [{"name": "a", "image": "x:1"}]}));
    bench
        .pool
        .put(Arc::new(pod.clone()), &move |_, _| Err(refused.clone()));
    let view = bench.until("failed", |v| phase(v) == "Failed").await;
    assert_eq!(view.status.reason.as_deref(), Some("OutOfcpu"));
    assert!(bench.cri.calls().is_empty());
    assert_eq!(pod.full_name(), "default/p");
}

#[tokio::test]
async fn sidecars_end_after_the_others() {
    let bench = bench();
    let mut pod = pod(
        json!({"initContainers": [{"name": "s", "image": "x:1", "restartPolicy": "Always"}],
        "containers": [{"name": "a", "image": "x:1"}]}),
    );
    bench.put(&pod);
    bench.until("running", |v| phase(v) == "Running").await;
    pod.metadata.deletion_timestamp = Some(crate::pods::api_time(jiff::Timestamp::now()));
    pod.metadata.deletion_grace_period_seconds = Some(30);
    bench.put(&pod);
    bench.until("terminated", |v| v.terminated).await;
    let stops: Vec<String> = bench
        .cri
        .calls()
        .into_iter()
        .filter(|c| c.starts_with("StopContainer"))
        .collect();
    assert_eq!(stops, ["StopContainer a", "StopContainer s"]);
}
