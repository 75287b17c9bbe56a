//! Rights to the bus, of a partition that broadcasts TLB maintenance, moves regions, and spins.

use alloc::{format, string::String};
use core::time::Duration;

use handover_guest::{
    Error, PartitionId,
    abi::{Account, BusLimit, BusStatus, Counter, CounterNumber, EndReason, TrafficLimit, Unsupported},
    hvc, println, timer,
};
use subject::{MASKED, Order};

use crate::{
    pause::spend,
    stage::{Stage, Verdict, ensure},
    subject::Subject,
};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

fn failed(error: Error) -> String {
    format!("the bus: {error}")
}

/// Nanoseconds of a count.
fn nanoseconds(ticks: u64) -> u64 {
    (u128::from(ticks) * u128::from(SECOND) / u128::from(timer::frequency())) as u64
}

/// Limits of operations.
pub(crate) fn run(stage: &mut Stage) -> Verdict {
    let mut subject = Subject::run(stage)?;
    refused(&subject)?;
    unlimited(&mut subject)?;
    in_time(&mut subject)?;
    alone(&mut subject)?;
    interrupted(&mut subject)?;
    regions(&mut subject)?;
    changed(&mut subject)?;
    stopped(stage, subject)
}

fn set(id: PartitionId, operations: u64, period: u64) -> Verdict {
    hvc::partition_set_bus(id, BusLimit { operations, period }).map_err(failed)
}

fn refused(subject: &Subject) -> Verdict {
    let (nobody, id) = (PartitionId::new(0x7fff_0000), subject.id);
    let found = (hvc::partition_set_bus(nobody, BusLimit::NONE), hvc::bus_read(nobody).err());
    ensure!(found == (Err(Error::BadHandle), Some(Error::BadHandle)), "of nobody: {found:?}");
    for period in [0, SECOND + 1, u64::MAX] {
        let found = hvc::partition_set_bus(id, BusLimit { operations: 1, period });
        ensure!(found == Err(Error::InvalidArgument), "a period of {period}: {found:?}");
    }
    let found = hvc::bus_read(id).map_err(failed)?;
    let none = BusStatus { limit: BusLimit::NONE, used: 0, traffic: TrafficLimit::NONE, caused: 0 };
    ensure!(found == none, "a new partition's limits: {found:?}");
    Ok(())
}

/// A counter of the subject's, all its processors together.
fn counter(subject: &Subject, counter: Counter) -> Result<u64, String> {
    let counters = hvc::counters_read(Some(subject.id), None, CounterNumber::Named(counter));
    counters.map(|counters| counters[0]).map_err(failed)
}

/// Nanoseconds that a logical processor of the subject's has run.
fn ran(subject: &Subject, processor: u32) -> Result<u64, String> {
    hvc::processor_read(subject.id, processor).map(|status| status.used).map_err(failed)
}

/// Without a limit nothing traps.
fn unlimited(subject: &mut Subject) -> Verdict {
    let before = (counter(subject, Counter::SystemRegisters)?, counter(subject, Counter::Broadcasts)?);
    subject.ask(Order::Broadcast, 10_000, 0)?;
    let after = (counter(subject, Counter::SystemRegisters)?, counter(subject, Counter::Broadcasts)?);
    ensure!(after.1 == 0 && after.0 - before.0 < 1000, "it traps: {before:?}, {after:?}");
    Ok(())
}

/// So many broadcasts. → how long they took, and how long the processor ran for them.
fn broadcast(subject: &mut Subject, times: u64) -> Result<(u64, u64), String> {
    let (before, ran_before) = (counter(subject, Counter::Broadcasts)?, ran(subject, 0)?);
    let [start, end, ..] = subject.ask(Order::Broadcast, times, 0)?;
    let done = counter(subject, Counter::Broadcasts)? - before;
    ensure!(done == times, "{times} broadcasts, and {done} were carried out");
    Ok((nanoseconds(end - start), ran(subject, 0)? - ran_before))
}

