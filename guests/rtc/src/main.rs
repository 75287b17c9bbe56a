//! Uses devices of the machine: a PL031 real-time clock (Arm DDI 0224) and a PL061 GPIO controller (DDI 0190). The argument `case=NAME` says how:
//!
//! | case | what it does |
//! | --- | --- |
//! | `alarm` | sets an alarm, and gets its interrupt once |
//! | `storm` | never clears the cause of its interrupt, until it has had `count=N` of them, or else until its registers are taken away |
//! | `asked` | asks for the clock, until nobody else has it, and does the same as `alarm`; then for more |
//! | `pending` | ends with an interrupt that it has acknowledged and not ended |
//!
//! It says where it is by asking the partition `tell=ID` for a channel, and takes the answer for nothing.

#![no_std]
#![no_main]

mod gpio;
mod rtc;

use core::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use handover_guest::{
    Boot, Device, Error, Status,
    abi::{Account, PartitionId, ServiceId, layout},
    entry, fault, hvc,
    interrupts::{self, Trigger},
    println,
    requests::Requests,
    timer,
};

entry!(main);

/// A case's result; what went wrong is for people to read.
type Verdict = Result<(), &'static str>;

/// Interrupts taken.
static TAKEN: AtomicU64 = AtomicU64::new(0);
/// How many are a storm.
const UNDER_WAY: u64 = 100;
/// How many are enough.
static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);
/// Who is told, or 0.
static WATCHER: AtomicU32 = AtomicU32::new(0);

fn main(boot: Boot) -> Status {
    let case = boot.argument("case").unwrap_or("alarm");
    let watcher = boot.argument("tell").and_then(|id| id.parse().ok()).unwrap_or(0);
    WATCHER.store(watcher, Ordering::Relaxed);
    let verdict = match case {
        "alarm" => alarm(&boot),
        "asked" => asked(&boot),
        "storm" => storm(&boot),
        "pending" => pending(&boot),
        _ => Err("no such case"),
    };
    match verdict {
        Ok(()) => {
            println!("rtc: {case} ok");
            Status::SUCCESS
        }
        Err(problem) => {
            println!("rtc: {case} FAILED: {problem}");
            Status::FAILURE
        }
    }
}

/// A device that the device tree names; or else where one is that came later.
fn find(boot: &Boot, model: &str) -> Device {
    let later = Device { address: layout::DEVICE_BASE, size: 0x1000, intid: Some(layout::DEVICE_INTID) };
    boot.device(model).unwrap_or(later)
}

/// Tells whoever watches that the storm is under way.
fn tell() -> Verdict {
    let watcher = WATCHER.load(Ordering::Relaxed);
    if watcher == 0 {
        return Ok(());
    }
    match hvc::connect(PartitionId::new(watcher), ServiceId::new(1)) {
        Ok(_) => Ok(()),
        Err(_) => Err("the watcher cannot be told"),
    }
}

fn enable(intid: Option<u32>, handler: interrupts::Handler) -> Result<u32, &'static str> {
    let intid = intid.ok_or("the device has no interrupt")?;
    interrupts::enable(intid, Trigger::Level, handler)
        .map_err(|_: Error| "the interrupt cannot be enabled")?;
    Ok(intid)
}

/// Before it is granted nothing is where the device tree says that the clock would be.
fn asked(boot: &Boot) -> Verdict {
    let device = boot.device("arm,pl031").ok_or("no clock can be asked for")?;
    if fault::catch(|| rtc::start(device.address)).is_ok() {
        return Err("it has the clock without having asked");
    }
    let mut requests = Requests::connect(boot).map_err(|_| "nobody can be asked")?;
    let mut more = || requests.more(Account::Devices, 1);
    let granted = loop {
        match more() {
            Err(Error::InUse) => {
                let end = timer::after(Duration::from_millis(20));
                while timer::now() < end {}
            }
            result => break result,
        }
    };
    println!("rtc: asked for a device: {granted:?}");
    granted.map_err(|_| "it does not get the clock")?;
    alarm(boot)?;
    println!("rtc: asked for another: {:?}", more());
    Ok(())
}

