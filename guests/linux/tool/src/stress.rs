//! What programs do to a driver by accident or malice. Each case runs in a process of its own; afterwards nothing may be left.

mod channels;
mod mappings;
mod processes;
mod races;

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use handover_linux::{Account, Channel, ConnectError, Handover, Message, Region, Service};

use crate::fault;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The service that messages are sent to; it must send them back
    #[arg(long, default_value = "echo")]
    service: String,
    /// Rounds of the cases that have rounds
    #[arg(long, default_value_t = 50)]
    rounds: u32,
    /// Only these cases
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// Run the one case in this process
    #[arg(long, hide = true)]
    inside: bool,
}

/// What a case works with.
struct Stage<'a> {
    handover: &'a Handover,
    service: Service,
    rounds: u32,
}

type Case = fn(&Stage<'_>) -> Result<()>;

const CASES: &[(&str, Case)] = &[
    ("odd-mappings", mappings::odd_mappings),
    ("partial-unmap", mappings::partial_unmap),
    ("moved-mapping", mappings::moved_mapping),
    ("no-pinning", mappings::no_pinning),
    ("fork", processes::fork),
    ("passed-descriptor", processes::passed_descriptor),
    ("killed", processes::killed),
    ("descriptors", processes::descriptors),
    ("connections", processes::connections),
    ("module-in-use", processes::module_in_use),
    ("requests", channels::requests),
    ("full-queue", channels::full_queue),
    ("closed-peer", channels::closed_peer),
    ("signals", channels::signals),
    ("read-and-write", channels::read_and_write),
    ("send-and-touch", races::send_and_touch),
    ("send-and-copy", races::send_and_copy),
    ("send-twice", races::send_twice),
    ("receivers", races::receivers),
];

pub(crate) fn run(handover: &Handover, arguments: &Arguments) -> Result<()> {
    if let Some(unknown) = arguments.case.iter().find(|name| CASES.iter().all(|(known, _)| known != name)) {
        let known: Vec<_> = CASES.iter().map(|(name, _)| *name).collect();
        bail!("no case is called `{unknown}`; there are: {}", known.join(", "));
    }
    let chosen = CASES
        .iter()
        .filter(|(name, _)| arguments.case.is_empty() || arguments.case.iter().any(|n| n == name));
    if arguments.inside {
        fault::catch().context("cannot catch SIGBUS")?;
        let service = handover.service(&arguments.service)?;
        let stage = Stage { handover, service, rounds: arguments.rounds };
        for (_, case) in chosen {
            case(&stage)?;
        }
        return Ok(());
    }
    let mut failed = Vec::new();
    for (name, _) in chosen {
        match case(handover, arguments, name) {
            Ok(time) => println!("stress: {name}: ok ({:.1} s)", time.as_secs_f64()),
            Err(error) => {
                println!("stress: {name}: FAILED: {error:#}");
                failed.push(*name);
            }
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Runs a case until it leaves nothing behind. The first time it may: the control OS's tables grow, and keep what they grew by.
fn case(handover: &Handover, arguments: &Arguments, name: &str) -> Result<Duration> {
    let start = Instant::now();
    let mut before = Charges::settled(handover, arguments, None)?;
    for _ in 0..3 {
        once(arguments, name)?;
        let after = Charges::settled(handover, arguments, Some(before))?;
        if after == before {
            return Ok(start.elapsed());
        }
        let grown = Charges { control_memory: after.control_memory, ..before };
        ensure!(after == grown, "something was left: {before:?} before, {after:?} after");
        before = after;
    }
    bail!("each run leaves more control memory in use; now {before:?}")
}

/// Runs a case in a process of its own.
fn once(arguments: &Arguments, name: &str) -> Result<()> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.args(["stress", "--inside", "--case", name, "--service", &arguments.service]);
    let status = command
        .args(["--rounds", &arguments.rounds.to_string()])
        .status()
        .context("cannot start a process")?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// What the partition is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Charges {
    memory: u64,
    control_memory: u64,
    ports: u64,
}

impl Charges {
    fn read(handover: &Handover) -> Result<Charges> {
        let used =
            |account| handover.account(account).map(|charge| charge.used).context("cannot read an account");
        Ok(Charges {
            memory: used(Account::Memory)?,
            control_memory: used(Account::ControlMemory)?,
            ports: used(Account::Ports)?,
        })
    }

    /// The charges once the peer has dealt with all it was sent. It does so in order of its events, so a few exchanges are enough;
    /// with an expectation, they are repeated until it is met, at most so often.
    fn settled(handover: &Handover, arguments: &Arguments, expected: Option<Charges>) -> Result<Charges> {
        let service = handover.service(&arguments.service)?;
        let stage = Stage { handover, service, rounds: 0 };
        let mut charges = Charges::read(handover)?;
        for _ in 0..200 {
            let channel = stage.connect()?;
            echo(&channel, Region::create(handover, 4096)?, 1)?;
            drop(channel);
            charges = Charges::read(handover)?;
            if expected.is_some_and(|expected| expected == charges) {
                break;
            }
        }
        Ok(charges)
    }
}

impl Stage<'_> {
    /// Connects. The server may have no room until it has noticed that earlier channels are closed: then it is asked again.
    fn connect(&self) -> Result<Channel> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match Channel::connect(self.handover, &self.service) {
                Err(ConnectError::Refused { .. }) if Instant::now() < deadline => thread::yield_now(),
                result => return result.context("cannot connect"),
            }
        }
    }

    fn region(&self, size: usize) -> Result<Region> {
        Region::create(self.handover, size).with_context(|| format!("cannot create a region of {size} bytes"))
    }
}

/// A message whose region's first bytes count.
fn message(region: Region, length: usize) -> Message {
    (region, (length as u64).to_le_bytes()).into()
}

/// Sends a region and gets it back.
fn echo(channel: &Channel, region: Region, length: usize) -> Result<Region> {
    channel.send_wait(message(region, length)).context("cannot send")?;
    let answer = channel.receive_timeout(Duration::from_secs(60)).context("no answer")?;
    answer.region.context("the region did not come back")
}

/// Asserts an error by its number.
fn expect_error<T>(result: std::io::Result<T>, errno: i32, what: &str) -> Result<()> {
    let expected = std::io::Error::from_raw_os_error(errno);
    match result {
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        Err(error) => bail!("{what}: {error}, not {expected}"),
        Ok(_) => bail!("{what} succeeded; expected {expected}"),
    }
}
