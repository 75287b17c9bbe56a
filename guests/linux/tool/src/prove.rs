//! The demonstration of exclusive ownership: what was sent cannot be touched, neither by the ordinary way nor round the driver.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::{
            fs::{FileExt, OpenOptionsExt},
            process::ExitStatusExt,
        },
    },
    process::Command,
    ptr,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use handover_linux::{Channel, Handover, Message, Region};

use crate::fault::{self, Fault};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The service that regions are sent to; it must send them back
    #[arg(long, default_value = "echo")]
    service: String,
    /// Only this step, in this process
    #[arg(long, hide = true)]
    step: Option<Step>,
}

/// Each runs in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Loads and stores.
    Touch,
    /// System calls that are given its address or its descriptor.
    SystemCalls,
    /// Loads and stores through /dev/mem.
    AroundDriver,
    /// The same, and nobody catches the signal.
    Killed,
}

const SIZE: usize = 64 << 10;
const MARK: &[u8] = b"this region is handed over";
/// Data abort from a lower exception level (ESR_ELx.EC).
const DATA_ABORT_LOWER: u64 = 0x24;
/// Synchronous external abort, not on a translation table walk (ISS.DFSC).
const EXTERNAL_ABORT: u64 = 0x10;
/// Linux's switch for a log line about each fatal fault.
const TRACE_SWITCH: &str = "/proc/sys/debug/exception-trace";

macro_rules! proved {
    ($($words:tt)*) => { println!("prove: {}: ok", format_args!($($words)*)) };
}

pub(crate) fn run(handover: &Handover, arguments: &Arguments) -> Result<()> {
    match arguments.step {
        None => all(handover, arguments),
        Some(Step::Touch) => touch(handover, arguments),
        Some(Step::SystemCalls) => system_calls(handover, arguments),
        Some(Step::AroundDriver) => around_driver(handover, arguments),
        Some(Step::Killed) => killed(handover, arguments),
    }
}

fn all(handover: &Handover, arguments: &Arguments) -> Result<()> {
    for step in [Step::Touch, Step::SystemCalls, Step::AroundDriver] {
        let status = child(arguments, step)?.status().context("cannot start a process")?;
        ensure!(status.success(), "step {step:?}: {status}");
    }
    see_killed(arguments)?;
    goes_on(handover, arguments)
}

fn child(arguments: &Arguments, step: Step) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    let step = step.to_possible_value().context("a step without a name")?;
    command.args(["prove", "--step", step.get_name(), "--service", &arguments.service]);
    Ok(command)
}

/// A region that was sent, still mapped, and its channel.
struct Sent {
    /// The region in this process, as it was: its mapping and its descriptor are still there.
    mapping: Region,
    file: File,
    /// Its physical address, if we may know it.
    address: io::Result<u64>,
    channel: Channel,
}

impl Sent {
    /// Creates a region and fills it; `look` may look at it before it goes.
    fn send(
        handover: &Handover,
        arguments: &Arguments,
        look: impl FnOnce(&Region) -> Result<()>,
    ) -> Result<Sent> {
        let service = handover.service(&arguments.service)?;
        let channel = Channel::connect(handover, &service)
            .with_context(|| format!("cannot connect to `{}`", service.name))?;
        let mut region = Region::create(handover, SIZE).context("cannot create a region")?;
        region[..MARK.len()].copy_from_slice(MARK);
        look(&region)?;
        let address = region.address();
        let fd = region.into_fd();
        let copies =
            (fd.try_clone().and_then(|copy| Ok((copy, fd.try_clone()?)))).context("cannot duplicate")?;
        // SAFETY: of the two regions on this descriptor, one is used up by the send, and the other's memory is from then on only
        // touched by instructions that may fault. The file is used only after the send, when it is dead.
        let (region, mapping) = unsafe { (Region::from_fd(fd)?, Region::from_fd(copies.0)?) };
        channel.send_wait((region, (MARK.len() as u64).to_le_bytes())).context("cannot send")?;
        Ok(Sent { mapping, file: File::from(copies.1), address, channel })
    }

    fn start(&self) -> *mut u8 {
        self.mapping.as_ptr().cast_mut()
    }
}

