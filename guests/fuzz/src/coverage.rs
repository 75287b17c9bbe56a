//! Which results each call may have (docs/abi.md), and which of them have occurred.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use handover_guest::{
    abi::{Account, Call, Error},
    println,
};

/// What a call has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It succeeded.
    Done,
    /// It failed.
    Fails(Error),
    /// It failed with [`Error::Limit`], of this account.
    Limit(Account),
}

use Outcome::{Done, Fails, Limit};

impl Outcome {
    /// What `x0` and `x1` say; `None` for what no version of the interface defines.
    pub(crate) fn of(x0: u64, x1: u64) -> Option<Outcome> {
        match Error::from_x0(x0) {
            None => (x0 == 0).then_some(Done),
            Some(Error::Limit) => Account::try_from(x1).ok().map(Limit),
            Some(error) => Some(Fails(error)),
        }
    }

    /// A number below [`OUTCOMES`].
    const fn index(self) -> usize {
        match self {
            Done => 0,
            Fails(error) => -(error as i64) as usize,
            Limit(account) => Error::ALL.len() + 1 + account as usize,
        }
    }
}

const OUTCOMES: usize = 1 + Error::ALL.len() + Account::ALL.len();

/// A call and a result that it may have.
struct Pair {
    call: Call,
    outcome: Outcome,
    by: By,
}

/// Who can bring a result about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The partition that fuzzes.
    Fuzz,
    /// One that is confined to cache colours, and whose bus is limited.
    Confined,
    /// No guest, for this reason.
    Nobody(&'static str),
}

use By::{Confined, Nobody};

/// What stands behind a pair, if anything does.
const fn by(given: &[By]) -> By {
    match given {
        [by, ..] => *by,
        [] => By::Fuzz,
    }
}

impl Pair {
    /// Whether it may occur in this partition.
    fn is_expected(&self) -> bool {
        match self.by {
            By::Fuzz => true,
            Confined => IS_CONFINED.load(Relaxed),
            Nobody(_) => false,
        }
    }

    /// Whether a partition with so many processors can bring it about. A partition that is not started yet is seen only by a processor
    /// that runs while system-control does.
    fn reachable(&self, processors: usize) -> bool {
        let seen_by_another = self.call == Call::Connect && self.outcome == Fails(Error::NotConnected);
        self.by == By::Fuzz && (processors > 1 || !seen_by_another)
    }
}

macro_rules! pairs {
    ($($call:ident: $($outcome:expr $(=> $by:expr)?),+;)*) => {
        &[$($(Pair { call: Call::$call, outcome: $outcome, by: by(&[$($by)?]) },)+)*]
    };
}

