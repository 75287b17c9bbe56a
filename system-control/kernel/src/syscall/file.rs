//! Files: descriptors, transfers, waiting for readiness. What a file does is decided in `handover_files`.

use alloc::vec::Vec;

use handover_files::{
    Caller, Errno, Fd, IOCTL_BUFFER, Metadata, SetTime, Time, interface::CONTROL_CALL, ioctl_shape,
};
use handover_kernel::clock::join;
use linux_raw_sys::general as linux;

use super::{Outcome, Stop, control, transfer::transfer};
use crate::kernel::Kernel;

/// Bytes of a path, its zero byte included.
const PATH_MAX: usize = 4096;
/// Calls `call` with the files.
pub(super) fn with<R>(
    kernel: &mut Kernel,
    call: impl FnOnce(&mut Caller<'_>) -> Result<R, Errno>,
) -> Result<R, Stop> {
    Ok(kernel.with_files(|caller, _| call(caller))??)
}

/// Calls `call` where only success matters.
pub(super) fn done(kernel: &mut Kernel, call: impl FnOnce(&mut Caller<'_>) -> Result<(), Errno>) -> Outcome {
    with(kernel, call)?;
    Ok(0)
}

/// Calls `call` where a descriptor comes of it.
fn fd(kernel: &mut Kernel, call: impl FnOnce(&mut Caller<'_>) -> Result<Fd, Errno>) -> Outcome {
    Ok(with(kernel, call)? as u64)
}

pub(super) fn path(kernel: &mut Kernel, address: u64) -> Result<Vec<u8>, Errno> {
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