fn count(_: u32) {
    TAKEN.fetch_add(1, Ordering::Relaxed);
}

fn taken() -> u64 {
    TAKEN.load(Ordering::Relaxed)
}

fn clear_alarm(_: u32) {
    rtc::clear();
    TAKEN.fetch_add(1, Ordering::Relaxed);
}

/// What its predecessor has left of the device is its own now, so it starts by clearing it.
fn alarm(boot: &Boot) -> Verdict {
    let device = find(boot, "arm,pl031");
    rtc::start(device.address);
    enable(device.intid, clear_alarm)?;
    println!("rtc: registers at {:#x}, INTID {:?}, it is {}", device.address, device.intid, rtc::now());
    let before = rtc::now();
    rtc::set_alarm(before.wrapping_add(1));
    while taken() == 0 {
        interrupts::wait();
    }
    if rtc::now() == before {
        return Err("the alarm came before its time");
    }
    // One alarm, one interrupt: long enough that a second one would have come.
    timer::set_deadline(timer::now() + timer::frequency() / 50);
    interrupts::enable(layout::VIRTUAL_TIMER_INTID, Trigger::Level, |_| timer::stop())
        .map_err(|_| "the timer's interrupt cannot be enabled")?;
    interrupts::wait();
    println!("rtc: an alarm, {} interrupt", taken());
    if taken() == 1 { Ok(()) } else { Err("more interrupts than alarms") }
}

/// One more of the storm. As soon as one is ended the next is there, so that nothing but this handler runs.
fn gust(intid: u32) {
    let taken = TAKEN.fetch_add(1, Ordering::Relaxed) + 1;
    if taken == UNDER_WAY
        && let Err(problem) = tell()
    {
        println!("rtc: {problem}");
    }
    if taken == LIMIT.load(Ordering::Relaxed) {
        // Where it cannot be disabled it goes on, and the case does not end.
        let _ = interrupts::disable(intid);
    }
}

/// Interrupts without end, of the GPIO controller if it has one, else of the clock.
fn storm(boot: &Boot) -> Verdict {
    let limit = boot.argument("count").and_then(|count| count.parse().ok()).unwrap_or(u64::MAX);
    LIMIT.store(limit, Ordering::Relaxed);
    let (device, read): (_, fn() -> u32) = match boot.device("arm,pl061") {
        Some(device) => {
            gpio::start(device.address);
            (device, gpio::data)
        }
        None => {
            let device = find(boot, "arm,pl031");
            rtc::start(device.address);
            rtc::set_alarm(rtc::now());
            (device, rtc::now)
        }
    };
    enable(device.intid, gust)?;
    interrupts::unmask();
    let gone = loop {
        if taken() >= limit {
            println!("rtc: {} interrupts of one cause", taken());
            return Ok(());
        }
        if let Err(fault) = fault::catch(read) {
            break fault;
        }
    };
    interrupts::mask();
    println!("rtc: after {} interrupts a touch of the registers is a fault: {gone}", taken());
    if gone.status_code() != fault::Fault::STATUS_EXTERNAL {
        return Err("another fault than an external abort");
    }
    let before = taken();
    interrupts::unmask();
    interrupts::mask();
    if taken() != before {
        return Err("an interrupt after the device was taken away");
    }
    Ok(())
}

fn pending(boot: &Boot) -> Verdict {
    let device = find(boot, "arm,pl031");
    rtc::start(device.address);
    enable(device.intid, count)?;
    rtc::set_alarm(rtc::now());
    interrupts::wait_for_interrupt();
    match interrupts::acknowledge() {
        found if found == device.intid => Ok(()),
        _ => Err("no interrupt of the clock's"),
    }
}
