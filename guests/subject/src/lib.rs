//! What the examiner and its subject say to each other: a message of words, the first of which is the order; the subject answers each
//! with a message of words.

#![no_std]

/// The service of the examiner's that the subject connects to.
pub const SERVICE: u32 = 1;

/// See [`Order::Broadcast`].
pub const MASKED: u64 = 1 << 63;

/// See [`Order::Interrupt`].
pub const CALLS: u64 = 1 << 62;

/// What the subject is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Order {
    /// → its count, and what its spinning processor has counted.
    Stamp = 0,
    /// Waits in WFI for so many nanoseconds of its own count. → its count before and after.
    Sleep = 1,
    /// Makes so many calls that succeed (`Identify`), and so many that do not (`RegionInfo` of nothing).
    Calls = 2,
    /// Answers by a region of so many bytes beside the words, mapped until it is sent.
    Region = 3,
    /// → sixteen counters of its own from this number on, of all its processors.
    Counters = 4,
    /// Kicks its watchdog. → its timeout.
    Kick = 5,
    /// Waits for a control signal. → 1 and its argument if it is a shutdown request; at the next order, whatever it is, it ends with status 7.
    AwaitShutdown = 6,
    /// Broadcasts TLB maintenance so many times; meanwhile its timer is due after so many nanoseconds, 0: never, with interrupts masked if [`MASKED`] is added. → its count before and after, and when the
    /// timer's interrupt was taken.
    Broadcast = 7,
    /// Maps and unmaps a region so many times. → how often that was done, how often it was over the limit, and the longest time that was said to be left.
    Unmap = 8,
    /// Spins for so many nanoseconds of its own count. → its stolen time before and after, and 1 if a
    /// store to where it reads that was a fault.
    Steal = 9,
    /// Asks for a service that nobody answers for, with a timeout of so many nanoseconds. → how many it took, and 1 if the request was given up then.
    Request = 10,
    /// Has its spinning processor wait for SGIs from now on, sleeps so many nanoseconds, sends it one, and goes on for so many without a trap. → its count
    /// before it sent, and when the other had taken it. With more than [`CALLS`] it makes calls instead.
    Interrupt = 11,
    /// Spins for so many nanoseconds, calls the examiner, and spins for so many without a trap. → its count when it called, when it had the reply, and at the
    /// end; and the first word of the reply.
    Call = 12,
    /// Takes a call, spins for so many nanoseconds without a trap, and replies with the call's words. → its count when it had taken the call, and at the end.
    Serve = 13,
    /// Does what the counter of this number counts, so many times.
    Exits = 14,
    /// Does TLB maintenance for its own processor alone, so many times.
    Maintain = 15,
}

impl Order {
    /// The order of this number.
    #[must_use]
    pub fn from_word(word: u64) -> Option<Order> {
        [
            Order::Stamp,
            Order::Sleep,
            Order::Calls,
            Order::Region,
            Order::Counters,
            Order::Kick,
            Order::AwaitShutdown,
            Order::Broadcast,
            Order::Unmap,
            Order::Steal,
            Order::Request,
            Order::Interrupt,
            Order::Call,
            Order::Serve,
            Order::Exits,
            Order::Maintain,
        ]
        .into_iter()
        .find(|&order| order as u64 == word)
    }
}
