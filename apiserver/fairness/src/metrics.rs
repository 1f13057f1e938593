//! What is measured of queueing, under upstream's names (`apiserver_flowcontrol_*`).

use crate::demand::Demand;
use crate::limits::Limits;
use crate::queues::{Mode, Refusal, Totals};
use crate::timing::{Clock, Timing, TimingVec};
use crate::work::Work;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const LEVEL: &[&str] = &["priority_level"];
const FLOW: &[&str] = &["priority_level", "flow_schema"];
const SECONDS: &[f64] = &[
    0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0,
];

/// All of them.
pub struct Metrics {
    clock: Clock,
    rejected: IntCounterVec,
    dispatched: IntCounterVec,
    waiting: IntGaugeVec,
    waiting_seats: IntGaugeVec,
    executing: IntGaugeVec,
    executing_seats: IntGaugeVec,
    in_use: IntGaugeVec,
    queue_length: HistogramVec,
    wait: HistogramVec,
    execution: HistogramVec,
    watchers: HistogramVec,
    estimated: HistogramVec,
    unfit: IntCounterVec,
    meter: GaugeVec,
    limits: [GaugeVec; 5],
    demand: [GaugeVec; 5],
    fair: Gauge,
    seat_use: TimingVec,
    request_use: TimingVec,
    demand_seats: TimingVec,
    kinds: TimingVec,
    kind_cells: [[KindCell; 2]; 2],
}

/// Requests of one kind in one phase.
struct KindCell {
    count: AtomicI64,
    timing: Timing,
}

/// The metrics of the requests of one schema.
pub struct FlowMetrics {
    rejected: [IntCounter; 3],
    dispatched: IntCounter,
    waiting: IntGauge,
    waiting_seats: IntGauge,
    executing: IntGauge,
    executing_seats: IntGauge,
    in_use: IntGauge,
    queue_length: Histogram,
    wait: [Histogram; 2],
    execution: [Histogram; 2],
    watchers: Histogram,
    estimated: Histogram,
    unfit: IntCounter,
}

/// The metrics of one level.
pub struct LevelMetrics {
    meter: Gauge,
    seat_use: Timing,
    waiting_use: Timing,
    executing_use: Timing,
    demand_seats: Timing,
}

