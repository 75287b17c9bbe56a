//! A partition stands still and goes on: none of its processors runs meanwhile, nothing sent to it is lost, its count has not moved, and it
//! may be ended at any time.

use alloc::{format, string::String};
use core::time::Duration;

use handover_guest::{
    PartitionId,
    abi::{EndReason, Error, PartitionState},
    block_on, hvc, println, timer,
};
use subject::Order;

use crate::{
    lifecycle::held,
    stage::{Stage, Verdict, ensure},
    subject::Subject,
};

/// What it is asked to sleep, in its own count.
const SLEEP: Duration = Duration::from_millis(20);
/// How long it stands still.
const STILL: Duration = Duration::from_millis(200);

pub(crate) fn run(stage: &mut Stage) -> Verdict {
    refusals(stage)?;
    let mut subject = Subject::run(stage)?;
    stands_still(&mut subject)?;
    storm(&mut subject)?;
    subject.end(stage)?;
    // The records of this side's channel are there by now.
    let before = held()?;
    for round in 0..20 {
        killed(stage, round)?;
    }
    let after = held()?;
    ensure!(before == after, "held before {before:?}, after {after:?}");
    Ok(())
}

fn state(id: PartitionId) -> Result<PartitionState, String> {
    hvc::partition_status(id)
        .map(|status| status.state)
        .map_err(|error| format!("{id} has no status: {error}"))
}

fn refusals(stage: &Stage) -> Verdict {
    let own = hvc::identify().map_err(|error| format!("who am I? {error}"))?.partition;
    let nobody = PartitionId::new(0x7fff_0000);
    for (id, paused, resumed) in [
        (own, Error::InvalidArgument, Error::WrongState),
        (nobody, Error::BadHandle, Error::BadHandle),
        (stage.make("subject", &[])?, Error::WrongState, Error::WrongState),
    ] {
        let found = (hvc::partition_pause(id), hvc::partition_resume(id));
        ensure!(found == (Err(paused), Err(resumed)), "pause and resume of {id}: {found:?}");
        if id != own && id != nobody {
            hvc::partition_destroy(id).map_err(|error| format!("{id} cannot be forgotten: {error}"))?;
        }
    }
    Ok(())
}

/// Waits until the counter has come so far.
pub(crate) fn sleep_until(count: u64) -> Verdict {
    block_on(timer::sleep_until(count)).map_err(|error| format!("no timer: {error}"))
}

/// Spends time.
pub(crate) fn spend(time: Duration) {
    let end = timer::after(time);
    while timer::now() < end {}
}

fn stands_still(subject: &mut Subject) -> Verdict {
    let id = subject.id;
    let failed = |what: &str, error| format!("{what}: {error}");
    let (least_before, most_before) = subject.lag()?;
    subject.tell(Order::Sleep, SLEEP.as_nanos() as u64, 0)?;
    let start = timer::now();
    hvc::partition_pause(id).map_err(|error| failed("pause", error))?;
    let paused = timer::now();
    hvc::partition_pause(id).map_err(|error| failed("pause of what is paused", error))?;
    ensure!(state(id)? == PartitionState::Paused, "it is not paused");
    ensure!(hvc::partition_destroy(id) == Err(Error::WrongState), "it can be destroyed");
    // What it had sent before may be there; nothing comes any more.
    let mut slept = subject.answer()?;
    subject.tell(Order::Stamp, 0, 0)?;
    spend(STILL);
    ensure!(subject.answer()?.is_none(), "it answers while it is paused");
    let resumed = timer::now();
    hvc::partition_resume(id).map_err(|error| failed("resume", error))?;
    let end = timer::now();
    ensure!(hvc::partition_resume(id) == Err(Error::WrongState), "it is resumed twice");
    ensure!(state(id)? == PartitionState::Active, "it is not active");
    if slept.is_none() {
        slept = Some(subject.wait()?);
    }
    let [from, to, ..] = slept.unwrap_or_default();
    let asked = timer::frequency() * SLEEP.as_millis() as u64 / 1000;
    ensure!(to.wrapping_sub(from) >= asked, "it slept {} ticks of {asked}", to.wrapping_sub(from));
    let stamped = subject.wait()?[0];
    ensure!(stamped >= to, "its count went back from {to} to {stamped}");
    let (least_after, most_after) = subject.lag()?;
    // It fell behind by the pause, as far as that can be told from here.
    let (shortest, longest) = (resumed - paused, end - start);
    let (least, most) = (least_after.saturating_sub(most_before), most_after - least_before);
    ensure!(
        most >= shortest && least <= longest,
        "a pause of {shortest} to {longest} ticks has cost its count {least} to {most}"
    );
    println!("examiner: a pause of {shortest} to {longest} ticks has cost its count {least} to {most}");
    Ok(())
}

/// Pauses and goes on as fast as it can be called, at any place where its processors happen to be.
fn storm(subject: &mut Subject) -> Verdict {
    let mut last = 0;
    for round in 0..300u64 {
        let result = hvc::partition_pause(subject.id).and_then(|()| hvc::partition_resume(subject.id));
        result.map_err(|error| format!("round {round}: {error}"))?;
        if round.is_multiple_of(20) {
            let count = subject.ask(Order::Stamp, 0, 0)?[0];
            ensure!(count >= last, "round {round}: its count went back from {last} to {count}");
            last = count;
        }
        spend(Duration::from_nanos(round * 700));
    }
    Ok(())
}

fn killed(stage: &Stage, round: u64) -> Verdict {
    let subject = Subject::run(stage)?;
    subject.tell(Order::Sleep, 1_000_000, 0)?;
    spend(Duration::from_micros(round * 50));
    hvc::partition_pause(subject.id).map_err(|error| format!("round {round}: pause: {error}"))?;
    hvc::partition_stop(subject.id).map_err(|error| format!("round {round}: stop: {error}"))?;
    // It has ended; only what it held may have to come back still.
    for result in [hvc::partition_pause(subject.id), hvc::partition_resume(subject.id)] {
        ensure!(result == Err(Error::WrongState), "round {round}: after its end: {result:?}");
    }
    let end = stage.reap(subject.id)?;
    ensure!(end == (EndReason::Stopped, 0), "round {round}: it ended by {end:?}");
    Ok(())
}
