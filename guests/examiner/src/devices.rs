//! Devices: what there is, what is refused and why; given, taken back, given to another; ends with an interrupt pending, active, storming.

use alloc::{format, string::String};

use handover_guest::{
    abi::{
        Account, EndReason, Error, PartitionId, SignalKind, Unsupported,
        layout::{DEVICE_BASE, DEVICE_END, DEVICE_INTID, DEVICE_INTIDS},
    },
    hvc::{self, DeviceInfo, Failure},
    println,
};

use crate::stage::{Stage, Verdict, ensure};

const RTC: &str = "arm,pl031";

/// The device of a model, and its number.
fn device(model: &str) -> Result<(u64, DeviceInfo), String> {
    (0..)
        .map_while(|number| Some((number, hvc::device_info(number).ok()?)))
        .find(|(_, device)| device.compatible.is(model))
        .ok_or_else(|| format!("the machine has no {model}"))
}

fn expect_free(number: u64) -> Verdict {
    let device = hvc::device_info(number).map_err(|error| format!("{error}"))?;
    ensure!(device.holder.is_none(), "{} is still held: {device:?}", device.name);
    Ok(())
}

pub(crate) fn run(stage: &mut Stage) -> Verdict {
    let (rtc, info) = device(RTC)?;
    println!("examiner: device {rtc} is {} at {:#x}, {} bytes", info.name, info.base, info.size);
    ensure!(info.state.refused.is_none() && info.state.interrupts == 1, "{info:?}");
    refusals(stage, rtc)?;
    for _ in 0..2 {
        ends_well(stage, "alarm", rtc)?;
    }
    // Acknowledged, not ended: the next one gets its own all the same.
    ends_well(stage, "pending", rtc)?;
    ends_well(stage, "alarm", rtc)?;
    taken_away(stage, rtc)?;
    stopped(stage, rtc)?;
    ends_well(stage, "alarm", rtc)
}

/// Makes a partition that has the clock, waits for its end, and sees the clock come back.
fn ends_well(stage: &mut Stage, name: &str, rtc: u64) -> Verdict {
    let id = stage.run(name)?;
    let held = hvc::device_info(rtc).map_err(|error| format!("{error}"))?;
    ensure!(held.holder == Some(id) && held.address == DEVICE_BASE, "{name} was to have it: {held:?}");
    let (reason, status) = stage.reap(id)?;
    ensure!((reason, status) == (EndReason::Exited, 0), "{name} ended by {reason:?} with status {status}");
    expect_free(rtc)
}

fn assign(id: PartitionId, number: u64, at: u64, intid: u32) -> Result<(), (Error, u64)> {
    hvc::device_assign(id, number, at, intid).map_err(|Failure { error, detail }| (error, detail))
}

/// What cannot be, and why.
fn refusals(stage: &mut Stage, rtc: u64) -> Verdict {
    let id = stage.make("bare", &[])?;
    let (disk, _) = device("virtio,mmio")?;
    let refused = assign(id, disk, DEVICE_BASE, DEVICE_INTID);
    ensure!(refused == Err((Error::NotSupported, Unsupported::Dma as u64)), "a device with DMA: {refused:?}");
    let first = DEVICE_INTID;
    let cases = [
        (u64::MAX, DEVICE_BASE, first, Error::BadHandle),
        (rtc, DEVICE_BASE + 1, first, Error::InvalidArgument),
        (rtc, DEVICE_BASE, first - 1, Error::InvalidArgument),
        (rtc, DEVICE_BASE, first + DEVICE_INTIDS, Error::InvalidArgument),
        (rtc, DEVICE_BASE - 0x1000, first, Error::BadAddress),
        (rtc, DEVICE_END, first, Error::BadAddress),
        (rtc, u64::MAX - 0xfff, first, Error::BadAddress),
    ];
    for (number, at, intid, error) in cases {
        let result = assign(id, number, at, intid);
        ensure!(
            result == Err((error, 0)) || result.is_err_and(|(e, _)| e == error),
            "{at:#x} {intid}: {result:?}"
        );
    }
    let limit = assign(id, rtc, DEVICE_BASE, first);
    ensure!(limit == Err((Error::Limit, Account::Devices as u64)), "no limit: {limit:?}");
    hvc::partition_set_limit(id, Account::Devices, 2).map_err(|error| format!("{error}"))?;
    let nobody = PartitionId::new(9999);
    ensure!(
        assign(nobody, rtc, DEVICE_BASE, first).is_err_and(|(e, _)| e == Error::BadHandle),
        "given to nobody"
    );
    assign(id, rtc, DEVICE_BASE, first).map_err(|problem| format!("given: {problem:?}"))?;
    let again = assign(id, rtc, DEVICE_BASE + 0x1_0000, first + 1);
    ensure!(again.is_err_and(|(e, _)| e == Error::InUse), "given twice: {again:?}");
    let charge = hvc::account_read(Some(id), Account::Devices).map_err(|error| format!("{error}"))?;
    ensure!(charge.used == 1, "charged: {charge:?}");
    // What is no memory is not written to.
    let written = hvc::partition_write(id, DEVICE_BASE, &[0; 8]);
    ensure!(written == Err(Error::BadAddress), "written into a device: {written:?}");
    revoke(rtc)?;
    expect_free(rtc)?;
    // SAFETY: the caller does not have it.
    let again = unsafe { hvc::device_revoke(rtc) };
    ensure!(again == Err(Error::WrongState), "taken from nobody: {again:?}");
    hvc::partition_destroy(id).map_err(|error| format!("{error}"))
}

fn revoke(number: u64) -> Verdict {
    // SAFETY: no device is the caller's own.
    unsafe { hvc::device_revoke(number) }.map_err(|error| format!("it cannot be taken back: {error}"))
}

/// Waits until a partition says that its storm is under way.
fn told(stage: &Stage, id: PartitionId) -> Verdict {
    let signal = stage.signal()?;
    ensure!(signal.kind == SignalKind::Connect && signal.partition == id, "{id} was to say so: {signal:?}");
    hvc::refuse(signal.token, 1).map_err(|error| format!("its request cannot be refused: {error}"))
}

/// Taken from one that runs, in the midst of a storm of its interrupts, and given to another.
fn taken_away(stage: &mut Stage, rtc: u64) -> Verdict {
    let id = stage.run("storm")?;
    told(stage, id)?;
    revoke(rtc)?;
    expect_free(rtc)?;
    let other = stage.run("alarm")?;
    for id in [id, other] {
        let (reason, status) = reap_any(stage, id)?;
        ensure!((reason, status) == (EndReason::Exited, 0), "{id} ended by {reason:?} with status {status}");
    }
    expect_free(rtc)
}

/// Waits for the end of one of two partitions, whichever comes first.
fn reap_any(stage: &Stage, id: PartitionId) -> Result<(EndReason, u64), String> {
    loop {
        let status = hvc::partition_status(id).map_err(|error| format!("{error}"))?;
        if status.state == handover_guest::abi::PartitionState::Terminated {
            hvc::partition_destroy(id).map_err(|error| format!("{error}"))?;
            return Ok((status.reason, status.exit_status));
        }
        stage.signal()?;
    }
}

/// Ended in the midst of a storm.
fn stopped(stage: &mut Stage, rtc: u64) -> Verdict {
    let id = stage.run("storm")?;
    told(stage, id)?;
    hvc::partition_stop(id).map_err(|error| format!("{error}"))?;
    let (reason, _) = stage.reap(id)?;
    ensure!(reason == EndReason::Stopped, "it ended by {reason:?}");
    expect_free(rtc)
}
