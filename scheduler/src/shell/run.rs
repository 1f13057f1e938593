//! From flags to a running scheduler, and its loop.

use super::act::Actor;
use super::observe::Observer;
use crate::config::{Configuration, default_profile, profiles};
use crate::metrics::{attempts_label, metrics};
use crate::model::Uid;
use crate::queue::Millis;
use crate::scheduler::{Bound, Decision, Scheduler, Settings};
use anyhow::Context as _;
use futures::{FutureExt as _, StreamExt as _};
use rutter_client::component::{self, Health, LogArgs, ServingArgs};
use rutter_client::connect::ConnectionArgs;
use rutter_client::election::{ElectionArgs, LeaderElector, duration};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The flags, under upstream's names.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "rutter-scheduler", version = component::version_text(), about = "Gives every pod a node.")]
pub struct Args {
    /// A KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1). What it says takes precedence over flags.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The port of health, metrics and version, over HTTPS; 0 for none.
    #[arg(long, value_name = "PORT", default_value_t = 10259)]
    pub secure_port: u16,
    /// How to reach the apiserver.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Leader election.
    #[command(flatten)]
    pub election: ElectionArgs,
    /// Serving.
    #[command(flatten)]
    pub serving: ServingArgs,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

const NAME: &str = "kube-scheduler";

/// How many writes may be under way.
const WRITES_MAX: usize = 256;
/// How many changes are taken in, and how many pods decided about, before the other gets its turn.
const CHANGES_AT_ONCE: usize = 2000;
const DECISIONS_AT_ONCE: usize = 32;

fn merge(args: &mut Args, config: &Configuration) -> anyhow::Result<()> {
    let given = &config.leader_election;
    let election = &mut args.election;
    if let Some(elect) = given.leader_elect {
        election.leader_elect = elect;
    }
    for (text, field, path) in [
        (
            &given.lease_duration,
            &mut election.leader_elect_lease_duration,
            "leaseDuration",
        ),
        (
            &given.renew_deadline,
            &mut election.leader_elect_renew_deadline,
            "renewDeadline",
        ),
        (
            &given.retry_period,
            &mut election.leader_elect_retry_period,
            "retryPeriod",
        ),
    ] {
        if let Some(text) = text {
            *field = duration(text)
                .map_err(anyhow::Error::msg)
                .with_context(|| format!("leaderElection.{path}"))?;
        }
    }
    if let Some(name) = given.resource_name.as_ref().filter(|n| !n.is_empty()) {
        election.leader_elect_resource_name = Some(name.clone());
    }
    if let Some(namespace) = given.resource_namespace.as_ref().filter(|n| !n.is_empty()) {
        election.leader_elect_resource_namespace.clone_from(namespace);
    }
    let kubeconfig = config.client_connection.kubeconfig.as_ref();
    if let Some(kubeconfig) = kubeconfig.filter(|k| !k.as_os_str().is_empty()) {
        args.connection.kubeconfig = Some(kubeconfig.clone());
    }
    Ok(())
}

/// Runs the scheduler until it is told to stop, or loses the lead.
///
/// # Errors
/// When the configuration, the apiserver's address or the port can't be used, and when the lead is lost.
pub async fn run(mut args: Args) -> anyhow::Result<()> {
    component::init_logging(&args.log);
    let (profiles, settings) = match &args.config {
        Some(path) => {
            let config = Configuration::read(path).with_context(|| format!("--config {}", path.display()))?;
            merge(&mut args, &config)?;
            (profiles(&config)?, config.settings())
        }
        None => (vec![default_profile()?], Settings::default()),
    };
    let stop = component::shutdown_signal();
    let client = args.connection.client("rutter-scheduler").await?;
    let health = Health::new();
    let synced = health.ready_flag("informers-synced");
    component::serve(
        &args.serving,
        args.secure_port,
        health,
        Some(client.clone()),
        stop.clone(),
    )
    .await?;

    let mut observer = Observer::start(&client);
    tokio::select! {
        () = observer.synced() => synced.store(true, Ordering::Release),
        () = stop.cancelled() => return Ok(()),
    }
    let scheduler = Scheduler::new(profiles, settings, rand::random());
    let edge = Edge::new(
        Actor::new(client.clone(), "default-scheduler"),
        scheduler,
        observer,
    );
    if !args.election.leader_elect {
        edge.run(stop, None).await;
        return Ok(());
    }
    let mut elector = LeaderElector::new(client, &args.election, NAME)?;
    let leading = CancellationToken::new();
    let worker = tokio::spawn(edge.run(stop.clone(), Some(leading.clone())));
    tokio::select! {
        () = elector.acquire() => leading.cancel(),
        () = stop.cancelled() => {}
    }
    tokio::select! {
        () = elector.hold(), if !stop.is_cancelled() => anyhow::bail!("the lead was lost; ending so that the new leader works alone"),
        () = stop.cancelled() => {}
    }
    // What is being written is finished before another may lead.
    let _ = worker.await;
    elector.release().await;
    Ok(())
}

struct Ended {
    uid: Uid,
    profile: String,
    attempts: u32,
    first_try: Millis,
    flushed: bool,
    began: Instant,
    result: Bound,
}

enum Written {
    Binding(Box<Ended>),
    Failure,
}

/// The loop between the world and the scheduler.
struct Edge {
    actor: Actor,
    scheduler: Scheduler,
    observer: Observer,
    epoch: Instant,
    writes: usize,
    written: (mpsc::UnboundedSender<Written>, mpsc::UnboundedReceiver<Written>),
}

impl Edge {
    fn new(actor: Actor, scheduler: Scheduler, observer: Observer) -> Self {
        Self {
            actor,
            scheduler,
            observer,
            epoch: Instant::now(),
            writes: 0,
            written: mpsc::unbounded_channel(),
        }
    }

