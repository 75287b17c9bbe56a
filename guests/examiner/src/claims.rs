//! What a logical processor claims of physical ones: what is refused and why, which of them serve it, and what it gets beyond its budget.

use alloc::{format, string::String};
use core::time::Duration;

use handover_guest::{
    Error, PartitionId,
    abi::{Account, ProcessorClaim, ProcessorStatus},
    hvc, println, timer,
};
use subject::Order;

use crate::{
    pause::sleep_until,
    stage::{Stage, Verdict, ensure},
    subject::Subject,
};

const MS: u64 = 1_000_000;
const PERIOD: u64 = 10 * MS;
/// A tenth of a processor.
const TENTH: ProcessorClaim =
    ProcessorClaim { budget: MS, period: PERIOD, allowed: 0, work_conserving: false, alone: false };
/// The same as it is read on this machine.
const READ: ProcessorClaim = ProcessorClaim { allowed: 0b11, ..TENTH };
/// How long is looked at.
const WORK: u64 = 10 * PERIOD;

pub(crate) fn run(stage: &mut Stage) -> Verdict {
    let mut subject = Subject::run(stage)?;
    let spinning = stage.run("spinning")?;
    // So that this program looks in time, and not when the others leave it a turn.
    let own = hvc::identify().map_err(failed)?.partition;
    claim(own, ProcessorClaim { budget: MS / 10, period: MS, allowed: 0b01, ..Default::default() })?;
    refused(subject.id)?;
    limited(subject.id)?;
    bound(&mut subject)?;
    leftovers(&mut subject, spinning)?;
    subject.end(stage)?;
    hvc::partition_stop(spinning).map_err(failed)?;
    stage.reap(spinning).map(|_| ())
}

fn failed(error: Error) -> String {
    format!("a call fails: {error}")
}

fn claim(id: PartitionId, claim: ProcessorClaim) -> Verdict {
    hvc::processor_set(id, 0, claim).map_err(|error| format!("{id} cannot have {claim:?}: {error}"))
}

fn status(id: PartitionId) -> Result<ProcessorStatus, String> {
    hvc::processor_read(id, 0).map_err(failed)
}

/// What is no claim, and what nobody can promise: the claim that was there stays.
fn refused(id: PartitionId) -> Verdict {
    claim(id, TENTH)?;
    let with = |budget, period| ProcessorClaim { budget, period, ..TENTH };
    let cases = [
        (with(99_999, PERIOD), Error::InvalidArgument),
        (with(PERIOD + 1, PERIOD), Error::InvalidArgument),
        (with(MS, 1_000_000_001), Error::InvalidArgument),
        (with(0, PERIOD), Error::InvalidArgument),
        (ProcessorClaim { alone: true, ..TENTH }, Error::InvalidArgument),
        (ProcessorClaim { allowed: 0b100, ..TENTH }, Error::InvalidArgument),
        (with(PERIOD * 96 / 100, PERIOD), Error::NoCapacity),
        (ProcessorClaim { budget: PERIOD * 9 / 10, allowed: 0b01, ..TENTH }, Error::NoCapacity),
        (ProcessorClaim { alone: true, allowed: 0b01, ..Default::default() }, Error::NoCapacity),
    ];
    for (claim, error) in cases {
        let found = hvc::processor_set(id, 0, claim);
        ensure!(found == Err(error), "{claim:?}: {found:?} instead of {error}");
        ensure!(status(id)?.claim == READ, "{claim:?} was refused and has changed {:?}", status(id)?);
    }
    let nobody = hvc::processor_set(PartitionId::new(0x7fff_0000), 0, TENTH);
    ensure!(nobody == Err(Error::BadHandle), "of nobody: {nobody:?}");
    let other = (hvc::processor_set(id, 64, TENTH), hvc::processor_read(id, 64).err());
    ensure!(
        other == (Err(Error::InvalidArgument), Some(Error::InvalidArgument)),
        "a processor that it has not: {other:?}"
    );
    claim(id, with(PERIOD * 95 / 100, PERIOD))?;
    claim(id, ProcessorClaim::default())
}

