//! How much a request asks for: its seats while it is served, and seats that its watchers' events take afterwards.
//!
//! The figures are upstream's defaults: a seat for every 100 kB that a list handles at once, at most 1 MB for one that streams from
//! a cache (ours all do); after a write, 5 ms of a seat for every ten watchers, from ten watchers on.

use std::time::Duration;

/// How long a request is taken to be served, before anything is known of it.
pub const SERVICE: Duration = Duration::from_millis(3);
/// Seats of a list or watch, at most.
const MOST_LIST: u32 = 100;
/// Seats of a write's events, at most.
const MOST_EVENTS: u32 = 10;
const BYTES_PER_SEAT: u64 = 100_000;
/// A list from a cache streams: more than this isn't held for it at once.
const STREAMED: u64 = 1_000_000;
const WATCHES_PER_SEAT: u32 = 10;
const EVENT: Duration = Duration::from_millis(5);

/// The work of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Seats while it is served.
    pub seats: u32,
    /// Seats after it was answered.
    pub later: u32,
    /// How long those are taken.
    pub lasts: Duration,
}

impl Work {
    /// One seat while it is served.
    pub const ONE: Self = Self {
        seats: 1,
        later: 0,
        lasts: Duration::ZERO,
    };

    /// So many seats while it is served.
    pub const fn of(seats: u32) -> Self {
        Self { seats, ..Self::ONE }
    }

    /// The seats that it holds from its start to its end.
    pub fn most(&self) -> u32 {
        self.seats.max(self.later)
    }

    /// Seat-nanoseconds after the answer.
    pub fn tail(&self) -> i128 {
        i128::from(self.later) * nanos(self.lasts)
    }

    /// Seat-nanoseconds in all.
    pub fn total(&self) -> i128 {
        i128::from(self.seats) * nanos(SERVICE) + self.tail()
    }

    /// The same work after the answer on no more than so many seats.
    pub fn narrowed(mut self, most: u32) -> Self {
        if self.later > most {
            let most = most.max(1);
            self.lasts = self.lasts * self.later / most;
            self.later = most;
        }
        self
    }
}

pub(crate) fn nanos(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

/// What is known of a resource when a list of it is estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// How many objects there are.
    pub objects: u64,
    /// Their bytes together.
    pub bytes: u64,
}

/// The work of a list, or of a watch that begins with the objects there are. `limit` is that of the request, 0 for none; `single`
/// when it names one object; `most` the level's bound on seats, 0 for none.
pub fn list(stored: Option<Stored>, limit: u64, single: bool, most: u32) -> Work {
    let Some(stored) = stored.filter(|stored| stored.objects > 0) else {
        return Work::ONE;
    };
    let wanted = match (single, limit) {
        (true, _) => 1,
        (false, 0) => stored.objects,
        (false, limit) => limit.min(stored.objects),
    };
    let average = stored.bytes / stored.objects;
    let bytes = wanted.saturating_mul(average).min(STREAMED);
    let seats = u32::try_from(bytes.div_ceil(BYTES_PER_SEAT)).unwrap_or(u32::MAX);
    Work::of(seats.clamp(1, bounded(most, MOST_LIST)))
}

/// The work of a write that so many watchers will be told of.
pub fn write(watchers: u32, most: u32) -> Work {
    if watchers < WATCHES_PER_SEAT {
        return Work::ONE;
    }
    let later = watchers.div_ceil(WATCHES_PER_SEAT);
    Work {
        seats: 1,
        later,
        lasts: EVENT,
    }
    .narrowed(bounded(most, MOST_EVENTS))
}

fn bounded(most: u32, limit: u32) -> u32 {
    if most == 0 { limit } else { most.min(limit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_take_seats_by_what_they_hold() {
        // objects, bytes, limit, single, most, seats
        let table = [
            (0, 0, 0, false, 10, 1),
            (99, 99_999, 0, false, 0, 1),
            (1000, 999_999, 0, false, 0, 10),
            (1000, 999_999, 100, false, 0, 1),
            (99, 999_999, 10, false, 0, 2),
            (1000, 10_000_000, 0, false, 0, 10),
            (1000, 10_000_000, 0, false, 4, 4),
            (1000, 1_000_000_000, 0, true, 0, 10),
            (1000, 10_000_000, 0, true, 0, 1),
        ];
        for (objects, bytes, limit, single, most, seats) in table {
            let got = list(Some(Stored { objects, bytes }), limit, single, most);
            assert_eq!(got, Work::of(seats), "{objects} {bytes} {limit} {single} {most}");
        }
        assert_eq!(list(None, 0, false, 0), Work::ONE, "a resource that nobody knows");
    }

    #[test]
    fn writes_take_seats_for_their_watchers() {
        // watchers, most, later, milliseconds
        let table = [
            (0, 0, 0, 0),
            (9, 0, 0, 0),
            (10, 0, 1, 5),
            (25, 0, 3, 5),
            (199, 0, 10, 10),
            (100, 5, 5, 10),
        ];
        for (watchers, most, later, millis) in table {
            let got = write(watchers, most);
            assert_eq!((got.seats, got.later), (1, later), "{watchers} {most}");
            assert_eq!(got.lasts, Duration::from_millis(millis), "{watchers} {most}");
        }
        let wide = write(100, 0);
        assert_eq!((wide.most(), wide.tail()), (10, 50_000_000));
        assert_eq!(
            wide.narrowed(5).tail(),
            wide.tail(),
            "as much work, on fewer seats"
        );
    }
}
