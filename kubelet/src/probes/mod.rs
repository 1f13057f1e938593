//! Probes: one task for each probe of each running container, whose verdicts feed the pod's plan and status.

pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod tracker;

use crate::hooks::port;
use crate::plan::ProbeResults;
use crate::pods::{PodExt, is_sidecar};
use crate::runtime::cri::Cri;
use crate::runtime::observed::{ContainerState, Observed, ObservedContainer};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use parking_lot::Mutex;
use rutter_client::events::{EventType, Recorder, reference};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracker::{Kind, Tracker, Verdict};

/// How often probes had which outcome, by container, kind and outcome.
pub(crate) type ProbeCounts = Arc<Mutex<BTreeMap<(String, Kind, &'static str), u64>>>;

/// The probes of one pod.
pub(crate) struct Probes {
    cri: Cri,
    recorder: Recorder,
    results: Arc<Mutex<ProbeResults>>,
    counts: ProbeCounts,
    wake: Arc<Notify>,
    running: HashMap<(String, Kind), AbortHandle>,
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.running.values().for_each(AbortHandle::abort);
    }
}

struct Job {
    cri: Cri,
    recorder: Recorder,
    results: Arc<Mutex<ProbeResults>>,
    counts: ProbeCounts,
    wake: Arc<Notify>,
    pod: Arc<Pod>,
    container: Container,
    id: String,
    pod_ip: Option<String>,
    kind: Kind,
    probe: Probe,
    started: Timestamp,
}

impl Probes {
    /// No probes yet; `wake` is told of every change of a verdict.
    pub(crate) fn new(cri: Cri, recorder: Recorder, wake: Arc<Notify>) -> Self {
        Self {
            cri,
            recorder,
            results: Arc::default(),
            counts: Arc::default(),
            wake,
            running: HashMap::new(),
        }
    }

    /// The verdicts so far.
    pub(crate) fn results(&self) -> ProbeResults {
        self.results.lock().clone()
    }

    /// How they went so far.
    pub(crate) fn counts(&self) -> ProbeCounts {
        self.counts.clone()
    }

    /// Starts the probes of running containers, ends those of others.
    pub(crate) fn sync(&mut self, pod: &Arc<Pod>, observed: &Observed, terminating: bool) {
        let mut wanted: HashSet<(String, Kind)> = HashSet::new();
        let sidecars = pod.init_containers().iter().filter(|c| is_sidecar(c));
        for container in pod.spec().containers.iter().chain(sidecars) {
            let Some(seen) = observed
                .container(&container.name)
                .filter(|c| c.state == ContainerState::Running)
            else {
                continue;
            };
            for (kind, probe) in [
                (Kind::Startup, &container.startup_probe),
                (Kind::Liveness, &container.liveness_probe),
                (Kind::Readiness, &container.readiness_probe),
            ] {
                let Some(probe) = probe else { continue };
                if terminating && kind != Kind::Readiness {
                    continue;
                }
                let key = (seen.id.clone(), kind);
                if !self.running.contains_key(&key) {
                    let task = self.start(pod, container, seen, observed, kind, probe);
                    self.running.insert(key.clone(), task);
                }
                wanted.insert(key);
            }
        }
        let results = self.results.clone();
        self.running.retain(|key, task| {
            let keep = wanted.contains(key);
            if !keep {
                task.abort();
                map(&mut results.lock(), key.1).remove(&key.0);
            }
            keep
        });
    }

    fn start(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        seen: &ObservedContainer,
        observed: &Observed,
        kind: Kind,
        probe: &Probe,
    ) -> AbortHandle {
        let pod_ip = match observed.ips().first() {
            Some(ip) => Some(ip.clone()),
            None if pod.is_host_network() => Some(
                pod.status()
                    .host_ip
                    .clone()
                    .unwrap_or_else(|| "127.0.0.1".to_owned()),
            ),
            None => None,
        };
        let job = Job {
            cri: self.cri.clone(),
            recorder: self.recorder.clone(),
            results: self.results.clone(),
            counts: self.counts.clone(),
            wake: self.wake.clone(),
            pod: pod.clone(),
            container: container.clone(),
            id: seen.id.clone(),
            pod_ip,
            kind,
            probe: probe.clone(),
            started: seen.started_at.unwrap_or_else(Timestamp::now),
        };
        tokio::spawn(job.run()).abort_handle()
    }
}

fn map(results: &mut ProbeResults, kind: Kind) -> &mut HashMap<String, bool> {
    match kind {
        Kind::Startup => &mut results.startup,
        Kind::Liveness => &mut results.liveness,
        Kind::Readiness => &mut results.readiness,
    }
}

