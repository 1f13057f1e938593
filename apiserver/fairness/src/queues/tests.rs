use super::*;
use proptest::prelude::*;

type Set = QueueSet<&'static str, u32>;

const QUEUED: Mode = Mode::Queue {
    queues: 8,
    hand: 1,
    length: 3,
};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Starts a request of a flow that owns the queue of this number.
fn start(set: &mut Set, now: u64, flow: u64, waker: u32) -> Verdict {
    set.start(ms(now), Work::ONE, flow, "", || waker)
}

fn woken(set: &mut Set) -> Vec<u32> {
    set.turns().into_iter().map(|(_, waker)| waker).collect()
}

fn id(verdict: Verdict) -> Id {
    match verdict {
        Verdict::Run(id) | Verdict::Wait(id, _) => id,
        Verdict::Refused(why) => panic!("refused: {why:?}"),
    }
}

#[test]
fn requests_run_wait_and_are_sent_away() {
    let mut set = Set::new(ms(0), QUEUED, 2);
    let first = start(&mut set, 0, 1, 1);
    assert!(matches!(first, Verdict::Run(_)));
    assert!(matches!(start(&mut set, 0, 1, 2), Verdict::Run(_)));
    for n in 1..=3 {
        assert!(matches!(start(&mut set, 0, 1, 10 + n as u32), Verdict::Wait(_, queued) if queued == n));
    }
    assert_eq!(start(&mut set, 0, 1, 9), Verdict::Refused(Refusal::QueueFull));
    assert!(
        matches!(start(&mut set, 0, 2, 20), Verdict::Wait(..)),
        "another flow has room"
    );
    assert!(woken(&mut set).is_empty());
    assert_eq!(set.finish(ms(3), id(first)), None);
    assert_eq!(
        woken(&mut set),
        [20],
        "the flow that has had nothing yet comes first"
    );
    let totals = set.totals();
    assert_eq!((totals.executing, totals.waiting, totals.rejected), (2, 3, 1));
}

#[test]
fn a_level_that_does_not_queue_sends_away_at_once() {
    let mut set = Set::new(ms(0), Mode::Reject, 1);
    let first = id(start(&mut set, 0, 1, 1));
    assert_eq!(
        start(&mut set, 0, 1, 2),
        Verdict::Refused(Refusal::ConcurrencyLimit)
    );
    set.finish(ms(1), first);
    assert!(matches!(start(&mut set, 1, 1, 3), Verdict::Run(_)));
    let mut exempt = Set::new(ms(0), Mode::Exempt, 0);
    for n in 0..100 {
        assert!(matches!(start(&mut exempt, 0, 1, n), Verdict::Run(_)));
    }
    assert_eq!(exempt.observe_demand(ms(1)).highest, 100.0);
}

#[test]
fn a_flood_of_one_flow_does_not_delay_another() {
    let mut set = Set::new(
        ms(0),
        Mode::Queue {
            queues: 8,
            hand: 1,
            length: 1000,
        },
        4,
    );
    let mut running: Vec<Id> = Vec::new();
    for n in 0..500 {
        if let Verdict::Run(id) = start(&mut set, 0, 1, n) {
            running.push(id);
        }
    }
    // A request of another flow comes every 10 ms; the seats turn over every 5 ms.
    let (mut asked, mut served) = (0, 0);
    for now in (5..600).step_by(5) {
        if now % 10 == 0 {
            start(&mut set, now, 2, 9000);
            asked += 1;
        }
        let mut next: Vec<Id> = Vec::new();
        for id in running.drain(..) {
            set.finish(ms(now), id);
            next.extend(set.turns().into_iter().map(|(id, waker)| {
                served += usize::from(waker == 9000);
                id
            }));
        }
        running = next;
        assert!(asked - served <= 1, "at {now} ms {served} of {asked} were served");
    }
}

#[test]
fn seats_after_the_answer_are_held_and_then_free() {
    let mut set = Set::new(ms(0), QUEUED, 3);
    let wide = crate::work::write(30, 0);
    let first = id(set.start(ms(0), wide, 1, "", || 1));
    assert!(
        matches!(start(&mut set, 0, 2, 2), Verdict::Wait(..)),
        "all three seats are held"
    );
    let tail = set.finish(ms(2), first).expect("something is held");
    assert_eq!((tail.lasts, set.totals().seats), (ms(5), 3));
    assert!(woken(&mut set).is_empty());
    set.release(ms(7), tail);
    assert_eq!(woken(&mut set), [2]);
    let too_wide = id(set.start(ms(8), Work::of(50), 3, "", || 3));
    assert!(
        woken(&mut set).is_empty(),
        "wider than the level: not before it is alone"
    );
    let second = set
        .dump_requests()
        .iter()
        .find(|r| r.started.is_some())
        .map(|r| r.work);
    assert_eq!(second, Some(Work::ONE));
    let other = Id(2);
    set.finish(ms(9), other);
    assert_eq!(woken(&mut set), [3]);
    assert!(!set.cancel(ms(9), too_wide, None), "it is served");
}

