//! `cargo xtask bench`: what things cost, in instructions, the same to the last digit each time.

mod counts;
mod figures;
mod instruction;
mod linux_boot;
mod record;
mod variation;

use crate::{
    cargo::{self, Package},
    command::Host,
    image::{self, Image},
    machine::{self, Machine},
    progress::Step,
    provision::qemu::{self, Qemu},
    session::{self, Ending, Log, Transcript},
    workspace::Workspace,
};
use anyhow::{Context, Result, bail};
use counts::ByName;
use figures::{Figure, Figures};
use handover_manifest::Manifest;
use record::Sites;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
    time::Duration,
};
use variation::Variation;

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
    /// Instead count TLB maintenance, barriers, exits and accesses to the interrupt controller in all figures but the boots
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

    /// All that guests and programs measure, with what is executed in it.
    fn all_counts(&self) -> Result<Figures> {
        let mut figures = Figures::default();
        let messages = self.manifest(MESSAGES)?;
        let (found, counts) = self.counts(MESSAGES, &messages)?;
        figures.add(found);
        figures.count(None, counts);
        for variation in Variation::ALL {
            let name = format!("{MESSAGES}{}", variation.suffix());
            let (found, counts) = self.counts(&name, &variation.of(&messages))?;
            figures.vary(variation, found);
            figures.count(Some(variation), counts);
        }
        for name in OTHERS {
            let (found, counts) = self.counts(name, &self.manifest(name)?)?;
            figures.add(found);
            figures.count(None, counts);
        }
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

    /// The figures of a manifest, and what is executed in each that costs more than it counts.
    fn counts(&self, name: &str, manifest: &Manifest) -> Result<(Vec<Figure>, ByName)> {
        let name = format!("{name}/counts");
        let image = self.image(&name, manifest)?;
        let control_os = image.symbols.get("").context("the control OS has no symbols")?;
        let mut others: BTreeSet<PathBuf> = image.symbols.values().cloned().collect();
        others.remove(control_os);
        let programs = &manifest.system_control.programs;
        let programs: Vec<Package<'_>> = programs.iter().map(|name| Package::new(name)).collect();
        others.extend(cargo::build(self.workspace, cargo::LINUX, &programs)?);
        let sites = Sites::of(control_os, &others)?;
        let file = self.workspace.output(&format!("bench/{name}")).join("executed");
        let record = sites.record(&file);
        let how = machine::Options { icount: true, record: Some(&record), ..machine::Options::PLAIN };
        let command = machine::command(self.qemu, &image, &manifest.machine, how);
        let step = Step::begin(&format!("Recording {name}"));
        let records = measure(self.workspace, &name, false, command)?;
        let mut found = records.only_figures()?;
        found.retain(|figure| figure.unit == figures::INSTRUCTIONS);
        let names: Vec<String> = found.iter().map(|figure| figure.name.clone()).collect();
        let counts = sites.counts(&file, &names)?;
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        step.done(&format!("Recorded {name}: {} figures", counts.len()));
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

    /// The figures of the one console that has some, in the order in which they were printed.
    fn only_figures(&self) -> Result<Vec<Figure>> {
        let consoles = self.0.values().map(|lines| figures_in(lines));
        let mut some: Vec<Vec<Figure>> = consoles.filter(|figures| !figures.is_empty()).collect();
        match (some.pop(), some.is_empty()) {
            (Some(figures), true) => Ok(figures),
            (None, _) => bail!("nobody measured anything"),
            _ => bail!("figures of several guests, whose order nobody knows"),
        }
    }

    /// The figures among all consoles' lines.
    fn figures(&self) -> Vec<Figure> {
        self.0.values().flat_map(|lines| figures_in(lines)).collect()
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

/// The figures among lines.
fn figures_in(lines: &[String]) -> Vec<Figure> {
    lines.iter().filter_map(|line| Figure::parse(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_whose_order_is_known_are_those_of_one_console() {
        let lines = |lines: &[&str]| lines.iter().map(|line| line.to_string()).collect::<Vec<String>>();
        let mut records = Records([(String::new(), lines(&["system-control starts at tick 1"]))].into());
        assert_eq!(records.only_figures().unwrap_err().to_string(), "nobody measured anything");
        records.0.insert("z".to_owned(), lines(&["bench: second 2", "bench: first 1"]));
        let found = records.only_figures().unwrap();
        let names: Vec<&str> = found.iter().map(|figure| &*figure.name).collect();
        assert_eq!(names, ["second", "first"]);
        records.0.insert("a".to_owned(), lines(&["bench: third 3"]));
        assert!(records.only_figures().is_err());
    }

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
