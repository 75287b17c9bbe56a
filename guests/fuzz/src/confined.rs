//! Role `confined`: a partition that is confined to cache colours and whose bus is limited brings about the results that no other sees.
//!
//! The limit is one operation in a second: once it is used up, each call that needs one fails until it has leaked out. Its second processor calls through a channel
//! to this partition itself, so that there is a reply that is owed; a third one stands by.

use core::{
    cell::Cell,
    sync::atomic::{AtomicBool, Ordering},
};

use handover_guest::{
    Boot, Error, Status,
    abi::{
        Account, Call, MessageWord, Port, RegionHandle, RequestFlags, SHORT_WORDS,
        layout::{MEMORY_BASE, WINDOW_BASE, WINDOW_SLOT},
    },
    hvc, println, processor,
    psci::{self, AffinityState},
};

use crate::{
    content,
    coverage::{self, Outcome},
    limits, shared,
    stream::{self, Setting, Stream},
};

const PAGE: u64 = 4096;
const BLOCK: u64 = 2 << 20;
/// Memory that it has to give back, behind what it started with.
const SPARE: u64 = MEMORY_BASE + 512 * BLOCK;
const THROTTLED: Outcome = Outcome::Fails(Error::Throttled);
const COLOURS: Outcome = Outcome::Limit(Account::CacheColours);
/// Nanoseconds that a call waits that nobody may take.
const PATIENCE: u64 = 1_000_000;
const SHARED_AT: u64 = WINDOW_BASE + 8 * WINDOW_SLOT;
const MAPPED_AT: u64 = WINDOW_BASE + 9 * WINDOW_SLOT;
const DESTROYED_AT: u64 = WINDOW_BASE + 10 * WINDOW_SLOT;
/// Whether the other processor has nothing to do any more.
static THROUGH: AtomicBool = AtomicBool::new(false);
/// Tries: the time may come between the last operation and the call.
const TRIES: usize = 100;

/// What it has.
struct Things {
    /// A port of a channel to itself, whose colours are not this partition's own; its calls are given up soon.
    port: u64,
    shared: Cell<u64>,
    /// Regions of its own colours: mapped, and not.
    mapped: u64,
    region: u64,
}

fn word(port: u64, region: u64) -> u64 {
    let region = (region != 0).then(|| RegionHandle::new(region as u32));
    MessageWord::new(Port::new(port as u32), region, 8).to_register()
}

fn pass(stream: &mut Stream, call: Call, word: u64) -> stream::Answer {
    let data: [u64; SHORT_WORDS] = content::message(stream.random.next());
    let mut arguments = [0; 1 + SHORT_WORDS];
    arguments[0] = word;
    arguments[1..].copy_from_slice(&data);
    stream.call(call, &arguments)
}

fn region(stream: &mut Stream, port: u64, at: u64) -> u64 {
    stream.call(Call::RegionCreate, &[PAGE | port << 32, at]).x[1]
}

fn share(stream: &mut Stream) -> Option<u64> {
    let (shared, _) = limits::joined(stream, |service| shared::memory(service, RequestFlags::empty(), 12))?;
    stream.call(Call::SharedMap, &[shared, SHARED_AT]);
    Some(shared)
}

impl Things {
    fn new(stream: &mut Stream) -> Option<Things> {
        let (port, _) = limits::channel(stream, RequestFlags::empty())?;
        stream.call(Call::CallSetup, &[port, 0, PATIENCE]);
        let shared = Cell::new(share(stream)?);
        Some(Things { port, shared, mapped: region(stream, 0, MAPPED_AT), region: region(stream, 0, 0) })
    }

    /// Uses the bus until it may not any more.
    fn use_bus(&self, stream: &mut Stream) {
        while stream.call(Call::RegionUnmap, &[self.mapped]).outcome != THROTTLED {
            stream.call(Call::RegionMap, &[self.mapped, MAPPED_AT]);
        }
    }

    /// Makes a call that needs the bus when it may not use it. If it may after all, `again` undoes what was done.
    fn throttle(
        &self,
        stream: &mut Stream,
        call: Call,
        make: impl Fn(&mut Stream) -> Outcome,
        again: impl Fn(&mut Stream),
    ) {
        for _ in 0..TRIES {
            self.use_bus(stream);
            if make(stream) == THROTTLED {
                return;
            }
            again(stream);
        }
        stream.fail(format_args!("{call:?} is never throttled"));
    }

    /// The same for a call with a region that the channel takes.
    fn throttle_passing(&self, stream: &mut Stream, call: Call, port: u64, again: impl Fn(&mut Stream)) {
        let make = |stream: &mut Stream| {
            let fit = region(stream, self.port, 0);
            let outcome = pass(stream, call, word(port, fit)).outcome;
            stream.call(Call::RegionDestroy, &[fit]);
            outcome
        };
        self.throttle(stream, call, make, again);
    }

