//! The shell around `rutter-fairness`: requests wait here, are woken here, and give their seats back here.
//!
//! A request takes a [`Seat`] before it is authorized and holds it until it is answered; a watch until its first state is sent.
//! The configuration in force is replaced as a whole ([`follow`]); requests in flight end under the one that they began with. The
//! way in takes one lock of the request's own level and allocates a description for the debug pages, nothing else.

mod dump;
mod follow;
mod watchers;

pub use dump::answer as debug;
pub use follow::run;

use crate::corridor::Held;
use crate::metrics::Metrics as ServerMetrics;
use crate::request::RequestInfo;
use ahash::RandomState;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rutter_api::{StatusError, UserInfo};
use rutter_fairness::config::{self, Config, Level};
use rutter_fairness::demand::Demand;
use rutter_fairness::drops::Drops;
use rutter_fairness::limits::{self, Party};
use rutter_fairness::metrics::{FlowMetrics, LevelMetrics, Metrics};
use rutter_fairness::queues::{Id, Mode, QueueSet, Refusal, Verdict};
use rutter_fairness::schema::{Digest, Schema};
use rutter_fairness::work::{self, Stored, Work};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
pub use watchers::Watching;
use watchers::{Watched, Watchers};

/// The longest that a request waits in a queue.
const PATIENCE: Duration = Duration::from_secs(60);

/// API priority and fairness.
pub struct Fairness {
    started: Instant,
    total: u32,
    hasher: RandomState,
    force: ArcSwap<Force>,
    /// Levels that were deleted while something was going on in them.
    draining: Mutex<Vec<Arc<LevelState>>>,
    watchers: Arc<Watchers>,
    metrics: Metrics,
    server: ServerMetrics,
}

/// What is in force.
struct Force {
    flows: Vec<Arc<Flow>>,
    levels: Vec<Active>,
}

/// A level and what its configuration says.
#[derive(Clone)]
struct Active {
    spec: Level,
    state: Arc<LevelState>,
}

/// A schema and the level that its requests go to.
struct Flow {
    schema: Schema,
    level: Arc<LevelState>,
    level_uid: String,
    most_seats: u32,
    mode: Mode,
    metrics: FlowMetrics,
}

struct LevelState {
    name: String,
    set: Mutex<Set>,
    demand: Mutex<Demand>,
    drops: Mutex<Drops>,
    metrics: LevelMetrics,
}

struct Set {
    queues: QueueSet<About, oneshot::Sender<()>>,
    unfit: u64,
}

/// What the debug pages show of a request.
struct About {
    flow: Arc<Flow>,
    /// Distinguisher, user, verb, path, namespace, name, group and version, resource, subresource.
    texts: Box<str>,
}

/// Which schema and level a request was counted to: for the answer's headers.
#[derive(Clone)]
pub struct Class(Arc<Flow>);

impl Class {
    /// The uid of the FlowSchema.
    pub fn schema_uid(&self) -> &str {
        &self.0.schema.uid
    }

    /// The uid of the PriorityLevelConfiguration.
    pub fn level_uid(&self) -> &str {
        &self.0.level_uid
    }
}

/// A request that wants a seat.
pub struct Asked<'a> {
    /// By whom.
    pub user: &'a UserInfo,
    /// What.
    pub info: &'a RequestInfo,
    /// What is stored of the resource, for lists and watches that begin with all there is.
    pub stored: Option<Stored>,
    /// `limit`
    pub limit: u64,
    /// How long it may wait.
    pub patience: Duration,
}

/// A place among those served. Dropping it gives the seats to others.
pub struct Seat {
    fairness: Arc<Fairness>,
    flow: Arc<Flow>,
    id: Id,
    work: Work,
    since: Instant,
    mutating: bool,
    watch: bool,
    _held: Held,
}

/// A request on its way to a seat. Dropping it takes the request out of its queue.
struct Ticket {
    fairness: Arc<Fairness>,
    flow: Arc<Flow>,
    id: Id,
    work: Work,
    mutating: bool,
    /// Whether it is over: seated or out.
    over: bool,
}

