//! Partitions are made, run for a random while, and are killed: `rounds=N` of them, `alive=N` at a time, `longest=N` microseconds each. They
//! are the manifest's `victim`s, which throw calls at each other from all their processors. More are made than there are VMIDs, and in the
//! end everything is as it was.

use alloc::{format, vec::Vec};

use handover_guest::{
    Error,
    abi::{Account, EndReason, PartitionId, SignalKind},
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
    // Once before the books are opened: the heap and this partition's tables have their size then.
    let mut before = None;
    for round in 0..rounds {
        victims.push(stage.run("victim")?);
        while victims.len() as u64 >= alive {
            wait(random.below(longest));
            let victim = victims.swap_remove(random.below(victims.len() as u64) as usize);
            kill(stage, victim, random.below(8) == 0)?;
        }
        if round == alive {
            while let Some(victim) = victims.pop() {
                kill(stage, victim, true)?;
            }
            before = Some(held()?);
        }
    }
    while let Some(victim) = victims.pop() {
        kill(stage, victim, true)?;
    }
    let after = held()?;
    ensure!(
        before.as_ref().is_some_and(|before| *before == after),
        "held before {before:?}, after {after:?}"
    );
    println!("examiner: {rounds} partitions killed, {} bytes free as before", after.1);
    Ok(())
}

/// Ends a partition that runs, and forgets it: once everything has come back by itself, or lending a hand.
fn kill(stage: &Stage, victim: PartitionId, wait: bool) -> Verdict {
    let explain = |what: &str, error: Error| format!("{victim} {what}: {error}");
    hvc::partition_stop(victim).map_err(|error| explain("cannot be stopped", error))?;
    if wait {
        has_ended(stage, victim)?;
    }
    hvc::partition_destroy(victim).map_err(|error| explain("cannot be forgotten", error))?;
    let again = hvc::partition_status(victim).err();
    ensure!(again == Some(Error::BadHandle), "{victim} is forgotten, but its status is {again:?}");
    Ok(())
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
