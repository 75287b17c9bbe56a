//! What this machine itself tests: formatting, lints, and cargo's own tests.

use super::Count;
use crate::{
    cargo::{self, BARE_METAL, LINUX, specification},
    command,
    workspace::Workspace,
};
use anyhow::{Context, Result};
use std::{fs, path::Path, process::Command, time::Instant};

/// Packages with tests that run here, besides the workspace's default members.
const ALSO_TESTED: [&str; 14] = [
    "handover-kernel",
    "handover-cpio",
    "handover-files",
    "handover-loader",
    "handover-linux",
    "handover-tool",
    "handover-guest",
    "handover-stream",
    "handover-control",
    "init",
    "control",
    "fair-share",
    "log",
    "monitor",
];

/// Formatting, and clippy for each target that code is built for.
pub(crate) fn lint(workspace: &Workspace) -> Count {
    let mut count = Count::default();
    let mut check = |name: &str, arguments: &[&str]| {
        let mut command = cargo(workspace);
        command.args(arguments);
        match command::output(&mut command) {
            Ok(_) => {
                println!("ok      lint {name}");
                count.add(Count::PASSED);
            }
            Err(failure) => {
                println!("FAILED  lint {name}: {failure}");
                count.add(Count::FAILED);
            }
        }
    };
    check("format", &["fmt", "--all", "--check"]);
    let strict = ["--", "-D", "warnings"];
    let mut here = vec!["clippy", "--quiet", "--all-targets"];
    let tested: Vec<_> = DEFAULT_MEMBERS.iter().chain(&ALSO_TESTED).map(|name| specification(name)).collect();
    for package in &tested {
        here.extend(["--package", package]);
    }
    here.extend(strict);
    check("host", &here);
    let guests = cargo::guests(workspace).unwrap_or_default();
    for package in
        ["handover", "handover-guest", "handover-kernel"].into_iter().chain(guests.iter().map(String::as_str))
    {
        // Each alone, as it is built: together they would share their dependencies' features.
        let specification = specification(package);
        let bare = ["clippy", "--quiet", "--release", "--target", BARE_METAL, "--package", &specification];
        check(&format!("{package} on bare metal"), &[&bare[..], &strict].concat());
    }
    let mut linux = vec!["clippy", "--quiet", "--release", "--target", LINUX];
    let programs = cargo::programs(workspace).unwrap_or_default();
    let programs: Vec<_> = ["handover-linux", "handover-tool"]
        .into_iter()
        .chain(programs.iter().map(String::as_str))
        .map(specification)
        .collect();
    for package in &programs {
        linux.extend(["--package", package]);
    }
    check("Linux programs", &[&linux[..], &strict].concat());
    count
}

/// The workspace's default members.
const DEFAULT_MEMBERS: [&str; 4] = ["handover-abi", "handover-core", "handover-manifest", "xtask"];

/// Cargo's tests whose name contains `part`.
pub(crate) fn unit(workspace: &Workspace, part: &str) -> Count {
    let packages: Vec<_> = DEFAULT_MEMBERS.into_iter().chain(ALSO_TESTED).map(specification).collect();
    let selection: Vec<_> = packages.iter().flat_map(|package| ["--package", package]).collect();
    cargo_test(workspace, "unit", &selection, part)
}

/// The rules against models of them, over random sequences of operations.
pub(crate) fn model(workspace: &Workspace) -> Count {
    cargo_test(workspace, "model", &["--package", "handover-core", "--test", "*"], "")
}

/// Provisioning with stand-ins for the programs it calls.
pub(crate) fn provision(workspace: &Workspace) -> Count {
    cargo_test(workspace, "provision", &["--package", "xtask"], "provision::")
}

