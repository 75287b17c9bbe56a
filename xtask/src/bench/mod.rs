//! `cargo xtask bench`: what things cost, in instructions, the same to the last digit each time.

mod linux_boot;

use crate::{
    command::Host,
    image,
    machine::{self, Machine},
    provision::qemu::{self, Qemu},
    session::{self, Ending, Log, Transcript},
    workspace::Workspace,
};
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fs, path::PathBuf, process::Command, time::Duration};

/// Ends a machine that hangs.
const LIMIT: Duration = Duration::from_secs(180);
/// What starts a figure's line on a guest's console.
const RECORD: &str = "bench: ";

/// What the control OS says, before the tick, when it is done.
const BOOTED: &str = "system-control starts at tick ";

/// The manifests, in `manifests/`, whose guests measure.
const GUESTS: [&str; 5] = ["bench", "bench-2cpu", "bench-pair", "bench-lifecycle", "bench-system"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures, prints a table, and writes it as JSON where that is asked for.
pub(crate) fn bench(workspace: &Workspace, options: &Options) -> Result<()> {
    let qemu = qemu::find(&Host::this(), &workspace.output_folder("provision")?)?;
    let mut figures = Figures::default();
    for name in GUESTS {
        guests(workspace, &qemu, name, &mut figures)?;
    }
    linux_boot::run(workspace, &qemu, &mut figures)?;
    print!("{}", figures.table());
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&figures.json())?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// What the guests of a manifest measure.
fn guests(workspace: &Workspace, qemu: &Qemu, name: &str, figures: &mut Figures) -> Result<()> {
    let folder = workspace.source("manifests");
    let manifest = handover_manifest::read(&folder.join(format!("{name}.toml")))?;
    let image = image::make(workspace, &manifest, &folder, &format!("bench/{name}"))?;
    let how = machine::Options { icount: true, gdb: None };
    let records = measure(workspace, name, false, machine::command(qemu, &image, &manifest.machine, how))?;
    if records.figures().is_empty() {
        bail!(
            "the guests of `{name}` measured nothing; their logs are in {}",
            workspace.output(&format!("bench/{name}")).display()
        );
    }
    figures.add(records.figures());
    figures.add(records.boot());
    Ok(())
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
    fn figures(&self) -> Vec<(String, u64)> {
        self.0.values().flatten().filter_map(|line| figure(line)).collect()
    }

    /// From reset to the first program's first line: what the control OS says it took, and what that program says since.
    fn boot(&self) -> Option<(String, u64)> {
        let before: u64 =
            self.lines("").iter().find_map(|line| line.strip_prefix(BOOTED)?.trim().parse().ok())?;
        let since = self.figures().into_iter().find(|(name, _)| name == "sc_start")?.1;
        Some(("sc_boot".to_owned(), before + since))
    }

    /// The figure of this name, which must be the only one.
    fn only(&self, name: &str) -> Result<u64> {
        match &self.figures()[..] {
            [(found, instructions)] if found == name => Ok(*instructions),
            found => bail!("the guest was to measure `{name}` alone, but measured {found:?}"),
        }
    }
}

/// The figure in a line `bench: NAME INSTRUCTIONS`.
fn figure(line: &str) -> Option<(String, u64)> {
    let (name, instructions) = line.trim_end().strip_prefix(RECORD)?.split_once(' ')?;
    Some((name.to_owned(), instructions.parse().ok()?))
}

/// What was measured, in the order in which it was.
#[derive(Default)]
struct Figures {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    instructions: u64,
    /// How many times the bare machine's figure this is, where there is one.
    ratio: Option<f64>,
}

impl Figures {
    fn add(&mut self, figures: impl IntoIterator<Item = (String, u64)>) {
        self.rows.extend(figures.into_iter().map(|(name, instructions)| Row {
            name,
            instructions,
            ratio: None,
        }));
    }

    fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("measured".len());
        let mut table = format!("{:width$}  {:>15}\n", "measured", "instructions");
        for row in &self.rows {
            let ratio =
                row.ratio.map(|ratio| format!("  {ratio:.4} times the bare machine's")).unwrap_or_default();
            table.push_str(&format!("{:width$}  {:>15}{ratio}\n", row.name, grouped(row.instructions)));
        }
        table
    }

    fn json(&self) -> Value {
        let mut map = Map::new();
        for row in &self.rows {
            let mut value = json!({ "instructions": row.instructions });
            if let Some(ratio) = row.ratio {
                value["ratio"] = json!(ratio);
            }
            map.insert(row.name.clone(), value);
        }
        Value::Object(map)
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_figures_and_nothing_else() {
        assert_eq!(figure("bench: echo_4k 1234\r"), Some(("echo_4k".to_owned(), 1234)));
        for line in
            ["bench: echo_4k", "bench: role=x is neither client nor server", " bench: a 1", "bench: a -1"]
        {
            assert_eq!(figure(line), None, "{line}");
        }
    }

    #[test]
    fn a_boot_is_what_the_control_os_took_and_what_came_after() {
        let lines = |line: &str| vec![line.to_owned()];
        let told = lines("system-control starts at tick 1000\r");
        let mut records = Records([("system-control".to_owned(), lines("bench: sc_start 234"))].into());
        assert_eq!(records.boot(), None);
        records.0.insert(String::new(), told);
        assert_eq!(records.boot(), Some(("sc_boot".to_owned(), 1234)));
    }

    #[test]
    fn tells_figures_as_a_table_and_as_json() {
        let mut figures = Figures::default();
        figures.add(vec![("null_call".to_owned(), 59), ("echo_2m".to_owned(), 1_234_567)]);
        figures.rows.push(Row { name: "linux_boot".to_owned(), instructions: 100, ratio: Some(1.25) });
        assert_eq!(
            figures.table(),
            "measured       instructions\nnull_call                59\necho_2m           1,234,567\n\
             linux_boot              100  1.2500 times the bare machine's\n"
        );
        let json = json!({
            "null_call": { "instructions": 59 },
            "echo_2m": { "instructions": 1_234_567 },
            "linux_boot": { "instructions": 100, "ratio": 1.25 },
        });
        assert_eq!(figures.json(), json);
    }
}