/// A hundred at once and then one in 0.1 ms, and the processor is somebody else's meanwhile.
fn in_time(subject: &mut Subject) -> Verdict {
    set(subject.id, 100, 10 * MS)?;
    let (took, ran) = broadcast(subject, 600)?;
    println!("examiner: 600 broadcasts took {took} ns, of which it ran {ran} ns");
    ensure!((50 * MS..56 * MS).contains(&took), "600 broadcasts took {took} ns, not 50 ms");
    ensure!(ran < 10 * MS, "it ran {ran} ns of {took} ns");
    let waits = counter(subject, Counter::BusWaits)?;
    ensure!((100..=600).contains(&waits), "it waited {waits} times");
    let status = hvc::bus_read(subject.id).map_err(failed)?;
    let charge = hvc::account_read(Some(subject.id), Account::Bus).map_err(failed)?;
    ensure!(charge.limit == 100 && charge.used > 50 && charge.used <= status.used, "{charge:?}, {status:?}");
    spend(Duration::from_millis(11));
    let (took, _) = broadcast(subject, 100)?;
    ensure!(took < 2 * MS, "100 at once took {took} ns");
    Ok(())
}

/// What it says of one processor is no operation, whether it traps (where broadcasts cannot be told apart: no FEAT_EVT) or not.
fn alone(subject: &mut Subject) -> Verdict {
    const TIMES: u64 = 1000;
    let look = |subject: &Subject| -> Result<[u64; 3], String> {
        let [traps, broadcasts, waits] = [Counter::SystemRegisters, Counter::Broadcasts, Counter::BusWaits];
        Ok([counter(subject, traps)?, counter(subject, broadcasts)?, counter(subject, waits)?])
    };
    let before = look(subject)?;
    subject.ask(Order::Maintain, TIMES, 0)?;
    let after = look(subject)?;
    let traps = after[0] - before[0];
    ensure!(traps == 0 || traps == TIMES, "{traps} of {TIMES} have trapped");
    ensure!(after[1..] == before[1..], "they were broadcasts: {before:?}, {after:?}");
    println!("examiner: maintenance of its own processor traps: {}", traps == TIMES);
    Ok(())
}

/// Interrupts come as one waits.
fn interrupted(subject: &mut Subject) -> Verdict {
    set(subject.id, 10, 100 * MS)?;
    spend(Duration::from_millis(101));
    subject.ask(Order::Broadcast, 10, 0)?;
    let [start, end, ticked, ..] = subject.ask(Order::Broadcast, 1, 2 * MS)?;
    let (took, ticked) = (nanoseconds(end - start), nanoseconds(ticked.wrapping_sub(start)));
    ensure!((9 * MS..11 * MS).contains(&took), "one broadcast took {took} ns, not 10 ms");
    ensure!((2 * MS..3 * MS).contains(&ticked), "an interrupt after 2 ms came after {ticked} ns");
    // One that is due already and masked is no reason to look again and again.
    let waits = counter(subject, Counter::BusWaits)?;
    subject.ask(Order::Broadcast, 5, MASKED | MS)?;
    let waited = counter(subject, Counter::BusWaits)? - waits;
    ensure!(waited <= 20, "it looked {waited} times for 5 broadcasts");
    Ok(())
}

/// Calls are refused with the time that is left.
fn regions(subject: &mut Subject) -> Verdict {
    spend(Duration::from_millis(101));
    let [done, over, longest, ..] = subject.ask(Order::Unmap, 50, 0)?;
    ensure!((10..12).contains(&done) && done + over == 50, "{done} done and {over} over the limit");
    ensure!((8 * MS..=10 * MS).contains(&longest), "{longest} ns were left, not 10 ms");
    hvc::partition_set_limit(subject.id, Account::Bus, 60).map_err(failed)?;
    let status = hvc::bus_read(subject.id).map_err(failed)?;
    ensure!(status.limit == BusLimit { operations: 60, period: 100 * MS }, "{status:?}");
    // The limit is a new one, and what was used still counts.
    let [done, over, ..] = subject.ask(Order::Unmap, 50, 0)?;
    ensure!(done == 50 && over == 0, "{done} done and {over} over the limit of 60");
    let [done, ..] = subject.ask(Order::Unmap, 50, 0)?;
    ensure!(done < 10, "{done} done over the limit of 60");
    Ok(())
}

