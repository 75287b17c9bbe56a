//! Files: descriptors, transfers, waiting for readiness. What a file does is decided in `handover_files`.

use alloc::vec::Vec;

use handover_files::{
    Caller, Errno, Fd, IOCTL_BUFFER, Metadata, Readiness, Seek, SetTime, Time, interface::CONTROL_CALL,
    ioctl_shape,
};
use handover_kernel::{
    clock::join,
    frames::Frames,
    signal::{Info, Signal, SignalSet},
};
use linux_raw_sys::general as linux;

use super::{Outcome, Stop, control, time::deadline_after};
use crate::{
    kernel::Kernel,
    task::{Call, Key},
    user::Buffers,
};

/// Bytes of a path, its zero byte included.
const PATH_MAX: usize = 4096;
/// The most buffers of one transfer.
const BUFFERS_MAX: u64 = 1024;
/// The most descriptors of one `poll`.
const POLL_MAX: u64 = 1024;

/// Calls `call` with the files.
pub(super) fn with<R>(
    kernel: &mut Kernel,
    call: impl FnOnce(&mut Caller<'_>) -> Result<R, Errno>,
) -> Result<R, Stop> {
    Ok(kernel.with_files(|caller, _| call(caller))??)
}

/// Calls `call` where only success matters.
fn done(kernel: &mut Kernel, call: impl FnOnce(&mut Caller<'_>) -> Result<(), Errno>) -> Outcome {
    with(kernel, call)?;
    Ok(0)
}

/// Calls `call` where a descriptor comes of it.
fn fd(kernel: &mut Kernel, call: impl FnOnce(&mut Caller<'_>) -> Result<Fd, Errno>) -> Outcome {
    Ok(with(kernel, call)? as u64)
}

fn path(kernel: &mut Kernel, address: u64) -> Result<Vec<u8>, Errno> {
    kernel.read_string(address, PATH_MAX)?.ok_or(Errno::NAMETOOLONG)
}

// Opening and closing.

/// `openat`.
pub fn open(kernel: &mut Kernel, folder: u64, name: u64, flags: u64, mode: u64) -> Outcome {
    let name = path(kernel, name)?;
    fd(kernel, |caller| caller.openat(folder as Fd, &name, flags as u32, mode as u32))
}

/// `close`.
pub fn close(kernel: &mut Kernel, which: u64) -> Outcome {
    done(kernel, |caller| caller.close(which as Fd))
}

/// `close_range`.
pub fn close_range(kernel: &mut Kernel, first: u64, last: u64, flags: u64) -> Outcome {
    done(kernel, |caller| caller.close_range(first as u32, last as u32, flags as u32))
}

/// `pipe2`.
pub fn pipe(kernel: &mut Kernel, address: u64, flags: u64) -> Outcome {
    let ends = with(kernel, |caller| caller.pipe2(flags as u32))?;
    let bytes: Vec<u8> = ends.iter().flat_map(|end| end.to_le_bytes()).collect();
    if let Err(errno) = kernel.write(address, &bytes) {
        for end in ends {
            close(kernel, end as u64)?;
        }
        return Err(errno.into());
    }
    Ok(0)
}

/// `dup`.
pub fn dup(kernel: &mut Kernel, which: u64) -> Outcome {
    fd(kernel, |caller| caller.dup(which as Fd))
}

/// `dup3`.
pub fn dup3(kernel: &mut Kernel, old: u64, new: u64, flags: u64) -> Outcome {
    fd(kernel, |caller| caller.dup3(old as Fd, new as Fd, flags as u32))
}

/// `fcntl`.
pub fn control(kernel: &mut Kernel, which: u64, command: u64, argument: u64) -> Outcome {
    with(kernel, |caller| caller.fcntl(which as Fd, command as u32, argument))
}

/// `ioctl`.
pub fn request(kernel: &mut Kernel, which: u64, request: u64, argument: u64) -> Outcome {
    if request as u32 == CONTROL_CALL {
        return control::call(kernel, which, argument);
    }
    let shape = ioctl_shape(request as u32)?;
    let mut buffer = [0; IOCTL_BUFFER];
    kernel.read(argument, &mut buffer[..shape.reads])?;
    let result = with(kernel, |caller| caller.ioctl(which as Fd, request as u32, argument, &mut buffer))?;
    kernel.write(argument, &buffer[..shape.writes])?;
    Ok(result)
}

// Transfers.

fn vector(kernel: &mut Kernel, address: u64, count: u64) -> Result<Vec<(u64, u64)>, Errno> {
    if count > BUFFERS_MAX {
        return Err(Errno::INVAL);
    }
    let mut buffers = Vec::new();
    for index in 0..count {
        let [base, length] = kernel.read_words(address.wrapping_add(16 * index))?;
        if length > i64::MAX as u64 {
            return Err(Errno::INVAL);
        }
        buffers.push((base, length));
    }
    Ok(buffers)
}

/// What a thread does that would have to wait for a descriptor.
pub(super) fn wait_for(kernel: &mut Kernel, which: Fd, progress: usize) -> Outcome {
    let (nonblocking, key) =
        with(kernel, |caller| Ok((caller.nonblocking(which)?, caller.wait_key(which)?)))?;
    match key {
        Some(key) if !nonblocking => Err(Stop::Wait(Call {
            keys: [Key::File(key)].into(),
            progress,
            restarts: progress == 0,
            ..Call::default()
        })),
        _ if progress > 0 => Ok(progress as u64),
        _ => Err(Errno::AGAIN.into()),
    }
}

fn transfer(
    kernel: &mut Kernel,
    buffers: &[(u64, u64)],
    skip: usize,
    call: impl FnOnce(&mut Caller<'_>, &mut Buffers<'_>) -> Result<usize, Errno>,
) -> Result<Result<usize, Errno>, Errno> {
    let space = kernel.space()?;
    kernel.with_files(|caller, frames: &mut Frames| {
        call(caller, &mut Buffers::new(space, frames, buffers, skip))
    })
}

pub(super) fn read_buffers(kernel: &mut Kernel, which: u64, buffers: &[(u64, u64)]) -> Outcome {
    let which = which as Fd;
    match transfer(kernel, buffers, 0, |caller, sink| caller.read(which, sink))? {
        Ok(bytes) => Ok(bytes as u64),
        Err(Errno::AGAIN) => wait_for(kernel, which, 0),
        Err(errno) => Err(errno.into()),
    }
}

/// `read`.
pub fn read(kernel: &mut Kernel, which: u64, address: u64, length: u64) -> Outcome {
    read_buffers(kernel, which, &[(address, length)])
}

/// `readv`.
pub fn read_vector(kernel: &mut Kernel, which: u64, address: u64, count: u64) -> Outcome {
    let buffers = vector(kernel, address, count)?;
    read_buffers(kernel, which, &buffers)
}

/// Writes buffers one after another; `quiet`: without `SIGPIPE`.
pub(super) fn write_buffers(kernel: &mut Kernel, which: u64, buffers: &[(u64, u64)], quiet: bool) -> Outcome {
    let which = which as Fd;
    let all: u64 =
        buffers.iter().map(|(_, length)| length).fold(0, |sum, length| sum.saturating_add(*length));
    // What a blocked write has written already.
    let before = kernel.call().map_or(0, |call| call.progress);
    match transfer(kernel, buffers, before, |caller, source| caller.write(which, source))? {
        Ok(bytes) => {
            let written = before + bytes;
            if (written as u64) < all && bytes > 0 && with(kernel, |caller| caller.wait_key(which))?.is_some()
            {
                return wait_for(kernel, which, written);
            }
            Ok(written as u64)
        }
        Err(Errno::AGAIN) => wait_for(kernel, which, before),
        Err(_) if before > 0 => Ok(before as u64),
        Err(errno) => {
            if errno == Errno::PIPE && !quiet {
                kernel.send_thread_signal(kernel.current, Signal::PIPE, Info::default());
            }
            Err(errno.into())
        }
    }
}

/// `write`.
pub fn write(kernel: &mut Kernel, which: u64, address: u64, length: u64) -> Outcome {
    write_buffers(kernel, which, &[(address, length)], false)
}

/// `writev`.
pub fn write_vector(kernel: &mut Kernel, which: u64, address: u64, count: u64) -> Outcome {
    let buffers = vector(kernel, address, count)?;
    write_buffers(kernel, which, &buffers, false)
}

/// `pread64`.
pub fn read_at(kernel: &mut Kernel, which: u64, address: u64, length: u64, offset: u64) -> Outcome {
    let read = transfer(kernel, &[(address, length)], 0, |caller, sink| {
        caller.read_at(which as Fd, offset as i64, sink)
    })?;
    Ok(read? as u64)
}

/// `pwrite64`.
pub fn write_at(kernel: &mut Kernel, which: u64, address: u64, length: u64, offset: u64) -> Outcome {
    let written = transfer(kernel, &[(address, length)], 0, |caller, source| {
        caller.write_at(which as Fd, offset as i64, source)
    })?;
    Ok(written? as u64)
}

/// `lseek`.
pub fn seek(kernel: &mut Kernel, which: u64, offset: u64, whence: u64) -> Outcome {
    let from = Seek::try_from(whence as u32)?;
    with(kernel, |caller| caller.lseek(which as Fd, offset as i64, from))
}

/// `ftruncate`.
pub fn truncate(kernel: &mut Kernel, which: u64, size: u64) -> Outcome {
    done(kernel, |caller| caller.ftruncate(which as Fd, size as i64))
}

/// `truncate`.
pub fn truncate_path(kernel: &mut Kernel, name: u64, size: u64) -> Outcome {
    let name = path(kernel, name)?;
    done(kernel, |caller| caller.truncate(&name, size as i64))
}

/// `fallocate`.
pub fn allocate(kernel: &mut Kernel, which: u64, mode: u64, offset: u64, length: u64) -> Outcome {
    done(kernel, |caller| caller.fallocate(which as Fd, mode as u32, offset as i64, length as i64))
}

/// `fsync`, `fdatasync`: nothing lies anywhere else.
pub fn synchronize(kernel: &mut Kernel, which: u64) -> Outcome {
    done(kernel, |caller| caller.nonblocking(which as Fd).map(|_| ()))
}

/// `getdents64`.
pub fn list(kernel: &mut Kernel, which: u64, address: u64, length: u64) -> Outcome {
    let listed =
        transfer(kernel, &[(address, length)], 0, |caller, sink| caller.getdents64(which as Fd, sink))?;
    Ok(listed? as u64)
}

// What is known of files.

fn put_stat(kernel: &mut Kernel, address: u64, metadata: &Metadata) -> Outcome {
    kernel.write(address, &metadata.to_stat())?;
    Ok(0)
}

/// `fstat`.
pub fn status(kernel: &mut Kernel, which: u64, address: u64) -> Outcome {
    let metadata = with(kernel, |caller| caller.fstat(which as Fd))?;
    put_stat(kernel, address, &metadata)
}

/// `newfstatat`.
pub fn status_at(kernel: &mut Kernel, folder: u64, name: u64, address: u64, flags: u64) -> Outcome {
    let name = path(kernel, name)?;
    let metadata = with(kernel, |caller| caller.statat(folder as Fd, &name, flags as u32))?;
    put_stat(kernel, address, &metadata)
}

/// `statx`: the basic fields, whatever is asked for.
pub fn extended_status(kernel: &mut Kernel, [folder, name, flags, _mask, address]: [u64; 5]) -> Outcome {
    let name = path(kernel, name)?;
    let flags = flags as u32 & !linux::AT_STATX_SYNC_TYPE;
    let metadata = with(kernel, |caller| caller.statat(folder as Fd, &name, flags))?;
    kernel.write(address, &metadata.to_statx())?;
    Ok(0)
}

/// `statfs`.
pub fn system_status(kernel: &mut Kernel, name: u64, address: u64) -> Outcome {
    let name = path(kernel, name)?;
    let status = with(kernel, |caller| caller.statfs(&name))?;
    kernel.write(address, &status.to_statfs())?;
    Ok(0)
}

/// `fstatfs`.
pub fn system_status_of(kernel: &mut Kernel, which: u64, address: u64) -> Outcome {
    let status = with(kernel, |caller| caller.fstatfs(which as Fd))?;
    kernel.write(address, &status.to_statfs())?;
    Ok(0)
}

/// `faccessat`, `faccessat2`.
pub fn access(kernel: &mut Kernel, folder: u64, name: u64, mode: u64, flags: u64) -> Outcome {
    let name = path(kernel, name)?;
    done(kernel, |caller| caller.faccessat(folder as Fd, &name, mode as u32, flags as u32))
}

/// `fchmod`.
pub fn change_mode(kernel: &mut Kernel, which: u64, mode: u64) -> Outcome {
    done(kernel, |caller| caller.fchmod(which as Fd, mode as u32))
}

/// `fchmodat`.
pub fn change_mode_at(kernel: &mut Kernel, folder: u64, name: u64, mode: u64) -> Outcome {
    let name = path(kernel, name)?;
    done(kernel, |caller| caller.fchmodat(folder as Fd, &name, mode as u32, 0))
}

/// `fchown`.
pub fn change_owner(kernel: &mut Kernel, which: u64, user: u64, group: u64) -> Outcome {
    done(kernel, |caller| caller.fchown(which as Fd, user as u32, group as u32))
}

/// `fchownat`.
pub fn change_owner_at(kernel: &mut Kernel, [folder, name, user, group, flags]: [u64; 5]) -> Outcome {
    let name = path(kernel, name)?;
    done(kernel, |caller| caller.fchownat(folder as Fd, &name, user as u32, group as u32, flags as u32))
}

fn time_to_set([seconds, nanoseconds]: [u64; 2]) -> Result<SetTime, Errno> {
    match nanoseconds as u32 {
        linux::UTIME_NOW => Ok(SetTime::Now),
        linux::UTIME_OMIT => Ok(SetTime::Omit),
        part => {
            join([0, nanoseconds as i64])?;
            Ok(SetTime::To(Time { seconds: seconds as i64, nanoseconds: part }))
        }
    }
}

/// `utimensat`.
pub fn set_times(kernel: &mut Kernel, folder: u64, name: u64, times: u64, flags: u64) -> Outcome {
    let name = if name == 0 { None } else { Some(path(kernel, name)?) };
    let (accessed, modified) = if times == 0 {
        (SetTime::Now, SetTime::Now)
    } else {
        let [a, b, c, d] = kernel.read_words(times)?;
        (time_to_set([a, b])?, time_to_set([c, d])?)
    };
    done(kernel, |caller| caller.utimensat(folder as Fd, name.as_deref(), accessed, modified, flags as u32))
}

// Directories.

/// `mkdirat`.
pub fn make_directory(kernel: &mut Kernel, folder: u64, name: u64, mode: u64) -> Outcome {
    let name = path(kernel, name)?;
    done(kernel, |caller| caller.mkdirat(folder as Fd, &name, mode as u32))
}

/// `mknodat`.
pub fn make_node(kernel: &mut Kernel, folder: u64, name: u64, mode: u64, device: u64) -> Outcome {
    let name = path(kernel, name)?;
    done(kernel, |caller| caller.mknodat(folder as Fd, &name, mode as u32, device))
}

/// `unlinkat`.
pub fn remove(kernel: &mut Kernel, folder: u64, name: u64, flags: u64) -> Outcome {
    let name = path(kernel, name)?;
    done(kernel, |caller| caller.unlinkat(folder as Fd, &name, flags as u32))
}

/// `symlinkat`.
pub fn make_symbolic_link(kernel: &mut Kernel, target: u64, folder: u64, name: u64) -> Outcome {
    let (target, name) = (path(kernel, target)?, path(kernel, name)?);
    done(kernel, |caller| caller.symlinkat(&target, folder as Fd, &name))
}

/// `linkat`.
pub fn make_link(kernel: &mut Kernel, [old_folder, old, new_folder, new, flags]: [u64; 5]) -> Outcome {
    let (old, new) = (path(kernel, old)?, path(kernel, new)?);
    done(kernel, |caller| caller.linkat(old_folder as Fd, &old, new_folder as Fd, &new, flags as u32))
}

/// `renameat2`.
pub fn rename(kernel: &mut Kernel, [old_folder, old, new_folder, new, flags]: [u64; 5]) -> Outcome {
    let (old, new) = (path(kernel, old)?, path(kernel, new)?);
    done(kernel, |caller| caller.renameat2(old_folder as Fd, &old, new_folder as Fd, &new, flags as u32))
}

/// `readlinkat`.
pub fn read_link(kernel: &mut Kernel, folder: u64, name: u64, address: u64, length: u64) -> Outcome {
    if length as i32 <= 0 {
        return Err(Errno::INVAL.into());
    }
    let name = path(kernel, name)?;
    let read = transfer(kernel, &[(address, length)], 0, |caller, sink| {
        caller.readlinkat(folder as Fd, &name, sink)
    })?;
    Ok(read? as u64)
}

/// `chdir`.
pub fn change_directory(kernel: &mut Kernel, name: u64) -> Outcome {
    let name = path(kernel, name)?;
    done(kernel, |caller| caller.chdir(&name))
}

/// `fchdir`.
pub fn change_directory_to(kernel: &mut Kernel, which: u64) -> Outcome {
    done(kernel, |caller| caller.fchdir(which as Fd))
}

/// `getcwd`: its length with the zero byte.
pub fn directory(kernel: &mut Kernel, address: u64, length: u64) -> Outcome {
    let mut name = with(kernel, |caller| caller.getcwd())?;
    name.push(0);
    if (name.len() as u64) > length {
        return Err(Errno::RANGE.into());
    }
    kernel.write(address, &name)?;
    Ok(name.len() as u64)
}

/// `umask`.
pub fn mask(kernel: &mut Kernel, mask: u64) -> Outcome {
    Ok(u64::from(with(kernel, |caller| Ok(caller.umask(mask as u32)))?))
}

// Waiting for readiness.

/// A descriptor that somebody waits for.
#[derive(Clone, Copy)]
struct Watched {
    fd: Fd,
    wanted: Readiness,
    ready: Readiness,
}

/// Looks at all of them; how many are ready. If none is, and it is not over, the keys to wait for.
fn look(kernel: &mut Kernel, watched: &mut [Watched]) -> Result<(u64, Vec<Key>), Stop> {
    let mut count = 0;
    let mut keys = Vec::new();
    with(kernel, |caller| {
        for entry in watched.iter_mut() {
            entry.ready = caller.readiness(entry.fd).intersection(entry.wanted | Readiness::ALWAYS);
            count += u64::from(!entry.ready.is_empty());
            if let Ok(Some(key)) = caller.wait_key(entry.fd)
                && !keys.contains(&Key::File(key))
            {
                keys.push(Key::File(key));
            }
        }
        Ok(())
    })?;
    Ok((count, keys))
}

/// Puts another signal mask in place for the length of a wait.
pub(super) fn mask_for_wait(kernel: &mut Kernel, set: u64, size: u64) -> Result<(), Errno> {
    if set == 0 || kernel.call().is_some() {
        return Ok(());
    }
    if size != 8 {
        return Err(Errno::INVAL);
    }
    let [bits] = kernel.read_words(set)?;
    let thread = kernel.thread()?;
    thread.saved_mask = Some(thread.mask);
    thread.mask = SignalSet(bits).maskable();
    Ok(())
}

/// The old mask comes back when the wait is over.
pub(super) fn unmask(kernel: &mut Kernel) -> Result<(), Errno> {
    let thread = kernel.thread()?;
    if let Some(mask) = thread.saved_mask.take() {
        thread.mask = mask;
    }
    Ok(())
}

/// `ppoll`.
pub fn poll(kernel: &mut Kernel, [address, count, timeout, set, size]: [u64; 5]) -> Outcome {
    if count > POLL_MAX {
        return Err(Errno::INVAL.into());
    }
    let mut watched = Vec::new();
    for index in 0..count {
        let [word] = kernel.read_words(address.wrapping_add(8 * index))?;
        let wanted = Readiness::from_bits_retain((word >> 32) as u32 & 0xffff);
        watched.push(Watched { fd: word as Fd, wanted, ready: Readiness::empty() });
    }
    let deadline = kernel.deadline(|kernel| deadline_after(kernel, timeout))?;
    mask_for_wait(kernel, set, size)?;
    // A negative descriptor is passed over.
    let mut looked: Vec<Watched> = watched.iter().copied().filter(|entry| entry.fd >= 0).collect();
    let (ready, keys) = look(kernel, &mut looked)?;
    if ready == 0 && !kernel.is_over(deadline) {
        return Err(Stop::Wait(Call { deadline, keys, ..Call::default() }));
    }
    unmask(kernel)?;
    let mut results = looked.iter();
    for (index, entry) in watched.iter().enumerate() {
        let ready = if entry.fd < 0 {
            Readiness::empty()
        } else {
            results.next().map_or(Readiness::empty(), |entry| entry.ready)
        };
        kernel.write(address.wrapping_add(8 * index as u64 + 6), &(ready.bits() as u16).to_le_bytes())?;
    }
    Ok(ready)
}

/// `pselect6`.
pub fn select(kernel: &mut Kernel, [count, read, write, except, timeout, mask]: [u64; 6]) -> Outcome {
    if count as i32 > POLL_MAX as i32 || (count as i32) < 0 {
        return Err(Errno::INVAL.into());
    }
    let words = (count as usize).div_ceil(64);
    let kinds = [
        (read, Readiness::READ | Readiness::HANG_UP | Readiness::ERROR),
        (write, Readiness::WRITE | Readiness::ERROR),
        (except, Readiness::URGENT),
    ];
    let mut watched: Vec<(usize, Watched)> = Vec::new();
    for (kind, &(address, wanted)) in kinds.iter().enumerate() {
        for word in 0..if address == 0 { 0 } else { words } {
            let [bits] = kernel.read_words(address + 8 * word as u64)?;
            for bit in (0..64).filter(|bit| bits & 1 << bit != 0 && word * 64 + bit < count as usize) {
                let fd = (word * 64 + bit) as Fd;
                watched.push((kind, Watched { fd, wanted, ready: Readiness::empty() }));
            }
        }
    }
    let deadline = kernel.deadline(|kernel| deadline_after(kernel, timeout))?;
    if mask != 0 {
        let [set, size] = kernel.read_words(mask)?;
        mask_for_wait(kernel, set, size)?;
    }
    let mut looked: Vec<Watched> = watched.iter().map(|(_, entry)| *entry).collect();
    let (_, keys) = look(kernel, &mut looked)?;
    if looked.iter().any(|entry| entry.ready.contains(Readiness::INVALID)) {
        unmask(kernel)?;
        return Err(Errno::BADF.into());
    }
    let ready: Vec<bool> =
        looked.iter().map(|entry| !entry.ready.intersection(entry.wanted).is_empty()).collect();
    let total = ready.iter().filter(|ready| **ready).count() as u64;
    if total == 0 && !kernel.is_over(deadline) {
        return Err(Stop::Wait(Call { deadline, keys, ..Call::default() }));
    }
    unmask(kernel)?;
    for (kind, &(address, _)) in kinds.iter().enumerate().filter(|(_, (address, _))| *address != 0) {
        let mut bits = alloc::vec![0; words];
        for ((of, entry), _) in watched.iter().zip(&ready).filter(|((of, _), ready)| *of == kind && **ready) {
            debug_assert_eq!(*of, kind);
            bits[entry.fd as usize / 64] |= 1 << (entry.fd % 64);
        }
        kernel.write_words(address, &bits)?;
    }
    Ok(total)
}
