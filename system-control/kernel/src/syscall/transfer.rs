//! Reading and writing files, and where in them. What a file does is decided in `handover_files`.

use alloc::vec::Vec;

use handover_files::{Caller, Errno, Fd, Seek};
use handover_kernel::{
    frames::Frames,
    signal::{Info, Signal},
};

use super::{
    Outcome, Stop,
    file::{done, path, with},
};
use crate::{
    kernel::Kernel,
    task::{Call, Key},
    user::Buffers,
};

/// The most buffers of one transfer.
const BUFFERS_MAX: u64 = 1024;
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

/// Has a call fill or empty a program's buffers, without their first `skip` bytes.
pub(super) fn transfer(
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