/// One that would wait for ever goes on with another limit, paused and resumed or not.
fn changed(subject: &mut Subject) -> Verdict {
    let id = subject.id;
    for operations in [10, u64::MAX] {
        set(id, 0, SECOND)?;
        let waits = counter(subject, Counter::BusWaits)?;
        subject.tell(Order::Broadcast, 1, 0)?;
        while counter(subject, Counter::BusWaits)? == waits {}
        spend(Duration::from_millis(2));
        let before = ran(subject, 0)?;
        spend(Duration::from_millis(5));
        let more = ran(subject, 0)? - before;
        ensure!(more < MS, "it runs for {more} ns of 5 ms as it waits for ever");
        ensure!(subject.answer()?.is_none(), "it goes on without a right to");
        hvc::partition_pause(id).map_err(failed)?;
        hvc::partition_resume(id).map_err(failed)?;
        spend(Duration::from_millis(2));
        ensure!(subject.answer()?.is_none(), "it goes on because it was paused");
        set(id, operations, SECOND)?;
        subject.wait()?;
    }
    // What its processors have had forgotten stays forgotten wherever they go.
    unlimited_again(subject)
}

fn unlimited_again(subject: &mut Subject) -> Verdict {
    let before = counter(subject, Counter::Broadcasts)?;
    subject.ask(Order::Broadcast, 1000, 0)?;
    let after = counter(subject, Counter::Broadcasts)?;
    ensure!(after == before, "without a limit {} broadcasts trapped", after - before);
    Ok(())
}

/// Who waits can be ended, and starts anew with its limit.
fn stopped(stage: &Stage, subject: Subject) -> Verdict {
    let id = subject.id;
    set(id, 0, SECOND)?;
    subject.tell(Order::Broadcast, 1, 0)?;
    spend(Duration::from_millis(1));
    hvc::partition_stop(id).map_err(failed)?;
    stage.ended(id)?;
    let charge = hvc::account_read(Some(id), Account::Bus).map_err(failed)?;
    ensure!((charge.used, charge.limit) == (0, 0), "it has ended: {charge:?}");
    hvc::partition_reset(id).map_err(failed)?;
    set(id, 50, 10 * MS)?;
    stage.refill("subject", id)?;
    stage.start("subject", id)?;
    let mut subject = Subject::meet(id)?;
    broadcast(&mut subject, 200)?;
    subject.end(stage)
}

