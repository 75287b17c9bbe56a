//! What making a partition and forgetting one costs, in instructions, where the counter counts them: `bench: NAME N`.
//!
//! The partition has two logical processors and 16 MiB, and has not started: making it is `PartitionCreate`, the limits and
//! `PartitionAddMemory`; forgetting it is `PartitionDestroy`, which zeroes all of it.

use alloc::{format, vec::Vec};

use handover_guest::{
    Error,
    abi::{Account, Name, PartitionId, layout::MEMORY_BASE},
    hvc, println, timer,
};
use handover_mark as mark;

use crate::{
    lifecycle::held,
    stage::{Stage, Verdict, ensure},
};

const SAMPLES: usize = 21;
const PROCESSORS: u32 = 2;
const MEMORY: u64 = 16 << 20;

pub(crate) fn run(_: &mut Stage) -> Verdict {
    let before = held()?;
    let [mut empty, mut made, mut forgotten] = [const { Vec::new() }; 3];
    for _ in 0..SAMPLES {
        empty.push(make_empty().map_err(|error| format!("an empty partition: {error}"))?);
    }
    print("partition_create_empty", empty);
    for _ in 0..SAMPLES {
        let samples = make_and_forget().map_err(|error| format!("a partition of 16 MiB: {error}"))?;
        made.push(samples.0);
        forgotten.push(samples.1);
    }
    print("partition_create", made);
    print("partition_destroy", forgotten);
    let after = held()?;
    ensure!(before == after, "held before {before:?}, after {after:?}");
    Ok(())
}

/// Prints the median.
fn print(name: &str, mut samples: Vec<u64>) {
    samples.sort_unstable();
    mark::told();
    println!("bench: {name} {}", samples[samples.len() / 2]);
}

fn create() -> Result<PartitionId, Error> {
    let name = Name::new("sample").ok_or(Error::InvalidArgument)?;
    hvc::partition_create(name, PROCESSORS)
}

/// Instructions for the empty partition.
fn make_empty() -> Result<u64, Error> {
    mark::begin();
    let start = timer::now();
    let id = create()?;
    let end = timer::now();
    mark::end();
    hvc::partition_destroy(id)?;
    Ok(end - start)
}

/// Instructions for one with its limits and memory, and for its end.
fn make_and_forget() -> Result<(u64, u64), Error> {
    mark::begin();
    let start = timer::now();
    let id = create()?;
    for &account in Account::ALL {
        hvc::partition_set_limit(id, account, MEMORY)?;
    }
    hvc::partition_add_memory(id, MEMORY_BASE, MEMORY)?;
    let made = timer::now();
    mark::end();
    mark::begin_second();
    let ends = timer::now();
    hvc::partition_destroy(id)?;
    let forgotten = timer::now();
    mark::end();
    Ok((made - start, forgotten - ends))
}
