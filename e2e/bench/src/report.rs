//! Rows, tables, medians over rounds, ratios between targets, and the verdict.

use crate::record::Record;
use crate::usage::Usage;
use serde_json::{Value, json};
use std::time::Duration;

/// Progress, for who watches. The table alone goes to standard output.
#[allow(clippy::print_stderr)]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// One workload on one target in one round.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) workload: String,
    /// Requests (or watch events) that were answered as they should be.
    pub(crate) requests: u64,
    pub(crate) errors: Vec<(String, u64)>,
    /// Requests that were sent away with 429 where that is a legitimate answer.
    pub(crate) refused: u64,
    pub(crate) seconds: f64,
    /// Requests (or events) a second.
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    pub(crate) bytes: u64,
    pub(crate) cpu: Option<f64>,
    pub(crate) store_cpu: Option<f64>,
    pub(crate) resident: Option<u64>,
    pub(crate) peak: Option<u64>,
    pub(crate) note: String,
}

impl Row {
    /// A workload that saw neither a part of an answer nor an error has failed: nobody asked, or nobody answered.
    pub(crate) fn new(workload: &str, mut record: Record, took: Duration) -> Self {
        if record.count() == 0 && record.bytes == 0 {
            record.failed("nothing was answered", u64::from(record.errors() == 0));
        }
        let [p50_ms, p99_ms, max_ms] = record.percentiles([0.5, 0.99, 1.0]);
        let seconds = took.as_secs_f64();
        Self {
            workload: workload.to_owned(),
            requests: record.count(),
            errors: record.reasons(),
            refused: record.refused,
            seconds,
            rate: record.count() as f64 / seconds.max(1e-9),
            p50_ms,
            p99_ms,
            max_ms,
            bytes: record.bytes,
            cpu: None,
            store_cpu: None,
            resident: None,
            peak: None,
            note: record.note,
        }
    }

    /// What could not be measured, and why.
    pub(crate) fn lost(workload: &str, error: &anyhow::Error) -> Self {
        let mut record = Record::default();
        record.failed(format!("{error:#}"), 1);
        Self::new(workload, record, Duration::ZERO)
    }

    /// What the server used.
    pub(crate) fn used(&mut self, before: &Usage, after: &Usage) {
        self.cpu = Some(after.cpu - before.cpu);
        self.resident = Some(after.resident);
        self.peak = Some(after.peak);
    }

    pub(crate) fn absorb_errors(&mut self, record: &Record) {
        self.errors.extend(record.reasons());
    }

    /// A peak of resident memory above so many MiB is an error.
    pub(crate) fn hold_to_ceiling(&mut self, mib: u64) {
        if let Some(peak) = self.peak.filter(|peak| *peak > mib << 20) {
            let peak = peak as f64 / 1048576.0;
            let error = format!("resident memory rose to {peak:.1} MiB where {mib} are allowed");
            self.errors.push((error, 1));
        }
    }

    /// A 99th percentile above so many milliseconds is an error.
    pub(crate) fn hold_to_p99(&mut self, allowed: u64) {
        if self.p99_ms > allowed as f64 {
            let error = format!("p99 of {:.0} ms where {allowed} are allowed", self.p99_ms);
            self.errors.push((error, 1));
        }
    }

    /// CPU milliseconds per request or event.
    fn cpu_each(&self) -> Option<f64> {
        self.cpu.map(|cpu| cpu * 1000.0 / self.requests.max(1) as f64)
    }

    fn failures(&self) -> u64 {
        self.errors.iter().map(|(_, times)| times).sum()
    }

    /// The row as a line.
    pub(crate) fn line(&self) -> String {
        let optional = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let mib =
            |bytes: Option<u64>| optional(bytes.map(|bytes| format!("{:.0}", bytes as f64 / 1048576.0)));
        let mut line = format!(
            "{:<16} {:>7} {:>6} {:>6} {:>8.2} {:>10.1} {:>9.2} {:>9.2} {:>9.2} {:>9.1} {:>8} {:>9} {:>8} {:>6} {:>6}",
            self.workload,
            self.requests,
            self.failures(),
            self.refused,
            self.seconds,
            self.rate,
            self.p50_ms,
            self.p99_ms,
            self.max_ms,
            self.bytes as f64 / 1048576.0,
            optional(self.cpu.map(|cpu| format!("{cpu:.2}"))),
            optional(self.cpu_each().map(|each| format!("{each:.4}"))),
            optional(self.store_cpu.map(|cpu| format!("{cpu:.2}"))),
            mib(self.resident),
            mib(self.peak),
        );
        if !self.note.is_empty() {
            line.push_str("  ");
            line.push_str(&self.note);
        }
        for (why, times) in self.errors.iter().take(4) {
            line.push_str(&format!("\n    {times} x {why}"));
        }
        line
    }

