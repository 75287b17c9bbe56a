//! A logical processor that owns a physical one alone, beside others that spin: the control OS takes no timer interrupt there and is not told that it waits,
//! whatever has a deadline.

use alloc::{format, string::String};

use handover_guest::{
    PartitionId,
    abi::{Counter, CounterNumber, ProcessorClaim},
    hvc, println, timer,
};
use subject::Order;

use crate::{
    stage::{Stage, Verdict, ensure},
    subject::Subject,
};

const MILLISECOND: u64 = 1_000_000;
/// How often the subject waits for its timer, and how long.
const NAPS: u64 = 20;
const NAP: u64 = 2 * MILLISECOND;
/// How long it waits for somebody who does not answer.
const TIMEOUT: u64 = 30 * MILLISECOND;
/// How long it works: some turns.
const WORK: u64 = 30 * MILLISECOND;
/// Its watchdog's time, and how often it lets most of that pass.
const WATCHDOG: u64 = 100 * MILLISECOND;
const KICKS: u64 = 5;

/// What was counted of the subject while it did all this.
#[derive(Debug)]
struct Found {
    waits: u64,
    interrupts: u64,
    timers: u64,
    switches: u64,
    /// Nanoseconds.
    used: u64,
    took: u64,
}

impl Found {
    fn now(id: PartitionId) -> Result<Found, String> {
        let failed = |error| format!("{id} cannot be read: {error}");
        let first = CounterNumber::Named(Counter::Calls);
        let low = hvc::counters_read(Some(id), Some(0), first).map_err(failed)?;
        let timers =
            hvc::counters_read(Some(id), Some(0), CounterNumber::Named(Counter::Timers)).map_err(failed)?[0];
        let of = |counter: Counter| low[counter as usize];
        Ok(Found {
            waits: of(Counter::Waits),
            interrupts: of(Counter::Interrupts),
            timers,
            switches: of(Counter::Switches),
            used: hvc::processor_read(id, 0).map_err(failed)?.used,
            took: timer::now(),
        })
    }

    fn since(self, then: &Found) -> Found {
        Found {
            waits: self.waits - then.waits,
            interrupts: self.interrupts - then.interrupts,
            timers: self.timers - then.timers,
            switches: self.switches - then.switches,
            used: self.used - then.used,
            took: (self.took - then.took) * 1_000_000_000 / timer::frequency(),
        }
    }
}

/// Has it wait, work, ask somebody who does not answer in time, and kick a watchdog that it would not outlive.
fn exercise(subject: &mut Subject) -> Result<Found, String> {
    let id = subject.id;
    // It is where it is to be by then.
    subject.ask(Order::Sleep, NAP, 0)?;
    let before = Found::now(id)?;
    for _ in 0..NAPS {
        subject.ask(Order::Sleep, NAP, 0)?;
    }
    subject.ask(Order::Steal, WORK, 0)?;
    let [took, timed_out, ..] = subject.ask(Order::Request, TIMEOUT, 0)?;
    if timed_out != 1 || !(TIMEOUT..2 * TIMEOUT).contains(&took) {
        return Err(format!("its request was given up ({timed_out}) after {took} ns"));
    }
    let failed = |error| format!("the watchdog of {id}: {error}");
    hvc::partition_set_watchdog(id, WATCHDOG).map_err(failed)?;
    for _ in 0..KICKS {
        subject.ask(Order::Kick, 0, 0)?;
        subject.ask(Order::Sleep, WATCHDOG / 2, 0)?;
    }
    hvc::partition_set_watchdog(id, 0).map_err(failed)?;
    Ok(Found::now(id)?.since(&before))
}

fn claim(id: PartitionId, alone: bool) -> Verdict {
    let claim = ProcessorClaim { alone, allowed: if alone { 0b10 } else { 0 }, ..Default::default() };
    hvc::processor_set(id, 0, claim).map_err(|error| format!("{id} cannot claim {claim:?}: {error}"))
}

pub(crate) fn run(stage: &mut Stage) -> Verdict {
    let spinning = stage.run("spinning")?;
    let mut subject = Subject::run(stage)?;
    for round in 0..2 {
        let shared = exercise(&mut subject)?;
        println!("examiner: among others {shared:?}");
        ensure!(shared.waits >= NAPS, "round {round}: it is not seen waiting: {shared:?}");
        ensure!(shared.timers > 0, "round {round}: no turn of its ends: {shared:?}");
        claim(subject.id, true)?;
        let alone = exercise(&mut subject)?;
        println!("examiner: alone {alone:?}");
        ensure!(alone.timers == 0, "round {round}: the control OS's timer: {alone:?}");
        ensure!(alone.waits == 0 && alone.switches == 0, "round {round}: it is seen waiting: {alone:?}");
        ensure!(alone.interrupts >= NAPS, "round {round}: its own timer: {alone:?}");
        // All of the time is its own. The two readings are apart by what somebody else's turn takes.
        let off = alone.used.abs_diff(alone.took);
        ensure!(off <= 20 * MILLISECOND, "round {round}: it does not own all of it: {alone:?}");
        claim(subject.id, false)?;
    }
    // It ends as an owner that waits.
    claim(subject.id, true)?;
    subject.ask(Order::Sleep, NAP, 0)?;
    subject.end(stage)?;
    hvc::partition_stop(spinning).map_err(|error| format!("the spinning one cannot be stopped: {error}"))?;
    stage.reap(spinning).map(|_| ())
}
