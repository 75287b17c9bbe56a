//! Direct calls. `role=back` answers them, `role=middle` passes them on to it, `role=front` makes them and checks what comes back, `role=victim` ends
//! while it lends.

#![no_std]
#![no_main]

mod front;
mod lending;
mod server;

use handover_guest::{Boot, Error, Status, entry, println};

entry!(main);

/// What a call asks for: the first byte of its message.
mod order {
    /// The same bytes, each turned over, and the region with its first word turned over.
    pub const TURN: u8 = 0;
    /// The same, by whoever is behind the server that is called.
    pub const FORWARD: u8 = 1;
    /// The same: the server calls that one and answers itself.
    pub const ASK: u8 = 2;
    /// An answer that comes too late.
    pub const LATE: u8 = 3;
    /// No answer: the server ends.
    pub const END: u8 = 4;
    /// The sum of what is lent.
    pub const SUM: u8 = 5;
    /// The same, by whoever is behind the server that is called.
    pub const FORWARD_SUM: u8 = 6;
    /// No answer before what is lent reads as zeroes.
    pub const OUTLIVE: u8 = 7;
}

fn main(boot: Boot) -> Result<Status, Error> {
    match boot.argument("role") {
        Some("front") => front::run(&boot),
        Some("victim") => lending::end_while_lending(&boot),
        Some("middle" | "back") => server::run(&boot),
        role => {
            println!("calls: role={role:?}; the roles are front, middle, back and victim");
            Ok(Status::FAILURE)
        }
    }
}
