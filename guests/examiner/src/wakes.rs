//! Whoever becomes ready and goes first runs in time, however it was woken: by a sibling's SGI after the grace that the sender has, by its own reply or
//! forward at once. And nobody is woken by what does not concern it: a limit that is lifted. On one physical processor.

use alloc::{format, string::String};
use core::{slice, time::Duration};

use handover_guest::{
    Error, PartitionId, Short,
    abi::{BusLimit, Counter, CounterNumber, PartitionState, ProcessorClaim, TrafficLimit},
    calls, hvc, interrupts, println, timer,
};
use subject::{CALLS, Order};

use crate::{
    pause::{sleep_until, spend},
    stage::{Stage, Verdict, ensure},
    subject::Subject,
};

const MS: u64 = 1_000_000;
const PERIOD: u64 = 10 * MS;
/// How long who was woken would wait if nobody looked.
const SPIN: u64 = 3 * MS;
/// How long a sender goes on.
const GRACE: u64 = 50_000;
/// What a switch and its traps take at most.
const SWITCH: u64 = 20_000;

pub(crate) fn run(stage: &mut Stage) -> Verdict {
    ensure!(timer::frequency() == 1_000_000_000, "a tick is no nanosecond");
    let own = hvc::identify().map_err(failed)?.partition;
    // It goes first, whoever else runs.
    claim(own, 0, PERIOD / 2)?;
    interrupted(stage)?;
    replied(stage)?;
    forwarded(stage)?;
    lifted(stage)
}

fn failed(error: Error) -> String {
    format!("a call fails: {error}")
}

fn claim(id: PartitionId, processor: u32, budget: u64) -> Verdict {
    let claim = ProcessorClaim { budget, period: PERIOD, ..Default::default() };
    hvc::processor_set(id, processor, claim).map_err(failed)
}

/// A sibling with a budget comes while the sender of its SGI goes on without a trap, but not before the sender has had its grace; if the sender traps, at that.
fn interrupted(stage: &Stage) -> Verdict {
    let mut subject = Subject::run(stage)?;
    claim(subject.id, 1, PERIOD / 10)?;
    for round in 0..5 {
        for (then, least, most) in [(SPIN, GRACE, GRACE + SWITCH), (CALLS + SPIN, 0, SWITCH)] {
            // It has a budget again by then.
            let [sent, taken, ..] = subject.ask(Order::Interrupt, 2 * PERIOD, then)?;
            ensure!(taken > sent, "round {round}: the SGI was not taken in {SPIN} ns");
            let delay = taken - sent;
            println!("examiner: an SGI is taken after {delay} ns");
            ensure!((least..=most).contains(&delay), "round {round}: not within {least} to {most} ns");
        }
    }
    subject.end(stage)
}

/// Waits for a call by a subject.
fn take(subject: &mut Subject) -> Result<Short, String> {
    let mut short = Short::from_words([0; 16]);
    while calls::wait(slice::from_mut(&mut subject.channel), &mut short).map_err(failed)?.is_none() {
        while interrupts::take() {}
    }
    Ok(short)
}

/// A server that has replied, or passed on, and goes first goes on at once, though who goes on with what was lent does not trap.
fn at_once(what: &str, act: impl FnOnce() -> Result<(), Error>) -> Verdict {
    let before = timer::now();
    act().map_err(failed)?;
    let took = timer::now() - before;
    println!("examiner: it goes on {took} ns after its {what}");
    ensure!(took <= SWITCH, "it waits for the other after its {what}");
    Ok(())
}

fn replied(stage: &Stage) -> Verdict {
    let mut subject = Subject::run(stage)?;
    for _ in 0..5 {
        subject.tell(Order::Call, 0, SPIN)?;
        let short = take(&mut subject)?;
        at_once("reply", || Ok(calls::reply(None, &short)?))?;
        let [_, from, to, ..] = subject.wait()?;
        ensure!(to - from >= SPIN, "the caller has not worked");
    }
    subject.end(stage)
}

fn forwarded(stage: &Stage) -> Verdict {
    let (mut front, mut back) = (Subject::run(stage)?, Subject::run(stage)?);
    for _ in 0..5 {
        back.tell(Order::Serve, SPIN, 0)?;
        // It waits for the call by then.
        sleep_until(timer::after(Duration::from_nanos(2 * PERIOD)))?;
        front.tell(Order::Call, 0, 0)?;
        let short = take(&mut front)?;
        at_once("forward", || Ok(calls::forward(&back.channel, None, &short)?))?;
        let [from, to, ..] = back.wait()?;
        ensure!(to - from >= SPIN, "who is behind has not worked");
        front.wait()?;
    }
    front.end(stage)?;
    back.end(stage)
}

/// One whose limit was lifted while it was ready to run again is not taken for one that waits for a limit later, when it waits for a reply.
fn lifted(stage: &Stage) -> Verdict {
    const CYCLES: u64 = 0x11;
    let mut subject = Subject::run(stage)?;
    let id = subject.id;
    let traffic = |limit| {
        hvc::partition_set_traffic(id, limit).map_err(|failure| format!("no limit of traffic: {failure:?}"))
    };
    let waits = || {
        let counters = hvc::counters_read(Some(id), None, CounterNumber::Named(Counter::BusWaits));
        counters.map(|counters| counters[0]).map_err(failed)
    };
    let before = waits()?;
    traffic(TrafficLimit { event: CYCLES, events: MS, period: PERIOD })?;
    subject.tell(Order::Call, SPIN, 0)?;
    while waits()? == before {
        sleep_until(timer::after(Duration::from_nanos(MS / 4)))?;
    }
    // This program alone runs while the wait ends, with all of a budget that lasts so long.
    claim(hvc::identify().map_err(failed)?.partition, 0, 9 * MS)?;
    spend(Duration::from_nanos(8 * MS));
    traffic(TrafficLimit::NONE)?;
    claim(hvc::identify().map_err(failed)?.partition, 0, PERIOD / 2)?;
    sleep_until(timer::after(Duration::from_nanos(2 * PERIOD)))?;
    // It has called by now.
    hvc::partition_set_bus(id, BusLimit { operations: 1000, period: PERIOD }).map_err(failed)?;
    sleep_until(timer::after(Duration::from_nanos(PERIOD)))?;
    let status = hvc::partition_status(id).map_err(failed)?;
    ensure!(status.state == PartitionState::Active, "its call has failed: {status:?}");
    let replied = timer::now();
    take(&mut subject)?;
    let mut words = [0; 16];
    words[0] = replied;
    calls::reply(None, &Short::from_words(words)).map_err(|error| failed(error.into()))?;
    let [called, answered, _, word, ..] = subject.wait()?;
    ensure!(
        word == replied && answered - called >= PERIOD,
        "it had its reply after {} ns: {word}",
        answered - called
    );
    subject.end(stage)
}
