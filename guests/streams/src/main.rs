//! Tests the SDK's asynchronous forms and its byte streams, every byte of them.
//!
//! Runs in two partitions: `role=server` serves "streams", many clients at once in one loop; `role=client` uses it, and
//! also talks to itself by its own service "mirror". The client prints a line for each check. With `role=bell` it answers events by events.

#![no_std]
#![no_main]

mod bell;
mod bytes;
mod cancel;
mod client;
mod ports;
mod server;

use handover_guest::{Boot, Error, Status, block_on, entry, println};

entry!(main);

fn main(boot: Boot) -> Result<Status, Error> {
    match boot.argument("role") {
        Some("bell") => bell::run(&boot),
        Some("client") => Ok(client::run(&boot)),
        Some("server") => {
            let Some(service) = boot.provided("streams") else {
                println!("error: the device tree lists no service \"streams\" of this partition");
                return Ok(Status::FAILURE);
            };
            println!("streams: serving");
            block_on(server::run(service))?;
            Ok(Status::SUCCESS)
        }
        other => {
            println!("streams: role={} is none of client, server and bell", other.unwrap_or(""));
            Ok(Status::FAILURE)
        }
    }
}
