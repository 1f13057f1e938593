//! A flood: many clients of one user list and create at full speed, while another user sends one request after the other.
//!
//! Both are plain users in no special group, each a flow of its own. What is created is deleted at once, so that a fast server does
//! not hold more than a slow one. Who is sent away with 429 waits as long as the answer says and tries again, as Kubernetes' own
//! client does; the wait is part of the latency. The single user has a thread of its own, so that what it waits for is the server
//! and not this program. It says when the flood ends: its last request is under the flood like those before.

use super::{Bench, namespaces, pods_path};
use crate::access::Access;
use crate::objects::{self, Counter, FLOOD_NAMESPACE, FloodTemplate, MARK, NAMESPACE};
use crate::record::Record;
use crate::report::say;
use crate::wire::{Call, Dialer, PATIENCE, Wire};
use anyhow::Context as _;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::Method;
use serde_json::{Value, json};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

#[cfg(test)]
mod tests;

/// The role of both users.
pub(super) const ROLE: &str = "rutter-bench-flood";
/// How often Kubernetes' own client tries again when it is told to.
const RETRIES: usize = 10;
/// How long the flood goes on before the single user's first request.
const WARM_UP: Duration = Duration::from_secs(1);
/// How many pods the single user lists.
const LIMIT: usize = 50;
/// How long a grant may take to be known to the authorizer.
const GRANTED: Duration = Duration::from_secs(20);
/// How long a client waits before it connects again.
const REDIAL: Duration = Duration::from_millis(100);

/// Two users with their connections and rights.
pub(crate) struct Flood {
    bench: Arc<Bench>,
    dialer: Arc<Dialer>,
    wires: Vec<Wire>,
    single: Arc<Dialer>,
    /// How priority and fairness sees the two users.
    class: String,
}

/// What was seen.
pub(crate) struct Flooded {
    pub(crate) flood: Record,
    pub(crate) single: Record,
}

/// A request and what must come back.
struct Step {
    call: Call,
    status: u16,
    objects: Option<u64>,
}

/// How a request ended.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// As it should.
    Answered,
    /// With 429, and perhaps with when to try again.
    Refused(Option<Duration>),
    /// With something else.
    Wrong(String),
    /// Not at all.
    Broken(String),
}

/// How far the flood is.
#[derive(Default)]
struct Tally {
    lists: AtomicU64,
    creates: AtomicU64,
    deletes: AtomicU64,
    refused: AtomicU64,
    /// Bytes of answers, also of those that are still coming.
    bytes: AtomicU64,
}

impl Flood {
    /// Grants both users what they need, and connects. They must be two people whom the server treats as such.
    pub(crate) async fn prepare(bench: &Arc<Bench>, users: &[Access; 2]) -> anyhow::Result<Self> {
        let [dialer, single] = [Dialer::new(&users[0])?, Dialer::new(&users[1])?].map(Arc::new);
        let (admin, first, second) = (
            bench.dialer.dial().await?,
            dialer.dial().await?,
            single.dial().await?,
        );
        namespaces::make(&admin, FLOOD_NAMESPACE).await?;
        let names = [name_of(&first).await?, name_of(&second).await?];
        anyhow::ensure!(names[0] != names[1], "both users of the flood are {}", names[0]);
        grant(&admin, &names).await?;
        let classes = [
            class_of(bench, &admin, &first).await?,
            class_of(bench, &admin, &second).await?,
        ];
        anyhow::ensure!(
            !classes.iter().any(|class| class.ends_with("/exempt")),
            "a user of the flood is exempt from priority and fairness: {}",
            classes.join(", ")
        );
        say(&format!(
            "{} ({}) floods, {} ({}) is timed",
            names[0], classes[0], names[1], classes[1]
        ));
        let wires = futures::stream::iter(0..bench.sizes.flood_clients.max(1))
            .map(|_| dialer.dial())
            .buffered(16)
            .try_collect()
            .await
            .context("connecting the flood's clients")?;
        let [flooding, timed] = classes;
        Ok(Self {
            bench: bench.clone(),
            dialer,
            wires,
            single,
            class: match flooding == timed {
                true => flooding,
                false => format!("{flooding} and {timed}"),
            },
        })
    }

