//! Runs workloads on targets, in turn and round by round.

use crate::access::Access;
use crate::options::{Run, Serve, TargetKind, TargetSpec, Workload};
use crate::record::Record;
use crate::report::{Report, Row, say};
use crate::server::{Folder, Running};
use crate::usage::{Usage, reset_peak};
use crate::workloads::{self, Bench, Flood};
use anyhow::Context as _;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a server may settle before its idle memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// All workloads but the flood, in the order in which they make sense. The largest objects come when the pods are gone.
const ALL: &[Workload] = &[
    Workload::Start,
    Workload::Create,
    Workload::Get,
    Workload::List,
    Workload::LabelList,
    Workload::FieldList,
    Workload::NodeInformer,
    Workload::ConcurrentLists,
    Workload::PagedList,
    Workload::Watch,
    Workload::Crowd,
    Workload::MergePatch,
    Workload::ApplyPatch,
    Workload::Lease,
    Workload::Mixed,
    Workload::Restart,
    Workload::Delete,
    Workload::Watchlist,
];

/// A target in use.
struct Target {
    running: Option<Running>,
    pid: Option<u32>,
    store_pid: Option<u32>,
    access: Access,
    /// The two users of the flood, where there are any.
    users: Option<[Access; 2]>,
    _folder: Option<Folder>,
}

