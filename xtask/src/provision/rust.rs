//! The Rust targets that the machine's programs are built for.

use crate::{
    cargo::{BARE_METAL, LINUX},
    command::{self, Failure, Host},
    progress::Step,
};
use anyhow::{Result, anyhow};
use std::path::Path;

/// Adds the targets that are missing.
pub(crate) fn targets(host: &Host) -> Result<()> {
    let mut missing = Vec::new();
    for target in [BARE_METAL, LINUX] {
        if !installed(host, target)? {
            missing.push(target);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let step = Step::begin(&format!("Adding the Rust targets {}", missing.join(" and ")));
    command::output(host.command("rustup").args(["target", "add"]).args(&missing)).map_err(|failure| {
        let advice = match failure {
            Failure::Missing(_) => {
                "this Rust was not installed by rustup: install its core library for these targets by hand"
            }
            Failure::Failed { .. } => "check the network, then run this again",
        };
        anyhow!(
            "the Rust targets {} are missing and cannot be added: {failure}\n  what to do: {advice}",
            missing.join(" and ")
        )
    })?;
    step.done(&format!("Added the Rust targets {}", missing.join(" and ")));
    Ok(())
}

/// Adds the tools that lints need where they are missing.
pub(crate) fn lint_tools(host: &Host) -> Result<()> {
    let tools = [("cargo-clippy", "clippy"), ("cargo-fmt", "rustfmt")];
    let works = |program: &str| command::output(host.command(program).arg("--version")).is_ok();
    let missing: Vec<_> =
        tools.into_iter().filter(|(program, _)| !works(program)).map(|(_, name)| name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let step = Step::begin(&format!("Adding {}", missing.join(" and ")));
    command::output(host.command("rustup").args(["component", "add"]).args(&missing))
        .map_err(|failure| anyhow!("{} are missing and cannot be added: {failure}", missing.join(" and ")))?;
    step.done(&format!("Added {}", missing.join(" and ")));
    Ok(())
}

/// Whether the compiler has the target's core library.
fn installed(host: &Host, target: &str) -> Result<bool> {
    let mut rustc = host.command("rustc");
    rustc.args(["--print", "target-libdir", "--target", target]);
    let folder = command::output(&mut rustc)
        .map_err(|failure| anyhow!("the Rust compiler does not say where its libraries are: {failure}"))?;
    let Ok(entries) = Path::new(folder.trim()).read_dir() else { return Ok(false) };
    Ok(entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-")))
}
