//! What making a partition and forgetting one costs, in instructions, where the counter counts them: `bench: NAME N`.
//!
//! The partition has two logical processors and 16 MiB, and has not started: making it is `PartitionCreate`, the limits and
//! `PartitionAddMemory`; forgetting it is `PartitionDestroy`, which zeroes all of it.

use alloc::{format, vec::Vec};

use handover_guest::{
    Error,
    abi::{Account, Name, layout::MEMORY_BASE},
    hvc, println, timer,
};

use crate::{
    lifecycle::held,
    stage::{Stage, Verdict, ensure},
};

const SAMPLES: usize = 21;
const PROCESSORS: u32 = 2;
const MEMORY: u64 = 16 << 20;

pub(crate) fn run(_: &mut Stage) -> Verdict {
    let before = held()?;
    let mut samples = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..SAMPLES {
        let [empty, made, forgotten] = sample().map_err(|error| format!("a partition of 16 MiB: {error}"))?;
        for (samples, sample) in samples.iter_mut().zip([empty, made, forgotten]) {
            samples.push(sample);
        }
    }
    let after = held()?;
    ensure!(before == after, "held before {before:?}, after {after:?}");
    let names = ["partition_create_empty", "partition_create", "partition_destroy"];
    for (name, samples) in names.into_iter().zip(&mut samples) {
        samples.sort_unstable();
        println!("bench: {name} {}", samples[SAMPLES / 2]);
    }
    Ok(())
}

/// Instructions for the empty partition, for it with its limits and memory, and for its end.
fn sample() -> Result<[u64; 3], Error> {
    let name = Name::new("sample").ok_or(Error::InvalidArgument)?;
    let start = timer::now();
    let id = hvc::partition_create(name, PROCESSORS)?;
    let empty = timer::now();
    for &account in Account::ALL {
        hvc::partition_set_limit(id, account, MEMORY)?;
    }
    hvc::partition_add_memory(id, MEMORY_BASE, MEMORY)?;
    let made = timer::now();
    hvc::partition_destroy(id)?;
    let forgotten = timer::now();
    Ok([empty - start, made - start, forgotten - made])
}
