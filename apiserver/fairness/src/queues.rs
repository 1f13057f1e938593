//! The requests of one priority level: served, waiting in queues, or sent away.
//!
//! Queues are served fairly in virtual time (fair queueing for server requests): the meter `R` counts the seat-time that each busy queue
//! was owed so far; each queue has the reading at which its next request starts in a world of perfect fairness. Of the queues
//! with somebody waiting, the one whose first request would end earliest there goes next. When a request turns out shorter or
//! longer than was taken, its queue's reading is put right.
//!
//! **Invariant.** After every operation nobody waits who could be served: the seats are full, or the next in line needs more than are free.
//!
//! `A` is what the caller knows of a request, `W` what it wakes one by. Nothing here waits, wakes or looks at a clock.

use crate::demand::{Integrator, Observed};
use crate::shuffle;
use crate::work::{SERVICE, Work, nanos};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// How a level treats requests that find no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// There is always a seat.
    Exempt,
    /// They are sent away.
    Reject,
    /// They wait.
    Queue {
        /// In one of so many queues.
        queues: usize,
        /// Of which each flow is dealt so many.
        hand: usize,
        /// And each of which takes so many.
        length: usize,
    },
}

/// Names a request within its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u64);

/// What becomes of a request that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is served at once.
    Run(Id),
    /// It waits in a queue that has so many now, unless it is among those [`QueueSet::turns`] gives.
    Wait(Id, usize),
    /// It is sent away.
    Refused(Refusal),
}

/// Why a request is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// All seats are taken, and this level doesn't queue.
    ConcurrencyLimit,
    /// Its queue is full.
    QueueFull,
    /// It waited too long.
    TimeOut,
}

impl Refusal {
    /// The value of the metric's label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::QueueFull => "queue-full",
            Self::TimeOut => "time-out",
        }
    }
}

/// Seats that are held after a request was answered, until [`QueueSet::release`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Tail {
    queue: Option<usize>,
    seats: u32,
    /// How long.
    pub lasts: Duration,
}

/// A request that waits.
struct Waiting<A, W> {
    id: Id,
    work: Work,
    arrived: Duration,
    /// The meter when it came.
    reading: i128,
    about: A,
    waker: W,
}

/// A request that is served.
struct Running<A> {
    queue: Option<usize>,
    work: Work,
    arrived: Duration,
    started: Duration,
    about: A,
}

struct Queue<A, W> {
    waiting: VecDeque<Waiting<A, W>>,
    /// Where in virtual time its next request starts.
    next: i128,
    running: usize,
    seats: u32,
    /// Of those that wait: the sum of the most seats, and of all work.
    asked: u64,
    work: i128,
}

impl<A, W> Default for Queue<A, W> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            next: 0,
            running: 0,
            seats: 0,
            asked: 0,
            work: 0,
        }
    }
}

impl<A, W> Queue<A, W> {
    fn is_active(&self) -> bool {
        !self.waiting.is_empty() || self.running > 0
    }

    /// No request starts in the virtual world before it has come in the real one: a queue that asks for less than its share must not
    /// save up for later.
    fn bound(&mut self) {
        if let Some(first) = self.waiting.front() {
            self.next = self.next.max(first.reading);
        }
    }
}

/// The figures of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that wait.
    pub waiting: usize,
    /// Seats that they ask for.
    pub seats_waiting: u64,
    /// Requests that are served.
    pub executing: usize,
    /// Seats that are taken, those held after answers included.
    pub seats: u32,
    /// Requests that were ever served.
    pub dispatched: u64,
    /// Requests that were ever sent away.
    pub rejected: u64,
    /// Of these, those that waited too long.
    pub timed_out: u64,
    /// Requests whose caller went away while they waited.
    pub cancelled: u64,
}

/// The requests of a level.
pub struct QueueSet<A, W> {
    mode: Mode,
    limit: u32,
    queues: Vec<Queue<A, W>>,
    running: HashMap<Id, Running<A>>,
    /// The meter, in seat-nanoseconds, and when it was read.
    meter: i128,
    read: Duration,
    /// Queues with somebody waiting or served, and the seats they use or ask for.
    active: u32,
    wanted: u64,
    robin: usize,
    dealt: usize,
    last: u64,
    totals: Totals,
    demand: Integrator,
    /// How often the next in line found too few seats.
    unfit: u64,
    turns: Vec<(Id, W)>,
}

