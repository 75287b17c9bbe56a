//! Does what the examiner tells it. Its processors beside the first are in different states all the time, so that whatever is done to the
//! partition meets all of them: the second spins, the third waits for an interrupt that never comes, the fourth is switched on and off by the second.

#![no_std]
#![no_main]

mod exits;

use core::{
    arch::asm,
    ptr, slice,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use handover_guest::{
    Boot, Channel, ConnectError, Connecting, Error, PartitionId, Port, Region, RegionHandle, RequestFlags,
    RequestWord, ServiceId, Short, Status,
    abi::{
        Call, CounterNumber,
        layout::{STOLEN_TIME_BASE, VIRTUAL_TIMER_INTID, WINDOW_BASE},
    },
    calls, entry, events, fault, hvc,
    interrupts::{self, Trigger},
    println, processor,
    signals::{self, Signal},
    timer,
};
use subject::{CALLS, MASKED, Order, SERVICE};

entry!(main);

/// System-control's id: the first there is.
const EXAMINER: PartitionId = PartitionId::new(1);

static SPINS: AtomicU64 = AtomicU64::new(0);
static TICKS: AtomicU64 = AtomicU64::new(0);
/// What [`Order::Unmap`] works on; 0: nothing yet.
static REGION: AtomicU32 = AtomicU32::new(0);
static TICKED: AtomicU64 = AtomicU64::new(0);
/// The spinning processor waits for SGIs.
static LISTENS: AtomicBool = AtomicBool::new(false);
/// Its count when it last took one; 0: not yet.
static TAKEN: AtomicU64 = AtomicU64::new(0);
/// What it is sent.
const SGI: u32 = 1;

fn main(boot: Boot) -> Result<(), Error> {
    for (index, entry) in [(1, spin as fn(usize)), (2, wait)] {
        if index < boot.processors()
            && let Err(error) = processor::start(index, entry, boot.processors())
        {
            println!("subject: processor {index} cannot be switched on: {error}");
        }
    }
    interrupts::enable(VIRTUAL_TIMER_INTID, Trigger::Level, |_| {
        timer::stop();
        TICKED.store(timer::now(), Ordering::Relaxed);
        TICKS.fetch_add(1, Ordering::Relaxed);
    })?;
    let mut channel = match Channel::request(EXAMINER, ServiceId::new(SERVICE))?.wait() {
        Ok(channel) => channel,
        Err(error) => {
            println!("subject: the examiner does not answer: {error:?}");
            return Err(Error::NotConnected);
        }
    };
    loop {
        let message = channel.receive_wait()?;
        let order = *message.short.words();
        let answer = Short::from_words(match Order::from_word(order[0]) {
            Some(Order::Call) => call(&mut channel, order[1], order[2])?,
            Some(Order::Serve) => serve(&mut channel, order[1])?,
            _ => obey(order)?,
        });
        match Order::from_word(order[0]) {
            Some(Order::Region) => channel.send((Region::create(order[1] as usize)?, answer))?,
            _ => channel.send(answer)?,
        }
        if Order::from_word(order[0]) == Some(Order::AwaitShutdown) {
            // What nobody has received goes with the sender: not before the next order.
            channel.receive_wait()?;
            handover_guest::end(Status(7));
        }
    }
}

fn obey([order, a, b, ..]: [u64; 16]) -> Result<[u64; 16], Error> {
    let mut answer = [0; 16];
    match Order::from_word(order) {
        None => return Err(Error::InvalidArgument),
        Some(Order::Stamp) => {
            answer[0] = timer::now();
            answer[1] = SPINS.load(Ordering::Relaxed);
        }
        Some(Order::Calls) => {
            for _ in 0..a {
                hvc::identify()?;
            }
            for _ in 0..b {
                if hvc::region_info(RegionHandle::new(0xff_ffff)).is_ok() {
                    return Err(Error::InUse);
                }
            }
        }
        Some(Order::Region | Order::Call | Order::Serve) => {}
        Some(Order::Kick) => answer[0] = hvc::watchdog_kick()?,
        Some(Order::AwaitShutdown) => loop {
            if let Some(Signal::ShutdownRequest { nanoseconds }) = signals::next()? {
                (answer[0], answer[1]) = (1, nanoseconds);
                break;
            }
            events::wait_for(Port::CONTROL)?;
        },
        Some(Order::Broadcast) => {
            answer[0] = timer::now();
            if b & !MASKED != 0 {
                timer::set_deadline(timer::after(Duration::from_nanos(b & !MASKED)));
            }
            if b & MASKED == 0 {
                interrupts::unmask();
            }
            for _ in 0..a {
                // SAFETY: TLB maintenance and barriers change no memory and no register.
                unsafe { asm!("tlbi vmalle1is", "dsb ish", "isb", options(nostack, preserves_flags)) };
            }
            answer[1] = timer::now();
            interrupts::mask();
            timer::stop();
            answer[2] = TICKED.load(Ordering::Relaxed);
        }
        Some(Order::Unmap) => answer[..3].copy_from_slice(&unmap(a)?),
        Some(Order::Steal) => {
            answer[0] = processor::stolen_time().ok_or(Error::NotSupported)?;
            let end = timer::after(Duration::from_nanos(a));
            while timer::now() < end {}
            answer[1] = processor::stolen_time().ok_or(Error::NotSupported)?;
            let at = ptr::with_exposed_provenance_mut::<u64>(STOLEN_TIME_BASE as usize);
            // SAFETY: nothing else of this program's is there, and a fault is caught.
            answer[2] = u64::from(fault::catch(|| unsafe { at.write_volatile(0) }).is_err());
        }
        Some(Order::Request) => {
            let word = RequestWord::new(ServiceId::new(!SERVICE), RequestFlags::empty());
            let from = timer::now();
            let result = Connecting::request(EXAMINER, word, Some(Duration::from_nanos(a)))?.wait();
            answer[0] = timer::now() - from;
            answer[1] = u64::from(matches!(result, Err(ConnectError::Failed(Error::TimedOut))));
        }
        Some(Order::Counters) => {
            let first = CounterNumber::new(a).ok_or(Error::InvalidArgument)?;
            answer = hvc::counters_read(None, None, first)?;
        }
        Some(Order::Maintain) => (0..a).for_each(|_| {
            // SAFETY: TLB maintenance and barriers change no memory and no register.
            unsafe { asm!("tlbi vmalle1", "dsb nsh", "isb", options(nostack, preserves_flags)) };
        }),
        Some(Order::Exits) => exits::cause(a, b)?,
        Some(Order::Interrupt) => answer[..2].copy_from_slice(&interrupt(a, b)?),
        Some(Order::Sleep) => {
            answer[0] = timer::now();
            sleep(a);
            answer[1] = timer::now();
            // Events that came meanwhile are looked at by the next wait.
            while events::next()?.is_some() {}
        }
    }
    Ok(answer)
}

/// Waits by WFI for so many nanoseconds.
fn sleep(nanoseconds: u64) {
    let ticks = TICKS.load(Ordering::Relaxed);
    timer::set_deadline(timer::after(Duration::from_nanos(nanoseconds)));
    while TICKS.load(Ordering::Relaxed) == ticks {
        interrupts::wait();
    }
}

/// Goes on for so many nanoseconds without a trap.
fn spin_for(nanoseconds: u64) {
    let end = timer::after(Duration::from_nanos(nanoseconds));
    while timer::now() < end {}
}

fn interrupt(pause: u64, then: u64) -> Result<[u64; 2], Error> {
    LISTENS.store(true, Ordering::Relaxed);
    sleep(pause);
    TAKEN.store(0, Ordering::Relaxed);
    let sent = timer::now();
    // SAFETY: ICC_SGI1R_EL1: an interrupt to affinity 0.0.0.1 that the processor there expects.
    unsafe {
        asm!("msr icc_sgi1r_el1, {}", "isb", in(reg) u64::from(SGI) << 24 | 1 << 1, options(nostack, preserves_flags));
    }
    if then >= CALLS {
        let end = timer::after(Duration::from_nanos(then - CALLS));
        while timer::now() < end {
            hvc::identify()?;
        }
    } else {
        spin_for(then);
    }
    Ok([sent, TAKEN.load(Ordering::Relaxed)])
}

/// Takes SGIs and does nothing else.
fn listen() -> ! {
    if let Err(error) =
        interrupts::enable(SGI, Trigger::Edge, |_| TAKEN.store(timer::now(), Ordering::Relaxed))
    {
        println!("subject: no SGI: {error}");
    }
    loop {
        interrupts::wait();
    }
}

fn call(channel: &mut Channel, before: u64, after: u64) -> Result<[u64; 16], Error> {
    let mut answer = [0; 16];
    spin_for(before);
    let mut short = Short::from_words([0; 16]);
    answer[0] = timer::now();
    drop(channel.call(None, &mut short)?);
    answer[1] = timer::now();
    spin_for(after);
    answer[2] = timer::now();
    answer[3] = short.words()[0];
    Ok(answer)
}

fn serve(channel: &mut Channel, nanoseconds: u64) -> Result<[u64; 16], Error> {
    let mut answer = [0; 16];
    let mut short = Short::from_words([0; 16]);
    while calls::wait(slice::from_mut(channel), &mut short)?.is_none() {
        while interrupts::take() {}
    }
    answer[0] = timer::now();
    spin_for(nanoseconds);
    answer[1] = timer::now();
    calls::reply(None, &short)?;
    Ok(answer)
}

fn unmap(times: u64) -> Result<[u64; 3], Error> {
    let slot = WINDOW_BASE + (8 << 30);
    let region = match REGION.load(Ordering::Relaxed) {
        0 => hvc::region_create(4096, slot)?,
        handle => RegionHandle::new(handle),
    };
    REGION.store(region.get(), Ordering::Relaxed);
    let [mut done, mut over, mut longest] = [0; 3];
    for _ in 0..times {
        match hvc::region_map(region, slot) {
            Ok(()) | Err(Error::InUse) => {}
            Err(error) => return Err(error),
        }
        let mut registers = [0; 18];
        (registers[0], registers[1]) = (Call::RegionUnmap as u64, u64::from(region.get()));
        // SAFETY: nothing refers to the region's memory.
        let [x0, x1, ..] = unsafe { hvc::raw(registers) };
        match Error::from_x0(x0) {
            None => done += 1,
            Some(Error::Throttled) => (over, longest) = (over + 1, longest.max(x1)),
            Some(error) => return Err(error),
        }
    }
    Ok([done, over, longest])
}

fn spin(processors: usize) {
    loop {
        if LISTENS.load(Ordering::Relaxed) {
            listen();
        }
        let spins = SPINS.fetch_add(1, Ordering::Relaxed);
        if processors > 3 && spins.is_multiple_of(1 << 12) {
            // Refused as long as it is on.
            let _on = processor::start(3, come_and_go, 0);
        }
    }
}

fn wait(_: usize) {
    loop {
        interrupts::wait_for_interrupt();
    }
}

fn come_and_go(_: usize) {
    for _ in 0..1000 {
        processor::yield_now();
    }
}
