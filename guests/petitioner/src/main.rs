//! Asks system-control for resources, as its argument says, and shows what it then can have:
//!
//! - `role=greedy`: much more memory than there is, until it is refused;
//! - `role=modest`: 8 MiB more, once;
//! - `role=flood`: as many requests as fit, without waiting for answers, on as many connections as it is given;
//! - `role=ready`: nothing, but tells that it is ready, some time after its start;
//! - `role=log`: sends lines to the service `log`;
//! - `role=fleeting`, `role=faithful`: a server that fails after each client, and a client that comes again;
//! - `role=stubborn`: has a program answer many messages, whatever becomes of it meanwhile;
//! - `role=obedient`, `role=deaf`: ends when it is asked to, or does not;
//! - `role=time`: time of processors, `millionths=` of one, and shows how much it gets;
//! - `role=watched`: kicks its watchdog for a while.

#![no_std]
#![no_main]

mod flood;
mod life;
mod log;
mod time;

use core::time::Duration;

use handover_guest::{
    Boot, Error, Region, Status,
    abi::{Account, resources::Ask},
    entry, hvc, println,
    requests::Requests,
    task::block_on,
    timer,
};

entry!(main);

const MIB: u64 = 1 << 20;
/// Bytes of each region that shows how much memory there is to have.
const REGION: u64 = 2 * MIB;
/// The most of them.
const REGIONS: usize = 64;
/// What the greedy one asks for each time.
const TOO_MUCH: u64 = 1 << 30;

fn main(boot: Boot) -> Result<Status, Error> {
    match boot.argument("role") {
        Some("greedy") => greedy(&boot)?,
        Some("modest") => modest(&boot)?,
        Some("flood") => flood::run(&boot)?,
        Some("ready") => ready(&boot)?,
        Some("log") => log::run(&boot)?,
        Some("fleeting") => return life::fleeting(&boot),
        Some("faithful") => life::faithful(&boot)?,
        Some("stubborn") => life::stubborn(&boot)?,
        Some("obedient") => return life::obedient(),
        Some("deaf") => life::deaf()?,
        Some("time") => time::run(&boot)?,
        Some("watched") => life::watched()?,
        role => {
            println!("petitioner: role={role:?} is none of those that it knows");
            return Ok(Status::FAILURE);
        }
    }
    Ok(Status::SUCCESS)
}

/// How many regions it can have at once.
fn room() -> Result<usize, Error> {
    let mut regions = [const { None }; REGIONS];
    for (count, slot) in regions.iter_mut().enumerate() {
        match Region::create(REGION as usize) {
            Ok(region) => *slot = Some(region),
            Err(Error::Limit) => return Ok(count),
            Err(error) => return Err(error),
        }
    }
    Ok(REGIONS)
}

fn greedy(boot: &Boot) -> Result<(), Error> {
    let mut requests = Requests::connect(boot)?;
    let before = room()?;
    let mut granted = 0;
    for turn in 1.. {
        let outcome = requests.ask(Ask::More { account: Account::Memory, amount: TOO_MUCH })?;
        println!("petitioner: request {turn} for {} MiB more: {outcome:?}", TOO_MUCH / MIB);
        match outcome.amount() {
            0 => break,
            amount => granted += amount,
        }
    }
    println!(
        "petitioner: {} MiB were granted, {} MiB came",
        granted / MIB,
        (room()? - before) as u64 * REGION / MIB
    );
    Ok(())
}

fn modest(boot: &Boot) -> Result<(), Error> {
    let before = room()?;
    let start = timer::now();
    let outcome = Requests::connect(boot)?.ask(Ask::More { account: Account::Memory, amount: 8 * MIB })?;
    let waited = (timer::now() - start) * 1000 / timer::frequency();
    let came = (room()? - before) as u64 * REGION / MIB;
    println!("petitioner: {outcome:?} after {} tenths of a second, {came} MiB came", waited / 100);
    Ok(())
}

fn ready(boot: &Boot) -> Result<(), Error> {
    block_on(timer::sleep_until(timer::after(Duration::from_millis(200))))?;
    println!("petitioner: ready at {} ms", timer::now() * 1000 / timer::frequency());
    Requests::connect(boot)?.ready()?;
    println!("petitioner: ports {}", hvc::account_read(None, Account::Ports)?.used);
    Ok(())
}
