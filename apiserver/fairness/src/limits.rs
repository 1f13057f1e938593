//! How many seats each level has: its share of the server's, less what it lends, plus what it borrows by demand.

use crate::demand::Demand;

/// A level's seats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Its share.
    pub nominal: u32,
    /// Its share less what it may lend: it never has fewer.
    pub least: u32,
    /// Its share plus what it may borrow: it never has more.
    pub most: u32,
    /// What it has for now.
    pub current: u32,
}

/// What a level's configuration says of seats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// `nominalConcurrencyShares`
    pub shares: u32,
    /// `lendablePercent`
    pub lendable: u32,
    /// `borrowingLimitPercent`; none for no limit but the server's.
    pub borrowing: Option<u32>,
}

impl Limits {
    /// The seats of a level that gets `of` out of `sum` shares of `total` seats, before anything was borrowed.
    pub fn new(of: Shares, sum: u64, total: u32) -> Self {
        let nominal = (u64::from(total) * u64::from(of.shares)).div_ceil(sum.max(1));
        let nominal = u32::try_from(nominal).unwrap_or(u32::MAX);
        let percent = |p: u32| (f64::from(nominal) * f64::from(p) / 100.0).round() as u32;
        let lendable = percent(of.lendable).min(nominal);
        Self {
            nominal,
            least: nominal - lendable,
            most: nominal.saturating_add(of.borrowing.map_or(total, percent)),
            current: nominal - lendable / 2,
        }
    }
}

/// The most seats that one request of a queueing level is estimated at.
pub fn most_seats(nominal: u32, hand: usize) -> u32 {
    let hand = u32::try_from(hand.max(1)).unwrap_or(u32::MAX);
    let share = (f64::from(nominal) * 0.15).ceil() as u32;
    share.min(nominal / hand).max(1)
}

/// A level in the division of seats.
#[derive(Clone, Copy, Debug)]
pub struct Party {
    /// Its seats; `current` is decided anew.
    pub limits: Limits,
    /// What it could have used.
    pub demand: Demand,
    /// Whether it takes what it wants before all others.
    pub exempt: bool,
    /// What it was to get, had there been enough.
    pub target: f64,
}

/// Divides the server's seats anew. The answer is the fair fraction of their targets that levels get which no bound holds.
pub fn divide(parties: &mut [Party]) -> f64 {
    let total: u32 = parties.iter().map(|party| party.limits.nominal).sum();
    let mut left = i64::from(total);
    let (mut least, mut asked) = (0_i64, 0_i64);
    for party in parties.iter_mut() {
        let (limits, high) = (&mut party.limits, party.demand.highest);
        if party.exempt {
            limits.current = limits.least.max(high);
            party.target = f64::from(limits.current);
            left -= i64::from(limits.current);
        } else {
            let floor = floor(limits, high);
            party.target = party.demand.smoothed.max(f64::from(floor));
            least += i64::from(limits.least);
            asked += i64::from(floor);
        }
    }
    if left <= asked {
        // Not even what was lately used is there: each gets its least, and the rest in proportion.
        let share = if left <= least {
            0.0
        } else {
            (left - least) as f64 / (asked - least) as f64
        };
        for party in parties.iter_mut().filter(|party| !party.exempt) {
            let above = floor(&party.limits, party.demand.highest) - party.limits.least;
            party.limits.current = party.limits.least + (f64::from(above) * share).round() as u32;
        }
        return 0.0;
    }
    let wanted: Vec<Item> = parties
        .iter()
        .filter(|party| !party.exempt)
        .map(|party| Item {
            target: party.target,
            low: f64::from(floor(&party.limits, party.demand.highest)),
            high: f64::from(party.limits.most),
        })
        .collect();
    // As upstream, exempt levels take what they want beside this sum, so that nobody starves for them.
    let Some((got, fraction)) = allocate(f64::from(total), &wanted) else {
        return 0.0;
    };
    for (party, seats) in parties.iter_mut().filter(|party| !party.exempt).zip(got) {
        // An idle level keeps one seat, so that its first request needn't wait for the next division.
        party.limits.current = (seats.round() as u32).max(party.limits.nominal.min(1));
    }
    fraction
}

/// A level keeps what it lately used, up to its share.
fn floor(limits: &Limits, highest: u32) -> u32 {
    limits.least.max(limits.nominal.min(highest))
}

/// What one party wants of a sum, and its bounds: `target >= low`, `high >= low`.
#[derive(Clone, Copy, Debug)]
struct Item {
    target: f64,
    low: f64,
    high: f64,
}

const LEAST_TARGET: f64 = 0.001;
const EPSILON: f64 = 1e-7;

