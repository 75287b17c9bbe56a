//! Echo.
#![no_std]
#![no_main]

use handover_guest::{Boot, Status, entry, println};

entry!(main);

fn main(boot: Boot) -> Status {
    println!("echo: {} processors, {} MiB of memory", boot.processors(), boot.memory_size() >> 20);
    Status::SUCCESS
}
