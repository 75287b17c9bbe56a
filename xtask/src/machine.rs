//! QEMU as the machine: its command line, its serial line, and its end.

use crate::{command, image::Image, provision::qemu::Qemu};
use anyhow::{Context, Result};
use handover_manifest::Machine as Resources;
use std::{
    ffi::OsString,
    io::Read,
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, Sender},
    thread::{self, JoinHandle},
};

/// How the machine runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options<'a> {
    /// One instruction is one nanosecond, and the same build runs the same way each time.
    pub(crate) icount: bool,
    /// Stops before the first instruction and waits for a debugger at this TCP port of this host.
    pub(crate) gdb: Option<u16>,
    /// QEMU's name for the processors.
    pub(crate) cpu: &'static str,
    /// Writes a line for each instruction at some addresses that is executed.
    pub(crate) record: Option<&'a Record>,
}

impl Options<'_> {
    /// As the demonstration runs.
    pub(crate) const PLAIN: Options<'static> = Options { icount: false, gdb: None, cpu: CPU, record: None };
}

/// What is recorded, and where.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) file: std::path::PathBuf,
    /// Of instructions, in order. Some between two that are near may be recorded too.
    pub(crate) addresses: Vec<u64>,
}

impl Record {
    /// Bytes between two instructions that are recorded together: QEMU looks at each range for each instruction that it executes, and for a loop between two
    /// there is no room.
    const NEAR: u64 = 16;

    /// `FIRST..LAST` for QEMU, of bytes.
    fn ranges(&self) -> String {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for &address in &self.addresses {
            match ranges.last_mut() {
                Some((_, last)) if address - *last <= Record::NEAR => *last = address,
                _ => ranges.push((address, address)),
            }
        }
        let ranges = ranges.iter().map(|(first, last)| format!("{first:#x}..{:#x}", last + 3));
        ranges.collect::<Vec<String>>().join(",")
    }
}

/// Processors with everything that QEMU knows.
pub(crate) const CPU: &str = "max";

/// Something that happens while the machine runs.
#[derive(Debug)]
pub(crate) enum Event {
    /// Bytes on the serial line.
    Output(Vec<u8>),
    /// The serial line's end: QEMU ends.
    Closed,
    /// Who sits at the keyboard leaves.
    Leave,
    /// A signal that ends us.
    Signal(i32),
}

/// A running QEMU; it ends with this value at the latest, and with this process.
pub(crate) struct Machine {
    child: Child,
    input: Option<ChildStdin>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    messages: Option<JoinHandle<String>>,
}

impl Machine {
    /// Starts QEMU with this command line.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: between fork and exec the closure makes one system call, and touches no lock and no memory of other threads.
        unsafe { command.pre_exec(end_with_parent) };
        let mut child =
            command.spawn().with_context(|| format!("cannot run {}", command::shown(&command)))?;
        let (sender, events) = mpsc::channel();
        let input = child.stdin.take();
        let mut output = child.stdout.take().context("QEMU has no output")?;
        let mut errors = child.stderr.take().context("QEMU has no error output")?;
        let to = sender.clone();
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            // A failed read is the line's end too: whoever waits for QEMU learns its exit status.
            while let Ok(size @ 1..) = output.read(&mut buffer) {
                if to.send(Event::Output(buffer[..size].to_vec())).is_err() {
                    return;
                }
            }
            let _ = to.send(Event::Closed);
        });
        let messages = thread::spawn(move || {
            let mut bytes = Vec::new();
            // What came before a failed read is still worth showing.
            let _ = errors.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).trim().to_owned()
        });
        Ok(Self { child, input, events, sender, messages: Some(messages) })
    }

    /// What happens, in order.
    pub(crate) fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// For others who make something happen.
    pub(crate) fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// The machine's end of the keyboard, once.
    pub(crate) fn take_input(&mut self) -> Option<ChildStdin> {
        self.input.take()
    }

    /// Waits for QEMU's end, and returns how it ended and what it said.
    pub(crate) fn wait(mut self) -> Result<(ExitStatus, String)> {
        let status = self.child.wait()?;
        Ok((status, self.messages()))
    }

    /// Ends QEMU now, and returns what it said.
    pub(crate) fn end(mut self) -> Result<String> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.messages())
    }

    fn messages(&mut self) -> String {
        self.messages.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only if QEMU has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn end_with_parent() -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// QEMU's command line for an image on the machine that a manifest asks for.
pub(crate) fn command(qemu: &Qemu, image: &Image, resources: &Resources, options: Options<'_>) -> Command {
    let mut command = base(qemu, resources, options, ",virtualization=on");
    command.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&image.archive);
    command
}

/// QEMU's command line for a Linux kernel alone on the same machine, entered at EL1.
pub(crate) fn bare_command(
    qemu: &Qemu,
    linux: &BareLinux<'_>,
    resources: &Resources,
    options: Options<'_>,
) -> Command {
    let mut command = base(qemu, resources, options, "");
    command
        .arg("-kernel")
        .arg(linux.kernel)
        .arg("-initrd")
        .arg(linux.initramfs)
        .arg("-append")
        .arg(linux.command_line)
        .arg("-dtb")
        .arg(linux.device_tree);
    command
}

/// A Linux guest without us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BareLinux<'a> {
    pub(crate) kernel: &'a std::path::Path,
    pub(crate) initramfs: &'a std::path::Path,
    pub(crate) command_line: &'a str,
    pub(crate) device_tree: &'a std::path::Path,
}

fn base(qemu: &Qemu, resources: &Resources, options: Options<'_>, machine: &str) -> Command {
    let mut command = qemu.command();
    let mut machine = format!("virt,gic-version=3{machine}");
    // Processors that wait for one another by spinning cannot tell a host that has run out of processors; in turn they lose nothing.
    let mut accelerator = "tcg,thread=single".to_owned();
    if let Some(record) = options.record {
        // Each instruction alone, none jumped to past the record.
        accelerator.push_str(",one-insn-per-tb=on");
        command.args(["-d", "exec,nochain", "-dfilter", &record.ranges()]).arg("-D").arg(&record.file);
    }
    if options.icount {
        machine.push_str(",dtb-randomness=off");
        // Without `sleep=off` idle time would pass as the host's clock has it.
        command.args(["-icount", "shift=0,sleep=off", "-seed", "1", "-rtc", "base=2026-01-01,clock=vm"]);
    }
    command.args(["-M", &machine, "-cpu", options.cpu, "-accel", &accelerator]);
    command.args([
        "-smp",
        &resources.processors.to_string(),
        "-m",
        &format!("{}K", resources.memory.0 >> 10),
    ]);
    command.args(["-nodefaults", "-nic", "none", "-display", "none", "-monitor", "none", "-no-reboot"]);
    // Semihosting stays off: it would let a guest end QEMU and touch this host's files.
    command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
    if let Some(port) = options.gdb {
        command.arg("-S").arg("-gdb").arg(OsString::from(format!("tcp:127.0.0.1:{port}")));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_instructions_are_recorded_together() {
        let record = |addresses: &[u64]| Record { file: "executed".into(), addresses: addresses.to_vec() };
        assert_eq!(record(&[]).ranges(), "");
        let far = 0xffff_ff80_4000_0000;
        assert_eq!(
            record(&[0x1000, 0x1004, 0x1014, 0x1028, far]).ranges(),
            "0x1000..0x1017,0x1028..0x102b,0xffffff8040000000..0xffffff8040000003"
        );
    }
}
