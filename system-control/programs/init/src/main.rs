//! System-control's first program: makes the manifest's partitions, and looks after them and the other programs.

mod events;
mod messages;
mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    let failure = run::run();
    eprintln!("{failure}");
    ExitCode::FAILURE
}
