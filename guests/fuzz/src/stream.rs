//! What one processor does: its random numbers, what it believes to own, and what has come of it.

use core::{
    fmt,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use arrayvec::ArrayVec;
use handover_guest::{
    Error,
    abi::{Call, MessageWord, smccc},
    fault::Fault,
    hvc, println,
};

use crate::{
    coverage::{self, Outcome},
    granules,
    random::{Random, mix},
    window::Slots,
};

/// Failures that are printed.
const SHOWN: usize = 20;
/// Failures so far, of all processors.
static FAILURES: AtomicUsize = AtomicUsize::new(0);

/// Whether nothing has failed.
pub(crate) fn all_well() -> bool {
    FAILURES.load(Relaxed) == 0
}

/// Prints a failure and counts it.
pub(crate) fn fail(what: fmt::Arguments<'_>) {
    if FAILURES.fetch_add(1, Relaxed) < SHOWN {
        println!("\nfuzz: FAILED: {what}");
    }
}

/// A region as its processor believes it to be.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    pub(crate) handle: u64,
    /// log2 of its bytes.
    pub(crate) order: u8,
    /// Where it is mapped, or 0.
    pub(crate) at: u64,
}

/// What a call returned.
pub(crate) struct Answer {
    pub(crate) x: [u64; 18],
    pub(crate) outcome: Outcome,
}

impl Answer {
    pub(crate) fn done(&self) -> bool {
        self.outcome == Outcome::Done
    }
}

/// What may be known of the others.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    /// This partition.
    pub(crate) own: u64,
    /// Whom to connect to, this partition included.
    pub(crate) peers: [u64; 4],
    pub(crate) processors: usize,
    /// Print what is done from this step on.
    pub(crate) trace: u64,
}

/// See the [module](self).
pub(crate) struct Stream {
    pub(crate) setting: Setting,
    pub(crate) processor: usize,
    pub(crate) random: Random,
    pub(crate) regions: ArrayVec<Held, 48>,
    pub(crate) ports: ArrayVec<u64, 32>,
    pub(crate) sets: ArrayVec<u64, 8>,
    pub(crate) tokens: ArrayVec<u64, 8>,
    pub(crate) slots: Slots,
    /// What its granules of memory hold; 0: it has not this one.
    pub(crate) granules: [u64; granules::OWN as usize],
    /// Operations so far: calls, accesses to memory, accesses to registers.
    pub(crate) steps: u64,
    calls: u64,
    succeeded: u64,
    faults: u64,
    digest: u64,
}

impl Stream {
    pub(crate) fn new(setting: Setting, seed: u64, processor: usize) -> Stream {
        Stream {
            setting,
            processor,
            random: Random::new(seed, processor as u64),
            regions: ArrayVec::new(),
            ports: ArrayVec::new(),
            sets: ArrayVec::new(),
            tokens: ArrayVec::new(),
            slots: Slots::new(processor),
            granules: [0; granules::OWN as usize],
            steps: 0,
            calls: 0,
            succeeded: 0,
            faults: 0,
            digest: 0,
        }
    }

    /// One that nothing is known of.
    pub(crate) fn helper(processor: usize) -> Stream {
        Stream::new(Setting { own: 0, peers: [0; 4], processors: 2, trace: u64::MAX }, 0, processor)
    }

    /// Whether no other processor of this partition can touch what this one owns, so that each result is known beforehand.
    pub(crate) fn exact(&self) -> bool {
        self.setting.processors == 1
    }

    fn note(&mut self, value: u64) {
        self.digest = mix(self.digest ^ value).wrapping_add(value);
    }

    /// Makes a call. What it does not take as an argument holds garbage, which must come back, but for the call's results.
    pub(crate) fn call(&mut self, call: Call, arguments: &[u64]) -> Answer {
        // DEN0028: bits 63:32 of the function identifier are ignored.
        let high = if self.random.one_in(8) { self.random.next() << 32 } else { 0 };
        let (before, after) = self.execute(high | u64::from(call as u32), arguments);
        let [x0, x1, ..] = after;
        let outcome = Outcome::of(x0, x1);
        if !outcome.is_some_and(|outcome| coverage::record(call, outcome)) {
            let step = self.steps;
            self.fail(format_args!(
                "step {step}: {call:?} {arguments:x?}: x0={x0:#x} x1={x1:#x} is documented nowhere"
            ));
        }
        let outcome = outcome.unwrap_or(Outcome::Fails(Error::NotSupported));
        self.succeeded += u64::from(outcome == Outcome::Done);
        let results = match outcome {
            // Registers are as they were where a message is empty.
            Outcome::Done
                if matches!(call, Call::Receive | Call::Call)
                    && MessageWord::from_register(x1).length() == 0 =>
            {
                1
            }
            Outcome::Done => results_of(call),
            // It may have waited: then a message of somebody who has passed it on is there.
            _ if call == Call::Call => 17,
            Outcome::Limit(_) | Outcome::Fails(Error::TooLarge | Error::Throttled) => 1,
            Outcome::Fails(_) => 0,
        };
        self.expect_kept(&before, &after, 1 + results, format_args!("{call:?} {arguments:x?}: {outcome:?}"));
        Answer { x: after, outcome }
    }

