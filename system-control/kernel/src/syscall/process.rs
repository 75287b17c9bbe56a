//! Processes and threads.

use handover_files::Descriptors;
use handover_kernel::{
    Errno,
    clock::{Nanoseconds, SECOND},
    layout::{PAGE, STACK_SIZE},
    limits::PROCESSES_MAX,
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

/// `setuid`, `setgid`: everybody is root.
pub fn set_user(id: u64) -> Outcome {
    if id as u32 == 0 { Ok(0) } else { Err(Errno::PERM.into()) }
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

/// `prlimit64`: limits can be read, and "set" to what they are.
pub fn limit(kernel: &mut Kernel, pid: u64, which: u64, new: u64, old: u64) -> Outcome {
    named(kernel, pid)?;
    const NONE: u64 = u64::MAX;
    let limit = match which as u32 {
        linux::RLIMIT_STACK => STACK_SIZE,
        linux::RLIMIT_NPROC => PROCESSES_MAX as u64,
        linux::RLIMIT_NOFILE => Descriptors::LIMIT as u64,
        linux::RLIMIT_AS | linux::RLIMIT_DATA | linux::RLIMIT_RSS => kernel.limits.space * PAGE,
        linux::RLIMIT_CORE => 0,
        which if which < linux::RLIM_NLIMITS => NONE,
        _ => return Err(Errno::INVAL.into()),
    };
    if old != 0 {
        kernel.write_words(old, &[limit, limit])?;
    }
    if new != 0 {
        let [soft, hard] = kernel.read_words(new)?;
        if soft > hard {
            return Err(Errno::INVAL.into());
        }
        if hard > limit {
            return Err(Errno::PERM.into());
        }
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
