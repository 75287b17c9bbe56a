//! When a logical processor's writes to registers that guests seldom write trap, so that nothing of these has to be saved each time that it leaves.
//!
//! *Open*, nothing traps, and all is saved. *Quiet*, the copy that was saved last is true, since the first write traps, and opens. Who writes rarely, as a server does that
//! answers calls, soon stays quiet. Who writes between any two switches, as a system does that switches processes, is open for twice as long each time, and
//! hardly ever pays for a trap.

/// Leavings after which one that has just started is quiet.
const FIRST: u32 = 16;
/// Leavings for which one stays open at most. A trap costs about as much as eight leavings save.
const MOST: u32 = 1 << 16;

/// How long one logical processor stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Leavings until it is quiet.
    left: u32,
    /// From how many it has counted down last.
    patience: u32,
    /// How often it had come onto a physical processor when it became quiet.
    since: u64,
}

impl Watch {
    /// Open, and nothing known of what it does.
    #[must_use]
    pub const fn new() -> Watch {
        Watch { left: FIRST, patience: FIRST, since: 0 }
    }

    /// An open one leaves, and all has been saved; it has come onto physical processors `switches` times. Returns whether it is quiet from now on.
    #[inline]
    pub fn saved(&mut self, switches: u64) -> bool {
        self.left = self.left.saturating_sub(1);
        self.since = switches;
        self.left == 0
    }

    /// A write of a quiet one has trapped: it is open from now on, and the longer, the sooner that was.
    pub fn written(&mut self, switches: u64) {
        let quiet = switches.saturating_sub(self.since);
        self.patience = if quiet < u64::from(self.patience) {
            self.patience.saturating_mul(2).min(MOST)
        } else {
            (self.patience / 2).max(FIRST)
        };
        self.left = self.patience;
    }
}

impl Default for Watch {
    fn default() -> Watch {
        Watch::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Traps and leavings that saved all, of one that writes at every `every`th coming.
    fn run(switches: u64, every: u64) -> (u64, u64) {
        let mut watch = Watch::new();
        let (mut quiet, mut traps, mut saves) = (false, 0, 0);
        for switch in 1..=switches {
            if quiet && switch % every == 0 {
                watch.written(switch);
                (quiet, traps) = (false, traps + 1);
            }
            if !quiet {
                saves += 1;
                quiet = watch.saved(switch);
            }
        }
        (traps, saves)
    }

    #[test]
    fn who_never_writes_is_saved_a_few_times() {
        assert_eq!(run(1_000_000, u64::MAX), (0, u64::from(FIRST)));
    }

    #[test]
    fn who_always_writes_hardly_ever_traps() {
        for every in 1..8 {
            let (traps, saves) = run(1_000_000, every);
            // Once for each doubling, and then once in as many leavings as one stays open at most.
            assert!(traps <= 12 + 1_000_000 / u64::from(MOST), "{every}: {traps}");
            assert!(saves > 999_000, "{every}: {saves}");
        }
    }

    #[test]
    fn who_writes_now_and_then_is_quiet_in_between() {
        for every in [40, 100, 1000, 100_000] {
            let (traps, saves) = run(1_000_000, every);
            assert!(traps <= 1_000_000 / every, "{every}");
            assert!(saves <= (traps + 1) * 2 * u64::from(FIRST), "{every}: {saves} for {traps}");
        }
    }

    #[test]
    fn who_has_stopped_writing_becomes_quiet_and_the_sooner_the_longer_it_does() {
        let mut watch = Watch::new();
        for _ in 0..40 {
            while !watch.saved(0) {}
            watch.written(0);
        }
        assert_eq!(watch.patience, MOST);
        let mut switches = 0;
        for expected in (4..16).rev() {
            for left in (0..watch.patience).rev() {
                assert_eq!(watch.saved(switches), left == 0);
            }
            switches += 1 << 17;
            watch.written(switches);
            assert_eq!(watch.patience, 1 << expected);
        }
        assert_eq!(watch.patience, FIRST);
    }
}
