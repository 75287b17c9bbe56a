//! Processes and threads.

use handover_files::{Descriptors, USERS_MAX};
use handover_kernel::{
    Errno,
    clock::{Nanoseconds, SECOND},
    layout::{PAGE, STACK_SIZE},
    limits::THREADS_MAX,
    users::Limit,
};
use linux_raw_sys::{general as linux, prctl};

use super::Outcome;
use crate::{
    kernel::Kernel,
    task::{Pid, Process, short_name},
};

/// `getppid`.
pub fn parent(kernel: &mut Kernel) -> Outcome {
    Ok(u64::from(kernel.process()?.parent))
}

/// `getuid`, `geteuid`.
pub fn user(kernel: &mut Kernel) -> Outcome {
    Ok(u64::from(kernel.thread()?.user))
}

/// `setuid`: from then on the user pays for what is made. For user 0 alone.
pub fn set_user(kernel: &mut Kernel, user: u64) -> Outcome {
    let user = user as u32;
    let own = kernel.thread()?.user;
    if own != 0 && user != own {
        return Err(Errno::PERM.into());
    }
    if user >= USERS_MAX {
        return Err(Errno::INVAL.into());
    }
    kernel.thread()?.user = user;
    kernel.process()?.user = user;
    kernel.pay();
    Ok(0)
}

/// `setgid`: everybody is in group 0.
pub fn set_user_group(group: u64) -> Outcome {
    if group as u32 == 0 { Ok(0) } else { Err(Errno::PERM.into()) }
}

/// `setgroups`: there are no others.
pub fn set_groups(count: u64) -> Outcome {
    if count == 0 { Ok(0) } else { Err(Errno::PERM.into()) }
}

/// `set_tid_address`.
pub fn set_tid_address(kernel: &mut Kernel, address: u64) -> Outcome {
    kernel.thread()?.clear_at_end = address;
    Ok(u64::from(kernel.current))
}

fn named(kernel: &mut Kernel, pid: u64) -> Result<&mut Process, Errno> {
    let pid = if pid as Pid == 0 { kernel.pid() } else { pid as Pid };
    kernel.tasks.processes.get_mut(&pid).ok_or(Errno::SRCH)
}

/// `setpgid`.
pub fn set_group(kernel: &mut Kernel, pid: u64, group: u64) -> Outcome {
    let caller = kernel.pid();
    let session = kernel.process()?.session;
    let process = named(kernel, pid)?;
    if process.pid != caller && process.parent != caller {
        return Err(Errno::SRCH.into());
    }
    if process.session != session || process.session == process.pid {
        return Err(Errno::PERM.into());
    }
    let group = if group as Pid == 0 { process.pid } else { group as Pid };
    let own = group == process.pid;
    let pid = process.pid;
    let there =
        kernel.tasks.processes.values().any(|process| process.group == group && process.session == session);
    if !own && !there {
        return Err(Errno::PERM.into());
    }
    named(kernel, u64::from(pid))?.group = group;
    Ok(0)
}

/// `getpgid`.
pub fn group(kernel: &mut Kernel, pid: u64) -> Outcome {
    Ok(u64::from(named(kernel, pid)?.group))
}

/// `setsid`.
pub fn set_session(kernel: &mut Kernel) -> Outcome {
    let pid = kernel.pid();
    if kernel.tasks.processes.values().any(|process| process.group == pid) {
        return Err(Errno::PERM.into());
    }
    let process = kernel.process()?;
    (process.group, process.session) = (pid, pid);
    Ok(u64::from(pid))
}

/// `getsid`.
pub fn session(kernel: &mut Kernel, pid: u64) -> Outcome {
    Ok(u64::from(named(kernel, pid)?.session))
}

/// `prctl`: a thread's name is its process's here.
pub fn control(kernel: &mut Kernel, option: u64, address: u64) -> Outcome {
    match option as u32 {
        prctl::PR_SET_NAME => {
            let name = kernel.read_string(address, 16)?.unwrap_or_default();
            if kernel.current == kernel.pid() {
                kernel.process()?.name = short_name(&name);
            }
            Ok(0)
        }
        prctl::PR_GET_NAME => {
            let mut bytes = [0; 16];
            let name = &kernel.process()?.name;
            bytes[..name.len()].copy_from_slice(name);
            kernel.write(address, &bytes)?;
            Ok(0)
        }
        _ => Err(Errno::INVAL.into()),
    }
}

