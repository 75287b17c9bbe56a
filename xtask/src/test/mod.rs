//! `cargo xtask test`: everything that can fail, counted.

mod cases;
mod damage;
mod emulated;
mod guide;
mod host;
mod machine;
mod scratch;

use crate::{command::Host, provision::rust, workspace::Workspace};
use anyhow::{Result, bail};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// `unit`, `model`, `lint`, `qemu`, `provision`, `miri`, or a part of a test's name; without it, everything but `miri`
    filter: Option<String>,
    /// How many machines run at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// How many tests there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    failed: usize,
}

impl Count {
    const PASSED: Self = Self { passed: 1, failed: 0 };
    const FAILED: Self = Self { passed: 0, failed: 1 };

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs the tests that the filter selects; the last line counts them.
pub(crate) fn test(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let host = Host::this();
    rust::targets(&host)?;
    rust::lint_tools(&host)?;
    let mut count = Count::default();
    match options.filter.as_deref() {
        None => {
            count.add(host::lint(workspace));
            count.add(host::unit(workspace, ""));
            count.add(emulated::run(workspace));
            count.add(scratch::provision(workspace));
            count.add(machine::run(workspace, &cases::all(), options.jobs)?);
        }
        Some("lint") => count.add(host::lint(workspace)),
        Some("unit") => count.add(host::unit(workspace, "")),
        Some("model") => count.add(host::model(workspace)),
        Some("miri") => count.add(host::miri(workspace)?),
        Some("qemu") => count.add(machine::run(workspace, &cases::all(), options.jobs)?),
        Some("provision") => {
            count.add(host::provision(workspace));
            count.add(scratch::provision(workspace));
        }
        Some(part) => {
            let mut selected = cases::all();
            selected.retain(|case| case.name.contains(part));
            if emulated::NAME.contains(part) {
                count.add(emulated::run(workspace));
            } else if selected.is_empty() {
                count.add(host::unit(workspace, part));
            }
            count.add(machine::run(workspace, &selected, options.jobs)?);
        }
    }
    if count == Count::default() {
        bail!("no test is called so: {}", options.filter.as_deref().unwrap_or_default());
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
