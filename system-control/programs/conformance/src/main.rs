//! What ordinary Rust programs do, with the outcome as lines: the same on Linux as on system-control's kernel. `expected.txt` has
//! them all.
//!
//! With `child NAME` as arguments it is a child of itself, for the tests of processes.

mod children;
mod files;
mod memory;
mod pairs;
mod processes;
mod signals;
mod threads;
mod times;

use std::{
    collections::{BTreeMap, HashMap},
    env,
    fmt::Debug,
    process::{Command, ExitCode},
};

/// Prints an outcome.
fn tell(what: &str, outcome: impl Debug) {
    println!("conformance: {what}: {outcome:?}");
}

/// This program, to be started again. Where the host's kernel cannot execute it, `CONFORMANCE_EMULATOR` names what can.
fn itself() -> Command {
    let program = env::current_exe().unwrap();
    match env::var_os("CONFORMANCE_EMULATOR") {
        Some(emulator) => {
            let mut command = Command::new(emulator);
            command.arg(program);
            command
        }
        None => Command::new(program),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    if arguments.get(1).is_some_and(|first| first == "child") {
        return children::be(&arguments[2..]);
    }
    program();
    threads::all();
    times::all();
    files::all();
    memory::all();
    processes::all();
    pairs::all();
    signals::all();
    tell("end", ());
    ExitCode::SUCCESS
}

fn program() {
    tell("executable", env::current_exe().ok().and_then(|path| path.file_name().map(ToOwned::to_owned)));
    let words = ["one", "two", "three", "two", "one", "two"];
    let mut counts: HashMap<&str, u32> = HashMap::new();
    words.iter().for_each(|word| *counts.entry(word).or_default() += 1);
    tell("a hash map, in order", counts.into_iter().collect::<BTreeMap<_, _>>());
    let numbers: Vec<f64> = (1..=5).map(f64::from).map(f64::sqrt).collect();
    tell("square roots", numbers.iter().map(|number| format!("{number:.4}")).collect::<Vec<_>>());
    tell("a thousand strings", (0..1000).map(|n| n.to_string()).collect::<String>().len());
    let large: Vec<u8> = vec![7; 5 << 20];
    tell("5 MiB", large.iter().map(|&byte| u64::from(byte)).sum::<u64>());
    tell("an unset variable", env::var("CONFORMANCE_UNSET").is_err());
}
