//! Provision, build, run, test and measure Handover: `cargo xtask --help`.

mod bench;
mod cargo;
mod command;
mod console;
mod elf;
mod image;
mod initramfs;
mod linux_module;
mod machine;
mod programs;
mod progress;
mod provision;
mod run;
mod session;
mod symbols;
mod terminal;
mod test;
mod view;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use workspace::Workspace;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Provision, build, run, test and measure Handover"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build and boot a manifest, show every partition's console, exit with the system's own status
    Run(run::Options),
    /// Build the boot image and the boot archive of a manifest, and boot nothing
    Build(run::BuildOptions),
    /// Run the tests: lints, unit and model tests, provisioning, and cases on the machine
    Test(test::Options),
    /// Measure what things cost, in instructions
    Bench(bench::Options),
    /// Fetch what is missing: Rust targets, QEMU, the Linux guest's kernel and tools
    Provision(provision::Options),
}

fn main() -> ExitCode {
    let Arguments { task } = Arguments::parse();
    match carry_out(task) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(task: Task) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match task {
        Task::Run(options) => run::run(&workspace, &options),
        Task::Build(options) => run::build(&workspace, &options).map(|()| ExitCode::SUCCESS),
        Task::Test(options) => test::test(&workspace, &options),
        Task::Bench(options) => bench::bench(&workspace, &options).map(|()| ExitCode::SUCCESS),
        Task::Provision(options) => provision::provision(&workspace, &options).map(|()| ExitCode::SUCCESS),
    }
}
