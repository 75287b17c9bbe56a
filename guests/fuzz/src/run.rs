//! The roles that fuzz: from the first call to the account at the end.

use core::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use handover_guest::{
    Boot, Error, PartitionId, Port, Status,
    abi::{Account, Call},
    events, hvc, println,
    processor::{self, Lock},
    psci::{self, AffinityState},
    signals, timer,
};

use crate::{
    calls, code, connections, coverage, limits,
    partner::{self, Partner},
    shared,
    stream::{self, Setting, Stream, fail},
};

/// Operations between two scenarios, on the average.
const BETWEEN_SCENARIOS: u64 = 20_000;
/// Seconds until others must have let go of what they were sent.
const PATIENCE: u64 = 300;
/// What tables may grow to, in bytes: they grow by pages and keep them until the partition ends. 1024 ports (some 20 to a page), 1024 regions, messages for
/// 100 full queues, the tables of all GiBs of the window that are ever used.
const GROWTH_MAX: u64 = (56 + 16 + 256 + 96) << 12;

/// What all processors know.
#[derive(Clone, Copy)]
struct Plan {
    setting: Setting,
    seed: u64,
    /// Operations of each processor.
    steps: u64,
}

static PLAN: Lock<Option<Plan>> = Lock::new(None);
/// Processors that are through.
static THROUGH: AtomicUsize = AtomicUsize::new(0);
/// Whether others use the machine's memory or this partition's ports.
static SHARED: AtomicBool = AtomicBool::new(false);

/// Whether anyone else takes part, so that what stands in the way is no longer known beforehand.
pub(crate) fn is_shared() -> bool {
    SHARED.load(Ordering::Relaxed)
}

fn number(boot: &Boot, name: &str, otherwise: u64) -> Result<u64, Status> {
    match boot.argument(name).map(str::parse) {
        None => Ok(otherwise),
        Some(Ok(number)) => Ok(number),
        Some(Err(_)) => {
            println!("fuzz: {name} is no number in {:?}", boot.arguments());
            Err(Status::FAILURE)
        }
    }
}

fn plan(boot: &Boot, peers: [u64; 3]) -> Result<Plan, Status> {
    let own = hvc::identify().map_err(|_| Status::FAILURE)?.partition;
    let own = u64::from(own.get());
    let processors = boot.processors();
    let [a, b, c] = peers;
    let setting = Setting { own, peers: [own, a, b, c], processors, trace: number(boot, "trace", u64::MAX)? };
    let steps = number(boot, "steps", 100_000)? / processors as u64;
    Ok(Plan { setting, seed: number(boot, "seed", 1)?, steps })
}

/// What an account must come back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Charges {
    memory: u64,
    ports: u64,
    control: u64,
}

fn charges() -> Charges {
    let used = |account| match hvc::account_read(None, account) {
        Ok(charge) => charge.used,
        Err(error) => {
            fail(format_args!("{account}: {error}"));
            0
        }
    };
    Charges {
        memory: used(Account::Memory),
        ports: used(Account::Ports),
        control: used(Account::ControlMemory),
    }
}

/// Role `fuzz`: it must see every result that there is.
pub(crate) fn lead(boot: &Boot) -> Status {
    let (Some(second), Some(partner), Some(checked)) =
        (boot.service("second"), boot.service("partner"), boot.service("checked"))
    else {
        println!(
            "fuzz: it uses the services \"second\", \"partner\" and \"checked\"; add them to the manifest"
        );
        return Status::FAILURE;
    };
    let id = |partition: PartitionId| u64::from(partition.get());
    let peers = [second.partition, partner.partition, checked.partition].map(id);
    let plan = match plan(boot, peers) {
        Ok(plan) => plan,
        Err(status) => return status,
    };
    let before = charges();
    code::init();
    let mut stream = Stream::new(plan.setting, plan.seed, 0);
    let watched = partner::open(&mut stream, id(checked.partition), u64::from(checked.service.get()));
    let mut partner =
        Partner::open(&mut stream, partner.partition, u64::from(partner.service.get()), watched);
    stream.privileged_edges();
    // While its tables are small and nobody interferes, what happens at the limits is certain.
    limits::edges(&mut stream);
    connections::edges(&mut stream);
    shared::edges(&mut stream);
    calls::edges(&mut stream, &mut partner);
    limits::control_memory(&mut stream, Some(&mut partner));
    limits::machine_memory(&mut stream, &mut partner);
    limits::ports(&mut stream);
    limits::memory(&mut stream, Some(&mut partner));
    partner.die_in_all_states(&mut stream);
    println!("fuzz: every limit was reached once, after {} operations", stream.steps);

    SHARED.store(true, Ordering::Relaxed);
    let second = partner::open(&mut stream, id(second.partition), u64::from(second.service.get()));
    stream.call(Call::Disconnect, &[second]);
    run(&mut stream, plan, Some(&mut partner));
    partner.close(&mut stream);
    stream.call(Call::Disconnect, &[watched]);
    finish(&mut stream, before);
    let complete = coverage::report(plan.setting.processors);
    if boot.argument("list").is_some() {
        coverage::list();
    }
    conclude(complete)
}