/// Every documented pair for a partition without the privilege. `WrongState` of a caller that is being ended is in no row: nothing
/// of that partition runs again, so none sees it.
const PAIRS: &[Pair] = {
    use Account::{AddressSpace, CacheColours, ControlMemory, Memory, Ports};
    use Error::{
        BadAddress, BadHandle, Deadlock, Denied, InUse, InvalidArgument, NoMemory, NotConnected, PeerClosed,
        QueueFull, Throttled, TimedOut, TooLarge, WouldBlock, WrongState,
    };
    pairs! {
        Version: Done;
        Identify: Done;
        End: Done => Nobody("does not return; each guest of the test ends by it");
        AccountRead: Done, Fails(BadHandle), Fails(Denied), Fails(InvalidArgument);
        RegionCreate: Done, Fails(BadHandle), Fails(InvalidArgument), Fails(BadAddress), Fails(InUse), Fails(TooLarge), Fails(NoMemory),
            Limit(Memory), Limit(ControlMemory), Limit(AddressSpace) => Nobody("the whole window is within the limit");
        RegionDestroy: Done, Fails(BadHandle), Fails(Denied), Fails(Throttled) => Confined;
        RegionMap: Done, Fails(BadHandle), Fails(InvalidArgument), Fails(BadAddress), Fails(InUse), Fails(TooLarge),
            Fails(NoMemory), Limit(ControlMemory), Limit(AddressSpace) => Nobody("the whole window is within the limit");
        RegionUnmap: Done, Fails(BadHandle), Fails(WrongState), Fails(Throttled) => Confined;
        RegionInfo: Done, Fails(BadHandle);
        MemoryAdd: Done, Fails(InvalidArgument), Fails(BadAddress), Fails(InUse), Fails(TooLarge) => Confined, Fails(NoMemory), Limit(Memory),
            Limit(ControlMemory), Limit(AddressSpace) => Nobody("all the memory it may have is within the limit");
        MemoryRemove: Done, Fails(InvalidArgument), Fails(BadAddress), Fails(Throttled) => Confined;
        MemoryInfo: Done, Fails(BadAddress);
        Connect: Done, Fails(InvalidArgument), Fails(BadHandle), Fails(NotConnected), Fails(PeerClosed), Fails(NoMemory),
            Fails(TooLarge) => Confined,
            Limit(Ports), Limit(ControlMemory), Limit(Memory);
        Accept: Done, Fails(BadHandle), Fails(NoMemory), Limit(Ports), Limit(ControlMemory), Limit(Memory);
        SharedMap: Done, Fails(BadHandle), Fails(InUse), Fails(InvalidArgument), Fails(BadAddress), Fails(TooLarge), Fails(NoMemory),
            Limit(ControlMemory), Limit(AddressSpace) => Nobody("the whole window is within the limit");
        SharedUnmap: Done, Fails(BadHandle), Fails(WrongState), Fails(Throttled) => Confined;
        SharedInfo: Done, Fails(BadHandle);
        Refuse: Done, Fails(InvalidArgument), Fails(BadHandle);
        Disconnect: Done, Fails(BadHandle), Fails(Throttled) => Confined;
        Send: Done, Fails(InvalidArgument), Fails(BadHandle), Fails(QueueFull), Fails(PeerClosed), Fails(NotConnected),
            Fails(TimedOut), Fails(Denied),
            Fails(NoMemory), Limit(ControlMemory), Fails(Throttled) => Confined, Limit(CacheColours) => Confined;
        Receive: Done, Fails(InvalidArgument), Fails(BadHandle), Fails(BadAddress), Fails(InUse), Fails(WouldBlock),
            Fails(PeerClosed), Fails(NotConnected), Fails(TimedOut), Fails(Denied), Fails(TooLarge), Fails(NoMemory), Limit(Memory), Limit(ControlMemory),
            Limit(AddressSpace) => Nobody("the whole window is within the limit");
        PortStatus: Done, Fails(BadHandle);
        EventNext: Done, Fails(WouldBlock);
        PortSetCreate: Done, Fails(InvalidArgument), Fails(NoMemory), Limit(Ports), Limit(ControlMemory);
        PortSetDestroy: Done, Fails(BadHandle), Fails(InUse);
        PortSetAdd: Done, Fails(BadHandle), Fails(InUse);
        PortSetRemove: Done, Fails(BadHandle), Fails(WrongState);
        PortSetNext: Done, Fails(BadHandle), Fails(WouldBlock);
        EventSend: Done, Fails(BadHandle), Fails(PeerClosed), Fails(NotConnected), Fails(TimedOut), Fails(Denied);
        EventMask: Done, Fails(BadHandle);
        EventUnmask: Done, Fails(BadHandle);
        EventBind: Done, Fails(BadHandle), Fails(WrongState), Fails(InvalidArgument);
        SignalNext: Done, Fails(WouldBlock);
        WatchdogKick: Done;
        CountersRead: Done, Fails(BadHandle), Fails(Denied), Fails(InvalidArgument);
        Call: Done, Fails(InvalidArgument), Fails(BadHandle), Fails(NotConnected), Fails(TimedOut), Fails(PeerClosed), Fails(Denied),
            Fails(QueueFull), Fails(NoMemory), Fails(Deadlock), Limit(ControlMemory), Fails(Throttled) => Confined,
            Limit(CacheColours) => Confined;
        CallWait: Done, Fails(WrongState), Fails(NoMemory), Limit(Memory), Limit(ControlMemory);
        Reply: Done, Fails(InvalidArgument), Fails(BadHandle), Fails(Denied), Fails(QueueFull), Fails(NoMemory),
            Fails(Throttled) => Confined, Limit(CacheColours) => Confined;
        ReplyAndWait: Done, Fails(InvalidArgument), Fails(BadHandle), Fails(Denied), Fails(QueueFull), Fails(NoMemory),
            Fails(Throttled) => Confined, Limit(CacheColours) => Confined;
        Forward: Done, Fails(InvalidArgument), Fails(BadHandle), Fails(NotConnected), Fails(TimedOut), Fails(PeerClosed), Fails(Denied),
            Fails(QueueFull), Fails(Deadlock), Fails(NoMemory) => Nobody("the caller's table of regions would have to be full"),
            Fails(Throttled) => Confined, Limit(CacheColours) => Confined;
        ForwardAndWait: Done, Fails(InvalidArgument), Fails(BadHandle), Fails(NotConnected), Fails(TimedOut), Fails(PeerClosed),
            Fails(Denied), Fails(QueueFull), Fails(Deadlock), Fails(NoMemory) => Nobody("the caller's table of regions would have to be full"),
            Fails(Throttled) => Confined, Limit(CacheColours) => Confined;
        CallSetup: Done, Fails(BadHandle), Fails(InvalidArgument), Fails(BadAddress);
        PartitionCreate: Fails(Denied);
        PartitionSetLimit: Fails(Denied);
        PartitionAddMemory: Fails(Denied);
        PartitionWrite: Fails(Denied);
        PartitionStart: Fails(Denied);
        PartitionStop: Fails(Denied);
        PartitionDestroy: Fails(Denied);
        PartitionStatus: Fails(Denied);
        MachineOff: Fails(Denied);
        MachineInfo: Fails(Denied);
        ProcessorSet: Fails(Denied);
        ProcessorRead: Fails(Denied);
        DeviceInfo: Fails(Denied);
        DeviceAssign: Fails(Denied);
        DeviceRevoke: Fails(Denied);
        PartitionSetBus: Fails(Denied);
        PartitionSetTraffic: Fails(Denied);
        BusRead: Fails(Denied);
        PartitionSetColours: Fails(Denied);
        CacheInfo: Fails(Denied);
        PartitionPause: Fails(Denied);
        PartitionResume: Fails(Denied);
        PartitionShutdown: Fails(Denied);
        PartitionReset: Fails(Denied);
        PartitionSetWatchdog: Fails(Denied);
    }
};