impl<A, W> QueueSet<A, W> {
    /// No requests yet.
    pub fn new(now: Duration, mode: Mode, limit: u32) -> Self {
        let mut set = Self {
            mode,
            limit,
            queues: Vec::new(),
            running: HashMap::new(),
            meter: 0,
            read: now,
            active: 0,
            wanted: 0,
            robin: 0,
            dealt: 0,
            last: 0,
            totals: Totals::default(),
            demand: Integrator::new(now),
            unfit: 0,
            turns: Vec::new(),
        };
        set.configure(now, mode, limit);
        set
    }

    /// Treats requests in another way from now on. Queues that are no longer dealt drain.
    pub fn configure(&mut self, now: Duration, mode: Mode, limit: u32) {
        self.sync(now);
        (self.mode, self.limit) = (mode, limit);
        if let Mode::Queue { queues, .. } = mode
            && queues > self.queues.len()
        {
            self.queues.resize_with(queues, Queue::default);
        }
        self.shrink();
        self.dispatch(now);
    }

    /// Another number of seats from now on.
    pub fn set_limit(&mut self, now: Duration, limit: u32) {
        self.configure(now, self.mode, limit);
    }

    /// A request comes. `hash` is that of its flow; `waker` is made when it has to wait.
    pub fn start(
        &mut self,
        now: Duration,
        work: Work,
        hash: u64,
        about: A,
        waker: impl FnOnce() -> W,
    ) -> Verdict {
        self.sync(now);
        let Mode::Queue { queues, hand, length } = self.mode else {
            if !self.fits(work.most()) {
                self.totals.rejected += 1;
                return Verdict::Refused(Refusal::ConcurrencyLimit);
            }
            let id = self.next_id();
            self.run(now, id, None, work, now, about);
            return Verdict::Run(id);
        };
        let at = self.deal(hash, queues, hand);
        let Some(queue) = self.queues.get_mut(at) else {
            self.totals.rejected += 1;
            return Verdict::Refused(Refusal::QueueFull);
        };
        if self.totals.seats >= self.limit && queue.waiting.len() >= length {
            self.totals.rejected += 1;
            return Verdict::Refused(Refusal::QueueFull);
        }
        if !queue.is_active() {
            queue.next = self.meter;
            self.active += 1;
        }
        self.last += 1;
        let id = Id(self.last);
        if self.totals.waiting == 0 && self.totals.seats < self.limit && self.fits(work.most()) {
            let work = work.narrowed(self.limit);
            self.wanted += u64::from(work.most());
            self.run(now, id, Some(at), work, now, about);
            return Verdict::Run(id);
        }
        let Some(queue) = self.queues.get_mut(at) else {
            return Verdict::Refused(Refusal::QueueFull);
        };
        queue.asked += u64::from(work.most());
        queue.work += work.total();
        queue.waiting.push_back(Waiting {
            id,
            work,
            arrived: now,
            reading: self.meter,
            about,
            waker: waker(),
        });
        queue.bound();
        let queued = queue.waiting.len();
        self.wanted += u64::from(work.most());
        self.totals.waiting += 1;
        self.totals.seats_waiting += u64::from(work.most());
        self.note_demand(now);
        self.dispatch(now);
        Verdict::Wait(id, queued)
    }

    /// Those whose turn has come since this was asked last.
    pub fn turns(&mut self) -> Vec<(Id, W)> {
        std::mem::take(&mut self.turns)
    }

    /// A request was answered (or its caller went away while it was served). What it holds on to, if anything.
    pub fn finish(&mut self, now: Duration, id: Id) -> Option<Tail> {
        self.sync(now);
        let done = self.running.remove(&id)?;
        self.totals.executing -= 1;
        if let Some(queue) = done.queue.and_then(|at| self.queues.get_mut(at)) {
            queue.running -= 1;
            let took = nanos(now.saturating_sub(done.started));
            queue.next += (took - nanos(SERVICE)) * i128::from(done.work.seats);
            queue.bound();
            if !queue.is_active() {
                self.active -= 1;
            }
        }
        let tail = Tail {
            queue: done.queue,
            seats: done.work.most(),
            lasts: done.work.lasts,
        };
        if done.work.later > 0 && !tail.lasts.is_zero() {
            self.dispatch(now);
            return Some(tail);
        }
        self.release(now, tail);
        None
    }

    /// The seats of a request are free at last.
    pub fn release(&mut self, now: Duration, tail: Tail) {
        self.sync(now);
        self.totals.seats -= tail.seats;
        if let Some(queue) = tail.queue.and_then(|at| self.queues.get_mut(at)) {
            queue.seats -= tail.seats;
            self.wanted -= u64::from(tail.seats);
        }
        self.note_demand(now);
        self.shrink();
        self.dispatch(now);
    }