/// Time is promised within the account's limit; one below what is promised takes nothing away, and lets nothing new in.
fn limited(id: PartitionId) -> Verdict {
    let charge = || hvc::account_read(Some(id), Account::ProcessorTime).map_err(failed);
    let limit = charge()?.limit;
    let set = |limit| hvc::partition_set_limit(id, Account::ProcessorTime, limit).map_err(failed);
    set(100_000)?;
    claim(id, TENTH)?;
    ensure!((charge()?.used, charge()?.limit) == (100_000, 100_000), "{:?}", charge()?);
    let more = hvc::processor_set(id, 0, ProcessorClaim { budget: MS + 1000, ..TENTH });
    ensure!(more == Err(Error::Limit), "over the limit: {more:?}");
    set(50_000)?;
    ensure!(charge()?.used == 100_000 && status(id)?.claim == READ, "the limit has taken something away");
    let change = |budget| hvc::processor_set(id, 0, ProcessorClaim { budget, ..TENTH });
    // Less than before is nothing new; more than that is.
    ensure!(change(MS * 6 / 10) == Ok(()), "less than before: {:?}", charge()?);
    ensure!(change(MS * 7 / 10) == Err(Error::Limit), "more than the limit: {:?}", charge()?);
    ensure!(change(MS / 2) == Ok(()), "within the limit: {:?}", charge()?);
    claim(id, ProcessorClaim::default())?;
    ensure!(charge()?.used == 0, "nothing is claimed: {:?}", charge()?);
    set(limit)
}

/// It is served by the processors that its claim names alone, from when it is set, whatever it does.
fn bound(subject: &mut Subject) -> Verdict {
    let id = subject.id;
    for round in 0..6 {
        let at = round % 2;
        let base = if round < 3 { ProcessorClaim::default() } else { TENTH };
        claim(id, ProcessorClaim { allowed: 1 << at, ..base })?;
        subject.tell(Order::Steal, PERIOD, 0)?;
        // Spinning, waiting for its budget, and waiting for the next order.
        for _ in 0..8 {
            sleep_until(timer::after(Duration::from_millis(2)))?;
            let found = status(id)?;
            ensure!(found.physical == at, "round {round}: it is bound to {at}: {found:?}");
        }
        subject.wait()?;
        ensure!(status(id)?.physical == at, "round {round}: it is bound to {at}, and has moved");
    }
    claim(id, ProcessorClaim::default())
}

/// What of `WORK` the subject is charged with such a claim, and what who spins on the same physical processor.
fn charged(
    subject: &mut Subject,
    spinning: PartitionId,
    claim: ProcessorClaim,
) -> Result<(u64, u64), String> {
    let id = subject.id;
    self::claim(id, ProcessorClaim { allowed: 0b10, ..claim })?;
    subject.tell(Order::Steal, 2 * WORK, 0)?;
    sleep_until(timer::after(Duration::from_nanos(2 * PERIOD)))?;
    let before = (status(id)?.used, status(spinning)?.used);
    sleep_until(timer::after(Duration::from_nanos(WORK)))?;
    let after = (status(id)?.used, status(spinning)?.used);
    subject.wait()?;
    let found = (after.0 - before.0, after.1 - before.1);
    println!("examiner: {claim:?}: {} ns of {WORK}, beside {}", found.0, found.1);
    Ok(found)
}

/// A budget is all that it gets, unless it is work-conserving: then it has its turns of what others leave, and all of it if there are none.
fn leftovers(subject: &mut Subject, spinning: PartitionId) -> Verdict {
    let conserving = ProcessorClaim { work_conserving: true, ..TENTH };
    let within =
        |found: u64, least: u64, most: u64| (WORK * least / 100..=WORK * most / 100).contains(&found);
    // Who spins is elsewhere.
    claim(spinning, ProcessorClaim { allowed: 0b01, ..Default::default() })?;
    let (hard, _) = charged(subject, spinning, TENTH)?;
    ensure!(within(hard, 9, 11), "a hard budget alone: {hard} ns");
    let (alone, _) = charged(subject, spinning, conserving)?;
    ensure!(within(alone, 98, 101), "a conserving budget alone: {alone} ns");
    claim(spinning, ProcessorClaim { allowed: 0b10, ..Default::default() })?;
    let (hard, rest) = charged(subject, spinning, TENTH)?;
    ensure!(within(hard, 9, 11) && within(rest, 88, 91), "a hard budget: {hard} ns, and {rest} the rest");
    let (shared, rest) = charged(subject, spinning, conserving)?;
    ensure!(
        within(shared, 40, 70) && within(rest, 30, 60),
        "a conserving one: {shared} ns, and {rest} the rest"
    );
    claim(spinning, ProcessorClaim::default())?;
    claim(subject.id, ProcessorClaim::default())
}