/// The unique division of `sum` in which each gets the same fraction of its target, or its bound where that holds it. None when
/// the bounds make it impossible.
fn allocate(sum: f64, items: &[Item]) -> Option<(Vec<f64>, f64)> {
    let target = |item: &Item| item.target.max(LEAST_TARGET);
    let given = |fraction: f64| {
        items
            .iter()
            .map(move |item| (fraction * target(item)).clamp(item.low, item.high))
    };
    let (low, high): (f64, f64) = items
        .iter()
        .fold((0.0, 0.0), |(low, high), item| (low + item.low, high + item.high));
    if items.is_empty() || low - sum > EPSILON || sum - high > EPSILON {
        return None;
    }
    // What is given grows with the fraction in straight pieces, bent where a bound begins or ends to hold: find the piece.
    let mut bends: Vec<f64> = items
        .iter()
        .flat_map(|item| [item.low / target(item), item.high / target(item)])
        .collect();
    bends.sort_by(f64::total_cmp);
    let mut before = 0.0;
    for bend in bends {
        let reached: f64 = given(bend).sum();
        if reached + EPSILON >= sum {
            let short: f64 = given(before).sum();
            let slope = if reached > short {
                (sum - short) / (reached - short)
            } else {
                1.0
            };
            let fraction = before + (bend - before) * slope.clamp(0.0, 1.0);
            return Some((given(fraction).collect(), fraction));
        }
        before = bend;
    }
    Some((given(before).collect(), before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_become_seats_as_upstream_rounds_them() {
        // shares, lendable, borrowing -> nominal, least, most, current; of 245 shares and 600 seats
        let table = [
            ((30, 33, None), (74, 50, 674, 62)),
            ((40, 25, None), (98, 73, 698, 86)),
            ((5, 0, None), (13, 13, 613, 13)),
            ((100, 90, Some(50)), (245, 24, 368, 135)),
            ((0, 0, None), (0, 0, 600, 0)),
        ];
        for ((shares, lendable, borrowing), (nominal, least, most, current)) in table {
            let of = Shares {
                shares,
                lendable,
                borrowing,
            };
            let want = Limits {
                nominal,
                least,
                most,
                current,
            };
            assert_eq!(Limits::new(of, 245, 600), want, "{of:?}");
        }
        assert_eq!(
            (most_seats(74, 6), most_seats(13, 4), most_seats(2, 8)),
            (12, 2, 1)
        );
    }

    fn party(nominal: u32, least: u32, highest: u32, smoothed: f64) -> Party {
        let limits = Limits {
            nominal,
            least,
            most: nominal + 100,
            current: nominal,
        };
        let demand = Demand {
            highest,
            smoothed,
            ..Demand::default()
        };
        Party {
            limits,
            demand,
            exempt: false,
            target: 0.0,
        }
    }

    #[test]
    fn a_busy_level_borrows_from_idle_ones() {
        let mut parties = [party(50, 10, 90, 90.0), party(50, 10, 0, 0.0)];
        let fraction = divide(&mut parties);
        assert_eq!(parties.map(|p| p.limits.current), [90, 10]);
        assert!(fraction > 0.9, "{fraction}");
        let mut parties = [party(50, 50, 90, 90.0), party(50, 50, 0, 0.0)];
        divide(&mut parties);
        assert_eq!(parties.map(|p| p.limits.current), [50, 50], "nothing is lent");
        let mut exempt = party(0, 0, 60, 60.0);
        exempt.exempt = true;
        let mut parties = [party(50, 10, 50, 50.0), party(50, 10, 50, 50.0), exempt];
        divide(&mut parties);
        assert_eq!(
            parties.map(|p| p.limits.current),
            [20, 20, 60],
            "who is exempt comes first"
        );
    }

    proptest! {
        #[test]
        fn the_sum_is_given_within_bounds(
            raw in prop::collection::vec((0.0_f64..50.0, 0.0_f64..50.0, 0.0_f64..50.0), 1..8),
            at in 0.0_f64..1.0,
        ) {
            let items: Vec<Item> = raw
                .iter()
                .map(|(low, more, above)| Item { target: low + more, low: *low, high: low + above })
                .collect();
            let low: f64 = items.iter().map(|i| i.low).sum();
            let high: f64 = items.iter().map(|i| i.high).sum();
            let sum = low + (high - low) * at;
            let (got, fraction) = allocate(sum, &items).unwrap();
            prop_assert!((got.iter().sum::<f64>() - sum).abs() < 1e-3);
            for (seats, item) in got.iter().zip(&items) {
                prop_assert!(*seats >= item.low - 1e-6 && *seats <= item.high + 1e-6);
                let fair = fraction * item.target.max(LEAST_TARGET);
                let bound = *seats <= item.low + 1e-6 || *seats >= item.high - 1e-6;
                prop_assert!(bound || (fair - seats).abs() < 1e-3);
            }
        }
    }
}