    /// Takes a request that waits out of its queue. False when it waits no longer: it is served, and must be finished.
    pub fn cancel(&mut self, now: Duration, id: Id, why: Option<Refusal>) -> bool {
        self.sync(now);
        for queue in &mut self.queues {
            let Some(at) = queue.waiting.iter().position(|waiting| waiting.id == id) else {
                continue;
            };
            let Some(gone) = queue.waiting.remove(at) else {
                continue;
            };
            let seats = u64::from(gone.work.most());
            queue.asked -= seats;
            queue.work -= gone.work.total();
            queue.bound();
            if !queue.is_active() {
                self.active -= 1;
            }
            self.wanted -= seats;
            self.totals.waiting -= 1;
            self.totals.seats_waiting -= seats;
            match why {
                Some(_) => {
                    self.totals.rejected += 1;
                    self.totals.timed_out += 1;
                }
                None => self.totals.cancelled += 1,
            }
            self.note_demand(now);
            self.shrink();
            self.dispatch(now);
            return true;
        }
        false
    }

    /// The figures.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// How often the next in line found too few free seats.
    pub fn unfit(&self) -> u64 {
        self.unfit
    }

    /// The meter of virtual time, in seat-seconds.
    pub fn meter(&self) -> f64 {
        self.meter as f64 / 1e9
    }

    /// Whether nobody waits or is served.
    pub fn is_idle(&self) -> bool {
        self.totals.waiting == 0 && self.totals.executing == 0
    }

    /// What the level could have used since this was asked last.
    pub fn observe_demand(&mut self, now: Duration) -> Observed {
        self.demand.reset(now)
    }

