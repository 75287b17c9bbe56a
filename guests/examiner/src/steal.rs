//! Stolen time: what a guest with a tenth of a processor reads is what the scheduler says that it waited;
//! nobody writes it; and the page is the partition's, until it ends.

use alloc::format;

use handover_guest::{
    abi::{Account, ProcessorClaim},
    hvc, println,
};
use subject::Order;

use crate::{
    lifecycle::held,
    stage::{Stage, Verdict, ensure},
    subject::Subject,
};

/// What the subject may run in each [`PERIOD`], in nanoseconds.
const BUDGET: u64 = 1_000_000;
const PERIOD: u64 = 10 * BUDGET;
/// How long it wants to run.
const WORK: u64 = 30 * PERIOD;
/// The page, and the two tables that lead to it.
const CHARGE: u64 = 3 * 4096;

pub(crate) fn run(stage: &mut Stage) -> Verdict {
    // The records of this side's channel are there from then on.
    let mut subject = Subject::run(stage)?;
    subject.ask(Order::Stamp, 0, 0)?;
    subject.end(stage)?;
    let before = held()?;
    let mut subject = Subject::run(stage)?;
    let id = subject.id;
    let charged = || {
        let charge = hvc::account_read(Some(id), Account::ControlMemory);
        charge.map(|charge| charge.used).map_err(|error| format!("{id} has no account: {error}"))
    };
    let waited = || {
        let status = hvc::processor_read(id, 0);
        status.map(|status| status.waited).map_err(|error| format!("{id} cannot be read: {error}"))
    };
    // It has what it needs to answer from then on.
    subject.ask(Order::Stamp, 0, 0)?;
    let paid = charged()?;
    let claim = ProcessorClaim { budget: BUDGET, period: PERIOD, ..Default::default() };
    hvc::processor_set(id, 0, claim).map_err(|error| format!("{id} is promised nothing: {error}"))?;
    let mut last = 0;
    for round in 0..3 {
        let least = waited()?;
        let [from, to, refused, ..] = subject.ask(Order::Steal, WORK, 0)?;
        // It waits for the next order by now, so that this stands still.
        let most = waited()?;
        println!("examiner: {from} ns stolen, then {to}; the scheduler says {least}, then {most}");
        ensure!(last <= from && least <= from && to <= most, "round {round}: that is not the same");
        // Nine tenths of the time, but for a period at each end.
        let (stolen, due) = (to - from, (WORK - 2 * PERIOD) / PERIOD * (PERIOD - BUDGET));
        ensure!(stolen >= due && stolen <= WORK, "round {round}: {stolen} ns stolen of {WORK}");
        ensure!(refused == 1, "round {round}: it can write its stolen time");
        last = to;
    }
    ensure!(charged()? == paid + CHARGE, "it is charged {} for it", charged()? - paid);
    subject.end(stage)?;
    let after = held()?;
    ensure!(before == after, "held before {before:?}, after {after:?}");
    Ok(())
}
