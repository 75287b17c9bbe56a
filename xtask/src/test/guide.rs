//! A page of the book carried out: its commands are typed, its files written, its manifest run.

use anyhow::{Context, Result, bail, ensure};
use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use crate::{cargo, command, workspace::Workspace};

/// The case whose manifest is a page.
pub(super) const CASE: &str = "guide";
/// The folder of this project in the page, beside which the reader works.
const PROJECT: &str = "handover";
/// The language of blocks with commands, and the command that only the case itself carries out.
const COMMANDS: &str = "sh";
const RUN: &str = "cargo xtask run ";

/// One block of a page between fences.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    /// Commands to type, a line each.
    Commands(&'a str),
    /// A file to write: its path, which the line before the block names, and its contents.
    File(&'a str, &'a str),
}

/// The steps of a page's section, in order.
fn steps(page: &str) -> Result<Vec<Step<'_>>> {
    let (_, section) = page.split_once("\n## Writing one's own\n").context("the page has no such section")?;
    let section = section.split("\n## ").next().unwrap_or(section);
    let mut steps = Vec::new();
    let mut rest = section;
    while let Some((before, block)) = rest.split_once("\n```") {
        let (language, block) = block.split_once('\n').context("a fence ends the page")?;
        let (text, after) = block.split_once("\n```").context("a block has no end")?;
        let named = before
            .trim_end()
            .lines()
            .next_back()
            .and_then(|line| line.strip_suffix("`:")?.rsplit('`').next());
        match (language, named) {
            (COMMANDS, _) => steps.push(Step::Commands(text)),
            (_, Some(path)) => steps.push(Step::File(path, text)),
            // What the reader sees.
            ("", None) => {}
            _ => bail!("a block of {language} has no file's name before it"),
        }
        rest = after;
    }
    Ok(steps)
}

/// Carries the page out in an empty folder, up to the command that runs it, and returns that one's manifest, as a path in the folder.
pub(super) fn prepare(workspace: &Workspace, page: &str, folder: &Path) -> Result<String> {
    symlink(workspace.source(""), folder.join(PROJECT))?;
    let mut here = folder.to_owned();
    for step in steps(page)? {
        match step {
            Step::File(path, text) => {
                let file = folder.join(path);
                // It cannot come from nowhere: a command has made its folder.
                fs::write(&file, format!("{text}\n")).with_context(|| format!("cannot write {path}"))?;
            }
            Step::Commands(lines) => {
                for line in lines.lines() {
                    if let Some(manifest) = line.strip_prefix(RUN) {
                        return Ok(manifest.trim_start_matches("../").to_owned());
                    }
                    match line.strip_prefix("cd ") {
                        Some(to) => here = here.join(to),
                        None => type_there(line, &here)?,
                    }
                }
            }
        }
    }
    bail!("the page never says `{RUN}`")
}

fn type_there(line: &str, folder: &Path) -> Result<()> {
    ensure!(line.starts_with("cargo "), "`{line}`: only cargo and cd are typed");
    let mut words = line.split_ascii_whitespace().skip(1);
    let mut command: Command = cargo::cargo();
    command.args(words.by_ref()).current_dir(folder);
    command::output(&mut command).map(drop).map_err(|failure| anyhow::anyhow!("{failure}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::{cases, machine::Line};

    const PAGE: &str = include_str!("../../../docs/policy.md");

    #[test]
    fn pages_have_steps() {
        let page = "# A\n\n## Writing one's own\n\nFirst\n\n```sh\ncargo new a\n```\n\nThen `a/b`:\n\n```toml\nx\ny\n```\nSays\n\n```\nz\n```\n\n## B\n\n```c\n```\n";
        let expected = [Step::Commands("cargo new a"), Step::File("a/b", "x\ny")];
        assert_eq!(steps(page).unwrap(), expected);
        assert!(steps("# A\n").is_err());
        assert!(steps("\n## Writing one's own\n\n```toml\nx\n```\n").is_err());
    }

    #[test]
    fn what_the_reader_sees_is_what_is_tested() {
        let case = cases::all().into_iter().find(|case| case.name == CASE).unwrap();
        assert_eq!(case.manifest, PAGE);
        for line in case.lines {
            let Line::Has(console, text) = line else { panic!("{line:?}") };
            assert!(PAGE.contains(&format!("\n[{console}] {text}\n")), "{text}");
        }
    }

    #[test]
    fn the_program_is_short() {
        let program = steps(PAGE).unwrap().into_iter().find_map(|step| match step {
            Step::File(path, text) if path.ends_with(".rs") => Some(text.lines().count()),
            _ => None,
        });
        assert!(program.is_some_and(|lines| lines <= 25), "{program:?} lines");
    }
}
