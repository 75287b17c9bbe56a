//! Processes that share, pass on, die.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{fs::FileExt, net::UnixStream},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use handover_linux::{Channel, Handover, Region, Short};

use super::{
    Stage, echo,
    mappings::{Mapping, twice},
    message,
};
use crate::pattern::Random;

const SIZE: usize = 64 << 10;

/// Runs something in a child process; its pid.
fn spawn(work: impl FnOnce() -> Result<()>) -> Result<libc::pid_t> {
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()).context("cannot fork"),
        0 => {
            let code = match work() {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("child: {error:#}");
                    1
                }
            };
            // SAFETY: ends the child at once; its destructors and buffers are the parent's business.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(pid),
    }
}

fn wait(pid: libc::pid_t) -> Result<i32> {
    let mut status = 0;
    // SAFETY: waits for a child of ours.
    match unsafe { libc::waitpid(pid, &mut status, 0) } {
        -1 => Err(io::Error::last_os_error()).context("cannot wait for a child"),
        _ => Ok(status),
    }
}

fn wait_success(pid: libc::pid_t) -> Result<()> {
    let status = wait(pid)?;
    ensure!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "a child ended with status {status:#x}"
    );
    Ok(())
}

/// A child inherits the mapping; what either sends, both lose.
pub(super) fn fork(stage: &Stage<'_>) -> Result<()> {
    let channel = stage.connect()?;
    for parent_sends in [true, false] {
        let (region, file) = twice(stage.region(SIZE)?)?;
        let mapping = Mapping::new(&file, SIZE, 0).context("cannot map")?;
        ensure!(mapping.store(0, 1).is_ok());
        let (mut ours, mut theirs) = UnixStream::pair().context("cannot make sockets")?;
        let mut region = Some(region);
        let child = spawn(|| {
            ensure!(mapping.load(0) == Ok(1), "the child does not see the region");
            ensure!(mapping.store(5000, 2).is_ok());
            theirs.write_all(b"x")?;
            theirs.read_exact(&mut [0])?;
            if parent_sends {
                theirs.read_exact(&mut [0])?;
            } else if let Some(region) = region.take() {
                channel.send_wait(message(region, 1)).context("cannot send from the child")?;
                theirs.write_all(b"x")?;
            }
            for at in [0, 5000, SIZE - 1] {
                ensure!(mapping.load(at).is_err(), "the child can load byte {at} after the send");
                ensure!(mapping.store(at, 3).is_err(), "the child can store byte {at} after the send");
            }
            Ok(())
        })?;
        ours.read_exact(&mut [0])?;
        ensure!(mapping.load(5000) == Ok(2), "the parent does not see what the child stored");
        ours.write_all(b"x")?;
        if parent_sends {
            channel
                .send_wait(message(region.take().context("the region is gone")?, 1))
                .context("cannot send")?;
            ours.write_all(b"x")?;
        } else {
            ours.read_exact(&mut [0])?;
        }
        for at in [0, 5000, SIZE - 1] {
            ensure!(mapping.load(at).is_err(), "the parent can load byte {at} after the send");
        }
        wait_success(child)?;
        let answer = channel.receive_timeout(Duration::from_secs(60)).context("no answer")?;
        ensure!(
            answer.region.is_some_and(|region| [2, 2 ^ 0xff].contains(&region[5000])),
            "another region came back"
        );
    }
    Ok(())
}

