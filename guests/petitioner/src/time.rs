//! Time of processors.

use core::{arch::asm, time::Duration};

use handover_guest::{
    Boot, Error,
    abi::{Account, resources::Ask},
    println,
    requests::Requests,
    timer,
};

/// Turns of the loop between two looks at the clock.
const TURNS: u64 = 5000;
/// Instructions of a turn; each is a nanosecond on a machine whose clock counts them.
const INSTRUCTIONS: u64 = 2;
/// Everybody asks within this time.
const ASKING: Duration = Duration::from_millis(300);
/// And then works for this long.
const WORKING: Duration = Duration::from_millis(500);

/// Works until then: how many nanoseconds it has run for.
fn work(until: u64) -> u64 {
    let mut ran = 0;
    while timer::now() < until {
        // SAFETY: counts a register down.
        unsafe {
            asm!("2: subs {0}, {0}, #1", "b.ne 2b", inout(reg) TURNS => _, options(nomem, nostack));
        }
        ran += TURNS * INSTRUCTIONS;
    }
    ran
}

/// Asks for so many millionths of a processor, and shows how much it gets beside others who work without end.
pub fn run(boot: &Boot) -> Result<(), Error> {
    if let Some(amount) = boot.argument("millionths").and_then(|text| text.parse().ok()) {
        let outcome = Requests::connect(boot)?.ask(Ask::More { account: Account::ProcessorTime, amount })?;
        println!("petitioner: {amount} more millionths of a processor: {outcome:?}");
    }
    let begin = ASKING.as_nanos() as u64 * timer::frequency() / 1_000_000_000;
    let end = begin + WORKING.as_nanos() as u64 * timer::frequency() / 1_000_000_000;
    work(begin);
    let ran = work(end);
    let span = WORKING.as_nanos() as u64;
    println!("petitioner: ran {} hundredths of the time", (ran * 100 + span / 2) / span);
    Ok(())
}
