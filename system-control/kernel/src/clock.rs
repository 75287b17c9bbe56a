//! Times: the counter's ticks, nanoseconds, and Linux's `timespec`.

use crate::Errno;

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// A point in time, or a length of it, in nanoseconds.
pub type Nanoseconds = u64;

/// The counter's rate.
#[derive(Clone, Copy, Debug)]
pub struct Rate(u64);

impl Rate {
    /// So many ticks a second.
    #[must_use]
    pub const fn new(frequency: u64) -> Rate {
        Rate(if frequency == 0 { 1 } else { frequency })
    }

    /// So many ticks as time.
    #[must_use]
    pub fn time(self, ticks: u64) -> Nanoseconds {
        if self.0 == SECOND {
            return ticks;
        }
        u64::try_from(u128::from(ticks) * u128::from(SECOND) / u128::from(self.0)).unwrap_or(u64::MAX)
    }

    /// The first tick at which so much time has passed.
    #[must_use]
    pub fn ticks(self, time: Nanoseconds) -> u64 {
        if self.0 == SECOND {
            return time;
        }
        u64::try_from((u128::from(time) * u128::from(self.0)).div_ceil(u128::from(SECOND)))
            .unwrap_or(u64::MAX)
    }
}

/// Seconds and nanoseconds, as Linux's structures have them.
#[must_use]
pub const fn split(time: Nanoseconds) -> [i64; 2] {
    [(time / SECOND) as i64, (time % SECOND) as i64]
}

/// The time of a `timespec`; far beyond any clock's end it is that end.
///
/// # Errors
///
/// [`Errno::INVAL`] for less than nothing, or a second's worth of nanoseconds and more.
pub fn join([seconds, nanoseconds]: [i64; 2]) -> Result<Nanoseconds, Errno> {
    let seconds = u64::try_from(seconds).map_err(|_| Errno::INVAL)?;
    let nanoseconds = u64::try_from(nanoseconds).ok().filter(|&part| part < SECOND).ok_or(Errno::INVAL)?;
    Ok(seconds.saturating_mul(SECOND).saturating_add(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_time() {
        let rate = Rate::new(62_500_000);
        assert_eq!(rate.time(62_500_000), SECOND);
        assert_eq!(rate.ticks(1), 1, "never too early");
        assert_eq!(rate.ticks(16), 1);
        assert_eq!(rate.ticks(17), 2);
        assert_eq!(Rate::new(SECOND).ticks(5), 5);
        assert_eq!(Rate::new(1).time(u64::MAX), u64::MAX);
        assert_eq!(Rate::new(0).time(1), SECOND);
    }

    #[test]
    fn timespecs() {
        assert_eq!(join([1, 5]), Ok(SECOND + 5));
        assert_eq!(join([i64::MAX, 0]), Ok(u64::MAX));
        assert_eq!(join([-1, 0]), Err(Errno::INVAL));
        assert_eq!(join([0, -1]), Err(Errno::INVAL));
        assert_eq!(join([0, SECOND as i64]), Err(Errno::INVAL));
        assert_eq!(split(3 * SECOND + 7), [3, 7]);
    }
}
