//! What the control OS counts is what happened: a subject does known things so often, and the counters say so exactly.

use alloc::{format, string::String};
use core::time::Duration;

use handover_guest::{
    PartitionId,
    abi::{Call, Counter, CounterNumber, Error},
    hvc, println, timer,
};
use subject::Order;

use crate::{
    pause::sleep_until,
    stage::{Stage, Verdict, ensure},
    subject::Subject,
};

use CounterNumber::{Calls, Errors, Failed, Named};

/// What is looked at, in this order.
const LOOKED_AT: [CounterNumber; 10] = [
    Calls(Call::Identify),
    Failed(Call::Identify),
    Calls(Call::RegionInfo),
    Failed(Call::RegionInfo),
    Errors(Error::BadHandle),
    Named(Counter::MessagesSent),
    Named(Counter::MessagesReceived),
    Named(Counter::BytesSent),
    Named(Counter::BytesReceived),
    Named(Counter::TranslationUnlinks),
];

fn read(id: PartitionId, processor: Option<u32>, number: CounterNumber) -> Result<u64, String> {
    let counters = hvc::counters_read(Some(id), processor, number);
    counters.map(|counters| counters[0]).map_err(|error| format!("{number:?} of {id}: {error}"))
}

fn look(id: PartitionId) -> Result<[u64; LOOKED_AT.len()], String> {
    let mut found = [0; LOOKED_AT.len()];
    for (value, number) in found.iter_mut().zip(LOOKED_AT) {
        *value = read(id, None, number)?;
    }
    Ok(found)
}

pub(crate) fn run(stage: &mut Stage) -> Verdict {
    let mut subject = Subject::run(stage)?;
    let id = subject.id;
    refusals(&subject)?;
    subject.ask(Order::Stamp, 0, 0)?;
    let before = look(id)?;
    subject.ask(Order::Calls, 1000, 777)?;
    subject.ask(Order::Region, 64 << 10, 0)?;
    let after = look(id)?;
    let mut difference = [0; LOOKED_AT.len()];
    for (value, (after, before)) in difference.iter_mut().zip(after.iter().zip(before)) {
        *value = after - before;
    }
    // Each order and each answer has 128 bytes.
    let expected = [1000, 0, 777, 777, 777, 2, 2, (64 << 10) + 256, 256, 1];
    ensure!(difference == expected, "counted {difference:?} instead of {expected:?} of {LOOKED_AT:?}");
    parts(&mut subject)?;
    for &counter in Counter::ALL {
        println!("examiner: {counter}: {}", read(id, None, Named(counter))?);
    }
    subject.end(stage)
}

fn refusals(subject: &Subject) -> Verdict {
    let id = u64::from(subject.id.get());
    for (arguments, error) in [
        ([0x7fff_0000, u64::MAX, 0], Error::BadHandle),
        ([id, 64, 0], Error::InvalidArgument),
        ([id, u64::MAX - 1, 0], Error::InvalidArgument),
        ([id, 0, 0x400], Error::InvalidArgument),
        ([id, 0, u64::MAX], Error::InvalidArgument),
    ] {
        let mut registers = [0; 18];
        registers[0] = u64::from(Call::CountersRead as u32);
        registers[1..4].copy_from_slice(&arguments);
        // SAFETY: the call touches no memory.
        let result = unsafe { hvc::raw(registers) };
        let found = Error::from_x0(result[0]);
        ensure!(found == Some(error), "{arguments:x?}: {found:?} instead of {error}");
        ensure!(result[1..] == registers[1..], "{arguments:x?}: it failed and changed a register");
    }
    Ok(())
}

/// One wait for the timer.
const NAP: [Counter; 4] =
    [Counter::Waits, Counter::Switches, Counter::Interrupts, Counter::ListRegisterUpdates];

/// What is caused, and what that counts as, each once for one.
const CAUSES: &[(Counter, &[Counter])] = &[
    (Counter::Calls, &[Counter::Calls]),
    (Counter::FirmwareCalls, &[Counter::FirmwareCalls]),
    (Counter::Waits, &NAP),
    (Counter::FloatTraps, &[Counter::FloatTraps, NAP[0], NAP[1], NAP[2], NAP[3]]),
    (Counter::SystemRegisters, &[Counter::SystemRegisters]),
    (Counter::DataAborts, &[Counter::DataAborts, Counter::AbortsGiven]),
    (Counter::InstructionAborts, &[Counter::InstructionAborts, Counter::AbortsGiven]),
    (Counter::Undefined, &[Counter::Undefined]),
    (Counter::Interrupts, &[Counter::Interrupts, Counter::ListRegisterUpdates]),
    (Counter::DistributorAccesses, &[Counter::DistributorAccesses, Counter::DataAborts]),
    (Counter::ConsoleAccesses, &[Counter::ConsoleAccesses, Counter::DataAborts]),
    // The memory is taken, and given back.
    (Counter::TranslationFlushes, &[Counter::TranslationFlushes, Counter::Calls, Counter::Calls]),
];

/// Each exit is counted under its reason, and nothing else is. On one physical processor, which leaves nothing to chance.
pub(crate) fn exits(stage: &mut Stage) -> Verdict {
    const TIMES: u64 = 20;
    let mut subject = Subject::run(stage)?;
    let id = subject.id;
    let all = || -> Result<[u64; Counter::ALL.len()], String> {
        // It waits for the next order by then.
        sleep_until(timer::after(Duration::from_millis(10)))?;
        let mut found = [0; Counter::ALL.len()];
        for (value, &counter) in found.iter_mut().zip(Counter::ALL) {
            *value = read(id, None, Named(counter))?;
        }
        Ok(found)
    };
    for &(cause, effects) in CAUSES {
        // Once for what is set up on the way.
        subject.ask(Order::Exits, cause as u64, 1)?;
        let start = all()?;
        subject.ask(Order::Exits, cause as u64, 0)?;
        let none = all()?;
        subject.ask(Order::Exits, cause as u64, TIMES)?;
        let end = all()?;
        for (index, &counter) in Counter::ALL.iter().enumerate() {
            let (without, with) = (none[index] - start[index], end[index] - none[index]);
            let expected = TIMES * effects.iter().filter(|effect| **effect == counter).count() as u64;
            // Who has left often enough without writing CPACR_EL1 and the like has its next write trap, once.
            let first =
                u64::from(counter == Counter::SystemRegisters && effects.contains(&Counter::Switches));
            ensure!(
                with.abs_diff(without + expected) <= first,
                "{TIMES} {cause}: {with} {counter} instead of {without} + {expected}"
            );
        }
    }
    subject.end(stage)
}

/// The processors' counters add up to the partition's, which are the same as the partition sees itself.
fn parts(subject: &mut Subject) -> Verdict {
    let id = subject.id;
    let identify = Calls(Call::Identify);
    let mut sum = 0;
    let mut processor = 0;
    while let Ok(counters) = hvc::counters_read(Some(id), Some(processor), identify) {
        sum += counters[0];
        processor += 1;
    }
    let (all, own) = (read(id, None, identify)?, subject.ask(Order::Counters, identify.get(), 0)?[0]);
    ensure!(sum == all && own == all, "{processor} processors: {sum}, the partition: {all}, itself: {own}");
    for counter in [Counter::Calls, Counter::Switches, Counter::Waits, Counter::Interrupts] {
        let value = read(id, None, Named(counter))?;
        ensure!(value > 0, "{counter}: none in {processor} processors");
    }
    Ok(())
}