/// `prlimit64`. What a user may have in memory (`RLIMIT_RSS`), and in proportion of everything else, and a process's number of descriptors
/// can be set; other limits can be "set" to what they are, or to more than that.
pub fn limit(kernel: &mut Kernel, pid: u64, which: u64, new: u64, old: u64) -> Outcome {
    let caller = kernel.thread()?.user;
    let process = named(kernel, pid)?;
    let (pid, user) = (process.pid, process.user);
    if caller != 0 && caller != user {
        return Err(Errno::PERM.into());
    }
    let there = there(kernel, pid, user, which as u32)?;
    let wanted = match new {
        0 => None,
        new => Some(kernel.read_words(new)?),
    };
    if old != 0 {
        kernel.write_words(old, &there)?;
    }
    match wanted {
        None => Ok(0),
        Some([soft, hard]) if soft > hard => Err(Errno::INVAL.into()),
        Some(wanted) => set(kernel, (pid, user), which as u32, there, wanted),
    }
}

/// A limit as it is: soft and hard.
fn there(kernel: &mut Kernel, pid: Pid, user: u32, which: u32) -> Result<[u64; 2], Errno> {
    const NONE: u64 = u64::MAX;
    let payer = kernel.users.payer(user);
    let limit = match which {
        linux::RLIMIT_NOFILE => {
            let process = kernel.tasks.processes.get(&pid).ok_or(Errno::SRCH)?;
            let descriptors = process.descriptors.as_ref().ok_or(Errno::SRCH)?;
            return Ok([descriptors.borrow().limit() as u64, process.descriptors_max]);
        }
        linux::RLIMIT_RSS => {
            let Limit { soft, hard } = kernel.users.limit(user);
            return Ok([soft * PAGE, hard * PAGE]);
        }
        linux::RLIMIT_STACK => STACK_SIZE,
        linux::RLIMIT_NPROC => payer.part(THREADS_MAX as u64),
        linux::RLIMIT_AS | linux::RLIMIT_DATA => {
            kernel.limits.space.min(payer.part(kernel.frames.total())) * PAGE
        }
        linux::RLIMIT_CORE => 0,
        which if which < linux::RLIM_NLIMITS => NONE,
        _ => return Err(Errno::INVAL),
    };
    Ok([limit, limit])
}

fn set(
    kernel: &mut Kernel,
    (pid, user): (Pid, u32),
    which: u32,
    there: [u64; 2],
    [soft, hard]: [u64; 2],
) -> Outcome {
    let privileged = kernel.payer().user() == 0;
    match which {
        linux::RLIMIT_RSS => {
            // To the next page below; no limit is as much as may be.
            let [soft, hard] =
                [soft, hard].map(|bytes| if bytes == u64::MAX { there[1] / PAGE } else { bytes / PAGE });
            kernel.users.set(user, Limit { soft, hard }, privileged)?;
            let payer = kernel.payer().user();
            kernel.set_payer(payer);
        }
        linux::RLIMIT_NOFILE => {
            let raises = hard > there[1] && !privileged;
            let process = kernel.tasks.processes.get_mut(&pid).ok_or(Errno::SRCH)?;
            let descriptors = process.descriptors.as_ref().ok_or(Errno::SRCH)?;
            if raises || hard > Descriptors::LIMIT as u64 {
                return Err(Errno::PERM.into());
            }
            descriptors.borrow_mut().set_limit(soft as usize);
            process.descriptors_max = hard;
        }
        _ if hard > there[1] => return Err(Errno::PERM.into()),
        _ => {}
    }
    Ok(0)
}

/// Writes a `rusage` with a process's time.
pub fn write_usage(kernel: &mut Kernel, address: u64, used: Nanoseconds) -> Result<(), Errno> {
    let mut words = [0; size_of::<linux::rusage>() / 8];
    (words[0], words[1]) = (used / SECOND, used % SECOND / 1000);
    kernel.write_words(address, &words)
}

/// `getrusage`.
pub fn usage(kernel: &mut Kernel, who: u64, address: u64) -> Outcome {
    let used = kernel.used();
    let used = match who as i32 {
        0 | 1 => used,
        -1 => kernel.process()?.children_used,
        _ => return Err(Errno::INVAL.into()),
    };
    write_usage(kernel, address, used)?;
    Ok(0)
}

/// `times`, in hundredths of a second.
pub fn times(kernel: &mut Kernel, address: u64) -> Outcome {
    const TICK: u64 = SECOND / 100;
    let used = kernel.used();
    let children = kernel.process()?.children_used;
    if address != 0 {
        kernel.write_words(address, &[used / TICK, 0, children / TICK, 0])?;
    }
    Ok(kernel.now() / TICK)
}
