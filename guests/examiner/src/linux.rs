//! A Linux guest that is asked to end, one that does not say that it is well, and one that is ended as it boots.

use alloc::format;
use core::time::Duration;

use handover_guest::{
    abi::{EndReason, PartitionState, layout::VIRTUAL_TIMER_INTID},
    hvc,
    interrupts::{self, Trigger},
    println, timer,
};

use crate::{
    lifecycle::held,
    stage::{Stage, Verdict, ensure},
};

const SECOND: u64 = 1_000_000_000;

/// Lets time pass, and others run.
fn sleep(time: Duration) -> Verdict {
    interrupts::enable(VIRTUAL_TIMER_INTID, Trigger::Level, |_| timer::stop())
        .map_err(|error| format!("no timer: {error}"))?;
    let end = timer::after(time);
    timer::set_deadline(end);
    while timer::now() < end {
        interrupts::wait();
    }
    Ok(())
}

/// It is asked once it runs, and again before it has started: the request waits for its driver.
pub(crate) fn shutdown(stage: &mut Stage) -> Verdict {
    for early in [false, true] {
        let id = stage.run("linux")?;
        if !early {
            sleep(Duration::from_secs(5))?;
        }
        hvc::partition_shutdown(id, 30 * SECOND).map_err(|error| format!("shutdown: {error}"))?;
        let (reason, _) = stage.reap(id)?;
        ensure!(reason == EndReason::PoweredOff, "asked to shut down, it ended by {reason}");
        println!("examiner: Linux has switched itself off");
    }
    Ok(())
}

/// It is left alone while it kicks, and ends when it does not.
pub(crate) fn watchdog(stage: &mut Stage) -> Verdict {
    let id = stage.make("linux", &[])?;
    hvc::partition_set_watchdog(id, 5 * SECOND).map_err(|error| format!("watchdog: {error}"))?;
    stage.start("linux", id)?;
    let start = timer::now();
    sleep(Duration::from_secs(20))?;
    let status = hvc::partition_status(id).map_err(|error| format!("{id} has no status: {error}"))?;
    ensure!(status.state == PartitionState::Active, "it kicks, and is {status:?}");
    let (reason, _) = stage.reap(id)?;
    ensure!(reason == EndReason::Watchdog, "without a kick it ended by {reason}");
    println!("examiner: it ended after {} s", (timer::now() - start) / timer::frequency());
    Ok(())
}

/// It is ended at any moment of its boot, first on one processor and then on all; what it held is there again each time.
pub(crate) fn killed(stage: &mut Stage) -> Verdict {
    let mut before = None;
    for milliseconds in [1, 20, 90, 210, 330, 480, 650, 900] {
        let id = stage.run("linux")?;
        sleep(Duration::from_millis(milliseconds))?;
        let ran = |processor| hvc::processor_read(id, processor).map(|status| u32::from(status.used != 0));
        let on: Result<u32, _> = (0..4).map(ran).sum();
        let on = on.map_err(|error| format!("{id} cannot be read: {error}"))?;
        hvc::partition_stop(id).map_err(|error| format!("{id} cannot be stopped: {error}"))?;
        let end = stage.reap(id)?;
        ensure!(end == (EndReason::Stopped, 0), "after {milliseconds} ms: it ended by {end:?}");
        println!("examiner: ended after {milliseconds} ms, when {on} of its processors had run");
        // The first leaves this partition's own tables and its heap as large as they get.
        let after = held()?;
        let before = before.get_or_insert_with(|| after.clone());
        ensure!(*before == after, "after {milliseconds} ms: held before {before:?}, after {after:?}");
    }
    Ok(())
}
