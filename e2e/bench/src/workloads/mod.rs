//! The workloads: what they ask, and what must come back.

mod flood;
mod lists;
mod mixed;
mod namespaces;
mod plain;
mod watches;

use crate::access::Access;
use crate::objects::{Counter, FLOOD_NAMESPACE, MARK, NAMESPACE, PodTemplate};
use crate::options::{Sizes, Workload};
use crate::record::Record;
use crate::report::say;
use crate::wire::{Call, Dialer, Wire};
use bytes::Bytes;
pub(crate) use flood::Flood;
use http::Method;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// What workloads share: connections, sizes, and versions that they learnt.
pub(crate) struct Bench {
    dialer: Arc<Dialer>,
    wires: Mutex<Vec<Wire>>,
    sizes: Sizes,
    template: PodTemplate,
    /// The resource versions of the leases, by number.
    leases: Mutex<Vec<String>>,
    /// How far the workload is, for who watches.
    done: AtomicUsize,
}

/// The name of a workload as the flag has it.
pub(crate) fn name(workload: Workload) -> &'static str {
    const NAMES: &[(Workload, &str)] = &[
        (Workload::Start, "start"),
        (Workload::Create, "create"),
        (Workload::Get, "get"),
        (Workload::List, "list"),
        (Workload::LabelList, "label-list"),
        (Workload::FieldList, "field-list"),
        (Workload::NodeInformer, "node-informer"),
        (Workload::ConcurrentLists, "concurrent-lists"),
        (Workload::PagedList, "paged-list"),
        (Workload::Watch, "watch"),
        (Workload::Crowd, "crowd"),
        (Workload::MergePatch, "merge-patch"),
        (Workload::ApplyPatch, "apply-patch"),
        (Workload::Lease, "lease"),
        (Workload::Mixed, "mixed"),
        (Workload::Watchlist, "watchlist"),
        (Workload::Restart, "restart"),
        (Workload::Flood, "flood"),
        (Workload::Delete, "delete"),
    ];
    NAMES
        .iter()
        .find(|(of, _)| *of == workload)
        .map_or("", |(_, name)| name)
}

impl Bench {
    pub(crate) async fn open(access: &Access, sizes: &Sizes) -> anyhow::Result<Arc<Self>> {
        let dialer = Dialer::new(access)?;
        let wires = dialer.dial_many(sizes.clients).await?;
        Ok(Arc::new(Self::over(dialer, wires, sizes)))
    }

    fn over(dialer: Dialer, wires: Vec<Wire>, sizes: &Sizes) -> Self {
        Self {
            dialer: Arc::new(dialer),
            wires: Mutex::new(wires),
            sizes: sizes.clone(),
            template: PodTemplate::new(sizes),
            leases: Mutex::default(),
            done: AtomicUsize::new(0),
        }
    }