    fn json(&self) -> Value {
        let errors: serde_json::Map<String, Value> = self
            .errors
            .iter()
            .map(|(why, times)| (why.clone(), json!(times)))
            .collect();
        json!({
            "workload": self.workload,
            "requests": self.requests,
            "errors": errors,
            "refused": self.refused,
            "seconds": self.seconds,
            "rate": self.rate,
            "p50Milliseconds": self.p50_ms,
            "p99Milliseconds": self.p99_ms,
            "maxMilliseconds": self.max_ms,
            "bytes": self.bytes,
            "cpuSeconds": self.cpu,
            "cpuMillisecondsEach": self.cpu_each(),
            "storeCpuSeconds": self.store_cpu,
            "residentBytes": self.resident,
            "peakBytes": self.peak,
            "note": self.note,
        })
    }
}

const HEADER: &str = "workload         answers errors    429  seconds       rate    p50 ms    p99 ms    max ms       MiB    CPU s   CPU ms/  store s    RSS   peak";

/// All rows of all rounds.
#[derive(Debug, Default)]
pub(crate) struct Report {
    targets: Vec<(String, Vec<Vec<Row>>)>,
    ceiling_mib: Option<u64>,
}

impl Report {
    /// An empty one; with what the server's resident memory may be, in MiB.
    pub(crate) fn new(ceiling_mib: Option<u64>) -> Self {
        Self {
            ceiling_mib,
            ..Self::default()
        }
    }

    /// A round of a target.
    pub(crate) fn add(&mut self, target: &str, rows: Vec<Row>) {
        match self.targets.iter_mut().find(|(name, _)| name == target) {
            Some((_, rounds)) => rounds.push(rows),
            None => self.targets.push((target.to_owned(), vec![rows])),
        }
    }

    /// Medians for each target, and ratios of the first to each other one.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        if let Some(ceiling) = self.ceiling_mib {
            out.push_str(&format!("\nceiling of resident memory: {ceiling} MiB\n"));
        }
        let medians: Vec<(&str, Vec<Row>)> = self
            .targets
            .iter()
            .map(|(name, rounds)| (name.as_str(), medians(rounds)))
            .collect();
        for (name, rows) in &medians {
            out.push_str(&format!("\n{name}\n{HEADER}\n"));
            for row in rows {
                out.push_str(&row.line());
                out.push('\n');
            }
        }
        let Some(((first, ours), others)) = medians.split_first() else {
            return out;
        };
        for (name, theirs) in others {
            out.push_str(&format!(
                "\n{first} against {name}\n{:<16} {:>10} {:>10} {:>10} {:>10}\n",
                "workload", "rate x", "p99 1/x", "CPU 1/x", "peak 1/x"
            ));
            for (our, their) in pairs(ours, theirs) {
                out.push_str(&Ratio::of(our, their).line(&our.workload));
            }
        }
        out
    }

    /// All rows and medians.
    pub(crate) fn json(&self) -> Value {
        let targets = self.targets.iter().map(|(name, rounds)| {
            let all: Vec<Vec<Value>> = rounds
                .iter()
                .map(|rows| rows.iter().map(Row::json).collect())
                .collect();
            let middle: Vec<Value> = medians(rounds).iter().map(Row::json).collect();
            json!({"target": name, "medians": middle, "rounds": all})
        });
        json!({
            "arguments": std::env::args().skip(1).collect::<Vec<_>>(),
            "memoryCeilingMebibytes": self.ceiling_mib,
            "targets": targets.collect::<Vec<_>>(),
        })
    }

    /// An error when any request of any round failed.
    pub(crate) fn verdict(&self) -> anyhow::Result<()> {
        let mut failed = Vec::new();
        for (name, rounds) in &self.targets {
            for row in rounds.iter().flatten().filter(|row| row.failures() > 0) {
                failed.push(format!("{name}: {} with {} errors", row.workload, row.failures()));
            }
        }
        anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join("; "));
        Ok(())
    }
}