    /// The single user without the flood.
    pub(crate) async fn alone(&self) -> Record {
        let length = Duration::from_secs(self.bench.sizes.alone_seconds);
        self.timed(Duration::ZERO, length).await
    }

    /// The flood, and the single user under it.
    pub(crate) async fn run(&self) -> Flooded {
        let length = Duration::from_secs(self.bench.sizes.flood_seconds);
        let single = self.timed(WARM_UP, length);
        let mut flooded = flood(&self.bench, &self.wires, &self.dialer, single).await;
        flooded.flood.note.push_str(&format!("; {}", self.class));
        flooded
    }

    /// The single user in a thread of its own.
    async fn timed(&self, delay: Duration, length: Duration) -> Record {
        let (send, receive) = oneshot::channel();
        let (bench, dialer) = (self.bench.clone(), self.single.clone());
        let thread = std::thread::Builder::new().name("single".to_owned());
        let spawned = thread.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let record = match runtime {
                Ok(runtime) => runtime.block_on(async {
                    tokio::time::sleep(delay).await;
                    match tokio::time::timeout(PATIENCE, dialer.dial()).await {
                        Ok(Ok(wire)) => single(&bench, &wire, length).await,
                        Ok(Err(error)) => failed(format!("connecting the single user: {error:#}")),
                        Err(_) => failed("connecting the single user: no answer in time"),
                    }
                }),
                Err(error) => failed(format!("the single user's thread: {error}")),
            };
            drop(send.send(record));
        });
        match spawned {
            Ok(_) => receive
                .await
                .unwrap_or_else(|_| failed("the single user's thread ended")),
            Err(error) => failed(format!("the single user's thread: {error}")),
        }
    }

    /// Takes away what is left of what was created, and ends the connections.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        let admin = self.bench.dialer.dial().await?;
        drop(self.wires);
        for kind in ["pods", "configmaps"] {
            let path = format!("/api/v1/namespaces/{FLOOD_NAMESPACE}/{kind}?gracePeriodSeconds=0");
            let (status, _) = admin.fetch(&plain(Method::DELETE, path, &Value::Null)).await?;
            anyhow::ensure!(
                status == 200,
                "the flood's {kind} are not deleted: status {status}"
            );
        }
        Ok(())
    }
}

fn failed(why: impl Into<String>) -> Record {
    let mut record = Record::default();
    record.failed(why, 1);
    record
}

/// A request as JSON, whatever the format that is measured.
fn plain(method: Method, path: impl Into<String>, body: &Value) -> Call {
    Call {
        method,
        path: path.into(),
        content: "application/json",
        accept: "application/json",
        body: match body {
            Value::Null => Bytes::new(),
            body => body.to_string().into(),
        },
    }
}

/// Whom the server takes a connection's user for. A member of `system:masters` has nothing to do in a flood.
async fn name_of(wire: &Wire) -> anyhow::Result<String> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (status, answer) = wire.fetch(&plain(Method::POST, path, &review)).await?;
    anyhow::ensure!(status == 201, "a user of the flood is not known: status {status}");
    let answer: Value = serde_json::from_slice(&answer)?;
    let user = &answer["status"]["userInfo"];
    let name = user["username"].as_str().context("a user without a name")?;
    let masters = user["groups"]
        .as_array()
        .is_some_and(|groups| groups.iter().any(|group| group == "system:masters"));
    anyhow::ensure!(!masters, "{name} is in system:masters, which nothing holds back");
    Ok(name.to_owned())
}