impl Job {
    async fn run(self) {
        let probe = &self.probe;
        let period = Duration::from_secs(
            u64::try_from(probe.period_seconds.unwrap_or(10))
                .unwrap_or(10)
                .max(1),
        );
        let delay = i64::from(probe.initial_delay_seconds.unwrap_or(0));
        let mut tracker = Tracker::new(
            self.kind,
            probe.success_threshold.unwrap_or(1),
            probe.failure_threshold.unwrap_or(3),
        );
        if let Some(first) = tracker.initial() {
            self.set(first);
        }
        if delay > 0 {
            let passed = Timestamp::now().duration_since(self.started).as_secs();
            let left = u64::try_from((delay - passed).max(0)).unwrap_or(0);
            tokio::time::sleep(Duration::from_secs(left)).await;
        }
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.kind != Kind::Startup && self.container.startup_probe.is_some() {
                // Nothing else is asked before the container has started.
                while self.results.lock().startup.get(&self.id) != Some(&true) {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            ticks.tick().await;
            let verdict = self.once().await;
            let outcome = match &verdict {
                Verdict::Success | Verdict::Warning(_) => "successful",
                Verdict::Failure(_) => "failed",
                Verdict::Unknown(_) => "unknown",
            };
            let key = (self.container.name.clone(), self.kind, outcome);
            *self.counts.lock().entry(key).or_default() += 1;
            if let Verdict::Failure(why) | Verdict::Warning(why) = &verdict {
                self.tell(&verdict, why);
            }
            if let Some(changed) = tracker.step(&verdict) {
                self.set(changed);
            }
            if tracker.is_over() {
                return;
            }
        }
    }

    fn tell(&self, verdict: &Verdict, why: &str) {
        let mut about = reference(&*self.pod);
        let group = if self
            .pod
            .spec()
            .containers
            .iter()
            .any(|c| c.name == self.container.name)
        {
            "containers"
        } else {
            "initContainers"
        };
        about.field_path = Some(format!("spec.{group}{{{}}}", self.container.name));
        let (reason, what) = match verdict {
            Verdict::Warning(_) => ("ProbeWarning", "warning"),
            _ => ("Unhealthy", "failed"),
        };
        self.recorder.about(
            about,
            EventType::Warning,
            reason,
            format!("{} probe {what}: {why}", self.kind.as_str()),
        );
    }

    fn set(&self, verdict: bool) {
        let before = map(&mut self.results.lock(), self.kind).insert(self.id.clone(), verdict);
        if before != Some(verdict) {
            self.wake.notify_one();
        }
    }

    async fn once(&self) -> Verdict {
        let seconds = u64::try_from(self.probe.timeout_seconds.unwrap_or(1))
            .unwrap_or(1)
            .max(1);
        let limit = Duration::from_secs(seconds);
        let probe = &self.probe;
        if let Some(exec) = &probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            return match self.cri.exec_sync(&self.id, command, limit).await {
                Ok(answer) if answer.exit_code == 0 => Verdict::Success,
                Ok(answer) => {
                    let output = [answer.stdout, answer.stderr].concat();
                    Verdict::Failure(
                        String::from_utf8_lossy(&output[..output.len().min(10 << 10)]).into_owned(),
                    )
                }
                Err(error) if error.status.code() == tonic::Code::DeadlineExceeded => {
                    Verdict::Failure(format!("command timed out: {error}"))
                }
                Err(error) if error.status.message().contains("timeout") => {
                    Verdict::Failure(format!("command timed out: {}", error.status.message()))
                }
                Err(error) => Verdict::Unknown(error.to_string()),
            };
        }
        if let Some(get) = &probe.http_get {
            return match http::request(&self.pod, &self.container, get, self.pod_ip.as_deref()) {
                Ok(request) => http::probe(&request, limit).await,
                Err(error) => Verdict::Unknown(error),
            };
        }
        if let Some(tcp) = &probe.tcp_socket {
            let port = match port(&self.container, &tcp.port) {
                Ok(port) => port,
                Err(error) => return Verdict::Unknown(error),
            };
            let host = tcp
                .host
                .as_deref()
                .filter(|h| !h.is_empty())
                .or(self.pod_ip.as_deref())
                .unwrap_or("127.0.0.1");
            return match tokio::time::timeout(limit, tokio::net::TcpStream::connect((host, port))).await {
                Ok(Ok(_)) => Verdict::Success,
                Ok(Err(error)) => Verdict::Failure(format!("dial tcp {host}:{port}: {error}")),
                Err(_) => Verdict::Failure(format!("dial tcp {host}:{port}: i/o timeout")),
            };
        }
        if let Some(own) = &probe.grpc {
            let host = self.pod_ip.as_deref().unwrap_or("127.0.0.1");
            return grpc::probe(host, own.port, own.service.as_deref().unwrap_or_default(), limit).await;
        }
        Verdict::Unknown("missing probe handler".to_owned())
    }
}