/// `rutter-bench run`. What cannot be measured is a row that says why, and the other targets are measured all the same.
pub(crate) async fn run(options: &Run) -> anyhow::Result<()> {
    let mut report = Report::new(options.memory_ceiling_mib);
    let plan: Vec<Workload> = match options.workloads.is_empty() {
        true => ALL.to_vec(),
        false => options.workloads.clone(),
    };
    for round in 1..=options.rounds.max(1) {
        for spec in &options.targets {
            say(&format!("round {round}, {}", spec.name));
            let mut rows = Vec::new();
            let mut stage = "start";
            if let Err(error) = one_round(options, spec, &plan, &mut rows, &mut stage).await {
                let row = Row::lost(stage, &error);
                say(&row.line());
                rows.push(row);
            }
            report.add(&spec.name, rows);
        }
    }
    println!("{}", report.table());
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{:#}\n", report.json()))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    report.verdict()
}

/// Measures a target. `stage` is what is under way, for the row of what fails.
async fn one_round(
    options: &Run,
    spec: &TargetSpec,
    plan: &[Workload],
    rows: &mut Vec<Row>,
    stage: &mut &'static str,
) -> anyhow::Result<()> {
    let mut target = open(options, spec).await?;
    anyhow::ensure!(
        target.pid.is_some() || options.memory_ceiling_mib.is_none(),
        "a ceiling needs the server's pid"
    );
    if let Some(running) = &target.running
        && plan.contains(&Workload::Start)
    {
        rows.push(started("start", running, &target, String::new()).await?);
    }
    *stage = "prepare";
    let bench = Bench::open(&target.access, &options.sizes).await?;
    let measured = workloads_of(options, &mut target, &bench, plan, rows, stage).await;
    // What was made goes in any case, and why it can't is of interest only if nothing went wrong before.
    if target.running.is_none() {
        let cleaned = workloads::clean(&bench).await;
        measured?;
        *stage = "clean";
        return cleaned;
    }
    measured
}

async fn workloads_of(
    options: &Run,
    target: &mut Target,
    bench: &Arc<Bench>,
    plan: &[Workload],
    rows: &mut Vec<Row>,
    stage: &mut &'static str,
) -> anyhow::Result<()> {
    workloads::prepare(bench, plan).await?;
    for workload in plan {
        *stage = workloads::name(*workload);
        let measured = match workload {
            Workload::Start => Vec::new(),
            Workload::Restart => restart(target, bench).await?.into_iter().collect(),
            Workload::Flood => flood(target, bench, options).await?,
            other => vec![measure(target, bench, *other).await?],
        };
        for mut row in measured {
            if let Some(ceiling) = options.memory_ceiling_mib {
                row.hold_to_ceiling(ceiling);
            }
            say(&row.line());
            rows.push(row);
        }
    }
    Ok(())
}

async fn open(options: &Run, spec: &TargetSpec) -> anyhow::Result<Target> {
    match &spec.kind {
        TargetKind::Running {
            kubeconfig,
            pid,
            store_pid,
            users,
        } => Ok(Target {
            running: None,
            pid: *pid,
            store_pid: *store_pid,
            access: Access::of_kubeconfig(kubeconfig)?,
            users: match users {
                Some([flood, single]) => {
                    Some([Access::of_kubeconfig(flood)?, Access::of_kubeconfig(single)?])
                }
                None => None,
            },
            _folder: None,
        }),
        TargetKind::Started {
            binary,
            store,
            etcd,
            flags,
        } => {
            let folder = Folder::fresh(options.dir.as_deref())?;
            let serve = Serve {
                binary: binary.clone(),
                store: *store,
                etcd: etcd.clone(),
                dir: None,
                extra: flags.clone(),
            };
            let running = folder.plan(&serve).start().await?;
            Ok(Target {
                pid: running.pid(),
                store_pid: running.store_pid(),
                access: running.access()?,
                users: Some(running.flood_access()?),
                running: Some(running),
                _folder: Some(folder),
            })
        }
    }
}

/// The row of a server that has just become ready.
async fn started(name: &str, running: &Running, target: &Target, note: String) -> anyhow::Result<Row> {
    let mut record = Record::default();
    record.answered(running.ready, 0);
    record.note = note;
    let mut row = Row::new(name, record, running.ready);
    // CPU until now, not only until ready: what is put off is paid for all the same.
    tokio::time::sleep(SETTLE).await;
    if let Some(pid) = target.pid {
        row.used(&Usage::default(), &Usage::of(pid)?);
    }
    Ok(row)
}

async fn measure(target: &Target, bench: &Arc<Bench>, workload: Workload) -> anyhow::Result<Row> {
    workloads::before(bench, workload).await?;
    let work = workloads::run(bench, workload);
    used(target, workloads::name(workload), work).await
}

/// The row of some work, with what the server used for it.
async fn used(target: &Target, name: &str, work: impl Future<Output = Record>) -> anyhow::Result<Row> {
    let usage = |pid: Option<u32>| pid.map(Usage::of).transpose();
    if let Some(pid) = target.pid {
        reset_peak(pid);
    }
    let (before, store_before) = (usage(target.pid)?, usage(target.store_pid)?);
    let began = Instant::now();
    let record = work.await;
    let took = began.elapsed();
    // What a request causes after its answer belongs to it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut row = Row::new(name, record, took);
    if let (Some(before), Some(after)) = (before, usage(target.pid)?) {
        row.used(&before, &after);
    }
    if let (Some(before), Some(after)) = (store_before, usage(target.store_pid)?) {
        row.store_cpu = Some(after.cpu - before.cpu);
    }
    Ok(row)
}

/// The rows of the single user alone, of the single user under the flood, and of the flood, which is what the server worked for.
async fn flood(target: &Target, bench: &Arc<Bench>, options: &Run) -> anyhow::Result<Vec<Row>> {
    let users = target
        .users
        .as_ref()
        .context("a server that runs already needs flood=KUBECONFIG,single=KUBECONFIG, two plain users")?;
    let flood = Flood::prepare(bench, users).await?;
    let began = Instant::now();
    let alone = Row::new("single-alone", flood.alone().await, began.elapsed());
    let mut single = Record::default();
    let mut flooding = used(target, workloads::name(Workload::Flood), async {
        let flooded = flood.run().await;
        single = flooded.single;
        flooded.flood
    })
    .await?;
    if let (Some(ceiling), Some(peak)) = (options.memory_ceiling_mib, flooding.peak) {
        let peak = peak as f64 / 1048576.0;
        flooding
            .note
            .push_str(&format!("; peak {peak:.0} of {ceiling} MiB"));
    }
    let mut single = Row::new("single", single, Duration::from_secs_f64(flooding.seconds));
    if let Some(allowed) = options.single_p99_ms {
        single.hold_to_p99(allowed);
    }
    flood.end().await?;
    Ok(vec![alone, single, flooding])
}

async fn restart(target: &mut Target, bench: &Arc<Bench>) -> anyhow::Result<Option<Row>> {
    let Some(running) = &mut target.running else {
        return Ok(None);
    };
    running.kill().await?;
    running.revive().await?;
    target.pid = running.pid();
    bench.redial().await?;
    let began = Instant::now();
    let selected = workloads::first_list(bench).await;
    let first = began.elapsed();
    let Some(running) = &target.running else {
        return Ok(None);
    };
    let note = format!("first selected list {:.1} ms", first.as_secs_f64() * 1000.0);
    let mut row = started("restart", running, target, note).await?;
    row.absorb_errors(&selected);
    Ok(Some(row))
}