    /// Its queues, for a person to look at.
    pub fn dump_queues(&self) -> impl Iterator<Item = DumpedQueue> + '_ {
        self.queues.iter().map(|queue| DumpedQueue {
            pending: queue.waiting.len(),
            executing: queue.running,
            seats: queue.seats,
            next: queue.next as f64 / 1e9,
            initial_seats: queue.waiting.iter().map(|w| u64::from(w.work.seats)).sum(),
            most_seats: queue.asked,
            work: queue.work as f64 / 1e9,
        })
    }

    /// Its requests, for a person to look at.
    pub fn dump_requests(&self) -> Vec<DumpedRequest<'_, A>> {
        let mut all: Vec<DumpedRequest<'_, A>> = Vec::new();
        for (index, queue) in self.queues.iter().enumerate() {
            all.extend(
                queue
                    .waiting
                    .iter()
                    .enumerate()
                    .map(|(place, waiting)| DumpedRequest {
                        queue: Some(index),
                        place: Some(place),
                        work: waiting.work,
                        arrived: waiting.arrived,
                        started: None,
                        about: &waiting.about,
                    }),
            );
        }
        all.extend(self.running.values().map(|running| DumpedRequest {
            queue: running.queue,
            place: None,
            work: running.work,
            arrived: running.arrived,
            started: Some(running.started),
            about: &running.about,
        }));
        all
    }

    fn next_id(&mut self) -> Id {
        self.last += 1;
        Id(self.last)
    }

    /// Brings the meter up to now, at the rate that held since.
    fn sync(&mut self, now: Duration) {
        let passed = nanos(now.saturating_sub(self.read));
        self.read = self.read.max(now);
        if self.active > 0 {
            let seats = i128::from(self.wanted.min(u64::from(self.limit)));
            self.meter += seats * passed / i128::from(self.active);
        }
    }

    fn note_demand(&mut self, now: Duration) {
        let seats = u64::from(self.totals.seats) + self.totals.seats_waiting;
        self.demand.set(now, seats as f64);
    }

    /// Of the flow's hand, the queue with the least work waiting. The search begins at another card each time.
    fn deal(&mut self, hash: u64, queues: usize, hand: usize) -> usize {
        let mut cards = [0_usize; shuffle::MAX_HAND];
        let mut dealt = 0;
        for (place, card) in cards.iter_mut().zip(shuffle::deal(hash, queues, hand)) {
            *place = card;
            dealt += 1;
        }
        let hand = cards.get(..dealt).unwrap_or_default();
        let first = if dealt == 0 { 0 } else { self.dealt % dealt };
        self.dealt = self.dealt.wrapping_add(1);
        let (before, after) = hand.split_at(first);
        let of = |card: &&usize| self.queues.get(**card).map_or(i128::MAX, |queue| queue.work);
        after
            .iter()
            .chain(before)
            .min_by_key(of)
            .copied()
            .unwrap_or(usize::MAX)
    }

    /// Whether so many seats are free. A request wider than the whole level goes when it is alone.
    fn fits(&self, seats: u32) -> bool {
        if self.mode == Mode::Exempt {
            return true;
        }
        if seats > self.limit {
            return self.totals.executing == 0;
        }
        self.totals.seats.saturating_add(seats) <= self.limit
    }

    fn dispatch(&mut self, now: Duration) {
        while self.totals.waiting > 0 && self.totals.seats < self.limit && self.dispatch_one(now) {}
    }

    /// Serves the next in line, if it finds its seats.
    fn dispatch_one(&mut self, now: Duration) -> bool {
        let count = self.queues.len();
        let mut best: Option<(i128, usize)> = None;
        for step in 1..=count {
            let at = (self.robin + step) % count;
            let Some(queue) = self.queues.get(at) else {
                continue;
            };
            if let Some(first) = queue.waiting.front() {
                let end = queue.next + first.work.total();
                if best.is_none_or(|(earliest, _)| end < earliest) {
                    best = Some((end, at));
                }
            }
        }
        let Some((_, at)) = best else { return false };
        let seats = self.queues.get(at).and_then(|queue| queue.waiting.front());
        let seats = seats.map_or(0, |first| first.work.most());
        if !self.fits(seats) {
            self.unfit += 1;
            return false;
        }
        let limit = self.limit;
        let Some((queue, next)) = self.queues.get_mut(at).and_then(|queue| {
            let next = queue.waiting.pop_front()?;
            Some((queue, next))
        }) else {
            return false;
        };
        queue.asked -= u64::from(seats);
        queue.work -= next.work.total();
        let work = next.work.narrowed(limit);
        self.wanted -= u64::from(seats);
        self.wanted += u64::from(work.most());
        // The queues that weren't chosen win a tie next time.
        self.robin = at;
        self.totals.waiting -= 1;
        self.totals.seats_waiting -= u64::from(seats);
        self.run(now, next.id, Some(at), work, next.arrived, next.about);
        if let Some(queue) = self.queues.get_mut(at) {
            queue.bound();
        }
        self.turns.push((next.id, next.waker));
        true
    }

    /// Gives a request its seats. Its queue, if any, counts as active already.
    fn run(&mut self, now: Duration, id: Id, at: Option<usize>, work: Work, arrived: Duration, about: A) {
        self.totals.executing += 1;
        self.totals.dispatched += 1;
        self.totals.seats += work.most();
        if let Some(queue) = at.and_then(|at| self.queues.get_mut(at)) {
            queue.running += 1;
            queue.seats += work.most();
            queue.next += work.total();
        }
        let running = Running {
            queue: at,
            work,
            arrived,
            started: now,
            about,
        };
        self.running.insert(id, running);
        self.note_demand(now);
    }

    /// Lets the last queues go that are no longer dealt and have nothing to do.
    fn shrink(&mut self) {
        let keep = match self.mode {
            Mode::Queue { queues, .. } => queues,
            Mode::Exempt | Mode::Reject => 0,
        };
        while self.queues.len() > keep
            && self
                .queues
                .last()
                .is_some_and(|queue| !queue.is_active() && queue.seats == 0)
        {
            self.queues.pop();
        }
    }
}

/// A queue, for a person to look at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DumpedQueue {
    /// Requests that wait.
    pub pending: usize,
    /// Requests that are served.
    pub executing: usize,
    /// Seats that are taken.
    pub seats: u32,
    /// Where its next request starts in virtual time, in seat-seconds.
    pub next: f64,
    /// Of those that wait, the seats while they will be served.
    pub initial_seats: u64,
    /// And the most of them.
    pub most_seats: u64,
    /// And their work, in seat-seconds.
    pub work: f64,
}

/// A request, for a person to look at.
#[derive(Debug)]
pub struct DumpedRequest<'a, A> {
    /// Its queue, if it went through one.
    pub queue: Option<usize>,
    /// Its place in the queue, while it waits.
    pub place: Option<usize>,
    /// Its work.
    pub work: Work,
    /// When it came.
    pub arrived: Duration,
    /// When it was let in.
    pub started: Option<Duration>,
    /// What the caller knows of it.
    pub about: &'a A,
}

#[cfg(test)]
mod tests;
