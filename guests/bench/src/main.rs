//! Measures the control OS from a guest's side, in instructions.
//!
//! Runs in one partition with two processors, `role=pair`, or in two partitions: `role=server` serves "bench", `role=client` uses it and prints a
//! line for each figure, `bench: NAME INSTRUCTIONS`, or `bench: NAME NUMBER UNIT`. More partitions stand by with `role=idle`. The client measures
//! - with `measure=pair` only what has a part in both partitions,
//! - with `large` regions of 64 MiB too,
//! - with `channels=N` while both hold so many more channels open, of which the server has to know too.
//!
//! A figure is the median of 100 samples after 20 that do not count. One tick of the counter is one instruction where QEMU runs with
//! `-icount shift=0` and the counter at 1 GHz.

#![no_std]
#![no_main]

mod client;
mod copy;
mod event;
mod fault;
mod interrupt;
mod keys;
mod sample;
mod server;
mod shared;
mod switch;

use handover_guest::{Boot, Error, Status, entry, interrupts, println, requests::Requests};

entry!(main);

fn main(boot: Boot) -> Result<Status, Error> {
    keys::set();
    match boot.argument("role") {
        Some("client") => client::run(&boot),
        Some("server") => server::run(&boot),
        Some("pair") => interrupt::between_processors(&boot).map(|()| Status::SUCCESS),
        Some("idle") => {
            Requests::connect(&boot)?.ready()?;
            loop {
                interrupts::wait();
            }
        }
        other => {
            println!("bench: role={} is neither client nor server, pair nor idle", other.unwrap_or(""));
            Ok(Status::FAILURE)
        }
    }
}

/// How many channels both sides hold open while they measure.
fn bystanders(boot: &Boot) -> usize {
    boot.argument("channels").and_then(|number| number.parse().ok()).unwrap_or(0)
}