/// A descriptor goes to another process by a socket, and is sent from there.
pub(super) fn passed_descriptor(stage: &Stage<'_>) -> Result<()> {
    let (ours, theirs) = UnixStream::pair().context("cannot make sockets")?;
    let child = spawn(|| {
        let channel = stage.connect()?;
        // SAFETY: the parent only touches its mapping by instructions that may fault.
        let region =
            unsafe { Region::from_fd(receive_descriptor(&theirs)?) }.context("cannot map what was passed")?;
        ensure!(region[100] == 77, "the passed region holds other bytes");
        let back = echo(&channel, region, SIZE)?;
        ensure!(back[100] == 77 ^ 0xff, "the region came back with other bytes");
        (&theirs).write_all(b"x")?;
        Ok(())
    })?;
    let (region, file) = twice(stage.region(SIZE)?)?;
    let mapping = Mapping::new(&file, SIZE, 0).context("cannot map")?;
    ensure!(mapping.store(100, 77).is_ok());
    send_descriptor(&ours, region.into_fd().as_raw_fd())?;
    (&ours).read_exact(&mut [0])?;
    // What came back is another descriptor, in the other process.
    ensure!(mapping.load(100).is_err(), "the mapping survives a send by another process");
    ensure!(file.read_at(&mut [0], 0).is_err(), "the descriptor survives a send by another process");
    wait_success(child)
}

/// Room for one descriptor in a control message, aligned as cmsghdr must be.
#[repr(align(8))]
struct Control([u8; 64]);

fn with_header<T>(control: &mut Control, call: impl FnOnce(&mut libc::msghdr) -> T) -> T {
    let mut byte = 0u8;
    let mut vector = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: an all-zero msghdr is an empty one.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control.0).cast();
    // SAFETY: pure arithmetic.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as _;
    call(&mut header)
}

fn send_descriptor(socket: &UnixStream, fd: RawFd) -> Result<()> {
    let sent = with_header(&mut Control([0; 64]), |header| {
        // SAFETY: the control buffer has room for one header and a descriptor.
        unsafe {
            let control = libc::CMSG_FIRSTHDR(header);
            (*control).cmsg_level = libc::SOL_SOCKET;
            (*control).cmsg_type = libc::SCM_RIGHTS;
            (*control).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(control).cast::<RawFd>().write_unaligned(fd);
            libc::sendmsg(socket.as_raw_fd(), header, 0)
        }
    });
    ensure!(sent == 1, "cannot pass a descriptor: {}", io::Error::last_os_error());
    Ok(())
}

fn receive_descriptor(socket: &UnixStream) -> Result<OwnedFd> {
    with_header(&mut Control([0; 64]), |header| {
        // SAFETY: the kernel fills at most the control buffer; a header is only read where it put one.
        unsafe {
            let received = libc::recvmsg(socket.as_raw_fd(), header, libc::MSG_CMSG_CLOEXEC);
            ensure!(received == 1, "cannot receive a descriptor: {}", io::Error::last_os_error());
            let control = libc::CMSG_FIRSTHDR(header);
            ensure!(!control.is_null() && (*control).cmsg_type == libc::SCM_RIGHTS, "no descriptor came");
            Ok(OwnedFd::from_raw_fd(libc::CMSG_DATA(control).cast::<RawFd>().read_unaligned()))
        }
    })
}

/// Children are killed while they hold regions and channels and use them, at no particular moment.
pub(super) fn killed(stage: &Stage<'_>) -> Result<()> {
    let mut random = Random::new(7);
    for round in 0..stage.rounds {
        let (mut ours, theirs) = UnixStream::pair().context("cannot make sockets")?;
        let child = spawn(|| busy(stage, u64::from(round), &theirs))?;
        drop(theirs);
        let mut exchanges = [0; 1];
        for _ in 0..=random.below(8) {
            ours.read_exact(&mut exchanges).context("the child ended by itself")?;
        }
        // SAFETY: a child of ours that was not waited for yet.
        unsafe { libc::kill(child, libc::SIGKILL) };
        let status = wait(child)?;
        ensure!(
            libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL,
            "a child ended with {status:#x}"
        );
    }
    Ok(())
}

