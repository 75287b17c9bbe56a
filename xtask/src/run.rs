//! `cargo xtask run` and `cargo xtask build`.

use crate::{
    command::Host,
    console,
    image::{self, Image},
    machine::{self, Event, Machine},
    provision::qemu,
    session::{self, Ending, Log, Viewer},
    symbols::{Named, Symbols},
    terminal::{self, RawMode},
    view::View,
    workspace::Workspace,
};
use anyhow::{Context, Result, bail};
use handover_manifest::{Manifest, Program};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    io::{self, Read, Stdout, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{ChildStdin, ExitCode},
    sync::mpsc::Sender,
    thread,
    time::Duration,
};

/// Ctrl-], which leaves.
const LEAVE: u8 = 0x1d;
/// Where QEMU loads an image that asks for no distance from a 2 MiB boundary: its own boot code takes the first 2 MiB of memory.
pub(crate) const CONTROL_OS_ADDRESS: u64 = 0x4020_0000;
/// What makes the demonstration's init start a shell.
const INTERACTIVE: &str = "handover.interactive";

/// Programs that a shell in system-control finds beside busybox.
const TOOLS: [&str; 2] = ["control", "monitor"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The manifest: a file, or the name of one in `manifests`
    #[arg(default_value = "demo")]
    manifest: PathBuf,
    /// Connect this terminal to one partition; Ctrl-] leaves
    #[arg(short, long, value_name = "PARTITION")]
    interactive: Option<String>,
    /// Stop before the first instruction and wait for a debugger, with the symbols of this partition or of `control-os`
    #[arg(long, value_name = "PARTITION")]
    gdb: Option<String>,
    /// One instruction is one nanosecond, and the same build runs the same way each time
    #[arg(long)]
    icount: bool,
    /// End the machine after so many seconds, whatever it does
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

#[derive(clap::Args)]
pub(crate) struct BuildOptions {
    /// The manifest: a file, or the name of one in `manifests`
    #[arg(default_value = "demo")]
    manifest: PathBuf,
}

/// Builds the image of a manifest.
pub(crate) fn build(workspace: &Workspace, options: &BuildOptions) -> Result<()> {
    let (manifest, folder) = read(workspace, &options.manifest)?;
    let image = image::make(workspace, &manifest, &folder, "image")?;
    println!("{}\n{}", image.kernel.display(), image.archive.display());
    Ok(())
}

/// Builds and boots a manifest, and returns the system's own status.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let (mut manifest, folder) = read(workspace, &options.manifest)?;
    if let Some(name) = &options.interactive {
        stay_for(&mut manifest, name)?;
    }
    let image = image::make(workspace, &manifest, &folder, "image")?;
    let qemu = qemu::find(&Host::this(), &workspace.output_folder("provision")?)?;
    let gdb = options.gdb.as_deref().map(|name| debugger(&image, &manifest, name)).transpose()?;
    let how = machine::Options { icount: options.icount, gdb, ..machine::Options::PLAIN };
    let logs = workspace.output("log");
    let mut log = Log::create(&logs)?;

    let mut machine = Machine::start(machine::command(&qemu, &image, &manifest.machine, how))?;
    report_signals(machine.sender())?;
    let raw = options.interactive.as_ref().map(|_| RawMode::enter()).transpose();
    let raw = raw.context("the terminal cannot be made raw")?.flatten();
    let mut viewer =
        Terminal { view: View::new(io::stdout(), terminal::coloured(), raw.is_some()), direct: None };
    if let Some(name) = &options.interactive {
        if raw.is_some() {
            eprint!("connected to `{name}`; Ctrl-] leaves\r\n");
        }
        viewer.direct = Some((name.clone(), Some(Keyboard::of(&mut machine, raw.is_some())?)));
    }
    let mut viewer = Named::new(viewer, Symbols::new(&image.symbols, &workspace.source("")));
    let ending = session::watch(machine, &mut log, &mut viewer, options.timeout.map(Duration::from_secs));
    viewer.viewer.view.finish()?;
    drop(raw);
    conclude(ending?, &logs)
}

/// What the run's end means for us.
fn conclude(ending: Ending, logs: &Path) -> Result<ExitCode> {
    let place = format!("each console's log is in {}", logs.display());
    match ending {
        Ending::Status(0) => Ok(ExitCode::SUCCESS),
        Ending::Left => {
            eprintln!("\nleft, and the machine is off; {place}");
            Ok(ExitCode::SUCCESS)
        }
        Ending::Status(status) => {
            eprintln!("the system ended with status {status}; {place}");
            Ok(ExitCode::from(u8::try_from(status & 0xff).ok().filter(|status| *status != 0).unwrap_or(1)))
        }
        Ending::Signal(signal) => Ok(ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))),
        Ending::NoRecord(exit, messages) => {
            bail!(
                "the machine stopped without saying how it ended (QEMU: {exit}{}); {place}",
                said(&messages)
            )
        }
        Ending::TimedOut(messages) => bail!("the machine did not end in time{}; {place}", said(&messages)),
    }
}

