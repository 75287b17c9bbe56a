//! Measures the control OS from a guest's side, in instructions.
//!
//! Runs in one partition with two processors, `role=pair`, or in two partitions: `role=server` serves "bench", `role=client` uses it (with `measure=events` for events alone, and what `suffix=` says
//! behind the figures' names) and prints a line for each figure,
//! `bench: NAME INSTRUCTIONS`. A figure is the median of 100 samples after 20 that do not count. One tick of the
//! counter is one instruction where QEMU runs with `-icount shift=0` and the counter at 1 GHz.

#![no_std]
#![no_main]

mod client;
mod event;
mod fault;
mod interrupt;
mod sample;
mod server;
mod switch;

use handover_guest::{Boot, Error, Status, entry, println};

entry!(main);

fn main(boot: Boot) -> Result<Status, Error> {
    match boot.argument("role") {
        Some("client") => client::run(&boot),
        Some("server") => server::run(&boot),
        Some("pair") => interrupt::between_processors(&boot).map(|()| Status::SUCCESS),
        other => {
            println!("bench: role={} is neither client nor server nor pair", other.unwrap_or(""));
            Ok(Status::FAILURE)
        }
    }
}