/// Lets both users do, by RBAC, what the flood and the single user do, and nothing else.
async fn grant(admin: &Wire, names: &[String; 2]) -> anyhow::Result<()> {
    let api = "rbac.authorization.k8s.io";
    let rule = |resources: &[&str], verbs: &[&str]| json!({"apiGroups": [""], "resources": resources, "verbs": verbs});
    let role = json!({
        "apiVersion": format!("{api}/v1"),
        "kind": "ClusterRole",
        "metadata": {"name": ROLE},
        "rules": [
            rule(&["pods"], &["get", "list", "create", "delete"]),
            rule(&["configmaps"], &["create", "patch", "delete"]),
        ],
    });
    let subjects: Vec<Value> = names
        .iter()
        .map(|name| json!({"apiGroup": api, "kind": "User", "name": name}))
        .collect();
    let binding = json!({
        "apiVersion": format!("{api}/v1"),
        "kind": "RoleBinding",
        "metadata": {"name": ROLE},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": ROLE},
        "subjects": subjects,
    });
    let bindings = |namespace: &str| format!("/apis/{api}/v1/namespaces/{namespace}/rolebindings/{ROLE}");
    for (path, object) in [
        (format!("/apis/{api}/v1/clusterroles/{ROLE}"), &role),
        (bindings(NAMESPACE), &binding),
        (bindings(FLOOD_NAMESPACE), &binding),
    ] {
        let path = format!("{path}?fieldManager=rutter-bench&force=true");
        let mut call = plain(Method::PATCH, path, object);
        call.content = "application/apply-patch+yaml";
        let (status, answer) = admin.fetch(&call).await?;
        anyhow::ensure!(
            matches!(status, 200 | 201),
            "a grant to the flood's users was refused: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(())
}

/// The flow schema and the priority level of a user's lists, once it may list: `SCHEMA/LEVEL`.
async fn class_of(bench: &Bench, admin: &Wire, wire: &Wire) -> anyhow::Result<String> {
    let list = plain(Method::GET, format!("{}?limit=1", pods_path("")), &Value::Null);
    let began = Instant::now();
    let head = loop {
        let answer = wire.send(&list).await?;
        match answer.status().as_u16() {
            200 => break answer.headers().clone(),
            status => anyhow::ensure!(
                began.elapsed() < GRANTED,
                "a user of the flood may not list pods: status {status}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let told = |name: &str| head.get(name).and_then(|value| value.to_str().ok());
    let (Some(schema), Some(level)) = (
        told("x-kubernetes-pf-flowschema-uid"),
        told("x-kubernetes-pf-prioritylevel-uid"),
    ) else {
        return Ok("without priority and fairness".to_owned());
    };
    Ok(format!(
        "{}/{}",
        named(bench, admin, "flowschemas", schema).await?,
        named(bench, admin, "prioritylevelconfigurations", level).await?
    ))
}

/// The name of the flow schema or priority level with a UID.
async fn named(bench: &Bench, admin: &Wire, resource: &str, uid: &str) -> anyhow::Result<String> {
    let path = format!("/apis/flowcontrol.apiserver.k8s.io/v1/{resource}");
    let mut call = bench.get(path);
    call.accept = "application/json";
    let (status, answer) = admin.fetch(&call).await?;
    anyhow::ensure!(status == 200, "the {resource} cannot be read: status {status}");
    let list: Value = serde_json::from_slice(&answer)?;
    let all = list["items"].as_array().into_iter().flatten();
    let found = all
        .map(|object| &object["metadata"])
        .find(|metadata| metadata["uid"] == uid);
    let name = found.and_then(|metadata| metadata["name"].as_str());
    Ok(name.unwrap_or("one that is gone").to_owned())
}

/// Floods until the single user has ended.
async fn flood(
    bench: &Arc<Bench>,
    wires: &[Wire],
    dialer: &Arc<Dialer>,
    single: impl Future<Output = Record>,
) -> Flooded {
    let template = Arc::new(FloodTemplate::new(
        bench.sizes.format,
        bench.sizes.flood_bytes as usize,
    ));
    let tally = Arc::new(Tally::default());
    let (stop, stopped) = watch::channel(false);
    let mut clients = JoinSet::new();
    for (number, wire) in wires.iter().enumerate() {
        let client = Client {
            bench: bench.clone(),
            template: template.clone(),
            dialer: dialer.clone(),
            wire: wire.clone(),
            number,
            tally: tally.clone(),
            record: Record::default(),
        };
        clients.spawn(client.until(stopped.clone()));
    }
    tokio::pin!(single);
    let mut progress = tokio::time::interval_at(Instant::now() + super::PROGRESS, super::PROGRESS);
    let single = loop {
        tokio::select! {
            record = &mut single => break record,
            _ = progress.tick() => say(&format!("  {}", tally.text())),
        }
    };
    stop.send_replace(true);
    let mut all = Record::default();
    while let Some(ended) = clients.join_next().await {
        match ended {
            Ok(record) => all.merge(record),
            Err(error) => all.failed(format!("a client of the benchmark ended: {error}"), 1),
        }
    }
    all.bytes = tally.bytes.load(Ordering::Relaxed);
    all.note = format!(
        "{} clients, bodies of {} bytes: {}",
        wires.len(),
        template.len(),
        tally.text()
    );
    Flooded { flood: all, single }
}

impl Tally {
    fn text(&self) -> String {
        let [lists, creates, deletes, refused, bytes] = [
            &self.lists,
            &self.creates,
            &self.deletes,
            &self.refused,
            &self.bytes,
        ]
        .map(|number| number.load(Ordering::Relaxed));
        format!(
            "{lists} lists, {creates} creates, {deletes} deletes, {refused} answers 429, {} MiB",
            bytes >> 20
        )
    }
}

/// One client of the flooding user.
struct Client {
    bench: Arc<Bench>,
    template: Arc<FloodTemplate>,
    dialer: Arc<Dialer>,
    wire: Wire,
    number: usize,
    tally: Arc<Tally>,
    record: Record,
}

impl Client {
    /// Works until it is stopped. What isn't answered by then counts neither as answered nor as failed.
    async fn until(mut self, mut stopped: watch::Receiver<bool>) -> Record {
        tokio::select! {
            () = self.work() => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        self.record
    }

    /// Lists all pods, creates one, deletes it, and again.
    async fn work(&mut self) {
        let (bench, tally) = (self.bench.clone(), self.tally.clone());
        let pods = format!("/api/v1/namespaces/{FLOOD_NAMESPACE}/pods");
        for n in 0.. {
            let list = Step {
                call: bench.get(pods_path("")),
                status: 200,
                objects: Some(bench.sizes.pods as u64),
            };
            if self.step(&list).await {
                tally.lists.fetch_add(1, Ordering::Relaxed);
            }
            let create = Step {
                call: bench.call(Method::POST, pods.as_str(), self.template.encoded(self.number, n)),
                status: 201,
                objects: None,
            };
            if !self.step(&create).await {
                continue;
            }
            tally.creates.fetch_add(1, Ordering::Relaxed);
            let path = format!(
                "{pods}/{}?gracePeriodSeconds=0",
                objects::flood_name(self.number, n)
            );
            let delete = Step {
                call: bench.call(Method::DELETE, path, Bytes::new()),
                status: 200,
                objects: None,
            };
            if self.step(&delete).await {
                tally.deletes.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether a request was answered as it should be; with a new connection where this one is broken.
    async fn step(&mut self, step: &Step) -> bool {
        let began = Instant::now();
        let refused = || {
            self.record.refused += 1;
            self.tally.refused.fetch_add(1, Ordering::Relaxed);
        };
        match insist(&self.wire, step, &self.tally.bytes, refused).await {
            Outcome::Answered => {
                self.record.answered(began.elapsed(), 0);
                return true;
            }
            Outcome::Refused(_) => {}
            Outcome::Wrong(why) => self.record.failed(why, 1),
            Outcome::Broken(why) => {
                self.record.failed(why, 1);
                tokio::time::sleep(REDIAL).await;
                match self.dialer.dial().await {
                    Ok(wire) => self.wire = wire,
                    Err(error) => self.record.failed(format!("connecting again: {error:#}"), 1),
                }
            }
        }
        false
    }
}

/// Sends a request once. Bytes are counted as they come.
async fn attempt(wire: &Wire, step: &Step, bytes: &AtomicU64) -> Outcome {
    let mut counter = Counter::new(MARK);
    let answer = wire.call(&step.call, |piece| {
        bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        if step.objects.is_some() {
            counter.see(piece);
        }
    });
    let answer = match answer.await {
        Ok(answer) => answer,
        Err(broken) => return Outcome::Broken(broken.to_string()),
    };
    match (answer.status, step.objects) {
        (429, _) => Outcome::Refused(answer.retry_after),
        (status, _) if status != step.status => {
            Outcome::Wrong(format!("status {status} where {} was expected", step.status))
        }
        (_, Some(wanted)) if counter.count != wanted => {
            Outcome::Wrong(format!("{} objects where {wanted} were expected", counter.count))
        }
        _ => Outcome::Answered,
    }
}

/// Sends a request again as long as the answer says when to, and no more than [`RETRIES`] times.
async fn insist(wire: &Wire, step: &Step, bytes: &AtomicU64, mut refused: impl FnMut()) -> Outcome {
    let mut left = RETRIES;
    loop {
        let outcome = attempt(wire, step, bytes).await;
        let Outcome::Refused(wait) = outcome else {
            return outcome;
        };
        refused();
        match wait {
            Some(wait) if left > 0 => tokio::time::sleep(wait).await,
            _ => return outcome,
        }
        left -= 1;
    }
}

/// What the single user does, in turn.
const TURN: [&str; 5] = ["get", "list", "create", "patch", "delete"];

/// The single user: one request after the other, to the end of the turn that is under way when the time is over.
async fn single(bench: &Bench, wire: &Wire, length: Duration) -> Record {
    let (mut record, mut longest) = (Record::default(), [0.0f64; TURN.len()]);
    let (bytes, pause) = (
        AtomicU64::new(0),
        Duration::from_millis(bench.sizes.single_pause_ms),
    );
    let run = rand::random::<u32>();
    let until = Instant::now() + length;
    for turn in 0.. {
        if Instant::now() >= until {
            break;
        }
        let name = format!("single-{run:08x}-{turn}");
        for (verb, longest) in longest.iter_mut().enumerate() {
            let step = single_step(bench, verb, turn, &name);
            let began = Instant::now();
            let insisted = insist(wire, &step, &bytes, || record.refused += 1);
            let outcome = tokio::time::timeout(PATIENCE, insisted).await;
            let took = began.elapsed();
            *longest = longest.max(took.as_secs_f64() * 1000.0);
            match outcome.unwrap_or_else(|_| Outcome::Broken("no answer in time".to_owned())) {
                Outcome::Answered => record.answered(took, 0),
                Outcome::Refused(_) => {
                    record.failed(format!("{}: sent away with 429 for good", TURN[verb]), 1);
                }
                Outcome::Wrong(why) | Outcome::Broken(why) => {
                    record.failed(format!("{}: {why}", TURN[verb]), 1);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }
    let longest: Vec<String> = TURN
        .iter()
        .zip(longest)
        .map(|(verb, ms)| format!("{verb} {ms:.0}"))
        .collect();
    record.bytes = bytes.into_inner();
    record.note = format!("longest, in ms: {}", longest.join(", "));
    record
}

/// A request of the single user.
fn single_step(bench: &Bench, verb: usize, turn: usize, name: &str) -> Step {
    let pods = bench.sizes.pods.max(1);
    let maps = format!("/api/v1/namespaces/{FLOOD_NAMESPACE}/configmaps");
    let (call, status, objects) = match verb {
        0 => {
            let pod = objects::pod_name(turn * 7919 % pods);
            (bench.get(pods_path(&pod)), 200, None)
        }
        1 => {
            let call = bench.get(format!("{}?limit={LIMIT}", pods_path("")));
            (call, 200, Some(LIMIT.min(bench.sizes.pods) as u64))
        }
        2 => {
            let map = objects::config_map(name, FLOOD_NAMESPACE);
            let body = objects::encode(bench.sizes.format, &map);
            (bench.call(Method::POST, maps, body), 201, None)
        }
        3 => {
            let patch = json!({"data": {"changed": name}}).to_string();
            let mut call = bench.call(Method::PATCH, format!("{maps}/{name}"), patch.into());
            call.content = "application/merge-patch+json";
            (call, 200, None)
        }
        _ => {
            let call = bench.call(Method::DELETE, format!("{maps}/{name}"), Bytes::new());
            (call, 200, None)
        }
    };
    Step {
        call,
        status,
        objects,
    }
}
