//! Shows what partitions have, and what they do: `monitor [SECONDS [TIMES]]` looks every so many seconds, so many times; without arguments
//! once.

mod table;

use std::{env, process::ExitCode, thread, time::Duration, time::Instant};

use handover_control::{Listed, Machine};
use table::Table;

fn main() -> ExitCode {
    let arguments: Option<Vec<u64>> = env::args().skip(1).map(|argument| argument.parse().ok()).collect();
    let (seconds, times) = match arguments.as_deref() {
        Some([]) => (0, 1),
        Some(&[seconds]) => (seconds, u64::MAX),
        Some(&[seconds, times]) => (seconds, times),
        _ => {
            eprintln!("monitor: the arguments are SECONDS and TIMES");
            return ExitCode::FAILURE;
        }
    };
    match watch(Duration::from_secs(seconds), times) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("monitor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn watch(interval: Duration, times: u64) -> Result<(), Box<dyn std::error::Error>> {
    let machine = Machine::open()?;
    handover_control::ready()?;
    let start = Instant::now();
    let mut table = Table::default();
    for time in 0..times {
        if time > 0 {
            thread::sleep(interval);
        }
        let info = machine.info()?;
        let lines = table.look(&machine, &Listed::all()?, start.elapsed());
        println!("{} processors, {} MiB free\n{lines}", info.processors, info.free_memory >> 20);
    }
    Ok(())
}
