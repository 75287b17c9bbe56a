//! Partitions are made, run for a random while, and are killed: `rounds=N` of them, `alive=N` at a time, `longest=N` microseconds each. They
//! are the manifest's `victim`s, which make all calls at each other from all their processors, while this program changes their limits, pauses
//! them and gives them devices. More are made than there are VMIDs, and in the end everything is as it was.

use alloc::{format, vec::Vec};

use handover_guest::{
    Error,
    abi::{
        Account, BusLimit, Call, CounterNumber, EndReason, PartitionId, ProcessorClaim, SignalKind,
        TrafficLimit,
        layout::{DEVICE_BASE, DEVICE_INTID, MEMORY_BASE},
    },
    hvc, println, timer,
};

use crate::{
    lifecycle::held,
    stage::{Stage, Verdict, ensure},
};

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % end.max(1)
    }
}

pub(crate) fn run(stage: &mut Stage) -> Verdict {
    let number = |name, default| stage.argument(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (rounds, alive, longest) = (number("rounds", 1000), number("alive", 3), number("longest", 2000));
    let mut random = Random(number("seed", 1) | 1);
    let mut victims: Vec<PartitionId> = Vec::new();
    let devices: Vec<u64> = (0..).take_while(|number| hvc::device_info(*number).is_ok()).collect();
    let mut counted = Counted::new();
    // Once before the books are opened: the heap and this partition's tables have their size then.
    let mut before = None;
    for round in 0..rounds {
        victims.push(stage.run("victim")?);
        while victims.len() as u64 >= alive {
            // Most die young.
            let longest = if random.below(16) == 0 { 16 * longest } else { longest };
            wait(random.below(longest));
            disturb(&mut random, &victims, &devices);
            wait(random.below(longest));
            let victim = victims.swap_remove(random.below(victims.len() as u64) as usize);
            kill(stage, &mut counted, victim, random.below(8) == 0)?;
        }
        if round == alive {
            while let Some(victim) = victims.pop() {
                kill(stage, &mut counted, victim, true)?;
            }
            before = Some(held()?);
        }
    }
    while let Some(victim) = victims.pop() {
        kill(stage, &mut counted, victim, true)?;
    }
    let after = held()?;
    ensure!(
        before.as_ref().is_some_and(|before| *before == after),
        "held before {before:?}, after {after:?}"
    );
    for number in devices {
        let device = hvc::device_info(number).map_err(|error| format!("device {number}: {error}"))?;
        ensure!(device.holder.is_none(), "{} is still held", device.name);
    }
    counted.check(rounds)?;
    println!("examiner: {rounds} partitions killed, {} bytes free as before", after.1);
    Ok(())
}

/// Ends a partition that runs, and forgets it: once everything has come back by itself, or lending a hand.
fn kill(stage: &Stage, counted: &mut Counted, victim: PartitionId, wait: bool) -> Verdict {
    let explain = |what: &str, error: Error| format!("{victim} {what}: {error}");
    hvc::partition_stop(victim).map_err(|error| explain("cannot be stopped", error))?;
    counted.add(victim).map_err(|error| explain("has no counters", error))?;
    if wait {
        has_ended(stage, victim)?;
    }
    hvc::partition_destroy(victim).map_err(|error| explain("cannot be forgotten", error))?;
    let again = hvc::partition_status(victim).err();
    ensure!(again == Some(Error::BadHandle), "{victim} is forgotten, but its status is {again:?}");
    Ok(())
}

/// Calls that the victims made, and those that failed, by the low byte of their numbers.
struct Counted([[u64; 0x100]; 2]);

impl Counted {
    fn new() -> Counted {
        Counted([[0; 0x100]; 2])
    }

    fn add(&mut self, victim: PartitionId) -> Result<(), Error> {
        for (sums, first) in self.0.iter_mut().zip([CounterNumber::Calls, CounterNumber::Failed]) {
            for call in Call::ALL {
                let counters = hvc::counters_read(Some(victim), None, first(*call))?;
                sums[(*call as u32 & 0xff) as usize] += counters[0];
            }
        }
        Ok(())
    }

    /// Every call was made often, but the one that would have ended the victim.
    fn check(&self, rounds: u64) -> Verdict {
        for call in Call::ALL.iter().filter(|call| **call != Call::End) {
            let [made, failed] = self.0.map(|sums| sums[(*call as u32 & 0xff) as usize]);
            println!("examiner: {call:?}: {made}, {failed} failed");
            ensure!(made > rounds / 10, "{call:?} was made {made} times only");
        }
        Ok(())
    }
}

/// Does something to a partition that runs, or to others by it; whatever comes of that is right, so long as everything comes back.
fn disturb(random: &mut Random, victims: &[PartitionId], devices: &[u64]) {
    let Some(&id) = victims.get(random.below(victims.len() as u64) as usize) else { return };
    let limits = [Account::Memory, Account::AddressSpace, Account::ControlMemory, Account::Ports];
    let device = devices.get(random.below(devices.len() as u64) as usize).copied().unwrap_or(0);
    let claim = ProcessorClaim { budget: 100_000, period: 1_000_000, ..ProcessorClaim::default() };
    let _any = match random.below(12) {
        0 => hvc::partition_pause(id),
        1 => hvc::partition_resume(id),
        2 => hvc::partition_shutdown(id, 1),
        3 => hvc::partition_set_watchdog(id, 3_600_000_000_000),
        4 => hvc::partition_set_limit(id, limits[random.below(4) as usize], random.below(1 << 22)),
        5 => hvc::partition_set_bus(id, BusLimit { operations: 1 + random.below(20), period: 100_000 }),
        6 => hvc::partition_set_bus(id, BusLimit::NONE),
        7 => hvc::partition_add_memory(id, MEMORY_BASE + (1 << 30), 2 << 20),
        8 => hvc::processor_set(id, random.below(3) as u32, claim),
        9 => hvc::device_assign(id, device, DEVICE_BASE, DEVICE_INTID).map_err(|failure| failure.error),
        // SAFETY: this program touches no device's registers.
        10 => unsafe { hvc::device_revoke(device) },
        _ => hvc::partition_set_traffic(id, TrafficLimit::NONE).map_err(|failure| failure.error),
    };
}

/// Lets so many microseconds pass.
fn wait(microseconds: u64) {
    let end = timer::now() + microseconds * timer::frequency() / 1_000_000;
    while timer::now() < end {}
}

/// Waits until a partition that was stopped holds nothing any more.
fn has_ended(stage: &Stage, victim: PartitionId) -> Verdict {
    loop {
        let signal = stage.signal()?;
        match signal.kind {
            SignalKind::PartitionEnded if signal.partition == victim => break,
            SignalKind::PartitionEnded => {
                let status = hvc::partition_status(signal.partition);
                return Err(format!("partition {} has ended by itself: {status:?}", signal.partition));
            }
            SignalKind::ShutdownRequest => {}
            // It may have been taken back.
            SignalKind::Connect => drop(hvc::refuse(signal.token, 1)),
        }
    }
    let status = hvc::partition_status(victim).map_err(|error| format!("{victim} has no status: {error}"))?;
    ensure!(status.reason == EndReason::Stopped, "{victim} ended by {:?}", status.reason);
    for &account in Account::ALL.iter().filter(|account| **account != Account::ProcessorTime) {
        let charge = hvc::account_read(Some(victim), account)
            .map_err(|error| format!("{victim} has no account {account}: {error}"))?;
        ensure!(charge.used == 0, "{victim} has ended and still uses {} of {account}", charge.used);
    }
    Ok(())
}