/// Role `second`: starts when the first asks.
pub(crate) fn follow(boot: &Boot) -> Result<Status, Error> {
    let Some(service) = boot.provided("second") else {
        println!(
            "fuzz: the device tree lists no service \"second\" of this partition; add it to the manifest"
        );
        return Ok(Status::FAILURE);
    };
    let first = 'found: loop {
        events::wait_for(Port::CONTROL)?;
        while let Some(signal) = signals::next()? {
            if let signals::Signal::Connect(request) = signal
                && request.service == service
            {
                // Dropping the request refuses it, which tells the first to go on.
                break 'found u64::from(request.partition.get());
            }
        }
    };
    let plan = match plan(boot, [first; 3]) {
        Ok(plan) => plan,
        Err(status) => return Ok(status),
    };
    SHARED.store(true, Ordering::Relaxed);
    let before = charges();
    code::init();
    let mut stream = Stream::new(plan.setting, plan.seed, 0);
    run(&mut stream, plan, None);
    finish(&mut stream, before);
    Ok(conclude(true))
}

/// Does what there is to do on all processors.
fn run(stream: &mut Stream, plan: Plan, mut partner: Option<&mut Partner>) {
    *PLAN.lock() = Some(plan);
    for index in 1..plan.setting.processors {
        if let Err(error) = processor::start(index, run_alone, index) {
            fail(format_args!("processor {index} does not start: {error}"));
            THROUGH.fetch_add(1, Ordering::Relaxed);
        }
    }
    // What came before is not counted.
    let end = stream.steps + plan.steps;
    while stream.steps < end {
        if stream.random.one_in(BETWEEN_SCENARIOS) {
            scenario(stream, partner.as_deref_mut());
        } else {
            stream.step();
        }
    }
    stream.clean_up();
    wait_for_all(plan.setting.processors);
    wait_until_off(1..plan.setting.processors);
}

/// Waits until processors have switched themselves off.
pub(crate) fn wait_until_off(processors: Range<usize>) {
    while processors.clone().any(|index| psci::affinity_info(index as u64) == Ok(AffinityState::On)) {
        processor::yield_now();
    }
}

fn scenario(stream: &mut Stream, partner: Option<&mut Partner>) {
    match (stream.random.below(5), partner) {
        (0, partner) => limits::control_memory(stream, partner),
        (1, _) => limits::ports(stream),
        (2, Some(partner)) => limits::machine_memory(stream, partner),
        (3, Some(partner)) => partner.die(stream),
        (_, partner) => limits::memory(stream, partner),
    }
}

/// Another processor.
fn run_alone(index: usize) {
    let Some(plan) = *PLAN.lock() else { return };
    let mut stream = Stream::new(plan.setting, plan.seed, index);
    while stream.steps < plan.steps {
        stream.step();
    }
    stream.clean_up();
    wait_for_all(plan.setting.processors);
    stream.report();
}

/// None is switched off before all are through: calls of `CPU_ON` must not start one anywhere.
fn wait_for_all(processors: usize) {
    THROUGH.fetch_add(1, Ordering::AcqRel);
    while THROUGH.load(Ordering::Acquire) < processors {
        processor::yield_now();
    }
}

/// Waits until everything has come back, and holds the accounts against what they were.
fn finish(stream: &mut Stream, before: Charges) {
    let deadline = timer::now() + PATIENCE * timer::frequency();
    let after = loop {
        // Others may still ask for channels, which dropping refuses, and hold what they were sent.
        while let Ok(Some(signal)) = signals::next() {
            drop(signal);
        }
        while let Ok(Some(_)) = hvc::event_next() {}
        let after = charges();
        let back = (after.memory, after.ports) == (before.memory, before.ports);
        if back || timer::now() > deadline {
            break after;
        }
        processor::yield_now();
    };
    stream.report();
    let growth = after.control.wrapping_sub(before.control);
    if (after.memory, after.ports) != (before.memory, before.ports)
        || growth > GROWTH_MAX
        || growth % 4096 != 0
    {
        fail(format_args!("the accounts were {before:?}, and are {after:?}"));
    }
    println!(
        "fuzz: memory and ports are as at the start, control memory has grown by {} pages",
        growth >> 12
    );
}

fn conclude(complete: bool) -> Status {
    let well = complete && stream::all_well();
    println!("fuzz: {}", if well { "ok" } else { "FAILED" });
    if well { Status::SUCCESS } else { Status::FAILURE }
}
