//! Throws random and boundary calls, accesses to memory and accesses to system registers at the control OS.
//!
//! Arguments: `role=fuzz` leads, with `seed=N` and `steps=N` (operations, over all processors); `role=second` is a second partition that
//! does the same and that the first exchanges messages with; `role=partner` does what the first tells it; `role=checker` exchanges
//! messages with echo and must lose none; `role=confined` brings about what only a partition does that is confined to cache colours and whose bus is limited. The same seed gives the same operations, and on one processor of a machine that runs by
//! instruction count the same results, which a digest tells. `trace=N` prints what is done from operation N on, `list` how often each
//! result has occurred. The exit status is 0 if all went well.

#![no_std]
#![no_main]

mod calls;
mod checker;
mod code;
mod confined;
mod connections;
mod content;
mod coverage;
mod granules;
mod limits;
mod memory;
mod operations;
mod partner;
mod random;
mod regions;
mod registers;
mod run;
mod shared;
mod stream;
mod window;

use handover_guest::{Boot, Error, Status, entry, println};

entry!(main);

fn main(boot: Boot) -> Result<Status, Error> {
    match boot.argument("role") {
        Some("fuzz") => Ok(run::lead(&boot)),
        Some("second") => run::follow(&boot),
        Some("partner") => partner::serve(&boot),
        Some("checker") => checker::run(&boot),
        Some("confined") => confined::run(&boot),
        role => {
            println!("fuzz: role={role:?}; the roles are fuzz, second, partner, checker and confined");
            Ok(Status::FAILURE)
        }
    }
}