fn pairs<'a>(ours: &'a [Row], theirs: &'a [Row]) -> impl Iterator<Item = (&'a Row, &'a Row)> {
    ours.iter()
        .filter_map(|our| Some((our, theirs.iter().find(|their| their.workload == our.workload)?)))
}

/// How much better ours is.
#[derive(Debug, PartialEq)]
struct Ratio {
    rate: f64,
    p99: f64,
    cpu: Option<f64>,
    peak: Option<f64>,
}

impl Ratio {
    fn of(our: &Row, their: &Row) -> Self {
        let over = |a: f64, b: f64| if b > 0.0 { a / b } else { f64::NAN };
        Self {
            rate: over(our.rate, their.rate),
            p99: over(their.p99_ms, our.p99_ms),
            cpu: their
                .cpu_each()
                .zip(our.cpu_each())
                .map(|(their, our)| over(their, our)),
            peak: their
                .peak
                .zip(our.peak)
                .map(|(their, our)| over(their as f64, our as f64)),
        }
    }

    fn line(&self, workload: &str) -> String {
        // Nothing divided by nothing says nothing.
        let shown = |value: Option<f64>| match value.filter(|value| value.is_finite()) {
            Some(value) => format!("{value:.1}"),
            None => "-".to_owned(),
        };
        format!(
            "{workload:<16} {:>10} {:>10} {:>10} {:>10}\n",
            shown(Some(self.rate)),
            shown(Some(self.p99)),
            shown(self.cpu),
            shown(self.peak)
        )
    }
}

