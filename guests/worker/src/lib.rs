//! What the examiner tells a worker, and what it answers: one message each way, by the service that subjects use too.

#![no_std]

/// Logical processors that an order speaks of.
pub const PROCESSORS: usize = 8;

/// What a logical processor does with its time. All times are microseconds; work of one microsecond is a thousand instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Habit {
    /// Nothing: it is not switched on.
    #[default]
    Off,
    /// Works without end.
    Spin,
    /// Makes calls without end. Processor 0 switches those on that toggle.
    Storm,
    /// Waits by WFI for a timer that is due once in each `period`, and works so long.
    Periodic {
        /// From one time that it is due to the next.
        period: u32,
        /// After each.
        work: u32,
    },
    /// Works so long, then waits by WFI for so long.
    Doze {
        /// Work.
        work: u32,
        /// Wait.
        pause: u32,
    },
    /// Works so long, then switches itself off, until processor 0, which must storm, switches it on.
    Toggle {
        /// Each time.
        work: u32,
    },
}

impl Habit {
    /// As one word of an order.
    #[must_use]
    pub fn to_word(self) -> u64 {
        let (kind, work, other) = match self {
            Habit::Off => (0, 0, 0),
            Habit::Spin => (1, 0, 0),
            Habit::Storm => (2, 0, 0),
            Habit::Periodic { period, work } => (3, work, period),
            Habit::Doze { work, pause } => (4, work, pause),
            Habit::Toggle { work } => (5, work, 0),
        };
        kind | u64::from(work) << 8 | u64::from(other) << 36
    }

    /// From such a word; what nobody knows is [`Habit::Off`].
    #[must_use]
    pub fn from_word(word: u64) -> Habit {
        let (work, other) = ((word >> 8) as u32 & 0xfff_ffff, (word >> 36) as u32);
        match word & 0xff {
            1 => Habit::Spin,
            2 => Habit::Storm,
            3 => Habit::Periodic { period: other, work },
            4 => Habit::Doze { work, pause: other },
            5 => Habit::Toggle { work },
            _ => Habit::Off,
        }
    }
}

/// Work for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// When all its processors begin, in the worker's own count.
    pub begin: u64,
    /// When counting begins.
    pub start: u64,
    /// When it ends.
    pub end: u64,
    /// What each of its processors does.
    pub habits: [Habit; PROCESSORS],
}

impl Order {
    /// As a message.
    #[must_use]
    pub fn to_words(self) -> [u64; 16] {
        let mut words = [0; 16];
        (words[0], words[1], words[2]) = (self.begin, self.start, self.end);
        for (word, habit) in words[3..].iter_mut().zip(self.habits) {
            *word = habit.to_word();
        }
        words
    }

    /// From one.
    #[must_use]
    pub fn from_words(words: [u64; 16]) -> Order {
        let habits = core::array::from_fn(|index| Habit::from_word(words[3 + index]));
        Order { begin: words[0], start: words[1], end: words[2], habits }
    }
}

/// What one processor did while its worker counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Microseconds' worth of work.
    pub work: u32,
    /// Times that its timer was due, that it waited, that it was switched on, or calls that it made.
    pub times: u32,
    /// The longest, in ticks, from when its timer was due to when it ran.
    pub delay: u32,
    /// Times that its work was not done when its timer was due again.
    pub late: u32,
}

impl Tally {
    /// As two words of an answer.
    #[must_use]
    pub fn to_words(self) -> [u64; 2] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        [pair(self.work, self.times), pair(self.delay, self.late)]
    }

    /// From them.
    #[must_use]
    pub fn from_words([first, second]: [u64; 2]) -> Tally {
        let pair = |word: u64| (word as u32, (word >> 32) as u32);
        let ((work, times), (delay, late)) = (pair(first), pair(second));
        Tally { work, times, delay, late }
    }
}
