//! Does what the examiner tells it. Its processors beside the first are in different states all the time, so that whatever is done to the
//! partition meets all of them: the second spins, the third waits for an interrupt that never comes, the fourth is switched on and off by the second.

#![no_std]
#![no_main]

use core::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use handover_guest::{
    Boot, Channel, Error, PartitionId, Port, Region, RegionHandle, ServiceId, Short, Status,
    abi::{CounterNumber, layout::VIRTUAL_TIMER_INTID},
    entry, events, hvc,
    interrupts::{self, Trigger},
    println, processor,
    signals::{self, Signal},
    timer,
};
use subject::{Order, SERVICE};

entry!(main);

/// System-control's id: the first there is.
const EXAMINER: PartitionId = PartitionId::new(1);

static SPINS: AtomicU64 = AtomicU64::new(0);
static TICKS: AtomicU64 = AtomicU64::new(0);

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
        let answer = Short::from_words(obey(order)?);
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
        Some(Order::Region) => {}
        Some(Order::Kick) => answer[0] = hvc::watchdog_kick()?,
        Some(Order::AwaitShutdown) => loop {
            if let Some(Signal::ShutdownRequest { nanoseconds }) = signals::next()? {
                (answer[0], answer[1]) = (1, nanoseconds);
                break;
            }
            events::wait_for(Port::CONTROL)?;
        },
        Some(Order::Counters) => {
            let first = CounterNumber::new(a).ok_or(Error::InvalidArgument)?;
            answer = hvc::counters_read(None, None, first)?;
        }
        Some(Order::Sleep) => {
            answer[0] = timer::now();
            let ticks = TICKS.load(Ordering::Relaxed);
            timer::set_deadline(timer::after(Duration::from_nanos(a)));
            while TICKS.load(Ordering::Relaxed) == ticks {
                interrupts::wait();
            }
            answer[1] = timer::now();
            // Events that came meanwhile are looked at by the next wait.
            while events::next()?.is_some() {}
        }
    }
    Ok(answer)
}

fn spin(processors: usize) {
    loop {
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
