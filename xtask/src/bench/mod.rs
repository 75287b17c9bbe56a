//! `cargo xtask bench`: what things cost, in instructions, the same to the last digit each time.

mod counts;
mod figures;
mod instruction;
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
use counts::{Counts, Sites};
use figures::{Figure, Figures};
use handover_manifest::Manifest;
use std::{collections::BTreeMap, fs, path::PathBuf, process::Command, time::Duration};
use variation::{CLIENT, Variation};

/// Ends a machine that hangs.
const LIMIT: Duration = Duration::from_secs(600);

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
    /// Instead count TLB maintenance, barriers, exits and accesses to the interrupt controller in the figures of messages, calls and events
    #[arg(long)]
    counts: bool,
}

/// Measures, prints a table, and writes it as JSON where that is asked for.
pub(crate) fn bench(workspace: &Workspace, options: &Options) -> Result<()> {
    let qemu = qemu::find(&Host::this(), &workspace.output_folder("provision")?)?;
    let bench = Bench { workspace, qemu: &qemu };
    let figures = if options.counts { bench.all_counts()? } else { bench.all()? };
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
    /// All figures.
    fn all(&self) -> Result<Figures> {
        let mut figures = Figures::default();
        let messages = self.manifest(MESSAGES)?;
        figures.add(self.guests(MESSAGES, &messages)?);
        for variation in Variation::ALL {
            let name = format!("{MESSAGES}{}", variation.suffix());
            figures.vary(variation, self.guests(&name, &variation.of(&messages))?);
        }
        for name in OTHERS {
            figures.add(self.guests(name, &self.manifest(name)?)?);
        }
        linux_boot::run(self.workspace, self.qemu, &mut figures)?;
        Ok(figures)
    }

    /// Those of messages, calls and events, with what is executed in them.
    fn all_counts(&self) -> Result<Figures> {
        let mut figures = Figures::default();
        let messages = self.manifest(MESSAGES)?;
        let (found, counts) = self.counts(MESSAGES, &messages)?;
        figures.add(found);
        figures.count("", counts);
        // Whoever owns a processor spins where others wait, which takes QEMU long this way.
        let variation = Variation::Processors;
        let name = format!("{MESSAGES}{}", variation.suffix());
        let (found, counts) = self.counts(&name, &variation.of(&messages))?;
        figures.vary(variation, found);
        figures.count(variation.suffix(), counts);
        Ok(figures)
    }

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
        let how = machine::Options { icount: true, ..machine::Options::PLAIN };
        machine::command(self.qemu, image, &manifest.machine, how)
    }

    /// The client's figures, and what is executed in each that costs more than it counts.
    fn counts(&self, name: &str, manifest: &Manifest) -> Result<(Vec<Figure>, BTreeMap<String, Counts>)> {
        let name = format!("{name}/counts");
        let image = self.image(&name, manifest)?;
        let program = |name: &str| image.symbols.get(name).context("a program has no symbols");
        let sites = Sites::of(program("")?, program(CLIENT)?)?;
        let file = self.workspace.output(&format!("bench/{name}")).join("executed");
        let record = sites.record(&file);
        let how = machine::Options { icount: true, record: Some(&record), ..machine::Options::PLAIN };
        let command = machine::command(self.qemu, &image, &manifest.machine, how);
        let records = measure(self.workspace, &name, false, command)?;
        let mut found = records.figures_of(CLIENT);
        found.retain(|figure| figure.unit == figures::INSTRUCTIONS);
        let names: Vec<String> = found.iter().map(|figure| figure.name.clone()).collect();
        let counts = sites.counts(&file, &names)?;
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        Ok((found, counts))
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

    /// The figures among a console's lines.
    fn figures_of(&self, console: &str) -> Vec<Figure> {
        self.lines(console).iter().filter_map(|line| Figure::parse(line)).collect()
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