fn touch(handover: &Handover, arguments: &Arguments) -> Result<()> {
    fault::catch().context("cannot catch SIGBUS")?;
    let sent = Sent::send(handover, arguments, |_| Ok(()))?;
    for offset in [0, 4096, SIZE - 1] {
        let at = sent.start().wrapping_add(offset);
        // SAFETY: inside the mapping; nothing in this process refers to these bytes.
        let (load, store) = unsafe { (fault::load(at), fault::store(at, 1)) };
        let load = expect_fault(load, "a load", at)?;
        let store = expect_fault(store, "a store", at)?;
        ensure!(
            load.code == libc::BUS_ADRERR && store.code == libc::BUS_ADRERR,
            "unexpected {load}, {store}"
        );
        if offset == 0 {
            proved!("load from a region that was sent, {load}");
            proved!("store to it, {store}");
        }
    }
    Ok(())
}

fn expect_fault<T>(result: Result<T, Fault>, what: &str, at: *const u8) -> Result<Fault> {
    match result {
        Ok(_) => bail!("{what} at {at:p} went through, though the region was sent"),
        Err(fault) => {
            ensure!(fault.address == at as u64, "{what} at {at:p} raised {fault}");
            Ok(fault)
        }
    }
}

fn system_calls(handover: &Handover, arguments: &Arguments) -> Result<()> {
    let sent = Sent::send(handover, arguments, |_| Ok(()))?;
    let (mut reader, mut writer) = io::pipe().context("cannot make a pipe")?;
    // SAFETY: write(2) only passes the address to the kernel, which checks it.
    let result = unsafe { libc::write(writer.as_raw_fd(), sent.start().cast(), SIZE) };
    expect_errno(result, libc::EFAULT, "write(2) to a pipe from it")?;
    writer.write_all(b"x").context("cannot fill the pipe")?;
    // SAFETY: read(2) only passes the address to the kernel, which checks it.
    let result = unsafe { libc::read(reader.as_raw_fd(), sent.start().cast(), 1) };
    expect_errno(result, libc::EFAULT, "read(2) from a pipe to it")?;
    // What could not be read is still there.
    reader.read_exact(&mut [0]).context("cannot empty the pipe")?;

    let result = sent.file.read_at(&mut [0], 0);
    expect_error(result, libc::ESTALE, "pread(2) on its descriptor")?;
    expect_error(sent.file.write_at(&[1], 0), libc::ESTALE, "pwrite(2) on its descriptor")?;
    expect_error(map(&sent.file, 0), libc::ESTALE, "mmap(2) of its descriptor")?;
    let again = sent.channel.send_wait(Message::from(sent.mapping)).map_err(|failed| failed.error);
    expect_error(again, libc::ESTALE, "sending it again")
}

fn expect_errno(result: isize, errno: i32, what: &str) -> Result<()> {
    let result = if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    expect_error(result, errno, what)
}

fn expect_error<T>(result: io::Result<T>, errno: i32, what: &str) -> Result<()> {
    let expected = io::Error::from_raw_os_error(errno);
    match result {
        Err(error) if error.raw_os_error() == Some(errno) => {
            proved!("{what}, {error}");
            Ok(())
        }
        Err(error) => bail!("{what}: {error}, not {expected}"),
        Ok(_) => bail!("{what} succeeded; expected {expected}"),
    }
}

/// Maps a page of a file, shared; it stays mapped.
fn map(file: impl AsFd, offset: u64) -> io::Result<*mut u8> {
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    let (prot, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_fd().as_raw_fd());
    // SAFETY: a new mapping, where the kernel chooses.
    match unsafe { libc::mmap(ptr::null_mut(), 4096, prot, libc::MAP_SHARED, fd, offset) } {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        address => Ok(address.cast()),
    }
}

/// Maps a page of physical memory.
fn map_physical(address: u64) -> Result<*mut u8> {
    let memory = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_SYNC)
        .open("/dev/mem")
        .context("cannot open /dev/mem (it takes root)")?;
    map(&memory, address).with_context(|| {
        format!("cannot map {address:#x} through /dev/mem: the driver claims the message window; boot with iomem=relaxed")
    })
}

