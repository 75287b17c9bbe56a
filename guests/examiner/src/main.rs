//! Takes system-control's place and tries the privileged interface: `case=NAME` in `[system-control] command-line` chooses what. The manifest's
//! partitions are what it may make, by name and as often as it likes; none starts by itself. It ends the machine with 0 if all went as it
//! should, and says what did not.

#![no_std]
#![no_main]

extern crate alloc;

mod alone;
mod bus;
mod claims;
mod colours;
mod copies;
mod costs;
mod counters;
mod cycles;
mod devices;
mod lifecycle;
mod linux;
mod pause;
mod shares;
mod stage;
mod steal;
mod subject;
mod verbs;
mod wakes;

use handover_guest::{entry, hvc, println};
use stage::{Stage, Verdict};

entry!(main);

/// A case's name and what it does.
type Case = (&'static str, fn(&mut Stage) -> Verdict);

const CASES: &[Case] = &[
    ("lifecycle", lifecycle::run),
    ("pause", pause::run),
    ("copies", copies::run),
    ("counters", counters::run),
    ("exits", counters::exits),
    ("verbs", verbs::run),
    ("cycles", cycles::run),
    ("costs", costs::run),
    ("devices", devices::run),
    ("colours", colours::run),
    ("shares", shares::run),
    ("linux-shutdown", linux::shutdown),
    ("linux-watchdog", linux::watchdog),
    ("linux-killed", linux::killed),
    ("bus", bus::run),
    ("traffic", bus::traffic),
    ("storm", bus::storm),
    ("steal", steal::run),
    ("alone", alone::run),
    ("claims", claims::run),
    ("wakes", wakes::run),
];

/// `x0` is the address of the boot information.
fn main(x0: u64) {
    let status = match Stage::set(x0) {
        Ok(mut stage) => examine(&mut stage),
        Err(problem) => {
            println!("examiner: {problem}");
            1
        }
    };
    let error = hvc::machine_off(status);
    println!("examiner: the machine cannot be ended with status {status}: {error}");
}

fn examine(stage: &mut Stage) -> u64 {
    let wanted = stage.argument("case").unwrap_or("");
    let Some((name, case)) = CASES.iter().find(|(name, _)| *name == wanted) else {
        println!("examiner: case={wanted} is none of mine");
        return 1;
    };
    match case(stage) {
        Ok(()) => {
            println!("examiner: {name} ok");
            0
        }
        Err(problem) => {
            println!("examiner: {name} FAILED: {problem}");
            1
        }
    }
}
