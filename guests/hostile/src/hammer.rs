//! All processors make calls at random, on the same regions, ports and memory. Argument: `seed=NUMBER`.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use handover_guest::{
    Boot, Error,
    abi::{
        Call, MessageWord,
        layout::{MEMORY_GRANULE, WINDOW_SLOT},
    },
    hvc, processor,
};

use crate::{
    calls::make,
    failure::{Failure, ensure},
    granules, processors,
    random::Random,
    regions::QUIET,
};

/// Granules of memory that come and go.
const GRANULES: u64 = 3;
/// Calls that each processor makes.
const CALLS: usize = 20_000;

/// Every live region's handle is in one of these, and every live port's; what a new one displaces is destroyed.
pub(crate) static REGIONS: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
pub(crate) static PORTS: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];
/// Tokens that wait for an answer, or did.
static TOKENS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
static OWN: AtomicU64 = AtomicU64::new(0);
/// How far from its own the partition ids are that it connects to.
static REACH: AtomicU64 = AtomicU64::new(0);
static SUCCEEDED: AtomicUsize = AtomicUsize::new(0);

/// Calls and how often: those that would end the partition are missing.
const MIX: &[Call] = &[
    Call::Version,
    Call::Identify,
    Call::AccountRead,
    Call::RegionCreate,
    Call::RegionCreate,
    Call::RegionDestroy,
    Call::RegionMap,
    Call::RegionMap,
    Call::RegionUnmap,
    Call::RegionInfo,
    Call::MemoryAdd,
    Call::MemoryRemove,
    Call::MemoryInfo,
    Call::Connect,
    Call::Accept,
    Call::Accept,
    Call::Refuse,
    Call::Disconnect,
    Call::Send,
    Call::Send,
    Call::Send,
    Call::Send,
    Call::Receive,
    Call::Receive,
    Call::Receive,
    Call::Receive,
    Call::PortStatus,
    Call::EventNext,
    Call::EventSend,
    Call::SignalNext,
    Call::SignalNext,
    Call::PartitionCreate,
    Call::PartitionStop,
    Call::PartitionWrite,
];

pub(crate) fn run(boot: &Boot) -> Result<(), Failure> {
    let seed = boot.argument("seed").and_then(|seed| seed.parse().ok()).unwrap_or(1);
    aim(0)?;
    SUCCEEDED.store(0, Ordering::Relaxed);
    for index in 1..boot.processors() {
        processor::start(index, hammer, seed + index)?;
    }
    hammer(seed);
    for index in 1..boot.processors() {
        processors::wait_until_off(index)?;
    }
    clean_up();
    let succeeded = SUCCEEDED.load(Ordering::Relaxed);
    ensure!(succeeded > CALLS / 10, "only {succeeded} calls succeeded: the mix tests nothing");
    Ok(())
}

/// Tells where to connect to: partitions of ids so far from its own. → its own.
pub(crate) fn aim(reach: u64) -> Result<u64, Failure> {
    let own = u64::from(hvc::identify()?.partition.get());
    OWN.store(own, Ordering::Relaxed);
    REACH.store(reach, Ordering::Relaxed);
    Ok(own)
}

/// The id of a partition that it may connect to.
pub(crate) fn near(random: &mut Random) -> u64 {
    let reach = REACH.load(Ordering::Relaxed);
    let first = OWN.load(Ordering::Relaxed).saturating_sub(reach);
    first + random.below(2 * reach + 1)
}

fn hammer(seed: usize) {
    let mut random = Random::new(seed as u64);
    let mut succeeded = 0;
    for _ in 0..CALLS {
        succeeded += usize::from(step(&mut random));
    }
    SUCCEEDED.fetch_add(succeeded, Ordering::Relaxed);
}

/// Makes a call; whether it succeeded.
pub(crate) fn step(random: &mut Random) -> bool {
    let call = random.one_of(MIX);
    let arguments = arguments(call, random);
    let [x0, x1, x2, ..] = make(call, &arguments);
    if x0 != 0 {
        return false;
    }
    match call {
        Call::RegionCreate => keep(&REGIONS, x1, Call::RegionDestroy, random),
        Call::Receive => {
            if let Some(region) = MessageWord::from_register(x1).region() {
                keep(&REGIONS, u64::from(region.get()), Call::RegionDestroy, random);
            }
        }
        Call::Connect | Call::Accept => keep(&PORTS, x1, Call::Disconnect, random),
        Call::SignalNext => TOKENS[random.below(4) as usize].store(x2, Ordering::Relaxed),
        _ => {}
    }
    true
}

pub(crate) fn arguments(call: Call, random: &mut Random) -> [u64; 17] {
    let mut arguments = [0; 17];
    for argument in &mut arguments[2..] {
        *argument = random.next();
    }
    (arguments[0], arguments[1]) = match call {
        Call::RegionCreate => {
            (random.one_of(&[4096, 4096, 65536, 2 << 20, 4 << 20, 5000, 0]), address(random))
        }
        Call::RegionDestroy | Call::RegionUnmap | Call::RegionInfo => (one_of(&REGIONS, random), 0),
        Call::RegionMap => (one_of(&REGIONS, random), address(random)),
        Call::MemoryAdd | Call::MemoryRemove | Call::MemoryInfo => {
            (granules::AT + random.below(GRANULES) * MEMORY_GRANULE, MEMORY_GRANULE)
        }
        Call::Connect => (near(random), random.below(4)),
        Call::Accept | Call::Refuse => (one_of(&TOKENS, random), random.below(10)),
        Call::Disconnect | Call::PortStatus | Call::EventSend => (one_of(&PORTS, random), 0),
        Call::Receive => (one_of(&PORTS, random), address(random)),
        Call::Send => {
            let region = if random.below(2) == 0 { one_of(&REGIONS, random) & 0xff_ffff } else { 0 };
            let length = random.below(140);
            (one_of(&PORTS, random) & 0xff_ffff | region << 24 | length << 48, random.next())
        }
        _ => (random.next(), random.next()),
    };
    arguments
}

pub(crate) fn address(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => 0,
        1 => random.next(),
        slot => QUIET + slot * WINDOW_SLOT,
    }
}

/// Mostly one of the table's, sometimes anything.
pub(crate) fn one_of(table: &[AtomicU64], random: &mut Random) -> u64 {
    match random.below(16) {
        0 => random.next(),
        1 => random.below(64),
        _ => table[random.below(table.len() as u64) as usize].load(Ordering::Relaxed),
    }
}

pub(crate) fn keep(table: &[AtomicU64], name: u64, destroy: Call, random: &mut Random) {
    let displaced = table[random.below(table.len() as u64) as usize].swap(name, Ordering::Relaxed);
    if displaced != 0 {
        make(destroy, &[displaced]);
    }
}

/// Destroys all ports and regions, gives memory back, and takes all signals and events.
fn clean_up() {
    for granule in 0..GRANULES {
        make(Call::MemoryRemove, &[granules::AT + granule * MEMORY_GRANULE, MEMORY_GRANULE]);
    }
    for (table, destroy) in [(&PORTS[..], Call::Disconnect), (&REGIONS[..], Call::RegionDestroy)] {
        for name in table.iter().map(|entry| entry.swap(0, Ordering::Relaxed)).filter(|&name| name != 0) {
            make(destroy, &[name]);
        }
    }
    for call in [Call::SignalNext, Call::EventNext] {
        while Error::from_x0(make(call, &[])[0]).is_none() {}
    }
}