/// Limits of memory traffic, by events that the machine counts. On one physical processor: QEMU wakes others late, by whole periods.
pub(crate) fn traffic(stage: &mut Stage) -> Verdict {
    const CYCLES: u64 = 0x11;
    const INSTRUCTIONS: u64 = 0x08;
    let subject = Subject::run(stage)?;
    let id = subject.id;
    let set = |event, events, period| {
        let limit = TrafficLimit { event, events, period };
        hvc::partition_set_traffic(id, limit).map_err(|failure| (failure.error, failure.unsupported()))
    };
    // This machine counts no traffic, and no event of these numbers.
    for event in [0, 0x3f, 0x3ff, 0x4000, 0xffff] {
        let found = set(event, 1, MS);
        let unsupported = Err((Error::NotSupported, Some(Unsupported::Traffic)));
        ensure!(found == unsupported, "event {event:#x}: {found:?}");
    }
    for (event, period) in [(0x1_0000, MS), (u64::MAX, MS), (CYCLES, 0), (CYCLES, SECOND + 1)] {
        let found = set(event, 1, period);
        let invalid = Err((Error::InvalidArgument, None));
        ensure!(found == invalid, "event {event:#x}, period {period}: {found:?}");
    }
    let nobody = hvc::partition_set_traffic(PartitionId::new(0x7fff_0000), TrafficLimit::NONE);
    ensure!(nobody.is_err_and(|failure| failure.error == Error::BadHandle), "of nobody: {nobody:?}");

    // An event is a nanosecond. Processors that never leave their guest would not do: QEMU's counters notice an overflow when they are looked at.
    for (event, events) in [(CYCLES, MS), (CYCLES, 2 * MS), (INSTRUCTIONS, 3 * MS)] {
        set(event, events, 10 * MS).map_err(|failure| format!("event {event:#x}: {failure:?}"))?;
        let ran = spun(&subject, 200)?;
        let share = 20 * events;
        println!("examiner: event {event:#x}: {share} in 200 ms, and it ran {ran} ns");
        ensure!((share * 9 / 10..share * 11 / 10).contains(&ran), "it ran {ran} ns instead of {share}");
        let status = hvc::bus_read(id).map_err(failed)?;
        ensure!(status.traffic == TrafficLimit { event, events, period: 10 * MS }, "{status:?}");
        ensure!(status.caused <= events, "{status:?}");
    }
    set(0, 0, 0).map_err(|failure| format!("no limit: {failure:?}"))?;
    let ran = spun(&subject, 50)?;
    ensure!(ran > 20 * MS, "without a limit it ran {ran} ns of 50 ms");
    // One that waits for its next period can be ended.
    set(CYCLES, 1, SECOND).map_err(|failure| format!("one cycle: {failure:?}"))?;
    let ran = spun(&subject, 20)?;
    ensure!(ran < MS, "with one cycle it ran {ran} ns");
    hvc::partition_stop(id).map_err(failed)?;
    let (reason, _) = stage.reap(id)?;
    ensure!(reason == EndReason::Stopped, "it ended by {reason}");
    Ok(())
}

/// How long the subject's processors have run in so many milliseconds.
fn spun(subject: &Subject, milliseconds: u64) -> Result<u64, String> {
    let all = || (0..4).try_fold(0, |sum, processor| Ok::<u64, String>(sum + ran(subject, processor)?));
    // Not a period's beginning.
    spend(Duration::from_millis(15));
    let before = all()?;
    spend(Duration::from_millis(milliseconds));
    Ok(all()? - before)
}

/// A partition that broadcasts and moves regions without an end, on the one physical processor that this program runs on too: what
/// is left for this program, and for how long it is kept waiting.
pub(crate) fn storm(stage: &mut Stage) -> Verdict {
    const WINDOW: u64 = 300 * MS;
    let id = stage.make("storm", &[])?;
    set(id, 100, 10 * MS)?;
    stage.start("storm", id)?;
    let measure = |what: &str| {
        spend(Duration::from_millis(50));
        let end = timer::after(Duration::from_nanos(WINDOW));
        let (start, mut last, mut longest, mut away) = (timer::now(), timer::now(), 0, 0);
        while last < end {
            let now = timer::now();
            // Nothing of its own takes so long.
            if nanoseconds(now - last) > 20_000 {
                longest = longest.max(now - last);
                away += now - last;
            }
            last = now;
        }
        let (longest, away) = (nanoseconds(longest), nanoseconds(away) * 1000 / nanoseconds(last - start));
        println!(
            "examiner: {what}: kept waiting {away} thousandths of the time, {longest} ns at the longest"
        );
        (longest, away)
    };
    let (longest, away) = measure("beside a limited storm");
    ensure!(longest < MS && away < 200, "{longest} ns at the longest, {away} thousandths of the time");
    let waits =
        hvc::counters_read(Some(id), None, CounterNumber::Named(Counter::BusWaits)).map_err(failed)?[0];
    ensure!(waits > 100, "it waited {waits} times");
    set(id, u64::MAX, SECOND)?;
    let (_, away) = measure("without the limit");
    ensure!(away > 400, "without the limit it takes {away} thousandths of the time");
    set(id, 10, 10 * MS)?;
    let (longest, away) = measure("and with a smaller one");
    ensure!(longest < MS && away < 100, "{longest} ns at the longest, {away} thousandths of the time");
    hvc::partition_stop(id).map_err(failed)?;
    let (reason, _) = stage.reap(id)?;
    ensure!(reason == EndReason::Stopped, "it ended by {reason}");
    Ok(())
}