fn said(messages: &str) -> String {
    if messages.is_empty() { String::new() } else { format!("; it said: {messages}") }
}

/// Reads the manifest that a command line names, and says where its paths start.
fn read(workspace: &Workspace, named: &Path) -> Result<(Manifest, PathBuf)> {
    let known = workspace.source("manifests").join(named).with_extension("toml");
    let is_name = named.components().count() == 1 && named.extension().is_none();
    let file = if is_name && !named.exists() && known.is_file() { known } else { named.to_owned() };
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    Ok((handover_manifest::read(&file)?, folder))
}

/// The machine runs until somebody leaves, and the demonstration gives way to a shell.
fn stay_for(manifest: &mut Manifest, name: &str) -> Result<()> {
    manifest.stay = true;
    if name == image::SYSTEM_CONTROL {
        return shell_in_system_control(manifest);
    }
    let names: Vec<_> = manifest.partitions.iter().map(|partition| partition.name.clone()).collect();
    let Some(partition) = manifest.partitions.iter_mut().find(|partition| partition.name == name) else {
        bail!("no partition is called `{name}`; there are: {}", names.join(", "));
    };
    if partition.initramfs.as_deref() == Some("demo") {
        let line = partition.command_line.get_or_insert_default();
        *line = format!("{line} {INTERACTIVE}").trim_start().to_owned();
    }
    Ok(())
}

/// A shell at system-control's console, with its tools; unless the first program is one.
fn shell_in_system_control(manifest: &mut Manifest) -> Result<()> {
    let control = &mut manifest.system_control;
    if !control.runs_programs() {
        bail!("what this manifest runs in system-control has no shell");
    }
    if manifest.programs.iter().all(|program| !program.console) && control.has_init() {
        manifest.programs.push(Program::shell());
        for tool in TOOLS {
            if manifest.programs.iter().all(|program| program.name() != tool) {
                control.programs.push(tool.to_owned());
            }
        }
    }
    Ok(())
}

/// Finds a free port for the debugger, and says what to type.
fn debugger(image: &Image, manifest: &Manifest, name: &str) -> Result<u16> {
    let key = if name == crate::view::CONTROL_OS { "" } else { name };
    let mut partitions = manifest.partitions.iter().map(|partition| partition.name.as_str());
    if !image.symbols.contains_key(key) && !partitions.any(|partition| partition == name) {
        let names: Vec<_> = manifest.partitions.iter().map(|partition| partition.name.as_str()).collect();
        bail!("no partition is called `{name}`; there are: control-os, system-control, {}", names.join(", "));
    }
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let symbols = match image.symbols.get(key).map(|file| file.display()) {
        // The control OS is linked to address 0, and runs where it was loaded.
        Some(file) if key.is_empty() => format!("-ex 'symbol-file {file} -o {CONTROL_OS_ADDRESS:#x}'"),
        Some(file) => format!("-ex 'symbol-file {file}'"),
        None => {
            eprintln!(
                "the kernel of `{name}` comes without symbols; if you have its vmlinux: gdb's `symbol-file`"
            );
            String::new()
        }
    };
    eprintln!("the machine waits for: gdb-multiarch -ex 'target remote localhost:{port}' {symbols}");
    eprintln!("set breakpoints with `hbreak`: the programs are not in memory yet");
    Ok(port)
}