impl Metrics {
    /// Registers them. The clock is the one that all moments are told by.
    pub fn register(registry: &Registry, clock: Clock) -> prometheus::Result<Self> {
        let make = Maker {
            registry,
            clock: clock.clone(),
        };
        let kinds = make.timing(
            "read_vs_write_current_requests",
            "Requests waiting or served, as a fraction of what may be, over time.",
            None,
            &["phase", "request_kind"],
            &[
                0.0, 0.001, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0,
            ],
        )?;
        let kind = |phase: &str, kind: &str| KindCell {
            count: AtomicI64::new(0),
            timing: kinds.with(&[phase, kind]),
        };
        Ok(Self {
            rejected: make.counters(
                "rejected_requests_total",
                "Requests sent away.",
                &["priority_level", "flow_schema", "reason"],
            )?,
            dispatched: make.counters("dispatched_requests_total", "Requests let in.", FLOW)?,
            waiting: make.ints("current_inqueue_requests", "Requests waiting in queues.", FLOW)?,
            waiting_seats: make.ints(
                "current_inqueue_seats",
                "Seats that waiting requests ask for.",
                FLOW,
            )?,
            executing: make.ints("current_executing_requests", "Requests being served.", FLOW)?,
            executing_seats: make.ints("current_executing_seats", "Seats that are taken.", FLOW)?,
            in_use: make.ints("request_concurrency_in_use", "Seats that are taken.", FLOW)?,
            queue_length: make.histograms(
                "request_queue_length_after_enqueue",
                "How long its queue was for each request that had to wait, itself included.",
                FLOW,
                &[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0],
            )?,
            wait: make.histograms(
                "request_wait_duration_seconds",
                "Seconds that requests waited in queues.",
                &["priority_level", "flow_schema", "execute"],
                SECONDS,
            )?,
            execution: make.histograms(
                "request_execution_seconds",
                "Seconds that requests were served; of a watch, until it had begun.",
                &["priority_level", "flow_schema", "type"],
                SECONDS,
            )?,
            watchers: make.histograms(
                "watch_count_samples",
                "Watchers that a write is told to.",
                FLOW,
                &[0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0],
            )?,
            estimated: make.histograms(
                "work_estimated_seats",
                "Seats that requests were estimated at.",
                FLOW,
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0],
            )?,
            unfit: make.counters(
                "request_dispatch_no_accommodation_total",
                "How often the next in line found too few free seats.",
                FLOW,
            )?,
            meter: make.gauges("current_r", "The meter of virtual time, in seat-seconds.", LEVEL)?,
            limits: [
                make.gauges("nominal_limit_seats", "A level's share of seats.", LEVEL)?,
                make.gauges("request_concurrency_limit", "A level's share of seats.", LEVEL)?,
                make.gauges("lower_limit_seats", "The fewest seats that a level has.", LEVEL)?,
                make.gauges("upper_limit_seats", "The most seats that a level has.", LEVEL)?,
                make.gauges(
                    "current_limit_seats",
                    "The seats that a level has for now.",
                    LEVEL,
                )?,
            ],
            demand: [
                make.gauges(
                    "demand_seats_high_watermark",
                    "The peak of a level's demand lately.",
                    LEVEL,
                )?,
                make.gauges(
                    "demand_seats_average",
                    "The mean of a level's demand lately.",
                    LEVEL,
                )?,
                make.gauges(
                    "demand_seats_stdev",
                    "The deviation of a level's demand lately.",
                    LEVEL,
                )?,
                make.gauges("demand_seats_smoothed", "A level's smoothed demand.", LEVEL)?,
                make.gauges(
                    "target_seats",
                    "What a level should get, were there enough.",
                    LEVEL,
                )?,
            ],
            fair: make.gauge(
                "seat_fair_frac",
                "The fraction of its target that each level gets.",
            )?,
            seat_use: make.timing(
                "priority_level_seat_utilization",
                "Seats taken, as a fraction of a level's seats, over time.",
                Some(("phase", "executing")),
                LEVEL,
                &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0],
            )?,
            request_use: make.timing(
                "priority_level_request_utilization",
                "Requests waiting or served, as a fraction of what a level may have, over time.",
                None,
                &["phase", "priority_level"],
                &[0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1.0],
            )?,
            demand_seats: make.timing(
                "demand_seats",
                "Seats that a level could use, as a fraction of its share, over time.",
                None,
                LEVEL,
                &[0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.8, 4.0, 6.0],
            )?,
            kind_cells: [
                [kind("waiting", "readOnly"), kind("waiting", "mutating")],
                [kind("executing", "readOnly"), kind("executing", "mutating")],
            ],
            kinds,
            clock,
        })
    }

    /// The metrics of a schema's requests.
    pub fn flow(&self, level: &str, schema: &str) -> FlowMetrics {
        let of = [level, schema];
        let rejected = |why: Refusal| self.rejected.with_label_values(&[level, schema, why.as_str()]);
        let wait = |execute: &str| self.wait.with_label_values(&[level, schema, execute]);
        let execution = |kind: &str| self.execution.with_label_values(&[level, schema, kind]);
        FlowMetrics {
            rejected: [Refusal::ConcurrencyLimit, Refusal::QueueFull, Refusal::TimeOut].map(rejected),
            dispatched: self.dispatched.with_label_values(&of),
            waiting: self.waiting.with_label_values(&of),
            waiting_seats: self.waiting_seats.with_label_values(&of),
            executing: self.executing.with_label_values(&of),
            executing_seats: self.executing_seats.with_label_values(&of),
            in_use: self.in_use.with_label_values(&of),
            queue_length: self.queue_length.with_label_values(&of),
            wait: [wait("false"), wait("true")],
            execution: [execution("regular"), execution("watch")],
            watchers: self.watchers.with_label_values(&of),
            estimated: self.estimated.with_label_values(&of),
            unfit: self.unfit.with_label_values(&of),
        }
    }

    /// The metrics of a level.
    pub fn level(&self, name: &str) -> LevelMetrics {
        LevelMetrics {
            meter: self.meter.with_label_values(&[name]),
            seat_use: self.seat_use.with(&[name]),
            waiting_use: self.request_use.with(&["waiting", name]),
            executing_use: self.request_use.with(&["executing", name]),
            demand_seats: self.demand_seats.with(&[name]),
        }
    }

    /// A level has other seats now.
    pub fn limited(&self, name: &str, of: &LevelMetrics, mode: Mode, limits: &Limits) {
        let figures = [
            limits.nominal,
            limits.nominal,
            limits.least,
            limits.most,
            limits.current,
        ];
        for (gauge, figure) in self.limits.iter().zip(figures) {
            gauge.with_label_values(&[name]).set(f64::from(figure));
        }
        let now = (self.clock)();
        let seats = f64::from(limits.current);
        of.seat_use.set_denominator(now, seats, &self.seat_use);
        of.executing_use.set_denominator(now, seats, &self.request_use);
        of.demand_seats
            .set_denominator(now, f64::from(limits.nominal), &self.demand_seats);
        if let Mode::Queue { queues, length, .. } = mode {
            of.waiting_use
                .set_denominator(now, (queues * length) as f64, &self.request_use);
        }
    }

    /// A level's demand was taken in.
    pub fn demanded(&self, name: &str, demand: &Demand, target: f64) {
        let highest = f64::from(demand.highest);
        let figures = [highest, demand.average, demand.deviation, demand.smoothed, target];
        for (gauge, figure) in self.demand.iter().zip(figures) {
            gauge.with_label_values(&[name]).set(figure);
        }
    }

    /// Seats were divided anew, with this fair fraction.
    pub fn divided(&self, fraction: f64) {
        self.fair.set(fraction);
    }

    /// What is in force allows so many requests to wait and so many to be served.
    pub fn capacity(&self, waiting: usize, executing: u32) {
        let now = (self.clock)();
        for (cells, most) in self.kind_cells.iter().zip([waiting as f64, f64::from(executing)]) {
            for cell in cells {
                cell.timing.set_denominator(now, most, &self.kinds);
            }
        }
    }

    /// A request of a kind begins (+1) or ends (-1) to wait or to be served.
    pub fn kind(&self, executing: bool, mutating: bool, change: i64) {
        let cells = self.kind_cells.get(usize::from(executing));
        if let Some(cell) = cells.and_then(|cells| cells.get(usize::from(mutating))) {
            let count = cell.count.fetch_add(change, Ordering::Relaxed) + change;
            cell.timing.set((self.clock)(), count as f64, &self.kinds);
        }
    }

    /// A level's figures after anything happened in it.
    pub fn happened(&self, of: &LevelMetrics, now: Duration, totals: &Totals, meter: f64) {
        of.meter.set(meter);
        of.seat_use.set(now, f64::from(totals.seats), &self.seat_use);
        of.waiting_use.set(now, totals.waiting as f64, &self.request_use);
        of.executing_use
            .set(now, totals.executing as f64, &self.request_use);
        let demand = f64::from(totals.seats) + totals.seats_waiting as f64;
        of.demand_seats.set(now, demand, &self.demand_seats);
    }
}