/// What has tests without an operating system, each of its test programs under Miri, which looks for undefined behaviour: needs a nightly toolchain with the
/// components `miri` and `rust-src`.
pub(crate) fn miri(workspace: &Workspace) -> Result<Count> {
    let mut count = Count::default();
    for package in ["handover-abi", "handover-guest", "handover-core"] {
        count.add(miri_test(workspace, package, &["--lib"]));
    }
    for test in integration_tests(&workspace.source("hypervisor/core/tests"))? {
        count.add(miri_test(workspace, "handover-core", &["--test", &test]));
    }
    Ok(count)
}

fn miri_test(workspace: &Workspace, package: &str, selection: &[&str]) -> Count {
    let start = Instant::now();
    // Not the cargo that runs us, which is another toolchain's.
    let mut command = Command::new("rustup");
    command.args([
        "run",
        "nightly",
        "cargo",
        "miri",
        "test",
        "--quiet",
        "--package",
        &specification(package),
    ]);
    command.args(selection).current_dir(workspace.source("")).env("CARGO_TARGET_DIR", workspace.target());
    // The tests hand pages to the rules for good.
    command.env("MIRIFLAGS", "-Zmiri-ignore-leaks");
    ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"].into_iter().for_each(|name| _ = command.env_remove(name));
    let name = format!("miri {package} {}", selection.join(" "));
    let count = libtest(&name, &mut command);
    println!("        after {} s", start.elapsed().as_secs());
    count
}

/// The names of the files in a folder of integration tests.
fn integration_tests(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if let (Some(name), Some("rs")) = (path.file_stem(), path.extension().and_then(|end| end.to_str())) {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn cargo_test(workspace: &Workspace, name: &str, selection: &[&str], part: &str) -> Count {
    let mut command = cargo(workspace);
    command.args(["test", "--quiet", "--no-fail-fast"]).args(selection);
    if !part.is_empty() {
        command.arg("--").arg(part);
    }
    libtest(name, &mut command)
}

/// Runs tests, and tells what came of them.
fn libtest(name: &str, command: &mut Command) -> Count {
    let (text, failure) = match command::output(command) {
        Ok(text) => (text, None),
        Err(failure) => (failure.whole_output().to_owned(), Some(failure)),
    };
    let mut count = counted(&text);
    if let Some(failure) = failure {
        // Nothing failed that libtest counted: something does not build, or crashed.
        count.failed = count.failed.max(1);
        println!("{}", failure.whole_output());
        println!(
            "FAILED  {name}: {} passed, {} failed; `{}`",
            count.passed,
            count.failed,
            command::shown(command)
        );
    } else if count.passed > 0 {
        println!("ok      {name}: {} passed", count.passed);
    }
    count
}

/// Adds up libtest's results.
fn counted(output: &str) -> Count {
    let number = |line: &str, what: &str| -> usize {
        let words: Vec<_> = line.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        words.windows(2).find(|pair| pair[1] == what).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
    };
    let mut count = Count::default();
    for line in output.lines().filter(|line| line.starts_with("test result: ")) {
        count.add(Count { passed: number(line, "passed"), failed: number(line, "failed") });
    }
    count
}

fn cargo(workspace: &Workspace) -> Command {
    let mut command = cargo::cargo();
    command.current_dir(workspace.source("")).env("CARGO_TARGET_DIR", workspace.target()).env("TERM", "dumb");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_test_programs_and_not_their_modules() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hypervisor/core/tests");
        let names = integration_tests(&folder).unwrap();
        assert!(names.iter().any(|name| name == "explore") && names.is_sorted(), "{names:?}");
        assert!(!names.iter().any(|name| name == "machine"), "{names:?}");
        assert!(integration_tests(&folder.join("none")).is_err());
    }

    #[test]
    fn adds_up_what_libtest_says() {
        let output = "\nrunning 6 tests\n......\ntest result: ok. 6 passed; 0 failed; 0 ignored; 0 measured\nnoise: 9 passed\n\
                      test result: FAILED. 2 passed; 3 failed; 1 ignored\n";
        assert_eq!(counted(output), Count { passed: 8, failed: 3 });
        assert_eq!(counted("error: could not compile"), Count::default());
    }
}
