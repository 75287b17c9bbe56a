//! Mappings made, cut and moved.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{FileExt, OpenOptionsExt},
    },
    ptr,
};

use anyhow::{Context, Result, bail, ensure};
use handover_linux::Region;

use super::{Stage, expect_error, message};
use crate::fault;

const PAGE: usize = 4096;
const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// A mapping of a region's file besides the library's. Its bytes are only touched by instructions that may fault.
pub(super) struct Mapping {
    start: *mut u8,
    length: usize,
}

// SAFETY: addresses, used only by loads and stores that may fault.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn new(file: &File, length: usize, offset: usize) -> io::Result<Mapping> {
        Mapping::with(file, length, offset, RW, libc::MAP_SHARED)
    }

    fn with(file: &File, length: usize, offset: usize, prot: i32, flags: i32) -> io::Result<Mapping> {
        // SAFETY: a new mapping, where the kernel chooses.
        match unsafe {
            libc::mmap(ptr::null_mut(), length, prot, flags, file.as_raw_fd(), offset as libc::off_t)
        } {
            libc::MAP_FAILED => Err(io::Error::last_os_error()),
            start => Ok(Mapping { start: start.cast(), length }),
        }
    }

    pub(super) fn load(&self, at: usize) -> Result<u8, fault::Fault> {
        assert!(at < self.length);
        // SAFETY: inside the mapping; at worst it faults.
        unsafe { fault::load(self.start.add(at)) }
    }

    pub(super) fn store(&self, at: usize, value: u8) -> Result<(), fault::Fault> {
        assert!(at < self.length);
        // SAFETY: inside the mapping; at worst it faults.
        unsafe { fault::store(self.start.add(at), value) }
    }

    /// Takes pages away.
    fn cut(&self, at: usize, length: usize) -> io::Result<()> {
        assert!(at + length <= self.length);
        // SAFETY: inside the mapping, which nothing refers to but by loads that may fault.
        match unsafe { libc::munmap(self.start.add(at).cast(), length) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn resize(&self, from: usize, to: usize) -> io::Result<Mapping> {
        // SAFETY: the old mapping is ours, and nothing refers to it but by loads that may fault.
        match unsafe { libc::mremap(self.start.cast(), from, to, libc::MREMAP_MAYMOVE) } {
            libc::MAP_FAILED => Err(io::Error::last_os_error()),
            start => Ok(Mapping { start: start.cast(), length: to }),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what is left of the mapping is ours.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

/// A region, and its descriptor once more.
pub(super) fn twice(region: Region) -> Result<(Region, File)> {
    let fd = region.into_fd();
    let copy: OwnedFd = fd.try_clone().context("cannot duplicate a descriptor")?;
    // SAFETY: the copy's mappings are only touched by instructions that may fault and by the kernel.
    Ok((unsafe { Region::from_fd(fd) }?, File::from(copy)))
}

fn gone(mapping: &Mapping, at: usize, what: &str) -> Result<()> {
    match (mapping.load(at), mapping.store(at, 1)) {
        (Err(_), Err(_)) => Ok(()),
        other => bail!("{what}: byte {at} can be touched after the send: {other:?}"),
    }
}

pub(super) fn odd_mappings(stage: &Stage<'_>) -> Result<()> {
    let size = 64 << 10;
    let (region, file) = twice(stage.region(size)?)?;
    let with = |length, offset, prot, flags| Mapping::with(&file, length, offset, prot, flags).map(drop);
    expect_error(with(PAGE, 0, RW, libc::MAP_PRIVATE), libc::EINVAL, "a private mapping")?;
    expect_error(
        with(PAGE, 0, libc::PROT_READ, libc::MAP_PRIVATE),
        libc::EINVAL,
        "a private read-only mapping",
    )?;
    expect_error(
        with(PAGE, 0, RW | libc::PROT_EXEC, libc::MAP_SHARED),
        libc::EINVAL,
        "an executable mapping",
    )?;
    expect_error(
        with(size + PAGE, 0, RW, libc::MAP_SHARED),
        libc::ENXIO,
        "a mapping longer than the region",
    )?;
    expect_error(with(PAGE, size, RW, libc::MAP_SHARED), libc::ENXIO, "a mapping behind the region")?;
    expect_error(with(2 * PAGE, size - PAGE, RW, libc::MAP_SHARED), libc::ENXIO, "a mapping over the end")?;
    expect_error(with(PAGE, 1 << 62, RW, libc::MAP_SHARED), libc::ENXIO, "a mapping far away")?;
    expect_error(with(PAGE, 1, RW, libc::MAP_SHARED), libc::EINVAL, "a misaligned offset")?;

    for offset in [0, PAGE, 7 * PAGE, size - PAGE] {
        let page = Mapping::new(&file, PAGE, offset).context("cannot map a page")?;
        file.write_all_at(&[offset as u8 | 1], offset as u64).context("cannot write to the region")?;
        ensure!(page.load(0) == Ok(offset as u8 | 1), "the page at {offset} shows another byte");
        ensure!(page.store(PAGE - 1, 9).is_ok());
        let mut byte = [0];
        file.read_exact_at(&mut byte, (offset + PAGE - 1) as u64).context("cannot read the region")?;
        ensure!(byte == [9], "a byte stored at {offset} is not in the region");
    }
    let read_only = Mapping::with(&file, size, 0, libc::PROT_READ, libc::MAP_SHARED).context("cannot map")?;
    ensure!(read_only.load(PAGE) == Ok(PAGE as u8 | 1));
    // SAFETY: only asks the kernel to change a mapping of ours.
    let executable =
        unsafe { libc::mprotect(read_only.start.cast(), size, libc::PROT_READ | libc::PROT_EXEC) };
    ensure!(executable != 0, "a mapping could be made executable");

    let tail = Mapping::new(&file, PAGE, size - PAGE).context("cannot map")?;
    let channel = stage.connect()?;
    channel.send_wait(message(region, 1)).context("cannot send")?;
    gone(&tail, 0, "a mapping of the last page")?;
    ensure!(read_only.load(0).is_err(), "a read-only mapping survives the send");
    Ok(())
}

pub(super) fn partial_unmap(stage: &Stage<'_>) -> Result<()> {
    let size = 256 << 10;
    let channel = stage.connect()?;
    let (region, file) = twice(stage.region(size)?)?;
    let mapping = Mapping::new(&file, size, 0).context("cannot map")?;
    for at in (0..size).step_by(PAGE) {
        ensure!(mapping.store(at, (at / PAGE) as u8).is_ok());
    }
    for (at, length) in [(0, PAGE), (17 * PAGE, PAGE), (30 * PAGE, 5 * PAGE), (size - PAGE, PAGE)] {
        mapping.cut(at, length).context("cannot unmap a part")?;
    }
    let left: Vec<usize> =
        (0..size / PAGE).filter(|page| ![0, 17, 63].contains(page) && !(30..35).contains(page)).collect();
    for &page in &left {
        ensure!(mapping.load(page * PAGE) == Ok(page as u8), "page {page} was lost with its neighbour");
    }
    channel.send_wait(message(region, size)).context("cannot send")?;
    for &page in &left {
        gone(&mapping, page * PAGE, "a mapping in pieces")?;
    }
    Ok(())
}

pub(super) fn moved_mapping(stage: &Stage<'_>) -> Result<()> {
    let size = 64 << 10;
    let channel = stage.connect()?;
    let (region, file) = twice(stage.region(size)?)?;
    let mapping = Mapping::new(&file, size, 0).context("cannot map")?;
    ensure!(mapping.store(3 * PAGE, 33).is_ok());
    expect_error(mapping.resize(size, 2 * size).map(drop), libc::EFAULT, "growing a mapping")?;
    expect_error(mapping.resize(0, size).map(drop), libc::EFAULT, "doubling a mapping by mremap")?;

    // Something behind the mapping makes it move. The rest is let go, to stay where it is.
    let moved = {
        // SAFETY: reserves addresses and gives them back at once.
        let space = unsafe {
            libc::mmap(ptr::null_mut(), size, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        ensure!(space != libc::MAP_FAILED, "no address space");
        // SAFETY: moves our mapping to the addresses just reserved.
        let start = unsafe {
            libc::mremap(mapping.start.cast(), size, size, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, space)
        };
        ensure!(start == space, "cannot move: {}", io::Error::last_os_error());
        Mapping { start: start.cast(), length: size }
    };
    std::mem::forget(mapping);
    ensure!(moved.load(3 * PAGE) == Ok(33), "the moved mapping shows another byte");
    moved.resize(size, size / 2).map(std::mem::forget).context("cannot shrink")?;
    ensure!(moved.load(3 * PAGE) == Ok(33), "the shrunk mapping shows another byte");
    channel.send_wait(message(region, 1)).context("cannot send")?;
    gone(&moved, 3 * PAGE, "a moved mapping")?;
    gone(&moved, 0, "a moved mapping's untouched page")
}

/// Nothing in the kernel may get hold of the pages: they would stay in use after a send.
pub(super) fn no_pinning(stage: &Stage<'_>) -> Result<()> {
    let (_region, file) = twice(stage.region(64 << 10)?)?;
    let mapping = Mapping::new(&file, 64 << 10, 0).context("cannot map")?;
    ensure!(mapping.store(0, 1).is_ok());

    let (_reader, writer) = io::pipe().context("cannot make a pipe")?;
    let vector = libc::iovec { iov_base: mapping.start.cast(), iov_len: PAGE };
    // SAFETY: the kernel checks the address.
    let spliced = unsafe { libc::vmsplice(writer.as_raw_fd(), &vector, 1, 0) };
    ensure!(spliced < 0, "vmsplice took a page of the region");

    // SAFETY: the kernel checks the address.
    let copied = unsafe { libc::process_vm_readv(libc::getpid(), &vector, 1, &vector, 1, 0) };
    ensure!(copied < 0, "process_vm_readv found the region");

    let memory = OpenOptions::new().read(true).custom_flags(libc::O_CLOEXEC).open("/proc/self/mem");
    let read = memory.context("cannot open /proc/self/mem")?.read_at(&mut [0], mapping.start as u64);
    ensure!(read.is_err(), "/proc/self/mem shows the region");
    Ok(())
}