impl FlowMetrics {
    /// A request was estimated; a write with the number of its watchers.
    pub fn estimated(&self, work: &Work, watchers: Option<u32>) {
        self.estimated.observe(f64::from(work.most()));
        if let Some(watchers) = watchers {
            self.watchers.observe(f64::from(watchers));
        }
    }

    /// A request was sent away.
    pub fn refused(&self, why: Refusal) {
        let [limit, full, late] = &self.rejected;
        match why {
            Refusal::ConcurrencyLimit => limit,
            Refusal::QueueFull => full,
            Refusal::TimeOut => late,
        }
        .inc();
    }

    /// A request has to wait in a queue that has so many now.
    pub fn queued(&self, work: &Work, length: usize) {
        self.queue_length.observe(length as f64);
        self.waiting.inc();
        self.waiting_seats.add(i64::from(work.most()));
    }

    /// A request waits no longer.
    pub fn left(&self, work: &Work) {
        self.waiting.dec();
        self.waiting_seats.sub(i64::from(work.most()));
    }

    /// How long a request of a level that isn't exempt waited, and whether it was let in.
    pub fn waited(&self, time: Duration, let_in: bool) {
        let [out, inside] = &self.wait;
        let of = if let_in { inside } else { out };
        of.observe(time.as_secs_f64());
    }

