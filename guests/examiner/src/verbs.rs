//! What system-control may do to a partition beside making and ending it: ask it to end, watch over it, start it again under its id.

use alloc::format;

use handover_guest::{
    PartitionId,
    abi::{EndReason, Error, PartitionState},
    hvc, println,
};
use subject::Order;

use crate::{
    stage::{Stage, Verdict, ensure},
    subject::Subject,
};

const SECOND: u64 = 1_000_000_000;

pub(crate) fn run(stage: &mut Stage) -> Verdict {
    let nobody = PartitionId::new(0x7fff_0000);
    let found = (
        hvc::partition_shutdown(nobody, 0),
        hvc::partition_reset(nobody),
        hvc::partition_set_watchdog(nobody, 1),
    );
    let expected = Err(Error::BadHandle);
    ensure!(found == (expected, expected, expected), "of nobody: {found:?}");
    let id = shutdown(stage)?;
    again(stage, id)?;
    watchdog(stage, id)
}

fn ended(stage: &Stage, id: PartitionId, reason: EndReason, status: u64) -> Verdict {
    stage.ended(id)?;
    let found = hvc::partition_status(id).map_err(|error| format!("{id} has no status: {error}"))?;
    ensure!(
        (found.state, found.reason, found.exit_status) == (PartitionState::Terminated, reason, status),
        "{id}: {found:?} instead of {reason}, {status}"
    );
    Ok(())
}

/// It is asked to end, twice before it looks; the later request counts.
fn shutdown(stage: &Stage) -> Result<PartitionId, alloc::string::String> {
    let mut subject = Subject::run(stage)?;
    let id = subject.id;
    for argument in [3, 5] {
        hvc::partition_shutdown(id, argument).map_err(|error| format!("shutdown: {error}"))?;
    }
    let answer = subject.ask(Order::AwaitShutdown, 0, 0)?;
    ensure!(answer[..2] == [1, 5], "the request says {:?}", &answer[..2]);
    subject.tell(Order::Stamp, 0, 0)?;
    ended(stage, id, EndReason::Exited, 7)?;
    ensure!(hvc::partition_shutdown(id, 0) == Err(Error::WrongState), "what has ended can be asked to");
    ensure!(hvc::partition_set_watchdog(id, 1) == Err(Error::WrongState), "what has ended can be watched");
    Ok(id)
}

/// The same partition again, and again: who knows its id reaches it.
fn again(stage: &Stage, id: PartitionId) -> Verdict {
    for round in 0..5 {
        hvc::partition_reset(id).map_err(|error| format!("round {round}: reset: {error}"))?;
        let status = hvc::partition_status(id).map_err(|error| format!("{id} has no status: {error}"))?;
        ensure!(
            (status.state, status.reason) == (PartitionState::Created, EndReason::None),
            "round {round}: {status:?}"
        );
        ensure!(hvc::partition_reset(id) == Err(Error::WrongState), "round {round}: it is reset twice");
        stage.refill("subject", id)?;
        stage.start("subject", id)?;
        ensure!(hvc::partition_reset(id) == Err(Error::WrongState), "round {round}: it is reset as it runs");
        let mut subject = Subject::meet(id)?;
        let count = subject.ask(Order::Stamp, 0, 0)?[0];
        println!("examiner: round {round}: partition {id} answers at its count {count}");
        hvc::partition_stop(id).map_err(|error| format!("round {round}: stop: {error}"))?;
        ended(stage, id, EndReason::Stopped, 0)?;
    }
    Ok(())
}

/// It is left alone as long as it kicks, and as it is paused; then it ends, though it does nothing but wait.
fn watchdog(stage: &Stage, id: PartitionId) -> Verdict {
    let failed = |error| format!("watchdog: {error}");
    hvc::partition_reset(id).map_err(failed)?;
    stage.refill("subject", id)?;
    stage.start("subject", id)?;
    let mut subject = Subject::meet(id)?;
    ensure!(subject.ask(Order::Kick, 0, 0)?[0] == 0, "it has a watchdog that nobody set");
    hvc::partition_set_watchdog(id, 3600 * SECOND).map_err(failed)?;
    ensure!(subject.ask(Order::Kick, 0, 0)?[0] == 3600 * SECOND, "it has another timeout");
    // Set, and put out of reach again at once: a deadline that was there is not any more.
    hvc::partition_pause(id).map_err(failed)?;
    hvc::partition_set_watchdog(id, SECOND / 100).map_err(failed)?;
    crate::pause::spend(core::time::Duration::from_millis(50));
    let status = hvc::partition_status(id).map_err(failed)?;
    ensure!(status.state == PartitionState::Paused, "a pause counts: {status:?}");
    hvc::partition_resume(id).map_err(failed)?;
    ended(stage, id, EndReason::Watchdog, 0)?;
    hvc::partition_destroy(id).map_err(failed)
}