/// The median of each number of each workload over the rounds. Errors are added up, not averaged away.
fn medians(rounds: &[Vec<Row>]) -> Vec<Row> {
    // What the first round did not get to is shown too.
    let mut names: Vec<&str> = Vec::new();
    for row in rounds.iter().flatten() {
        if !names.contains(&row.workload.as_str()) {
            names.push(&row.workload);
        }
    }
    let of = |name: &str| -> Vec<&Row> {
        rounds
            .iter()
            .flatten()
            .filter(|row| row.workload == name)
            .collect()
    };
    names
        .into_iter()
        .map(|name| {
            let all = of(name);
            let number =
                |get: &dyn Fn(&Row) -> f64| median(all.iter().map(|row| get(row)).collect()).unwrap_or(0.0);
            let maybe =
                |get: &dyn Fn(&Row) -> Option<f64>| median(all.iter().filter_map(|row| get(row)).collect());
            let mut errors: Vec<(String, u64)> = Vec::new();
            for (why, times) in all.iter().flat_map(|row| &row.errors) {
                match errors.iter_mut().find(|(known, _)| known == why) {
                    Some((_, sum)) => *sum += times,
                    None => errors.push((why.clone(), *times)),
                }
            }
            Row {
                workload: name.to_owned(),
                requests: number(&|row| row.requests as f64) as u64,
                errors,
                refused: number(&|row| row.refused as f64) as u64,
                seconds: number(&|row| row.seconds),
                rate: number(&|row| row.rate),
                p50_ms: number(&|row| row.p50_ms),
                p99_ms: number(&|row| row.p99_ms),
                max_ms: number(&|row| row.max_ms),
                bytes: number(&|row| row.bytes as f64) as u64,
                cpu: maybe(&|row| row.cpu),
                store_cpu: maybe(&|row| row.store_cpu),
                resident: maybe(&|row| row.resident.map(|bytes| bytes as f64)).map(|bytes| bytes as u64),
                peak: maybe(&|row| row.peak.map(|bytes| bytes as f64)).map(|bytes| bytes as u64),
                note: all.last().map(|row| row.note.clone()).unwrap_or_default(),
            }
        })
        .collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values.get(low)? + values.get(high)?) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(workload: &str, answers: u64, cpu: f64, errors: u64) -> Row {
        let mut record = Record::default();
        for n in 0..answers {
            record.answered(Duration::from_millis(n + 1), 100);
        }
        record.failed("status 500", errors);
        let mut row = Row::new(workload, record, Duration::from_secs(2));
        let after = Usage {
            cpu: cpu + 1.0,
            resident: 1 << 20,
            peak: 2 << 20,
        };
        row.used(
            &Usage {
                cpu: 1.0,
                ..Usage::default()
            },
            &after,
        );
        row
    }

    #[test]
    fn a_row_adds_up() {
        let row = row("get", 100, 0.5, 0);
        assert_eq!((row.requests, row.bytes, row.rate), (100, 10_000, 50.0));
        assert_eq!((row.p50_ms, row.p99_ms, row.max_ms), (50.0, 99.0, 100.0));
        assert!((row.cpu_each().unwrap() - 5.0).abs() < 1e-9);
    }

    #[test]
    fn medians_are_of_numbers_and_errors_add_up() {
        let rounds = [
            vec![row("get", 10, 1.0, 0)],
            vec![row("get", 30, 9.0, 2)],
            vec![row("get", 20, 2.0, 1)],
        ];
        let middle = medians(&rounds);
        assert_eq!((middle[0].requests, middle[0].cpu), (20, Some(2.0)));
        assert_eq!(middle[0].errors, [("status 500".to_owned(), 3)]);
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn what_only_a_later_round_has_is_shown() {
        let middle = medians(&[vec![row("get", 10, 1.0, 0)], vec![row("list", 30, 1.0, 0)]]);
        let names: Vec<&str> = middle.iter().map(|row| row.workload.as_str()).collect();
        assert_eq!(names, ["get", "list"]);
    }

    #[test]
    fn memory_above_the_ceiling_and_a_p99_above_the_bound_are_errors() {
        let mut within = row("flood", 100, 0.5, 0);
        within.hold_to_ceiling(2);
        within.hold_to_p99(99);
        assert_eq!(within.failures(), 0);
        let mut above = row("flood", 100, 0.5, 0);
        above.hold_to_ceiling(1);
        above.hold_to_p99(98);
        assert_eq!(
            above.errors[0].0,
            "resident memory rose to 2.0 MiB where 1 are allowed"
        );
        assert_eq!(above.errors[1].0, "p99 of 99 ms where 98 are allowed");
    }

    #[test]
    fn a_workload_that_saw_nothing_has_failed() {
        let mut report = Report::default();
        let mut refused = Record::default();
        refused.refused = 5;
        report.add("ours", vec![Row::new("flood", refused, Duration::from_secs(1))]);
        assert!(report.verdict().is_err());
        assert_eq!(report.json()["targets"][0]["medians"][0]["refused"], 5);
        assert_eq!(
            report.json()["targets"][0]["medians"][0]["errors"]["nothing was answered"],
            1
        );
    }

    #[test]
    fn what_is_lost_says_why() {
        let error = anyhow::anyhow!("refused").context("connecting");
        let row = Row::lost("get", &error);
        assert_eq!(row.errors, [("connecting: refused".to_owned(), 1)]);
    }

    #[test]
    fn ratios_say_how_much_better_the_first_is() {
        let ratio = Ratio::of(&row("get", 100, 0.1, 0), &row("get", 50, 0.5, 0));
        assert_eq!(ratio.rate, 2.0);
        assert!((ratio.cpu.unwrap() - 10.0).abs() < 1e-9);
        assert_eq!(ratio.peak, Some(1.0));
        let idle = Ratio::of(&row("get", 100, 0.0, 0), &row("get", 100, 0.0, 0));
        let line = idle.line("get");
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>(),
            ["get", "1.0", "1.0", "-", "1.0"]
        );
    }

    #[test]
    fn a_server_that_fails_is_reported_as_failing() {
        let mut report = Report::default();
        report.add("ours", vec![row("get", 10, 0.1, 0)]);
        assert!(report.verdict().is_ok());
        report.add("theirs", vec![row("get", 10, 0.1, 3)]);
        let error = report.verdict().unwrap_err().to_string();
        assert_eq!(error, "failed: theirs: get with 3 errors");
        assert!(report.table().contains("3 x status 500"));
    }
}