impl Fairness {
    /// Divides `total` seats. The mandatory configuration is in force until [`run`] has read the stored one.
    pub fn new(total: u32, server: ServerMetrics) -> prometheus::Result<Arc<Self>> {
        let started = Instant::now();
        let metrics = Metrics::register(&server.registry, Arc::new(move || started.elapsed()))?;
        let fairness = Arc::new(Self {
            started,
            total,
            hasher: RandomState::new(),
            force: ArcSwap::from_pointee(Force {
                flows: Vec::new(),
                levels: Vec::new(),
            }),
            draining: Mutex::default(),
            watchers: Arc::default(),
            metrics,
            server,
        });
        let nothing: [Arc<rutter_api::Value>; 0] = [];
        fairness.adopt(config::digest(&nothing, &nothing, total));
        Ok(fairness)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A watch begins: writes are told to one more.
    pub fn watching(&self, info: &RequestInfo, node: Option<&str>) -> Watching {
        Watchers::enter(&self.watchers, &watched(info), node)
    }

    /// Takes a seat, or waits for one, or is refused. `class` is set as soon as it is known.
    pub async fn enter(
        self: &Arc<Self>,
        asked: Asked<'_>,
        class: &mut Option<Class>,
    ) -> Result<Seat, StatusError> {
        let info = asked.info;
        let digest = digest(asked.user, info);
        let force = self.force.load();
        // The last schema takes what no other does; without any, everybody would be locked out.
        let found = force.flows.iter().find(|flow| flow.schema.takes(&digest));
        let Some(flow) = found.or(force.flows.last()).cloned() else {
            return Err(StatusError::unavailable(
                "priority and fairness is not configured",
            ));
        };
        drop(force);
        *class = Some(Class(flow.clone()));
        let work = self.estimate(&asked, &flow);
        let distinguisher = flow.schema.flow(&digest);
        let hash = self.hasher.hash_one((&flow.schema.name, distinguisher));
        let about = About {
            flow: flow.clone(),
            texts: describe(distinguisher, asked.user, info),
        };
        let mutating = is_mutating(info);
        let mut woken = None;
        let verdict = self.in_level(&flow, |now, set| {
            set.start(now, work, hash, about, || {
                let (waker, wait) = oneshot::channel();
                woken = Some(wait);
                waker
            })
        });
        let exempt = flow.mode == Mode::Exempt;
        match (verdict, woken) {
            (Verdict::Run(id), _) => {
                if !exempt {
                    flow.metrics.waited(Duration::ZERO, true);
                }
                Ok(self.seat(flow, id, work, mutating, info.verb == "watch"))
            }
            (Verdict::Wait(id, length), Some(woken)) => {
                flow.metrics.queued(&work, length);
                self.metrics.kind(false, mutating, 1);
                let ticket = Ticket {
                    fairness: self.clone(),
                    flow,
                    id,
                    work,
                    mutating,
                    over: false,
                };
                self.wait(ticket, woken, &asked).await
            }
            (Verdict::Wait(..), None) => Err(StatusError::internal("a request waits for nobody")),
            (Verdict::Refused(why), _) => {
                if !exempt {
                    flow.metrics.waited(Duration::ZERO, false);
                }
                Err(self.refusal(&flow, why))
            }
        }
    }

    async fn wait(
        self: &Arc<Self>,
        mut ticket: Ticket,
        woken: oneshot::Receiver<()>,
        asked: &Asked<'_>,
    ) -> Result<Seat, StatusError> {
        let since = Instant::now();
        let in_time = tokio::time::timeout(asked.patience.min(PATIENCE), woken).await;
        let late = !matches!(in_time, Ok(Ok(())));
        ticket.over = true;
        if late && self.leave(&ticket.flow, ticket.id, Some(Refusal::TimeOut)) {
            ticket.left();
            ticket.flow.metrics.waited(since.elapsed(), false);
            return Err(self.refusal(&ticket.flow, Refusal::TimeOut));
        }
        ticket.left();
        ticket.flow.metrics.waited(since.elapsed(), true);
        let (flow, id) = (ticket.flow.clone(), ticket.id);
        Ok(self.seat(flow, id, ticket.work, ticket.mutating, asked.info.verb == "watch"))
    }

    fn seat(self: &Arc<Self>, flow: Arc<Flow>, id: Id, work: Work, mutating: bool, watch: bool) -> Seat {
        flow.metrics.started(&work);
        self.metrics.kind(true, mutating, 1);
        Seat {
            fairness: self.clone(),
            flow,
            id,
            work,
            since: Instant::now(),
            mutating,
            watch,
            _held: Held::new(self.server.in_flight(mutating)),
        }
    }

    fn refusal(&self, flow: &Flow, why: Refusal) -> StatusError {
        flow.metrics.refused(why);
        let seconds = flow.level.drops.lock().note(self.now().as_secs());
        tracing::debug!(schema = %flow.schema.name, level = %flow.level.name, why = why.as_str(), "request sent away");
        StatusError::too_many_requests(
            "Too many requests, please try again later.",
            u32::try_from(seconds).unwrap_or(1),
        )
    }

    fn estimate(&self, asked: &Asked<'_>, flow: &Flow) -> Work {
        let info = asked.info;
        let single = !info.name.is_empty();
        let (work, watchers) = match info.verb.as_str() {
            _ if !info.is_resource => (Work::ONE, None),
            "list" | "watch" => (
                work::list(asked.stored, asked.limit, single, flow.most_seats),
                None,
            ),
            "create" | "update" | "patch" | "delete" => {
                // A token is nothing that watchers are told of.
                let silent = info.resource == "serviceaccounts" && info.subresource == "token";
                let count = if silent {
                    0
                } else {
                    self.watchers.of(&watched(info))
                };
                (work::write(count, flow.most_seats), Some(count))
            }
            _ => (Work::ONE, None),
        };
        flow.metrics.estimated(&work, watchers);
        work
    }

    /// Does something in a flow's level, and wakes those whose turn has come by it.
    fn in_level<T>(
        &self,
        flow: &Flow,
        act: impl FnOnce(Duration, &mut QueueSet<About, oneshot::Sender<()>>) -> T,
    ) -> T {
        let (done, unfit) = self.in_state(&flow.level, act);
        if unfit > 0 {
            flow.metrics.unfit(unfit);
        }
        done
    }

    fn in_state<T>(
        &self,
        level: &LevelState,
        act: impl FnOnce(Duration, &mut QueueSet<About, oneshot::Sender<()>>) -> T,
    ) -> (T, u64) {
        let mut set = level.set.lock();
        // Read under the lock, so that a level's time never goes back.
        let now = self.now();
        let done = act(now, &mut set.queues);
        let turns = set.queues.turns();
        let unfit = set.queues.unfit();
        let more = unfit - std::mem::replace(&mut set.unfit, unfit);
        self.metrics
            .happened(&level.metrics, now, &set.queues.totals(), set.queues.meter());
        drop(set);
        for (_, waker) in turns {
            // Who no longer listens gives its seat back when its ticket is dropped.
            let _ = waker.send(());
        }
        (done, more)
    }

    /// Takes a request out of its queue; false when it has a seat by now.
    fn leave(&self, flow: &Flow, id: Id, why: Option<Refusal>) -> bool {
        self.in_level(flow, |now, set| set.cancel(now, id, why))
    }

    /// Gives a request's seats back, at once or when its watchers have been told.
    fn give_back(self: &Arc<Self>, flow: Arc<Flow>, id: Id, work: Work) {
        let Some(tail) = self.in_level(&flow, |now, set| set.finish(now, id)) else {
            flow.metrics.released(&work);
            return;
        };
        let fairness = self.clone();
        let release = async move {
            tokio::time::sleep(tail.lasts).await;
            fairness.in_level(&flow, |now, set| set.release(now, tail));
            flow.metrics.released(&work);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(release)),
            // The process is ending: nobody needs the seats.
            Err(_) => drop(release),
        }
    }