#[test]
fn who_waits_too_long_leaves_the_queue() {
    let mut set = Set::new(ms(0), QUEUED, 1);
    let first = id(start(&mut set, 0, 1, 1));
    let second = id(start(&mut set, 0, 1, 2));
    start(&mut set, 0, 1, 3);
    assert!(set.cancel(ms(100), second, Some(Refusal::TimeOut)));
    assert!(!set.cancel(ms(100), second, None));
    set.finish(ms(101), first);
    assert_eq!(woken(&mut set), [3]);
    assert_eq!((set.totals().timed_out, set.totals().rejected), (1, 1));
}

#[test]
fn queues_drain_when_there_are_to_be_fewer() {
    let mut set = Set::new(ms(0), QUEUED, 1);
    let first = id(start(&mut set, 0, 7, 1));
    start(&mut set, 0, 7, 2);
    set.configure(
        ms(0),
        Mode::Queue {
            queues: 2,
            hand: 1,
            length: 3,
        },
        1,
    );
    assert_eq!(set.dump_queues().count(), 8, "the last queue is still in use");
    assert!(matches!(start(&mut set, 0, 7, 3), Verdict::Wait(..)));
    set.finish(ms(1), first);
    let next = set.turns();
    assert_eq!(next[0].1, 3, "its queue has had nothing yet");
    set.finish(ms(2), next[0].0);
    let next = set.turns();
    assert_eq!(next[0].1, 2);
    set.finish(ms(3), next[0].0);
    assert_eq!(set.dump_queues().count(), 2);
    set.configure(ms(3), QUEUED, 5);
    assert_eq!(set.dump_queues().count(), 8);
}

proptest! {
    /// Whatever comes and goes: nobody waits while seats are free, and the sums agree with the parts.
    #[test]
    fn nobody_waits_for_nothing(
        steps in prop::collection::vec((0_u8..5, 0_u64..6, 1_u32..5, 0_u64..20), 1..200),
        limit in 1_u32..8,
    ) {
        let mode = Mode::Queue { queues: 6, hand: 2, length: 5 };
        let mut set: QueueSet<(), ()> = QueueSet::new(ms(0), mode, limit);
        let (mut now, mut running, mut waiting, mut tails) = (0, Vec::new(), Vec::new(), Vec::new());
        for (what, flow, seats, pause) in steps {
            now += pause;
            match what {
                0 | 1 => {
                    let later = if what == 1 { seats } else { 0 };
                    let work = Work { seats, later, lasts: ms(u64::from(later)) };
                    match set.start(ms(now), work, flow, (), || ()) {
                        Verdict::Run(id) => running.push(id),
                        Verdict::Wait(id, _) => waiting.push(id),
                        Verdict::Refused(_) => {}
                    }
                }
                2 => if let Some(id) = running.pop() {
                    tails.extend(set.finish(ms(now), id));
                },
                3 => if let Some(tail) = tails.pop() {
                    set.release(ms(now), tail);
                },
                _ => if let Some(id) = waiting.pop() {
                    prop_assert!(set.cancel(ms(now), id, None));
                },
            }
            for (id, ()) in set.turns() {
                waiting.retain(|known| *known != id);
                running.push(id);
            }
            let totals = set.totals();
            prop_assert_eq!((totals.waiting, totals.executing), (waiting.len(), running.len()));
            let queues: Vec<DumpedQueue> = set.dump_queues().collect();
            prop_assert_eq!(queues.iter().map(|q| q.pending).sum::<usize>(), waiting.len());
            prop_assert_eq!(queues.iter().map(|q| q.seats).sum::<u32>(), totals.seats);
            let used: u64 = queues.iter().map(|q| u64::from(q.seats) + q.most_seats).sum();
            prop_assert_eq!(used, set.wanted);
            let active = queues.iter().filter(|q| q.pending + q.executing > 0).count();
            prop_assert_eq!(active, set.active as usize);
            prop_assert!(waiting.is_empty() || totals.seats > 0, "somebody waits for nobody");
        }
    }
}
