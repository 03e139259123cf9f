//! The clocks: one that leases are counted by, one that keys expire by.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment on the clocks that leases are counted by, in nanoseconds. Where a clock of the system
/// counts the time that the machine sleeps, both numbers are its reading. Elsewhere they are a
/// monotonic clock's and the wall clock's: one notices a sleep, the other that the time was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub first: i64,
    pub second: i64,
}

impl Moment {
    /// A moment that no clock shows.
    pub const NEVER: Self = Self { first: i64::MIN / 2, second: i64::MIN / 2 };

    /// The moment by a single clock.
    #[must_use]
    pub const fn of(nanoseconds: i64) -> Self {
        Self { first: nanoseconds, second: nanoseconds }
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let more = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX / 4);
        Self { first: self.first.saturating_add(more), second: self.second.saturating_add(more) }
    }

    /// Whether the moment comes before another one by every clock.
    #[must_use]
    pub fn is_before(self, other: Self) -> bool {
        self.first < other.first && self.second < other.second
    }

    /// The time that is left until another moment, by the clock that leaves the least.
    #[must_use]
    pub fn until(self, other: Self) -> Duration {
        let left = (other.first.saturating_sub(self.first)).min(other.second.saturating_sub(self.second));
        Duration::from_nanos(u64::try_from(left).unwrap_or(0))
    }
}

/// Reads the clock that goes on while the machine sleeps.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn now() -> Moment {
    let reading = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Moment::of(reading.tv_sec * 1_000_000_000 + reading.tv_nsec)
}

/// Reads a monotonic clock and the wall clock.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn now() -> Moment {
    use std::sync::OnceLock;
    use std::time::Instant;
    static STARTED: OnceLock<Instant> = OnceLock::new();
    let first = STARTED.get_or_init(Instant::now).elapsed();
    Moment { first: i64::try_from(first.as_nanos()).unwrap_or(i64::MAX), second: wall() }
}

/// Nanoseconds since the epoch.
pub(crate) fn wall() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