/// Sends a region after it was mapped through /dev/mem too; its mapping there.
fn send_around_driver(handover: &Handover, arguments: &Arguments) -> Result<(Sent, *mut u8)> {
    fault::catch().context("cannot catch SIGBUS")?;
    let mut alias = ptr::null_mut();
    let sent = Sent::send(handover, arguments, |region| {
        alias = map_physical(region.address().context("cannot learn the region's physical address")?)?;
        // SAFETY: a mapping of ours; while the region is ours, loads go through.
        match unsafe { fault::load(alias) } {
            Ok(byte) => ensure!(byte == MARK[0], "/dev/mem shows {byte:#x}, the region holds {:#x}", MARK[0]),
            Err(fault) => bail!("the region is ours, but a load through /dev/mem raised {fault}"),
        }
        Ok(())
    })?;
    Ok((sent, alias))
}

fn around_driver(handover: &Handover, arguments: &Arguments) -> Result<()> {
    let (sent, alias) = send_around_driver(handover, arguments)?;
    let address = sent.address.as_ref().map_or(0, |&address| address);
    // SAFETY: a mapping of ours that nothing else in this process refers to.
    let (load, store) = unsafe { (fault::load(alias), fault::store(alias, 1)) };
    for (result, what) in [(load.map(|_| ()), "load"), (store, "store")] {
        let fault = expect_fault(result, what, alias)?;
        ensure!(
            fault.code == libc::BUS_OBJERR
                && fault.class() == DATA_ABORT_LOWER
                && fault.status() == EXTERNAL_ABORT,
            "a {what} of {address:#x} through /dev/mem raised {fault}, not an external abort"
        );
        proved!("{what} of physical address {address:#x} through /dev/mem, external abort, {fault}");
    }
    Ok(())
}

/// Dies.
fn killed(handover: &Handover, arguments: &Arguments) -> Result<()> {
    let (_sent, alias) = send_around_driver(handover, arguments)?;
    // SAFETY: the default action for SIGBUS.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    // SAFETY: a mapping of ours; the load does not return.
    let byte = unsafe { alias.read_volatile() };
    bail!("a load through /dev/mem returned {byte:#x}, though the region was sent")
}

/// Has a process die, and shows what the kernel says of it.
fn see_killed(arguments: &Arguments) -> Result<()> {
    let before =
        std::fs::read_to_string(TRACE_SWITCH).with_context(|| format!("cannot read {TRACE_SWITCH}"))?;
    let switch = |value: &str| {
        std::fs::write(TRACE_SWITCH, value).with_context(|| format!("cannot write {TRACE_SWITCH}"))
    };
    let mut log = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
    if let Ok(log) = &mut log {
        log.seek(SeekFrom::End(0)).context("cannot go to the end of /dev/kmsg")?;
    }
    switch("1")?;
    let status = child(arguments, Step::Killed)?.status().context("cannot start a process");
    switch(before.trim())?;
    let status = status?;
    ensure!(
        status.signal() == Some(libc::SIGBUS),
        "a process that touched a sent region round the driver: {status}"
    );
    proved!("process that does not catch it, killed by SIGBUS");
    let lines = kernel_lines(log.context("cannot open /dev/kmsg")?)?;
    let line = lines.iter().find(|line| line.contains("synchronous external abort"));
    let line =
        line.with_context(|| format!("the kernel log does not tell of an external abort: {lines:?}"))?;
    ensure!(line.contains("92000010"), "the kernel log tells of another abort: {line}");
    proved!("kernel log, \"{line}\"");
    Ok(())
}

/// The text of each record up to the end of the log.
fn kernel_lines(mut log: File) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut record = [0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(0) => return Ok(lines),
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]);
                let text = text.split_once(';').map_or(&*text, |(_, text)| text);
                lines.push(text.lines().next().unwrap_or("").to_owned());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(lines),
            // Records were overwritten before we came to them.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(error) => return Err(error).context("cannot read /dev/kmsg"),
        }
    }
}

/// Afterwards Linux and the service are as before: a region goes, is changed, and comes back.
fn goes_on(handover: &Handover, arguments: &Arguments) -> Result<()> {
    let sent = Sent::send(handover, arguments, |_| Ok(()))?;
    let answer = sent.channel.receive_timeout(Duration::from_secs(60)).context("no answer")?;
    let region = answer.region.context("the region did not come back")?;
    let expected: Vec<u8> = MARK.iter().map(|byte| byte ^ 0xff).collect();
    ensure!(region[..MARK.len()] == *expected, "the region came back with other bytes");
    proved!("system goes on, and what the peer made of a region comes back");
    Ok(())
}