fn report_signals(to: Sender<Event>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for signals")?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if to.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Keys on their way to a partition.
struct Keyboard {
    to: ChildStdin,
    sender: Sender<Event>,
    /// It is a terminal, where Ctrl-] leaves; anything else may contain that byte.
    terminal: bool,
}

impl Keyboard {
    fn of(machine: &mut Machine, terminal: bool) -> Result<Self> {
        let to = machine.take_input().context("the machine has no input")?;
        Ok(Self { to, sender: machine.sender(), terminal })
    }

    /// Selects the partition and forwards keys, for as long as there are any. The machine must have begun to write: before,
    /// its serial line may lose bytes.
    fn connect(mut self, name: &str) -> Result<()> {
        self.to.write_all(&console::select(name)).context("the machine reads no input")?;
        thread::spawn(move || self.forward());
        Ok(())
    }

    fn forward(mut self) {
        let mut buffer = [0; 1024];
        while let Ok(size @ 1..) = io::stdin().lock().read(&mut buffer) {
            let keys = &buffer[..size];
            let end = keys.iter().position(|key| self.terminal && *key == LEAVE);
            if self.to.write_all(&keys[..end.unwrap_or(size)]).and_then(|()| self.to.flush()).is_err() {
                return;
            }
            if end.is_some() {
                // A run that is over needs not be told.
                let _ = self.sender.send(Event::Leave);
                return;
            }
        }
    }
}

/// The terminal: all consoles mixed, or one directly and beside it the control OS's own lines.
struct Terminal {
    view: View<Stdout>,
    direct: Option<(String, Option<Keyboard>)>,
}

impl Viewer for Terminal {
    fn output(&mut self, stream: &str, bytes: &[u8]) -> Result<()> {
        if let Some((name, keyboard)) = &mut self.direct
            && let Some(keyboard) = keyboard.take()
        {
            keyboard.connect(name)?;
        }
        match &self.direct {
            Some((direct, _)) if direct == stream => {
                let mut out = io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())?;
            }
            Some(_) if !stream.is_empty() => {}
            _ => self.view.write(stream, bytes)?,
        }
        Ok(())
    }

    fn quiet(&mut self) -> Result<()> {
        Ok(self.view.quiet()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn concluded(ending: Ending) -> Result<ExitCode, String> {
        conclude(ending, Path::new("logs")).map_err(|error| error.to_string())
    }

    #[test]
    fn exits_with_the_systems_status() {
        for (status, code) in [(0, 0), (3, 3), (255, 255), (256, 1), (-1, 255)] {
            assert_eq!(concluded(Ending::Status(status)), Ok(ExitCode::from(code)), "{status}");
        }
        assert_eq!(concluded(Ending::Signal(2)), Ok(ExitCode::from(130)));
        assert_eq!(concluded(Ending::Left), Ok(ExitCode::SUCCESS));
    }

    #[test]
    fn an_end_without_a_record_is_a_failure() {
        let exit = std::process::ExitStatus::from_raw(0);
        let error = concluded(Ending::NoRecord(exit, "no such device".to_owned())).unwrap_err();
        assert!(error.contains("no such device") && error.contains("log is in logs"), "{error}");
        assert!(concluded(Ending::TimedOut(String::new())).unwrap_err().contains("did not end in time"));
    }

    #[test]
    fn a_keyboard_keeps_the_machine_running_and_asks_for_a_shell() {
        let text = "machine = { processors = 1, memory = \"1 GiB\" }\n[[partition]]\nname = \"linux\"\nkernel = \"debian\"\n\
                    initramfs = \"demo\"\nprocessors = 1\nmemory = \"16 MiB\"\n";
        let mut manifest = handover_manifest::parse(text, Path::new("m.toml")).unwrap();
        assert!(stay_for(&mut manifest, "lnux").unwrap_err().to_string().contains("there are: linux"));
        stay_for(&mut manifest, "linux").unwrap();
        assert!(manifest.stay);
        assert_eq!(manifest.partitions[0].command_line.as_deref(), Some("handover.interactive"));
    }

    #[test]
    fn system_control_gets_a_shell_and_its_tools() {
        let text = "machine = { processors = 1, memory = \"1 GiB\" }\n[[partition]]\nname = \"echo\"\nkernel = \"guest:echo\"\n\
                    processors = 1\nmemory = \"16 MiB\"\n";
        let with = |more: &str| {
            let text = format!("{text}{more}");
            let mut manifest = handover_manifest::parse(&text, Path::new("m.toml")).unwrap();
            stay_for(&mut manifest, "system-control").map(|()| manifest)
        };
        let manifest = with("").unwrap();
        assert_eq!((manifest.stay, manifest.programs), (true, vec![Program::shell()]));
        assert_eq!(manifest.system_control.programs, TOOLS);
        let manifest = with("[[program]]\npath = \"program:monitor\"\nconsole = true\n").unwrap();
        assert_eq!((manifest.programs.len(), manifest.system_control.programs.len()), (1, 0));
        let manifest = with("[system-control]\ncommand-line = \"/bin/sh\"\n").unwrap();
        assert_eq!(manifest.programs.len(), 0);
        assert!(with("[system-control]\nkernel = \"guest:examiner\"\n").is_err());
    }

    #[test]
    fn manifests_are_found_by_name_or_by_file() {
        let workspace = Workspace::find().unwrap();
        let (demo, folder) = read(&workspace, Path::new("demo")).unwrap();
        assert_eq!((demo.end_with, folder), (vec!["linux".to_owned()], workspace.source("manifests")));
        let error = read(&workspace, Path::new("nonsense")).unwrap_err().to_string();
        assert!(error.contains("nonsense: the manifest cannot be read"), "{error}");
    }
}
