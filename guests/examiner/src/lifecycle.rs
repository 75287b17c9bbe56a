//! A partition is made, stopped before it starts, made again, ends by itself, and leaves nothing behind: `rounds=N` times.

use alloc::{format, string::String, vec::Vec};

use handover_guest::{
    abi::{Account, EndReason, Error},
    hvc, println,
};

use crate::stage::{Stage, Verdict, ensure};

/// What the privileged partition is charged, by account, and what the machine has left.
pub(crate) fn held() -> Result<(Vec<u64>, u64), String> {
    let used = Account::ALL.iter().filter(|account| **account != Account::ProcessorTime);
    let used = used.map(|account| hvc::account_read(None, *account).map(|charge| charge.used));
    let read = || -> Result<(Vec<u64>, u64), Error> {
        Ok((used.collect::<Result<_, _>>()?, hvc::machine_info()?.free_memory))
    };
    read().map_err(|error| format!("the accounts cannot be read: {error}"))
}

pub(crate) fn run(stage: &mut Stage) -> Verdict {
    let rounds: u32 = stage.argument("rounds").and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
    let before = held()?;
    for round in 0..rounds {
        let id = stage.make("crash", &[])?;
        hvc::partition_destroy(id).map_err(|error| format!("{id} cannot be forgotten: {error}"))?;
        let id = stage.run("crash")?;
        let (reason, status) = stage.reap(id)?;
        ensure!(
            (reason, status) == (EndReason::Exited, 102),
            "round {round}: it ended by {reason:?} with status {status}"
        );
    }
    let after = held()?;
    ensure!(before == after, "held before {before:?}, after {after:?}");
    println!("examiner: {rounds} rounds, {} bytes free as before", after.1);
    Ok(())
}