    /// A request is let in.
    pub fn started(&self, work: &Work) {
        let seats = i64::from(work.most());
        self.dispatched.inc();
        self.executing.inc();
        self.executing_seats.add(seats);
        self.in_use.add(seats);
    }

    /// A request was answered.
    pub fn answered(&self, took: Duration, watch: bool) {
        self.executing.dec();
        let [regular, watching] = &self.execution;
        let of = if watch { watching } else { regular };
        of.observe(took.as_secs_f64());
    }

    /// Its seats are free.
    pub fn released(&self, work: &Work) {
        let seats = i64::from(work.most());
        self.executing_seats.sub(seats);
        self.in_use.sub(seats);
    }

    /// The next in line found too few seats so many times since this was told last.
    pub fn unfit(&self, times: u64) {
        self.unfit.inc_by(times);
    }
}

struct Maker<'a> {
    registry: &'a Registry,
    clock: Clock,
}

impl Maker<'_> {
    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(format!("apiserver_flowcontrol_{name}"), help)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        let made = IntCounterVec::new(Self::opts(name, help), labels)?;
        self.registry.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn ints(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        let made = IntGaugeVec::new(Self::opts(name, help), labels)?;
        self.registry.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        let made = GaugeVec::new(Self::opts(name, help), labels)?;
        self.registry.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        let made = Gauge::with_opts(Self::opts(name, help))?;
        self.registry.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::from(Self::opts(name, help)).buckets(buckets.to_vec());
        let made = HistogramVec::new(opts, labels)?;
        self.registry.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn timing(
        &self,
        name: &str,
        help: &str,
        constant: Option<(&str, &str)>,
        labels: &[&'static str],
        bounds: &[f64],
    ) -> prometheus::Result<TimingVec> {
        let mut opts = Self::opts(name, help);
        if let Some((label, value)) = constant {
            opts = opts.const_label(label, value);
        }
        let made = TimingVec::new(&opts, labels, bounds, self.clock.clone())?;
        self.registry.register(Box::new(made.clone()))?;
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn names_are_upstreams() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry, Arc::new(|| Duration::from_secs(1))).unwrap();
        let flow = metrics.flow("system", "system-nodes");
        let level = metrics.level("system");
        flow.estimated(&Work::ONE, Some(3));
        flow.queued(&Work::ONE, 1);
        flow.left(&Work::ONE);
        flow.waited(Duration::from_millis(1), true);
        flow.started(&Work::ONE);
        flow.answered(Duration::from_millis(1), false);
        flow.released(&Work::ONE);
        flow.refused(Refusal::QueueFull);
        flow.unfit(1);
        metrics.limited("system", &level, Mode::Reject, &Limits::default());
        metrics.demanded("system", &Demand::default(), 1.0);
        metrics.happened(&level, Duration::from_secs(1), &Totals::default(), 0.0);
        metrics.kind(true, false, 1);
        let names: Vec<String> = registry
            .gather()
            .iter()
            .map(|family| family.name().to_owned())
            .collect();
        for name in [
            "rejected_requests_total",
            "dispatched_requests_total",
            "current_inqueue_requests",
            "current_executing_seats",
            "request_wait_duration_seconds",
            "priority_level_seat_utilization",
            "read_vs_write_current_requests",
            "nominal_limit_seats",
            "current_limit_seats",
            "demand_seats",
        ] {
            let name = format!("apiserver_flowcontrol_{name}");
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
    }
}
