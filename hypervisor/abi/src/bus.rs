//! Rights to the bus.

/// What `PartitionSetBus` sets and `BusRead` returns: how often a partition may hand regions over, or make all processors forget translations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusLimit {
    /// Operations in each period, and at once; all ones: as many as it likes.
    pub operations: u64,
    /// Nanoseconds, up to a second.
    pub period: u64,
}

impl BusLimit {
    /// Nanoseconds of the longest period.
    pub const PERIOD_MAX: u64 = 1_000_000_000;
    /// A new partition's.
    pub const NONE: BusLimit = BusLimit { operations: u64::MAX, period: Self::PERIOD_MAX };
}

/// What `PartitionSetTraffic` sets and `BusRead` returns: how much memory traffic a partition may cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficLimit {
    /// The number of the event that the processor counts, as the architecture has it; 0: what counts memory traffic on this machine.
    pub event: u64,
    /// Events in each period, of all its processors; 0: as many as it likes.
    pub events: u64,
    /// Nanoseconds, up to a second.
    pub period: u64,
}

impl TrafficLimit {
    /// Nanoseconds of the longest period.
    pub const PERIOD_MAX: u64 = 1_000_000_000;
    /// A new partition's.
    pub const NONE: TrafficLimit = TrafficLimit { event: 0, events: 0, period: 0 };
}

/// What `BusRead` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusStatus {
    /// The limit of its operations.
    pub limit: BusLimit,
    /// Operations that are not forgotten yet: within the limit, there is room for so many less.
    pub used: u64,
    /// The limit of its traffic, with the event that is counted.
    pub traffic: TrafficLimit,
    /// Events of this period, as far as they are counted; what its running processors may still cause is among them.
    pub caused: u64,
}