    /// Puts a configuration in force.
    fn adopt(&self, config: Config) {
        let before = self.force.load_full();
        let now = self.now();
        let mut levels: Vec<Active> = Vec::with_capacity(config.levels.len());
        for mut spec in config.levels {
            let known = before.levels.iter().find(|active| active.spec.name == spec.name);
            let state = match known {
                Some(active) => {
                    spec.limits.current = active
                        .spec
                        .limits
                        .current
                        .clamp(spec.limits.least, spec.limits.most);
                    active.state.clone()
                }
                None => self.revive(&spec, now),
            };
            levels.push(Active { spec, state });
        }
        let flows = config.schemas.into_iter().filter_map(|schema| {
            let active = levels.iter().find(|active| active.spec.name == schema.level)?;
            Some(Arc::new(Flow {
                metrics: self.metrics.flow(&schema.level, &schema.name),
                level: active.state.clone(),
                level_uid: active.spec.uid.clone(),
                most_seats: active.spec.most_seats,
                mode: active.spec.mode,
                schema,
            }))
        });
        let flows = flows.collect();
        let gone = before
            .levels
            .iter()
            .filter(|old| !levels.iter().any(|active| active.spec.name == old.spec.name));
        let mut draining = self.draining.lock();
        draining.extend(gone.map(|old| old.state.clone()));
        draining.retain(|state| !state.set.lock().queues.is_idle());
        drop(draining);
        let waiting = levels.iter().map(|active| match active.spec.mode {
            Mode::Queue { queues, length, .. } => queues * length,
            _ => 0,
        });
        let executing = levels.iter().map(|active| active.spec.limits.nominal);
        self.metrics.capacity(waiting.sum(), executing.sum());
        self.divide(Force { flows, levels });
    }