    /// New connections, after a restart of the server.
    pub(crate) async fn redial(&self) -> anyhow::Result<()> {
        let fresh = self.dialer.dial_many(self.sizes.clients).await?;
        *self.wires.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    fn wires(&self) -> Vec<Wire> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn call(&self, method: Method, path: impl Into<String>, body: Bytes) -> Call {
        let media = self.sizes.format.media_type();
        Call {
            method,
            path: path.into(),
            content: media,
            accept: media,
            body,
        }
    }

    fn get(&self, path: impl Into<String>) -> Call {
        self.call(Method::GET, path, Bytes::new())
    }

    /// `total` jobs by so many clients at once, each with a connection of its own where there are enough.
    async fn drive<F, W>(self: &Arc<Self>, clients: usize, total: usize, job: F) -> Record
    where
        F: Fn(Arc<Self>, Wire, usize) -> W + Send + Sync + 'static,
        W: Future<Output = Result<u64, String>> + Send,
    {
        let wires = self.wires();
        let (next, job) = (Arc::new(AtomicUsize::new(0)), Arc::new(job));
        self.done.store(0, Ordering::Relaxed);
        let clients = (0..clients.clamp(1, total.max(1)))
            .filter_map(|client| wires.get(client % wires.len().max(1)).cloned())
            .map(|wire| {
                let (bench, next, job) = (self.clone(), next.clone(), job.clone());
                tokio::spawn(async move {
                    let mut record = Record::default();
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= total {
                            return record;
                        }
                        let began = Instant::now();
                        match job(bench.clone(), wire.clone(), n).await {
                            Ok(bytes) => record.answered(began.elapsed(), bytes),
                            Err(why) => record.failed(why, 1),
                        }
                        bench.done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        self.gather(clients, total).await
    }

    /// What clients have seen, when all have ended. Meanwhile it is shown how much of the total is done.
    async fn gather(&self, mut clients: Vec<JoinHandle<Record>>, total: usize) -> Record {
        let mut record = Record::default();
        let mut progress = tokio::time::interval_at(tokio::time::Instant::now() + PROGRESS, PROGRESS);
        while let Some(client) = clients.last_mut() {
            tokio::select! {
                ended = client => {
                    clients.pop();
                    match ended {
                        Ok(part) => record.merge(part),
                        Err(error) => record.failed(format!("a client of the benchmark ended: {error}"), 1),
                    }
                }
                _ = progress.tick() => say(&format!("  {} of {total}", self.done.load(Ordering::Relaxed))),
            }
        }
        record
    }
}

/// How often progress is shown.
const PROGRESS: Duration = Duration::from_secs(3);

/// Shows how far something is, now and then.
struct Progress(Instant);

impl Progress {
    fn begin() -> Self {
        Self(Instant::now())
    }

    /// Shows it if it is time to.
    fn tell(&mut self, text: impl FnOnce() -> String) {
        if self.0.elapsed() >= PROGRESS {
            self.0 = Instant::now();
            say(&format!("  {}", text()));
        }
    }
}

/// Sends a call; an answer with another status, or with more or fewer objects than expected, is an error.
async fn ask(wire: &Wire, call: &Call, status: u16, objects: Option<u64>) -> Result<u64, String> {
    let mut counter = Counter::new(MARK);
    let answer = wire
        .call(call, |piece| {
            if objects.is_some() {
                counter.see(piece);
            }
        })
        .await
        .map_err(|broken| broken.to_string())?;
    if answer.status != status {
        return Err(format!("status {} where {status} was expected", answer.status));
    }
    match objects {
        Some(wanted) if counter.count != wanted => {
            Err(format!("{} objects where {wanted} were expected", counter.count))
        }
        _ => Ok(answer.bytes),
    }
}

/// The path of the pods, or of one.
fn pods_path(name: &str) -> String {
    match name {
        "" => format!("/api/v1/namespaces/{NAMESPACE}/pods"),
        name => format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}"),
    }
}

fn leases_path(name: &str) -> String {
    match name {
        "" => format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"),
        name => format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{name}"),
    }
}

/// Makes the namespace, and the pods where the plan works on them without making them.
pub(crate) async fn prepare(bench: &Arc<Bench>, plan: &[Workload]) -> anyhow::Result<()> {
    let wire = bench.dialer.dial().await?;
    namespaces::make(&wire, NAMESPACE).await?;
    let uses_pods = |workload: &Workload| {
        !matches!(
            workload,
            Workload::Start | Workload::Crowd | Workload::Lease | Workload::Watchlist | Workload::Create
        )
    };
    if !plan.contains(&Workload::Create) && plan.iter().any(uses_pods) {
        say(&format!("making {} pods", bench.sizes.pods));
        let record = plain::create(bench).await;
        anyhow::ensure!(record.errors() == 0, "cannot make pods: {:?}", record.reasons());
    }
    Ok(())
}

/// Makes what one workload needs, before it is measured.
pub(crate) async fn before(bench: &Arc<Bench>, workload: Workload) -> anyhow::Result<()> {
    match workload {
        Workload::Lease => plain::make_leases(bench, bench.sizes.leases).await,
        Workload::Crowd => plain::make_leases(bench, 1).await,
        Workload::Mixed => mixed::prepare(bench).await,
        Workload::Watchlist => watches::make_secrets(bench).await,
        _ => Ok(()),
    }
}

/// Runs a workload; the flood is a [`Flood`], and starts are watched by who starts.
pub(crate) async fn run(bench: &Arc<Bench>, workload: Workload) -> Record {
    say(&format!("{}:", name(workload)));
    match workload {
        Workload::Start | Workload::Restart | Workload::Flood => Record::default(),
        Workload::Create => plain::create(bench).await,
        Workload::Get => plain::get(bench).await,
        Workload::List => lists::all(bench).await,
        Workload::LabelList => lists::by_label(bench, bench.sizes.selected_lists).await,
        Workload::FieldList => lists::by_field(bench).await,
        Workload::NodeInformer => watches::node_informers(bench).await,
        Workload::ConcurrentLists => lists::concurrent(bench).await,
        Workload::PagedList => lists::paged(bench).await,
        Workload::Watch => watches::fan_out(bench).await,
        Workload::Crowd => watches::crowd(bench).await,
        Workload::MergePatch => plain::merge_patch(bench).await,
        Workload::ApplyPatch => plain::apply_patch(bench).await,
        Workload::Lease => plain::lease_updates(bench).await,
        Workload::Mixed => mixed::run(bench).await,
        Workload::Watchlist => watches::watch_list(bench).await,
        Workload::Delete => plain::delete(bench).await,
    }
}

/// One request of a workload of lists: how long the first one takes after a restart.
pub(crate) async fn first_list(bench: &Arc<Bench>) -> Record {
    lists::by_label(bench, 1).await
}

/// Takes away what was made, for who uses the server afterwards.
pub(crate) async fn clean(bench: &Arc<Bench>) -> anyhow::Result<()> {
    let wire = bench.dialer.dial().await?;
    for path in [
        "/api/v1/nodes?labelSelector=rutter.bench%2Fhollow".to_owned(),
        format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{}", flood::ROLE),
    ] {
        wire.fetch(&bench.call(Method::DELETE, path, Bytes::new()))
            .await?;
    }
    namespaces::remove(&wire, NAMESPACE).await?;
    namespaces::remove(&wire, FLOOD_NAMESPACE).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects;
    use crate::options::{Command, Options};
    use clap::{Parser as _, ValueEnum as _};

    pub(in crate::workloads) fn sizes() -> Sizes {
        let options = Options::parse_from([
            "x",
            "run",
            "--target",
            "t:kubeconfig=k",
            "--pods",
            "50",
            "--clients",
            "4",
        ]);
        match options.command {
            Command::Run(run) => run.sizes,
            _ => unreachable!(),
        }
    }

    /// A server that answers every request with a status and a body.
    pub(in crate::workloads) async fn bench(status: u16, body: &'static str) -> Arc<Bench> {
        let answer = move |_: &http::Request<()>| {
            let answer = http::Response::builder().status(status);
            answer.body(body.to_owned()).ok()
        };
        answering(answer).await
    }

    /// A server that answers as it is told to, or keeps a request waiting.
    pub(in crate::workloads) async fn answering<F>(answer: F) -> Arc<Bench>
    where
        F: Fn(&http::Request<()>) -> Option<http::Response<String>> + Send + Sync + 'static,
    {
        let told = Arc::new(answer);
        let (here, there) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(there).await.unwrap();
            while let Some(Ok((request, mut answer))) = connection.accept().await {
                let told = told.clone();
                tokio::spawn(async move {
                    let (head, mut sent) = request.into_parts();
                    while let Some(Ok(piece)) = sent.data().await {
                        drop(sent.flow_control().release_capacity(piece.len()));
                    }
                    let Some(response) = told(&http::Request::from_parts(head, ())) else {
                        return std::future::pending().await;
                    };
                    let (head, body) = response.into_parts();
                    let head = http::Response::from_parts(head, ());
                    // Who has ended meanwhile isn't answered.
                    if let Ok(mut stream) = answer.send_response(head, false) {
                        drop(stream.send_data(body.into(), true));
                    }
                });
            }
        });
        let wire = Wire::over(here, "https://test".into(), None).await.unwrap();
        let access = Access {
            host: "127.0.0.1".to_owned(),
            port: 1,
            prefix: String::new(),
            server_name: None,
            authorities: Some(Vec::new()),
            identity: None,
            token: None,
        };
        let dialer = Dialer::new(&access).unwrap();
        Arc::new(Bench::over(dialer, vec![wire], &sizes()))
    }

    #[tokio::test]
    async fn every_answer_is_counted_once() {
        let bench = bench(201, "{}").await;
        let record = plain::create(&bench).await;
        assert_eq!((record.count(), record.bytes, record.errors()), (50, 100, 0));
    }

    #[tokio::test]
    async fn a_server_that_fails_is_counted_as_failing() {
        let bench = bench(500, "{}").await;
        let record = plain::create(&bench).await;
        assert_eq!((record.count(), record.errors()), (0, 50));
        assert_eq!(record.reasons()[0].0, "status 500 where 201 was expected");
    }

    #[tokio::test]
    async fn a_short_list_is_an_error() {
        let bench = bench(200, "rutter-bench-object-mark").await;
        let record = lists::all(&bench).await;
        assert_eq!(record.count(), 0);
        assert_eq!(record.reasons()[0].0, "1 objects where 50 were expected");
    }

    #[tokio::test]
    async fn lost_watch_events_are_errors() {
        // Each watcher is told of one event where many are due, and then its stream ends.
        let body = "{\"metadata\":{\"resourceVersion\":\"5\"},\"rutter-bench-object-mark\":0}\n";
        let record = fan(body, 4).await;
        assert_eq!(record.reasons()[0], ("lost watch events".to_owned(), 9));
        // The event came before any change was sent.
        let rest: Vec<_> = record.reasons().into_iter().skip(1).collect();
        assert_eq!(
            rest,
            [
                ("a watch ended early".to_owned(), 3),
                ("a watch event that nobody caused".to_owned(), 3)
            ]
        );
    }

    #[tokio::test]
    async fn watch_events_without_an_object_are_errors() {
        let body = "{\"type\":\"ERROR\",\"object\":{\"metadata\":{\"resourceVersion\":\"5\"}}}\n";
        let record = fan(body, 1).await;
        let without = ("a watch event without what was changed".to_owned(), 3);
        assert!(record.reasons().contains(&without), "{:?}", record.reasons());
    }

    /// Three watchers of so many changes, each of whose streams is this body.
    async fn fan(body: &'static str, changes: usize) -> Record {
        let bench = bench(200, body).await;
        let watched = watches::Fan {
            path: "/watch".to_owned(),
            watchers: 3,
            changes,
            pause: Duration::ZERO,
        };
        watches::fan(&bench, &watched, |bench, n| bench.get(format!("/{n}"))).await
    }

    #[tokio::test]
    async fn an_informer_that_does_not_get_its_state_is_an_error() {
        // One object is there where all of the node's are due.
        let body = "{\"object\":\"rutter-bench-object-mark\"}\n{\"initial-events-end\":1}\n";
        let bench = bench(200, body).await;
        let record = watches::node_informers(&bench).await;
        assert_eq!(record.count(), 0);
        assert_eq!(
            record.reasons()[0].0,
            "1 objects where 25 were expected, when the initial state ended"
        );
    }

    #[tokio::test]
    async fn an_informer_that_gets_its_state_is_counted() {
        let bench = answering(|request| {
            let marked = "{\"object\":\"rutter-bench-object-mark\"}\n".repeat(25);
            let selected = request
                .uri()
                .query()
                .is_some_and(|query| query.contains("spec.nodeName%3Dhollow-0000"));
            let body = match selected {
                true => format!("{marked}{{\"initial-events-end\":1}}\n"),
                false => String::new(),
            };
            Some(http::Response::new(body))
        })
        .await;
        let record = watches::node_informers(&bench).await;
        assert_eq!(
            (record.count(), record.errors()),
            (sizes().node_informers as u64, 0)
        );
    }

    #[test]
    fn every_workload_has_its_name() {
        for workload in Workload::value_variants() {
            let shown = workload.to_possible_value().unwrap();
            assert_eq!(name(*workload), shown.get_name());
        }
    }

    #[test]
    fn a_template_makes_the_pod_of_each_number() {
        let template = PodTemplate::new(&sizes());
        let pod: serde_json::Value = serde_json::from_slice(&template.encoded(49)).unwrap();
        assert_eq!(pod["metadata"]["name"], objects::pod_name(49));
        assert_eq!(pod["metadata"]["labels"]["group"], objects::group_name(0));
        assert_eq!(pod["spec"]["nodeName"], objects::node_name(1));
    }
}
