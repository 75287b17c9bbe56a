//! Spends processor time as the examiner says, counts what came of it from one moment of its own count to another, and tells.

#![no_std]
#![no_main]

use core::{
    arch::global_asm,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use handover_guest::{
    Boot, Channel, Error, PartitionId, ServiceId, Short,
    abi::layout::VIRTUAL_TIMER_INTID,
    entry, hvc,
    interrupts::{self, Trigger},
    println, processor, timer,
};
use subject::SERVICE;
use worker::{Habit, Order, PROCESSORS, Tally};

entry!(main);

/// System-control's id: the first there is.
const EXAMINER: PartitionId = PartitionId::new(1);
/// Microseconds of work between two looks at the counter.
const STRIDE: u64 = 10;
/// Calls between two looks at the counter.
const CALLS: u32 = 16;

// fn(microseconds): a thousand instructions for each; there must be some. Where one host thread plays all physical processors, it goes on to
// the next at YIELD, so that they keep abreast.
global_asm!(
    "worker_work:",
    ".rept 997",
    "nop",
    ".endr",
    "yield",
    "subs x0, x0, #1",
    "b.ne worker_work",
    "ret",
);

unsafe extern "C" {
    safe fn worker_work(microseconds: u64);
}

/// What a processor has to do, and what it has counted.
struct Desk {
    habit: AtomicU64,
    work: AtomicU32,
    times: AtomicU32,
    delay: AtomicU32,
    late: AtomicU32,
    done: AtomicBool,
}

static DESKS: [Desk; PROCESSORS] = [const {
    Desk {
        habit: AtomicU64::new(0),
        work: AtomicU32::new(0),
        times: AtomicU32::new(0),
        delay: AtomicU32::new(0),
        late: AtomicU32::new(0),
        done: AtomicBool::new(false),
    }
}; PROCESSORS];
static BEGIN: AtomicU64 = AtomicU64::new(0);
static START: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);

fn main(_: Boot) -> Result<(), Error> {
    let Ok(mut channel) = Channel::request(EXAMINER, ServiceId::new(SERVICE))?.wait() else {
        println!("worker: the examiner does not answer");
        return Err(Error::NotConnected);
    };
    let order = Order::from_words(*channel.receive_wait()?.short.words());
    BEGIN.store(order.begin, Relaxed);
    START.store(order.start, Relaxed);
    END.store(order.end, Relaxed);
    for (index, (desk, habit)) in DESKS.iter().zip(order.habits).enumerate() {
        desk.habit.store(habit.to_word(), Relaxed);
        desk.done.store(habit == Habit::Off, Relaxed);
        if index != 0 && !matches!(habit, Habit::Off | Habit::Toggle { .. }) {
            processor::start(index, live, index).map_err(|_| Error::InvalidArgument)?;
        }
    }
    live(0);
    while DESKS.iter().any(|desk| !desk.done.load(Relaxed)) {
        processor::yield_now();
    }
    let mut words = [0; 16];
    for (words, desk) in words.chunks_exact_mut(2).zip(&DESKS) {
        words.copy_from_slice(&desk.tally().to_words());
    }
    channel.send(Short::from_words(words))?;
    // What nobody has received goes with the sender.
    channel.receive_wait()?;
    Ok(())
}

impl Desk {
    fn tally(&self) -> Tally {
        Tally {
            work: self.work.load(Relaxed),
            times: self.times.load(Relaxed),
            delay: self.delay.load(Relaxed),
            late: self.late.load(Relaxed),
        }
    }

    /// Something was done from one count to another; it is counted if that was all within the time.
    fn count(&self, from: u64, to: u64, work: u64, times: u32) {
        if from >= START.load(Relaxed) && to <= END.load(Relaxed) {
            self.work.fetch_add(work as u32, Relaxed);
            self.times.fetch_add(times, Relaxed);
        }
    }
}

fn over() -> bool {
    timer::now() >= END.load(Relaxed)
}

fn ticks(microseconds: u32) -> u64 {
    u64::from(microseconds) * timer::frequency() / 1_000_000
}

/// Waits by WFI until the count has come so far.
fn wait_until(due: u64) {
    while timer::now() < due {
        // Each time: an interrupt that was on its way from an earlier deadline stops the timer too.
        timer::set_deadline(due);
        interrupts::wait();
    }
    timer::stop();
}

/// What a processor does until the time is over; one that toggles, until it switches itself off.
fn live(index: usize) {
    let desk = &DESKS[index];
    let habit = Habit::from_word(desk.habit.load(Relaxed));
    if let Err(error) = interrupts::enable(VIRTUAL_TIMER_INTID, Trigger::Level, |_| timer::stop()) {
        println!("worker: no timer: {error}");
    }
    wait_until(BEGIN.load(Relaxed));
    match habit {
        Habit::Off => {}
        Habit::Spin => spin(desk),
        Habit::Storm => storm(desk),
        Habit::Periodic { period, work } => periodic(desk, ticks(period), u64::from(work)),
        Habit::Doze { work, pause } => doze(desk, u64::from(work), pause),
        Habit::Toggle { work } => {
            let from = timer::now();
            worker_work(u64::from(work));
            desk.count(from, timer::now(), u64::from(work), 1);
            if !over() {
                return;
            }
        }
    }
    desk.done.store(true, Relaxed);
}

fn spin(desk: &Desk) {
    let mut from = timer::now();
    while !over() {
        worker_work(STRIDE);
        let to = timer::now();
        desk.count(from, to, STRIDE, 0);
        from = to;
    }
}

fn storm(desk: &Desk) {
    let toggles = |desk: &Desk| matches!(Habit::from_word(desk.habit.load(Relaxed)), Habit::Toggle { .. });
    loop {
        let from = timer::now();
        for _ in 0..CALLS {
            // It cannot fail, and does nothing.
            let _ = hvc::version();
        }
        desk.count(from, timer::now(), 0, CALLS);
        processor::yield_now();
        let mut waits = false;
        for (index, _) in
            DESKS.iter().enumerate().filter(|(_, other)| toggles(other) && !other.done.load(Relaxed))
        {
            waits = true;
            // Refused as long as it is on.
            let _on = processor::start(index, live, index);
        }
        if over() && !waits {
            return;
        }
    }
}

fn periodic(desk: &Desk, period: u64, work: u64) {
    let mut due = BEGIN.load(Relaxed) + period;
    while !over() {
        wait_until(due);
        let begun = timer::now();
        worker_work(work);
        let done = timer::now();
        desk.count(due, done, work, 1);
        if due >= START.load(Relaxed) && done <= END.load(Relaxed) {
            desk.delay.fetch_max((begun - due) as u32, Relaxed);
            desk.late.fetch_add(u32::from(done > due + period), Relaxed);
        }
        due += period;
    }
}

fn doze(desk: &Desk, work: u64, pause: u32) {
    while !over() {
        let from = timer::now();
        worker_work(work);
        desk.count(from, timer::now(), work, 1);
        wait_until(timer::after(Duration::from_micros(u64::from(pause))));
    }
}
