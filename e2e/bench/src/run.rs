//! Runs workloads on targets, in turn and round by round.

use crate::access::Access;
use crate::options::{Run, Serve, TargetKind, TargetSpec, Workload};
use crate::record::Record;
use crate::report::{Report, Row, say};
use crate::server::{Folder, Running};
use crate::usage::{Usage, reset_peak};
use crate::workloads::{self, Bench};
use anyhow::Context as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a server may settle before its idle memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// All workloads, in the order in which they make sense.
const ALL: &[Workload] = &[
    Workload::Start,
    Workload::Create,
    Workload::Get,
    Workload::List,
    Workload::LabelList,
    Workload::FieldList,
    Workload::ConcurrentLists,
    Workload::PagedList,
    Workload::Watch,
    Workload::MergePatch,
    Workload::ApplyPatch,
    Workload::Lease,
    Workload::Mixed,
    Workload::Restart,
    Workload::Delete,
];

/// A target in use.
struct Target {
    running: Option<Running>,
    pid: Option<u32>,
    store_pid: Option<u32>,
    _folder: Option<Folder>,
}

/// `rutter-bench run`
pub(crate) async fn run(options: &Run) -> anyhow::Result<()> {
    let mut report = Report::default();
    let plan: Vec<Workload> = match options.workloads.is_empty() {
        true => ALL.to_vec(),
        false => options.workloads.clone(),
    };
    for round in 1..=options.rounds.max(1) {
        for spec in &options.targets {
            say(&format!("round {round}, {}", spec.name));
            let rows = one_round(options, spec, &plan)
                .await
                .with_context(|| format!("measuring {}", spec.name))?;
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

async fn one_round(options: &Run, spec: &TargetSpec, plan: &[Workload]) -> anyhow::Result<Vec<Row>> {
    let (mut target, access) = open(options, spec).await?;
    let mut rows = Vec::new();
    if let Some(running) = &target.running
        && plan.contains(&Workload::Start)
    {
        rows.push(started("start", running, &target, String::new()).await?);
    }
    let bench = Bench::open(&access, &options.sizes).await?;
    workloads::prepare(&bench, plan).await?;
    for workload in plan {
        let row = match workload {
            Workload::Start => continue,
            Workload::Restart => match restart(&mut target, &bench).await? {
                Some(row) => row,
                None => continue,
            },
            other => measure(&target, &bench, *other).await?,
        };
        say(&row.line());
        rows.push(row);
    }
    if target.running.is_none() {
        workloads::clean(&bench).await?;
    }
    Ok(rows)
}

async fn open(options: &Run, spec: &TargetSpec) -> anyhow::Result<(Target, Access)> {
    match &spec.kind {
        TargetKind::Running {
            kubeconfig,
            pid,
            store_pid,
        } => {
            let target = Target {
                running: None,
                pid: *pid,
                store_pid: *store_pid,
                _folder: None,
            };
            Ok((target, Access::of_kubeconfig(kubeconfig)?))
        }
        TargetKind::Started { binary, store, etcd } => {
            let folder = Folder::fresh(options.dir.as_deref())?;
            let serve = Serve {
                binary: binary.clone(),
                store: *store,
                etcd: etcd.clone(),
                dir: None,
                extra: Vec::new(),
            };
            let running = folder.plan(&serve).start().await?;
            let access = running.access()?;
            let target = Target {
                pid: running.pid(),
                store_pid: running.store_pid(),
                running: Some(running),
                _folder: Some(folder),
            };
            Ok((target, access))
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
    let usage = |pid: Option<u32>| pid.map(Usage::of).transpose();
    workloads::before(bench, workload).await?;
    if let Some(pid) = target.pid {
        reset_peak(pid);
    }
    let (before, store_before) = (usage(target.pid)?, usage(target.store_pid)?);
    let began = Instant::now();
    let record = workloads::run(bench, workload).await;
    let took = began.elapsed();
    // What a request causes after its answer belongs to it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut row = Row::new(workloads::name(workload), record, took);
    if let (Some(before), Some(after)) = (before, usage(target.pid)?) {
        row.used(&before, &after);
    }
    if let (Some(before), Some(after)) = (store_before, usage(target.store_pid)?) {
        row.store_cpu = Some(after.cpu - before.cpu);
    }
    Ok(row)
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
