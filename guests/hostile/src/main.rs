//! Does what a guest must not do, and checks that it gets an error, a fault or nothing, and that nothing is lost.
//!
//! The argument `case=NAME` runs a case and prints `hostile: NAME ok` or `hostile: NAME FAILED: why`; `case=all` runs
//! all that come back and need no others, `case=list` prints the names. The exit status is 0 if all went well, 1 if not.

#![no_std]
#![no_main]

extern crate alloc;

mod aborts;
mod broadcasts;
mod calls;
mod context;
mod devices;
mod failure;
mod granules;
mod hammer;
mod limits;
mod messages;
mod narrow;
mod neighbours;
mod processors;
mod rampage;
mod random;
mod regions;
mod registers;
mod transfer;
mod twins;
mod upper;
mod user;
mod watched;

use failure::{Failure, ensure};
use handover_guest::{
    Boot, Status,
    abi::{Account, Error},
    entry, heap, hvc, println,
};

entry!(main);

type Case = fn(&Boot) -> Result<(), Failure>;

/// Every case. None needs another to have run before.
const CASES: &[(&str, Case)] = &[
    ("unknown-calls", calls::unknown),
    ("identification", calls::identification),
    ("wild-handles", calls::wild_handles),
    ("wild-arguments", calls::wild_arguments),
    ("privileged-calls", calls::privileged),
    ("region-sizes", regions::sizes),
    ("region-addresses", regions::addresses),
    ("region-large", regions::large),
    ("region-gone", regions::gone),
    ("region-zeroed", regions::zeroed),
    ("send-not-owned", messages::send_not_owned),
    ("use-after-send", messages::use_after_send),
    ("receive-nowhere", messages::receive_nowhere),
    ("queue-full", messages::queue_full),
    ("peer-closed", messages::peer_closed),
    ("requests", messages::requests),
    ("touch-sent", aborts::touch_sent),
    ("touch-sent-user", aborts::touch_sent_from_user),
    ("unmapped-addresses", aborts::unmapped),
    ("device-accesses", aborts::undecodable),
    ("user-calls", user::calls),
    ("smc", registers::smc),
    ("feature-registers", registers::features),
    ("unknown-registers", registers::unknown),
    ("transfer-registers", transfer::registers),
    ("gic-frames", devices::gic_frames),
    ("uart-frame", devices::uart_frame),
    ("uart-flood", devices::uart_flood),
    ("timers", devices::timers),
    ("memory-limit", limits::memory),
    ("ports-limit", limits::ports),
    ("memory-wrong", granules::wrong),
    ("memory-all", granules::all_there_is),
    ("memory-under-use", granules::under_use),
    ("processors", processors::power),
    ("registers-kept", context::kept),
    ("registers-watched", watched::kept),
    ("last-word", upper::last_word),
    ("vectors", upper::vectors),
    ("one-asid", twins::one_asid),
    ("system-register-enable", registers::system_register_enable),
    ("call-immediates", calls::immediates),
    ("random-bits", calls::random_bits),
    ("narrow-programs", narrow::programs),
    ("broadcasts", broadcasts::forms),
    ("storm", broadcasts::storm),
    ("hammer", hammer::run),
];

/// Cases for partitions of their own, which `all` leaves out: most do not come back, and all are for a witness to judge.
const NEIGHBOURS: &[(&str, Case)] = &[
    ("sgis-then-end", neighbours::sgis_then_end),
    ("sgis-then-wait", neighbours::sgis_then_wait),
    ("active-priorities", neighbours::active_priorities),
    ("deferred-errors", neighbours::deferred_errors),
    ("endless-line", neighbours::endless_line),
    ("end-while-switching", neighbours::end_while_switching),
    ("rampage", rampage::forever),
    ("endless-storm", broadcasts::endless),
    ("spin", neighbours::spin),
    ("witness", neighbours::witness),
];

fn main(boot: Boot) -> Status {
    heap::init(&boot);
    match boot.argument("case") {
        Some("list") => {
            CASES.iter().chain(NEIGHBOURS).for_each(|(name, _)| println!("{name}"));
            Status::SUCCESS
        }
        Some("all") => {
            let failed = CASES.iter().filter(|(name, case)| !passes(name, *case, &boot)).count();
            println!("hostile: {} cases, {failed} failed", CASES.len());
            if failed == 0 { Status::SUCCESS } else { Status::FAILURE }
        }
        Some(wanted) => match CASES.iter().chain(NEIGHBOURS).find(|(name, _)| *name == wanted) {
            Some((name, case)) if passes(name, *case, &boot) => Status::SUCCESS,
            Some(_) => Status::FAILURE,
            None => {
                println!("hostile: no case {wanted:?}; case=list lists them");
                Status::FAILURE
            }
        },
        None => {
            println!("hostile: the argument case=NAME is missing; case=list lists the names");
            Status::FAILURE
        }
    }
}

fn passes(name: &str, case: Case, boot: &Boot) -> bool {
    match run(case, boot) {
        Ok(()) => {
            println!("hostile: {name} ok");
            true
        }
        Err(failure) => {
            println!("hostile: {name} FAILED: {failure}");
            false
        }
    }
}

/// Runs a case, and checks that it has given back all the memory and ports it took.
fn run(case: Case, boot: &Boot) -> Result<(), Failure> {
    let before = charges()?;
    case(boot)?;
    let after = charges()?;
    ensure!(before == after, "memory and ports in use: {before:?} before, {after:?} after");
    Ok(())
}

fn charges() -> Result<[u64; 2], Error> {
    let used = |account| hvc::account_read(None, account).map(|charge| charge.used);
    Ok([used(Account::Memory)?, used(Account::Ports)?])
}