    /// Makes a call of a number that nobody knows.
    pub(crate) fn unknown_call(&mut self, number: u64) {
        let (before, after) = self.execute(number, &[]);
        if after[0] as i32 != smccc::NOT_SUPPORTED as i32 {
            self.fail(format_args!("call {number:#x} is unknown, but x0={:#x}", after[0]));
        }
        self.expect_kept(&before, &after, 1, format_args!("unknown call {number:#x}"));
        coverage::record_unknown();
    }

    /// Makes a call of a standard service.
    pub(crate) fn firmware_call(&mut self, number: u32, arguments: &[u64]) -> u64 {
        self.execute(u64::from(number), arguments).1[0]
    }

    /// The registers before and after.
    fn execute(&mut self, number: u64, arguments: &[u64]) -> ([u64; 18], [u64; 18]) {
        let garbage = self.random.next();
        let mut before: [u64; 18] = core::array::from_fn(|index| garbage.rotate_left(index as u32));
        before[0] = number;
        before[1..=arguments.len()].copy_from_slice(arguments);
        // SAFETY: no reference points into a region, and none of the calls that are made ends or starts a processor.
        let after = unsafe { hvc::raw(before) };
        self.steps += 1;
        self.calls += 1;
        before.iter().chain(&after).for_each(|&value| self.note(value));
        if self.steps >= self.setting.trace {
            println!(
                "fuzz: {}.{}: call {number:#x} {arguments:x?}: {:x?}",
                self.processor, self.steps, after
            );
        }
        (before, after)
    }

    /// That the registers from `first` on are what they were.
    fn expect_kept(&mut self, before: &[u64; 18], after: &[u64; 18], first: usize, what: fmt::Arguments<'_>) {
        if let Some(index) = (first..18).find(|&index| before[index] != after[index]) {
            let (before, after) = (before[index], after[index]);
            self.fail(format_args!("{what}: x{index} changed from {before:#x} to {after:#x}"));
        }
    }

    /// Counts an access to memory or to a register.
    pub(crate) fn count(&mut self, what: fmt::Arguments<'_>, result: Result<u64, Fault>) {
        self.steps += 1;
        match result {
            Ok(value) => self.note(value),
            Err(fault) => {
                self.faults += 1;
                self.note(fault.esr);
                self.note(fault.far);
            }
        }
        if self.steps >= self.setting.trace {
            println!("fuzz: {}.{}: {what}: {result:x?}", self.processor, self.steps);
        }
    }

    /// Prints a failure with where it happened, and counts it.
    pub(crate) fn fail(&self, what: fmt::Arguments<'_>) {
        fail(format_args!("processor {} at step {}: {what}", self.processor, self.steps));
    }

    /// Prints what came of it all.
    pub(crate) fn report(&self) {
        let Stream { processor, steps, calls, succeeded, faults, digest, .. } = self;
        println!(
            "\nfuzz: processor {processor}: {steps} operations, {calls} calls, {succeeded} succeeded, {faults} faults, digest {digest:016x}"
        );
    }
}

/// How many registers from `x1` on carry results.
fn results_of(call: Call) -> usize {
    match call {
        Call::Receive | Call::Call | Call::CallWait | Call::ReplyAndWait | Call::ForwardAndWait => 17,
        Call::CountersRead => 16,
        Call::SignalNext => 4,
        Call::Identify | Call::PortStatus | Call::SharedInfo => 3,
        Call::Version | Call::AccountRead | Call::RegionInfo | Call::MemoryInfo => 2,
        Call::WatchdogKick | Call::RegionCreate | Call::Connect | Call::Accept | Call::EventNext => 1,
        Call::PortSetCreate | Call::PortSetNext => 1,
        _ => 0,
    }
}

/// What processors steal from one another: names that their owners go on using.
pub(crate) struct Board<const N: usize>([AtomicU64; N]);

impl<const N: usize> Board<N> {
    const fn new() -> Board<N> {
        Board([const { AtomicU64::new(u64::MAX) }; N])
    }

    /// Puts a name there.
    pub(crate) fn show(&self, name: u64, random: &mut Random) {
        self.0[random.below(N as u64) as usize].store(name, Relaxed);
    }

    /// A name of before means something else now, which nobody may steal.
    pub(crate) fn hide(&self, name: u64) {
        for place in &self.0 {
            // Whoever puts another one there meanwhile has put it.
            let _other = place.compare_exchange(name, u64::MAX, Relaxed, Relaxed);
        }
    }

    /// Some name that was put there, perhaps long ago.
    pub(crate) fn look(&self, random: &mut Random) -> u64 {
        self.0[random.below(N as u64) as usize].load(Relaxed)
    }
}

/// Regions.
pub(crate) static REGIONS: Board<16> = Board::new();
/// Ports.
pub(crate) static PORTS: Board<8> = Board::new();