    /// The state of a level that begins, or that comes back while it drains.
    fn revive(&self, spec: &Level, now: Duration) -> Arc<LevelState> {
        let mut draining = self.draining.lock();
        if let Some(at) = draining.iter().position(|state| state.name == spec.name) {
            return draining.swap_remove(at);
        }
        Arc::new(LevelState {
            name: spec.name.clone(),
            set: Mutex::new(Set {
                queues: QueueSet::new(now, spec.mode, spec.limits.current),
                unfit: 0,
            }),
            demand: Mutex::default(),
            drops: Mutex::default(),
            metrics: self.metrics.level(&spec.name),
        })
    }

    /// Divides the seats anew by what levels could have used lately.
    fn rebalance(&self) {
        let before = self.force.load();
        self.divide(Force {
            flows: before.flows.clone(),
            levels: before.levels.clone(),
        });
    }

    fn divide(&self, mut force: Force) {
        let mut parties: Vec<Party> = force
            .levels
            .iter()
            .map(|active| {
                let seen = active.state.set.lock().queues.observe_demand(self.now());
                let mut demand = active.state.demand.lock();
                demand.observe(seen);
                Party {
                    limits: active.spec.limits,
                    demand: *demand,
                    exempt: active.spec.mode == Mode::Exempt,
                    target: 0.0,
                }
            })
            .collect();
        self.metrics.divided(limits::divide(&mut parties));
        for (active, party) in force.levels.iter_mut().zip(parties) {
            active.spec.limits = party.limits;
            let (state, spec) = (&active.state, &active.spec);
            let change = |now, set: &mut QueueSet<_, _>| set.configure(now, spec.mode, spec.limits.current);
            self.in_state(state, change);
            self.metrics
                .limited(&spec.name, &state.metrics, spec.mode, &spec.limits);
            self.metrics.demanded(&spec.name, &party.demand, party.target);
        }
        self.force.store(Arc::new(force));
    }
}

impl Ticket {
    /// It waits no longer.
    fn left(&self) {
        self.flow.metrics.left(&self.work);
        self.fairness.metrics.kind(false, self.mutating, -1);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.left();
        if !self.fairness.leave(&self.flow, self.id, None) {
            // It was let in while its caller went away.
            self.flow.metrics.started(&self.work);
            self.flow.metrics.answered(Duration::ZERO, false);
            self.fairness.give_back(self.flow.clone(), self.id, self.work);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.flow.metrics.answered(self.since.elapsed(), self.watch);
        self.fairness.metrics.kind(true, self.mutating, -1);
        self.fairness.give_back(self.flow.clone(), self.id, self.work);
    }
}

/// Whether a request changes anything, as the bounds on requests in flight see it.
pub fn is_mutating(info: &RequestInfo) -> bool {
    !matches!(info.verb.as_str(), "get" | "list" | "watch" | "head")
}

fn digest<'a>(user: &'a UserInfo, info: &'a RequestInfo) -> Digest<'a> {
    Digest {
        user,
        is_resource: info.is_resource,
        verb: &info.verb,
        group: &info.group,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        path: &info.path,
    }
}

fn watched(info: &RequestInfo) -> Watched<'_> {
    Watched {
        group: &info.group,
        resource: &info.resource,
        namespace: &info.namespace,
        name: &info.name,
    }
}

/// One text, so that a request's description is one allocation.
fn describe(distinguisher: &str, user: &UserInfo, info: &RequestInfo) -> Box<str> {
    let slash = if info.group.is_empty() { "" } else { "/" };
    let parts = [
        distinguisher,
        "\0",
        &user.name,
        "\0",
        &info.verb,
        "\0",
        &info.path,
        "\0",
        &info.namespace,
        "\0",
        &info.name,
        "\0",
        &info.group,
        slash,
        &info.version,
        "\0",
        &info.resource,
        "\0",
        &info.subresource,
    ];
    parts.concat().into_boxed_str()
}

/// Levels by name, for those who ask for figures.
type ByName<'a> = HashMap<&'a str, &'a LevelState>;

#[cfg(test)]
mod tests;
