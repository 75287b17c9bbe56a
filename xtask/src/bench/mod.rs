//! `cargo xtask bench`: what things cost, in instructions, the same to the last digit each time.

mod figures;
mod linux_boot;
mod variation;

use crate::{
    command::Host,
    image::{self, Image},
    machine::{self, Machine},
    provision::qemu::{self, Qemu},
    session::{self, Ending, Log, Transcript},
    workspace::Workspace,
};
use anyhow::{Context, Result, bail};
use figures::{Figure, Figures};
use handover_manifest::Manifest;
use std::{collections::BTreeMap, fs, path::PathBuf, process::Command, time::Duration};
use variation::Variation;

/// Ends a machine that hangs.
const LIMIT: Duration = Duration::from_secs(240);

/// What the control OS says, before the tick, when it is done.
const BOOTED: &str = "system-control starts at tick ";

/// The manifest, in `manifests/`, whose guests measure messages, calls and events.
const MESSAGES: &str = "bench";
/// Those whose guests measure other things.
const OTHERS: [&str; 3] = ["bench-pair", "bench-lifecycle", "bench-system"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures, prints a table, and writes it as JSON where that is asked for.
pub(crate) fn bench(workspace: &Workspace, options: &Options) -> Result<()> {
    let qemu = qemu::find(&Host::this(), &workspace.output_folder("provision")?)?;
    let bench = Bench { workspace, qemu: &qemu };
    let mut figures = Figures::default();
    let messages = bench.manifest(MESSAGES)?;
    figures.add(bench.guests(MESSAGES, &messages)?);
    for variation in Variation::ALL {
        let name = format!("{MESSAGES}{}", variation.suffix());
        figures.vary(variation, bench.guests(&name, &variation.of(&messages))?);
    }
    for name in OTHERS {
        figures.add(bench.guests(name, &bench.manifest(name)?)?);
    }
    linux_boot::run(workspace, &qemu, &mut figures)?;
    print!("{}", figures.table());
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&figures.json())?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Where and with what it is measured.
struct Bench<'a> {
    workspace: &'a Workspace,
    qemu: &'a Qemu,
}

impl Bench<'_> {
    fn folder(&self) -> PathBuf {
        self.workspace.source("manifests")
    }

    fn manifest(&self, name: &str) -> Result<Manifest> {
        Ok(handover_manifest::read(&self.folder().join(format!("{name}.toml")))?)
    }

    fn image(&self, name: &str, manifest: &Manifest) -> Result<Image> {
        image::make(self.workspace, manifest, &self.folder(), &format!("bench/{name}"))
    }

    fn command(&self, image: &Image, manifest: &Manifest) -> Command {
        let how = machine::Options { icount: true, gdb: None, cpu: machine::CPU };
        machine::command(self.qemu, image, &manifest.machine, how)
    }

    /// What the guests of a manifest measure.
    fn guests(&self, name: &str, manifest: &Manifest) -> Result<Vec<Figure>> {
        let image = self.image(name, manifest)?;
        let records = measure(self.workspace, name, false, self.command(&image, manifest))?;
        let mut figures = records.figures();
        figures.extend(records.boot());
        if figures.is_empty() {
            let folder = self.workspace.output(&format!("bench/{name}"));
            bail!("the guests of `{name}` measured nothing; their logs are in {}", folder.display());
        }
        Ok(figures)
    }
}

/// Runs a machine to its end and returns the figures that its guests printed.
fn measure(workspace: &Workspace, name: &str, bare: bool, command: Command) -> Result<Records> {
    let folder = workspace.output(&format!("bench/{name}"));
    let mut transcript = Transcript::default();
    let mut log = Log::create(&folder)?;
    match session::watch(Machine::start(command)?, &mut log, &mut transcript, Some(LIMIT))? {
        Ending::Status(0) => Ok(Records(transcript.finish())),
        // The bare machine keeps no record of its end.
        Ending::NoRecord(exit, messages) if bare && exit.success() && messages.is_empty() => {
            Ok(Records(transcript.finish()))
        }
        ending => bail!("measuring `{name}` failed: {ending:?}; the logs are in {}", folder.display()),
    }
}

/// What guests wrote, by console.
struct Records(BTreeMap<String, Vec<String>>);

impl Records {
    /// A console's lines.
    fn lines(&self, console: &str) -> &[String] {
        self.0.get(console).map_or(&[], Vec::as_slice)
    }

    /// The figures among all consoles' lines.
    fn figures(&self) -> Vec<Figure> {
        self.0.values().flatten().filter_map(|line| Figure::parse(line)).collect()
    }

    /// From reset to the first program's first line: what the control OS says it took, and what that program says since.
    fn boot(&self) -> Option<Figure> {
        let before: u64 =
            self.lines("").iter().find_map(|line| line.strip_prefix(BOOTED)?.trim().parse().ok())?;
        let since = self.figures().into_iter().find(|figure| figure.name == "sc_start")?;
        Some(Figure { name: "sc_boot".to_owned(), value: before + since.value, unit: since.unit })
    }

    /// The figure of this name, which must be the only one.
    fn only(&self, name: &str) -> Result<Figure> {
        match &self.figures()[..] {
            [found] if found.name == name => Ok(found.clone()),
            found => bail!("the guest was to measure `{name}` alone, but measured {found:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_what_the_control_os_took_and_what_came_after() {
        let lines = |line: &str| vec![line.to_owned()];
        let mut records = Records([("system-control".to_owned(), lines("bench: sc_start 234"))].into());
        assert_eq!(records.boot(), None);
        records.0.insert(String::new(), lines("system-control starts at tick 1000\r"));
        let boot = Figure { name: "sc_boot".to_owned(), value: 1234, unit: figures::INSTRUCTIONS.to_owned() };
        assert_eq!(records.boot(), Some(boot));
    }
}