/// Uses regions and channels until it is killed, and tells each step.
fn busy(stage: &Stage<'_>, seed: u64, tell: &UnixStream) -> Result<()> {
    let mut random = Random::new(seed);
    let mut held = Vec::new();
    loop {
        let channel = stage.connect()?;
        let mut region = stage.region(4096 << random.below(9))?;
        region.fill(seed as u8);
        match random.below(4) {
            0 => held.push((channel, region)),
            1 => {
                // Sent, and the answer stays there.
                channel.send_wait(message(region, 1)).context("cannot send")?;
            }
            2 => {
                let region = echo(&channel, region, 1)?;
                held.push((channel, region));
            }
            _ => {
                channel.send_wait(Short::from([1; 64])).context("cannot send")?;
                channel.receive_wait().context("cannot receive")?;
            }
        }
        held.truncate(4);
        { tell }.write_all(&[1]).context("the parent has gone")?;
    }
}

/// The device is opened thousands of times; regions are created until a limit says stop.
pub(super) fn descriptors(stage: &Stage<'_>) -> Result<()> {
    let limit = libc::rlimit { rlim_cur: 8192, rlim_max: 8192 };
    // SAFETY: only sets a limit of this process.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    ensure!(set == 0, "cannot raise the limit of open files: {}", io::Error::last_os_error());
    let mut opened = Vec::new();
    for _ in 0..4000 {
        opened.push(Handover::open().context("cannot open the device once more")?);
    }
    opened
        .iter()
        .try_for_each(|handover| handover.info().map(drop))
        .context("an opened device does not answer")?;
    drop(opened);

    let mut regions = Vec::new();
    while regions.len() < 4000 {
        match Region::create(stage.handover, 4096) {
            Ok(region) => regions.push(region),
            Err(error) => {
                let expected = [libc::EDQUOT, libc::ENOMEM];
                let is_limit = error.raw_os_error().is_some_and(|errno| expected.contains(&errno));
                ensure!(is_limit && !regions.is_empty(), "after {} regions: {error}", regions.len());
                break;
            }
        }
    }
    let count = regions.len();
    drop(regions);
    let again: Result<Vec<Region>, _> = (0..count).map(|_| Region::create(stage.handover, 4096)).collect();
    again.context("destroyed regions do not come back").map(drop)
}

/// Channels come and go, with messages on their way.
pub(super) fn connections(stage: &Stage<'_>) -> Result<()> {
    let mut kept: Vec<Channel> = Vec::new();
    for round in 0..stage.rounds * 10 {
        let channel = stage.connect().with_context(|| format!("connection {round}"))?;
        match round % 3 {
            0 => channel.send_wait(Short::from([round as u8; 100])).context("cannot send")?,
            1 => channel.send_wait(message(stage.region(4096)?, 4096)).context("cannot send")?,
            _ => {}
        }
        if kept.len() < 4 {
            kept.push(channel);
        }
    }
    for (round, channel) in kept.iter().enumerate().filter(|(round, _)| round % 3 != 2) {
        let answer = channel.receive_timeout(Duration::from_secs(60)).context("no answer")?;
        ensure!(answer.region.is_some() == (round % 3 == 1), "another message's answer");
    }
    Ok(())
}

/// The module stays as long as anything of it is in use.
pub(super) fn module_in_use(stage: &Stage<'_>) -> Result<()> {
    let (region, file) = twice(stage.region(4096)?)?;
    let mapping = Mapping::new(&file, 4096, 0).context("cannot map")?;
    drop((region, file));
    // The mapping alone is left, but for the device's own descriptor.
    // SAFETY: the name is a C string; the kernel refuses or unloads.
    let result = unsafe { libc::syscall(libc::SYS_delete_module, c"handover".as_ptr(), libc::O_NONBLOCK) };
    match (result, io::Error::last_os_error().raw_os_error()) {
        (-1, Some(libc::EWOULDBLOCK | libc::EBUSY)) => {}
        (_, errno) => bail!("unloading the module in use: {result}, errno {errno:?}"),
    }
    ensure!(mapping.load(0) == Ok(0), "the region is gone with its descriptor, though mapped");
    Ok(())
}
