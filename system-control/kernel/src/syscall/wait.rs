//! Waiting for children.

use handover_kernel::{
    Errno,
    signal::{Info, Signal},
    signal_frame::siginfo,
};
use linux_raw_sys::general as linux;

use super::{Outcome, Stop, process::write_usage};
use crate::{
    kernel::Kernel,
    task::{Call, End, Key, News, Pid, Process},
};

/// Which children.
#[derive(Clone, Copy, Debug)]
enum Which {
    Any,
    One(Pid),
    Group(Pid),
}

impl Which {
    fn is(self, process: &Process) -> bool {
        match self {
            Which::Any => true,
            Which::One(pid) => process.pid == pid,
            Which::Group(group) => process.group == group,
        }
    }
}

/// What there is to tell about a child.
#[derive(Clone, Copy, Debug)]
enum Told {
    Ended(End),
    News(News),
}

impl Told {
    fn status(self) -> i32 {
        match self {
            Told::Ended(end) => end.status(),
            Told::News(News::Stopped(signal)) => i32::from(signal) << 8 | 0x7f,
            Told::News(News::Continued) => 0xffff,
        }
    }

    fn info(self, pid: Pid) -> Info {
        let (code, status) = match self {
            Told::Ended(End::Exited(status)) => (linux::CLD_EXITED, i32::from(status)),
            Told::Ended(End::Killed(signal)) => (linux::CLD_KILLED, i32::from(signal)),
            Told::News(News::Stopped(signal)) => (linux::CLD_STOPPED, i32::from(signal)),
            Told::News(News::Continued) => (linux::CLD_CONTINUED, i32::from(Signal::CONT.number())),
        };
        Info { code: code as i32, value: u64::from(pid), status }
    }
}

/// The first child with something to tell that the options ask for.
fn find(kernel: &Kernel, which: Which, options: u32) -> Result<Option<(Pid, Told)>, Errno> {
    let mut any = false;
    for child in kernel.tasks.children(kernel.pid()).filter(|child| which.is(child)) {
        any = true;
        let told = match (child.end, child.news) {
            (Some(end), _) if options & linux::WEXITED != 0 => Told::Ended(end),
            (None, Some(news @ News::Stopped(_))) if options & linux::WSTOPPED != 0 => Told::News(news),
            (None, Some(news @ News::Continued)) if options & linux::WCONTINUED != 0 => Told::News(news),
            _ => continue,
        };
        return Ok(Some((child.pid, told)));
    }
    if any { Ok(None) } else { Err(Errno::CHILD) }
}

/// It is told now: an ended child is gone for good.
fn tell(kernel: &mut Kernel, pid: Pid, told: Told) {
    match told {
        Told::Ended(_) => {
            if let Some(child) = kernel.tasks.processes.remove(&pid)
                && let Ok(parent) = kernel.process()
            {
                parent.children_used += child.used + child.children_used;
            }
        }
        Told::News(_) => {
            if let Some(child) = kernel.tasks.processes.get_mut(&pid) {
                child.news = None;
            }
        }
    }
}

fn wait_on(kernel: &Kernel) -> Stop {
    Stop::Wait(Call { keys: [Key::Child(kernel.pid())].into(), restarts: true, ..Call::default() })
}

/// `wait4`.
pub fn wait4(kernel: &mut Kernel, pid: u64, status: u64, options: u64, usage: u64) -> Outcome {
    let options = options as u32;
    if options & !(linux::WNOHANG | linux::WUNTRACED | linux::WCONTINUED) != 0 {
        return Err(Errno::INVAL.into());
    }
    let which = match pid as i32 {
        -1 => Which::Any,
        0 => Which::Group(kernel.process()?.group),
        pid if pid > 0 => Which::One(pid as Pid),
        group => Which::Group(group.unsigned_abs()),
    };
    let Some((pid, told)) = find(kernel, which, options | linux::WEXITED)? else {
        return if options & linux::WNOHANG != 0 { Ok(0) } else { Err(wait_on(kernel)) };
    };
    if status != 0 {
        kernel.write(status, &told.status().to_le_bytes())?;
    }
    if usage != 0 {
        let used = kernel.tasks.processes.get(&pid).map_or(0, |child| child.used);
        write_usage(kernel, usage, used)?;
    }
    tell(kernel, pid, told);
    Ok(u64::from(pid))
}

/// `waitid`.
pub fn waitid(kernel: &mut Kernel, kind: u64, id: u64, info: u64, options: u64, usage: u64) -> Outcome {
    let options = options as u32;
    let states = linux::WEXITED | linux::WSTOPPED | linux::WCONTINUED;
    if options & !(states | linux::WNOHANG | linux::WNOWAIT) != 0 || options & states == 0 {
        return Err(Errno::INVAL.into());
    }
    let which = match kind as u32 {
        linux::P_ALL => Which::Any,
        linux::P_PID => Which::One(id as Pid),
        linux::P_PGID if id as Pid == 0 => Which::Group(kernel.process()?.group),
        linux::P_PGID => Which::Group(id as Pid),
        _ => return Err(Errno::INVAL.into()),
    };
    let found = find(kernel, which, options)?;
    if found.is_none() && options & linux::WNOHANG == 0 {
        return Err(wait_on(kernel));
    }
    if info != 0 {
        let bytes = found.map_or([0; 128], |(pid, told)| siginfo(Signal::CHLD, &told.info(pid)));
        kernel.write(info, &bytes)?;
    }
    let Some((pid, told)) = found else { return Ok(0) };
    if usage != 0 {
        let used = kernel.tasks.processes.get(&pid).map_or(0, |child| child.used);
        write_usage(kernel, usage, used)?;
    }
    if options & linux::WNOWAIT == 0 {
        tell(kernel, pid, told);
    }
    Ok(0)
}
