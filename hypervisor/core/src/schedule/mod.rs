//! Which logical processor runs on which physical one, and for how long.
//!
//! Each physical processor serves the logical ones that have their home there, the first of these that there is:
//!
//! 1. Who has a budget and something left of it: the earliest deadline first. A budget is a hard constant-bandwidth server: used up, it comes
//!    again at its deadline and not before, and nobody gains by sleeping (`Record::wake`). Admission ([`Schedule::set`]) keeps the sum of
//!    budget / period on a physical processor within [`ADMITTED`], so that every deadline is met but for the time that one step at EL2 takes.
//! 2. The rest in turn: who claims nothing, and who may go on without budget.
//!
//! What admission leaves free is the control OS's own budget (`own`): giving back what ended partitions held goes on however busy the machine is,
//! and takes nobody's promised time. A physical processor that a logical one owns alone has neither rest nor own work, nor a timer but the guest's.
//!
//! Who claims nothing moves to a physical processor that idles, among those it is allowed; a reservation stays where it was admitted.
//!
//! Times are readings of one counter that all processors share, in its ticks. The rules read no clock: whoever calls them says what time it is.

mod admission;
mod heap;
mod lend;
mod own;
mod queue;
mod record;
mod serve;

pub use admission::{ADMITTED, BUDGET_MIN_NS, WHOLE};
pub use own::OWN;
pub use record::{Claim, Record, Records, Reservation, State};

use own::Own;
use queue::Queue;

/// Physical processors at most.
pub const PHYSICAL_MAX: usize = 16;
/// Turns a second of those without budget.
const TURNS_PER_SECOND: u64 = 200;
/// How many of another's queue a processor looks at that has nothing to do.
const LOOK: usize = 16;

/// Somebody must look at a physical processor's queues again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a processor may have to switch, or to set its timer"]
pub enum Poke {
    /// Nothing has changed for anyone.
    Nobody,
    /// What is due first there may have changed: see [`Schedule::due`].
    Timer(usize),
    /// The same, and only in that the one that runs there is limited to this count.
    Turn(usize, u64),
    /// Another may have to run there: see [`Schedule::must_switch`].
    Switch(usize),
}

impl Poke {
    /// Bit n for physical processor n; none for nobody.
    fn processor(self) -> u16 {
        match self {
            Poke::Nobody => 0,
            Poke::Timer(processor) | Poke::Turn(processor, _) | Poke::Switch(processor) => bit(processor),
        }
    }
}

/// What a physical processor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick<K> {
    /// It runs this logical one; it is running from now on.
    Run(K),
    /// It does one bounded step of the control OS's own work, and says so to [`Schedule::worked`].
    Work,
    /// Nobody wants it.
    Idle,
}

/// One physical processor's part.
struct Processor<K> {
    running: Option<K>,
    /// With budget, by deadline.
    ready: Option<K>,
    /// Without, in turn.
    rest: Queue<K>,
    /// Who waits for a time: a guest's timer, or its budget to come again.
    wake: Option<K>,
    /// When the running one's budget or turn is over; `u64::MAX` if it has no end.
    limit: u64,
    /// Logical processors that have their home here.
    homes: u32,
    /// Millionths of it that are promised.
    promised: u32,
    /// Logical processors that may not be everywhere, but here.
    bound: u32,
}

/// All of them.
pub struct Schedule<K> {
    processors: [Processor<K>; PHYSICAL_MAX],
    /// Physical processors there are.
    count: usize,
    /// Bit n: nobody wants processor n.
    idle: u16,
    /// Bit n: one logical processor owns processor n.
    owned: u16,
    /// Ticks of a turn.
    turn: i64,
    frequency: u64,
    /// Nanoseconds of a tick, with 32 bits behind the point.
    tick: u64,
    own: Own,
}

impl<K: Copy + PartialEq> Schedule<K> {
    /// Nobody waits or runs.
    #[must_use]
    pub const fn new() -> Schedule<K> {
        Schedule {
            processors: [const {
                Processor {
                    running: None,
                    ready: None,
                    rest: Queue::new(),
                    wake: None,
                    limit: u64::MAX,
                    homes: 0,
                    promised: 0,
                    bound: 0,
                }
            }; PHYSICAL_MAX],
            count: 1,
            idle: 0,
            owned: 0,
            turn: 0,
            frequency: 0,
            tick: 0,
            own: Own::new(),
        }
    }

    /// The machine's physical processors, and the counter's ticks a second; before anyone is placed.
    pub fn start(&mut self, processors: usize, frequency: u64) {
        self.count = processors.clamp(1, PHYSICAL_MAX);
        self.frequency = frequency.max(1);
        self.tick = (1_000_000_000 << 32) / self.frequency;
        self.turn = record::signed(frequency / TURNS_PER_SECOND);
        self.own.start(frequency);
    }

    #[inline]
    fn at(&self, processor: usize) -> &Processor<K> {
        let [first, ..] = &self.processors;
        self.processors.get(processor).unwrap_or(first)
    }

    #[inline]
    fn at_mut(&mut self, processor: usize) -> &mut Processor<K> {
        let processor = if processor < PHYSICAL_MAX { processor } else { 0 };
        #[expect(
            clippy::indexing_slicing,
            reason = "it is below the array's length, which the compiler sees"
        )]
        &mut self.processors[processor]
    }

    /// Bit n for each physical processor there is.
    fn all(&self) -> u16 {
        u16::MAX >> PHYSICAL_MAX.saturating_sub(self.count)
    }

    /// Who runs on a physical processor: the one whose budget it is.
    #[must_use]
    #[inline]
    pub fn running(&self, processor: usize) -> Option<K> {
        self.at(processor).running
    }

    /// When a physical processor's timer is due, `u64::MAX`: never.
    #[must_use]
    #[inline]
    pub fn due<R: Records<Key = K>>(&self, records: &R, processor: usize) -> u64 {
        let at = self.at(processor);
        heap::least(records, at.wake).min(at.limit).min(self.own.due(processor))
    }

    /// The same without what is the control OS's own.
    #[must_use]
    #[inline(always)]
    pub fn due_of_running<R: Records<Key = K>>(&self, records: &R, processor: usize) -> u64 {
        let at = self.at(processor);
        heap::least(records, at.wake).min(at.limit)
    }

    /// Whether anyone waits for a physical processor.
    #[must_use]
    #[inline]
    pub fn is_wanted(&self, processor: usize) -> bool {
        let at = self.at(processor);
        at.ready.is_some() || at.rest.head().is_some()
    }
}

impl<K: Copy + PartialEq> Default for Schedule<K> {
    fn default() -> Schedule<K> {
        Schedule::new()
    }
}

/// Bit `processor` of a mask.
#[inline]
const fn bit(processor: usize) -> u16 {
    1 << (processor & (PHYSICAL_MAX - 1))
}
