//! The command-line tool of a Linux guest: looks at the partition, exchanges messages, and shows that the rules hold.

mod calls;
mod counter;
mod echo;
mod events;
mod fault;
mod one_way;
mod pattern;
mod prove;
mod share;
mod shell;
mod streams;
mod stress;

use std::{fs::File, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use handover_linux::{Account, Handover, Role};
use rustix::termios::tcdrain;

/// Channels and message regions of this Handover partition.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tell about this partition and the control OS
    Info,
    /// List the services that this partition was told of
    Services,
    /// Exchange messages of all sizes with an echo service, and check every byte
    Echo(echo::Arguments),
    /// Show that a region which was sent is out of reach
    Prove(prove::Arguments),
    /// Send standard input as one message
    Send(shell::Send),
    /// Write messages from a service to standard output
    Receive(shell::Receive),
    /// Offer a service, and write the messages that come to standard output
    Listen(shell::Listen),
    /// Share memory with partitions that end in the middle of it
    Share(share::Arguments),
    /// Exchange events with a partition, and with this one
    Events(events::Arguments),
    /// Read and write byte streams, with a partition and with this one
    Streams(streams::Arguments),
    /// Make direct calls of a partition
    Calls(calls::Arguments),
    /// Try to bring the driver down: kills, forks, odd mappings, races, thousands of descriptors
    Stress(stress::Arguments),
    /// Print the virtual counter (CNTVCT_EL0)
    Counter,
    /// End this partition at once
    Exit {
        /// What system-control is told
        status: u64,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("handover: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Info => info(&open()?),
        Command::Services => services(&open()?),
        Command::Echo(arguments) => echo::run(&open()?, &arguments),
        Command::Prove(arguments) => prove::run(&open()?, &arguments),
        Command::Send(arguments) => arguments.run(&open()?),
        Command::Receive(arguments) => arguments.run(&open()?),
        Command::Listen(arguments) => arguments.run(&open()?),
        Command::Share(arguments) => share::run(&open()?, &arguments),
        Command::Events(arguments) => events::run(&open()?, &arguments),
        Command::Streams(arguments) => streams::run(&open()?, &arguments),
        Command::Calls(arguments) => calls::run(&open()?, &arguments),
        Command::Stress(arguments) => stress::run(&open()?, &arguments),
        Command::Counter => counter::run(),
        Command::Exit { status } => {
            let handover = open()?;
            drain_console();
            Err(handover.exit(status)).context("cannot end the partition")
        }
    }
}

/// Waits until all that was written to the console is out. The kernel may only have put it into a queue: one that has been idle for a while is woken by a worker.
fn drain_console() {
    if let Ok(console) = File::options().write(true).open("/dev/console") {
        // What is no terminal has no queue.
        let _ = tcdrain(&console);
    }
}

fn open() -> Result<Handover> {
    Handover::open().with_context(|| {
        format!(
            "cannot open {}: is the module `handover` loaded, and is this a Handover partition?",
            Handover::PATH
        )
    })
}

fn info(handover: &Handover) -> Result<()> {
    let info = handover.info().context("cannot ask the driver")?;
    println!("partition: {}{}", info.partition, if info.privileged { " (system-control)" } else { "" });
    println!("interface: {}.{}, features {:#x}", info.version.0, info.version.1, info.features);
    println!("message window: {:#x}, {} GiB", info.window_base, info.window_size >> 30);
    for (name, account) in
        [("memory", Account::Memory), ("control memory", Account::ControlMemory), ("ports", Account::Ports)]
    {
        let charge =
            handover.account(account).with_context(|| format!("cannot read the account `{name}`"))?;
        println!("{name}: {} of {}", charge.used, charge.limit);
    }
    Ok(())
}

fn services(handover: &Handover) -> Result<()> {
    for service in handover.services().context("cannot list services")? {
        let role = match service.role {
            Role::Client => "uses",
            Role::Server => "provides",
        };
        println!("{role} {} (service {} of partition {})", service.name, service.service, service.partition);
    }
    Ok(())
}