    fn now(&self) -> Millis {
        // A start above zero lets subtraction stay simple.
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes in changes all the time, and decides once `lead` (when there is one) is cancelled, until `stop`.
    async fn run(mut self, stop: CancellationToken, lead: Option<CancellationToken>) {
        let mut housekeeping = tokio::time::interval(Duration::from_secs(1));
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.take_in();
            let leads = lead.as_ref().is_none_or(CancellationToken::is_cancelled);
            if leads && !stop.is_cancelled() {
                for _ in 0..DECISIONS_AT_ONCE {
                    if !self.decide() {
                        break;
                    }
                }
            }
            if stop.is_cancelled() && self.writes == 0 {
                return;
            }
            let now = self.now();
            let busy =
                leads && !stop.is_cancelled() && self.writes < WRITES_MAX && self.scheduler.is_ready(now);
            if busy {
                tokio::task::yield_now().await;
                continue;
            }
            let wake = self.epoch
                + Duration::from_millis(
                    self.scheduler
                        .queue()
                        .next_wake()
                        .unwrap_or(now + 60_000)
                        .max(now + 1),
                );
            let led = async {
                match &lead {
                    Some(lead) if !leads => lead.cancelled().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(change) = self.observer.changes.next() => change(&mut self.scheduler, now),
                Some(written) = self.written.1.recv() => self.note(written),
                () = tokio::time::sleep_until(wake), if leads => {}
                () = led => {}
                _ = housekeeping.tick() => self.keep_house(),
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
    }

    fn take_in(&mut self) {
        let now = self.now();
        while let Ok(written) = self.written.1.try_recv() {
            self.note(written);
        }
        for _ in 0..CHANGES_AT_ONCE {
            match self.observer.changes.next().now_or_never() {
                Some(Some(change)) => change(&mut self.scheduler, now),
                _ => break,
            }
        }
    }

    fn decide(&mut self) -> bool {
        if self.writes >= WRITES_MAX {
            return false;
        }
        let began = Instant::now();
        let Some(decision) = self.scheduler.decide(self.now()) else {
            return false;
        };
        metrics()
            .algorithm_duration
            .observe(began.elapsed().as_secs_f64());
        self.write(decision, began);
        true
    }

    fn write(&mut self, decision: Decision, began: Instant) {
        self.writes += 1;
        let (actor, written) = (self.actor.clone(), self.written.0.clone());
        match decision {
            Decision::Bind(binding) => {
                metrics().goroutines.with_label_values(&["binding"]).inc();
                tokio::spawn(async move {
                    let result = actor.bind(&binding).await;
                    metrics().goroutines.with_label_values(&["binding"]).dec();
                    let _ = written.send(Written::Binding(Box::new(Ended {
                        uid: binding.pod.uid.clone(),
                        profile: binding.pod.template.scheduler_name.as_str().to_owned(),
                        attempts: binding.attempts,
                        first_try: binding.first_try,
                        flushed: binding.flushed,
                        began,
                        result,
                    })));
                });
            }
            Decision::Fail(failure) => {
                let result = if failure.reason == "Unschedulable" {
                    "unschedulable"
                } else {
                    "error"
                };
                let profile = failure.pod.template.scheduler_name.as_str();
                observe_attempt(result, profile, began);
                if failure.preemption_tried {
                    metrics().preemption_attempts.inc();
                }
                tracing::debug!(object = %failure.pod, message = failure.message, "no node");
                tokio::spawn(async move {
                    actor.fail(&failure).await;
                    let _ = written.send(Written::Failure);
                });
            }
        }
    }

    fn note(&mut self, written: Written) {
        self.writes -= 1;
        let Written::Binding(ended) = written else { return };
        let now = self.now();
        if ended.result == Bound::Done {
            observe_attempt("scheduled", &ended.profile, ended.began);
            let metrics = metrics();
            metrics.pod_attempts.observe(f64::from(ended.attempts));
            let took = now.saturating_sub(ended.first_try) as f64 / 1000.0;
            let label = attempts_label(ended.attempts);
            metrics.sli_duration.with_label_values(&[&label]).observe(took);
            if ended.flushed {
                metrics.after_flush.inc();
            }
        }
        if let Some(decision) = self.scheduler.bound(&ended.uid, ended.result, now) {
            self.write(decision, ended.began);
        }
    }

    fn keep_house(&mut self) {
        let now = self.now();
        self.scheduler.expire(now);
        let metrics = metrics();
        metrics.show_depths(self.scheduler.queue().depths());
        for ((queue, event), count) in self.scheduler.take_incoming() {
            metrics.incoming.with_label_values(&[queue, event]).inc_by(count);
        }
        for (kind, size) in [
            ("nodes", self.scheduler.snapshot().len()),
            ("pods", self.scheduler.snapshot().pod_count()),
            ("assumed_pods", self.scheduler.assumed()),
        ] {
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            metrics.cache_size.with_label_values(&[kind]).set(size);
        }
        metrics.unschedulable.reset();
        for (profile, plugin, count) in self.scheduler.queue().aside() {
            metrics
                .unschedulable
                .with_label_values(&[plugin, profile.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

fn observe_attempt(result: &str, profile: &str, began: Instant) {
    let metrics = metrics();
    metrics.attempts.with_label_values(&[result, profile]).inc();
    metrics
        .attempt_duration
        .with_label_values(&[result, profile])
        .observe(began.elapsed().as_secs_f64());
}