const NUMBERS: usize = (Call::ALL[Call::ALL.len() - 1] as u32 - Call::BASE) as usize + 1;

/// From a call's number and an outcome to its pair, plus one; 0 where there is none.
static INDEX: [[u16; OUTCOMES]; NUMBERS] = {
    let mut index = [[0; OUTCOMES]; NUMBERS];
    let mut at = 0;
    while at < PAIRS.len() {
        let number = (PAIRS[at].call as u32 - Call::BASE) as usize;
        index[number][PAIRS[at].outcome.index()] = at as u16 + 1;
        at += 1;
    }
    index
};

static SEEN: [AtomicU32; PAIRS.len()] = [const { AtomicU32::new(0) }; PAIRS.len()];
/// Whether this partition is confined to cache colours, and its bus limited.
static IS_CONFINED: AtomicBool = AtomicBool::new(false);
/// Calls of numbers that nobody knows, which returned `NotSupported`.
static UNKNOWN: AtomicU32 = AtomicU32::new(0);

/// Counts a result; whether it is a documented one.
pub(crate) fn record(call: Call, outcome: Outcome) -> bool {
    let number = (call as u32 - Call::BASE) as usize;
    match INDEX[number][outcome.index()].checked_sub(1) {
        Some(pair) if PAIRS[usize::from(pair)].is_expected() => {
            SEEN[usize::from(pair)].fetch_add(1, Relaxed);
            true
        }
        _ => false,
    }
}

/// Counts a call of a number that nobody knows.
pub(crate) fn record_unknown() {
    UNKNOWN.fetch_add(1, Relaxed);
}

/// Whether each state of a partition's life that [`Call::Connect`] tells, as far as so many processors can see it, has been told.
pub(crate) fn all_states_seen(processors: usize) -> bool {
    let states = [Error::NotConnected, Error::PeerClosed].map(Fails);
    let connects = PAIRS.iter().zip(&SEEN).filter(|(pair, _)| pair.call == Call::Connect);
    connects
        .filter(|(pair, _)| states.contains(&pair.outcome) && pair.reachable(processors))
        .all(|(_, seen)| seen.load(Relaxed) > 0)
}

/// Prints which pairs have not occurred; whether all that a partition with so many processors can bring about have.
pub(crate) fn report(processors: usize) -> bool {
    let reachable = || PAIRS.iter().zip(&SEEN).filter(|(pair, _)| pair.reachable(processors));
    for (pair, _) in reachable().filter(|(_, seen)| seen.load(Relaxed) == 0) {
        println!("fuzz: never: {:?} with {:?}", pair.call, pair.outcome);
    }
    for pair in PAIRS {
        if let Nobody(why) = pair.by {
            println!("fuzz: not tried: {:?} with {:?}: {why}", pair.call, pair.outcome);
        }
    }
    let unknown = UNKNOWN.load(Relaxed);
    let (seen, all) = (reachable().filter(|(_, seen)| seen.load(Relaxed) != 0).count(), reachable().count());
    println!("fuzz: {seen} of {all} results occurred, and {unknown} calls were of unknown numbers");
    seen == all && unknown > 0
}

/// This partition is confined to cache colours, and its bus limited.
pub(crate) fn confined() {
    IS_CONFINED.store(true, Relaxed);
}

/// Whether a pair has occurred.
pub(crate) fn is_seen(call: Call, outcome: Outcome) -> bool {
    PAIRS
        .iter()
        .zip(&SEEN)
        .any(|(pair, seen)| (pair.call, pair.outcome) == (call, outcome) && seen.load(Relaxed) != 0)
}

/// Prints which of the pairs that a confined partition brings about have not occurred; whether all have.
pub(crate) fn report_confined() -> bool {
    let all = || PAIRS.iter().zip(&SEEN).filter(|(pair, _)| pair.by == Confined);
    for (pair, _) in all().filter(|(_, seen)| seen.load(Relaxed) == 0) {
        println!("fuzz: never: {:?} with {:?}", pair.call, pair.outcome);
    }
    let seen = all().filter(|(_, seen)| seen.load(Relaxed) != 0).count();
    println!("fuzz: {seen} of {} results occurred in a confined partition", all().count());
    seen == all().count()
}

/// Prints how often each pair has occurred.
pub(crate) fn list() {
    for (pair, seen) in PAIRS.iter().zip(&SEEN) {
        println!("fuzz: {:?} {:?}: {}", pair.call, pair.outcome, seen.load(Relaxed));
    }
}