    /// Tries a call whose region has other colours than the channel, which needs the bus as well.
    fn discolour(&self, stream: &mut Stream, call: Call, port: u64) {
        while !coverage::is_seen(call, COLOURS) && stream::all_well() {
            pass(stream, call, word(port, self.region));
            processor::yield_now();
        }
    }
}

fn without_a_call(stream: &mut Stream, things: &Things) {
    let destroy = |stream: &mut Stream| {
        let region = region(stream, 0, DESTROYED_AT);
        stream.call(Call::RegionDestroy, &[region]).outcome
    };
    things.throttle(stream, Call::RegionDestroy, destroy, |_| ());
    let unmap = |stream: &mut Stream| stream.call(Call::SharedUnmap, &[things.shared.get()]).outcome;
    things.throttle(stream, Call::SharedUnmap, unmap, |stream| {
        stream.call(Call::SharedMap, &[things.shared.get(), SHARED_AT]);
    });
    let leave = |stream: &mut Stream| stream.call(Call::Disconnect, &[things.shared.get()]).outcome;
    things.throttle(stream, Call::Disconnect, leave, |stream| {
        things.shared.set(share(stream).unwrap_or_default());
    });
    stream.call(Call::MemoryAdd, &[SPARE, BLOCK]);
    let remove = |stream: &mut Stream| stream.call(Call::MemoryRemove, &[SPARE, BLOCK]).outcome;
    things.throttle(stream, Call::MemoryRemove, remove, |stream| {
        stream.call(Call::MemoryAdd, &[SPARE, BLOCK]);
    });
    for call in [Call::Send, Call::Call] {
        things.throttle_passing(stream, call, things.port, |_| ());
        things.discolour(stream, call, things.port);
    }
}

/// Owes a reply from now on, if it does not.
fn owe(stream: &mut Stream) {
    loop {
        let answer = stream.call(Call::CallWait, &[]);
        let taken = answer.done() && answer.x[1] & 0xff_ffff != 0;
        if taken || answer.outcome == Outcome::Fails(Error::WrongState) {
            return;
        }
    }
}

/// What is tried while a reply is owed.
fn with_a_call(stream: &mut Stream, things: &Things) {
    let port = things.port;
    for (call, port) in
        [(Call::Forward, port), (Call::ForwardAndWait, port), (Call::Reply, 0), (Call::ReplyAndWait, 0)]
    {
        owe(stream);
        things.throttle_passing(stream, call, port, owe);
        things.discolour(stream, call, port);
    }
}

/// The other processor: calls through this port, one call after another, to be answered.
fn calls(port: usize) {
    let mut stream = Stream::helper(1);
    while !THROUGH.load(Ordering::Acquire) {
        pass(&mut stream, Call::Call, word(port as u64, 0));
    }
}

/// A third one, which could answer: what has nobody left who could fails for that.
fn stand_by(_: usize) {
    while !THROUGH.load(Ordering::Acquire) {
        processor::yield_now();
    }
}

/// See the [module](self).
pub(crate) fn run(boot: &Boot) -> Result<Status, Error> {
    coverage::confined();
    let own = u64::from(hvc::identify()?.partition.get());
    let setting = Setting { own, peers: [own; 4], processors: boot.processors(), trace: u64::MAX };
    let mut stream = Stream::new(setting, 1, 0);
    stream.call(Call::MemoryAdd, &[SPARE, 2 * BLOCK]);
    let large = shared::memory(1, RequestFlags::empty(), 22);
    stream.call(Call::Connect, &[own, large]);
    let Some(things) = Things::new(&mut stream) else {
        println!("fuzz: a confined partition has no channel to itself");
        return Ok(Status::FAILURE);
    };
    let Some((answered, _)) = limits::channel(&mut stream, RequestFlags::empty()) else {
        println!("fuzz: a confined partition has no second channel to itself");
        return Ok(Status::FAILURE);
    };
    let works: [(fn(usize), usize); 2] = [(calls, answered as usize), (stand_by, 0)];
    for (index, (work, argument)) in (1..).zip(works) {
        if let Err(error) = processor::start(index, work, argument) {
            stream.fail(format_args!("processor {index} does not start: {error}"));
        }
    }
    without_a_call(&mut stream, &things);
    with_a_call(&mut stream, &things);
    THROUGH.store(true, Ordering::Release);
    while psci::affinity_info(1) == Ok(AffinityState::On) {
        // Whatever it still asks.
        stream.call(Call::Disconnect, &[answered]);
        processor::yield_now();
    }
    let well = coverage::report_confined() && stream::all_well();
    println!("fuzz: {}", if well { "ok" } else { "FAILED" });
    Ok(if well { Status::SUCCESS } else { Status::FAILURE })
}
