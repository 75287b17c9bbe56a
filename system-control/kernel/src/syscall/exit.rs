//! The end of threads and processes, and what they leave.

use alloc::rc::Rc;
use core::cell::RefCell;

use handover_files::Descriptors;
use handover_kernel::signal::{Action, Info, Signal};
use linux_raw_sys::general as linux;

use super::{Outcome, Stop, futex};
use crate::{
    first::FIRST,
    kernel::Kernel,
    memory::Space,
    task::{End, Key, Pid},
};

/// `exit`: of the thread alone.
pub fn exit_thread(kernel: &mut Kernel, status: u64) -> Outcome {
    let (tid, pid) = (kernel.current, kernel.pid());
    if kernel.process()?.threads.len() == 1 {
        return exit(kernel, status);
    }
    let clear = kernel.thread()?.clear_at_end;
    if clear != 0 && kernel.write(clear, &[0; 4]).is_ok() {
        futex::wake_at(kernel, clear);
    }
    if let Some(process) = kernel.tasks.processes.get_mut(&pid) {
        process.threads.retain(|&other| other != tid);
    }
    kernel.forget_thread(tid);
    Err(Stop::Replaced)
}

/// `exit_group`.
pub fn exit(kernel: &mut Kernel, status: u64) -> Outcome {
    let pid = kernel.pid();
    kernel.end_process(pid, End::Exited(status as u8));
    Err(Stop::Replaced)
}

impl Kernel {
    /// A process lets go of its descriptors.
    pub(super) fn release_descriptors(&mut self, descriptors: Option<Rc<RefCell<Descriptors>>>) {
        if let Some(descriptors) = descriptors.and_then(Rc::into_inner) {
            self.with_host(0, |files, host| descriptors.into_inner().close_all(files, host));
        }
    }

    /// A process lets go of an address space.
    pub fn release_space(&mut self, space: Rc<RefCell<Space>>) {
        if let Ok(space) = Rc::try_unwrap(space) {
            self.destroy_space(space.into_inner());
        }
    }

    /// Gives an address space back.
    pub fn destroy_space(&mut self, space: Space) {
        self.leave_space(space.id);
        let asid = space.asid;
        space.destroy(&mut self.frames);
        self.asids.release(asid);
    }

    /// A process ends.
    pub fn end_process(&mut self, pid: Pid, end: End) {
        let Some(process) = self.tasks.processes.get_mut(&pid) else { return };
        if process.end.is_some() {
            return;
        }
        process.end = Some(end);
        let (parent, signal) = (process.parent, process.end_signal);
        let threads = core::mem::take(&mut process.threads);
        let (space, descriptors) = (process.space.take(), process.descriptors.take());
        if self.pid() == pid {
            self.used();
        }
        for tid in threads {
            self.forget_thread(tid);
        }
        if let Some(space) = space {
            self.release_space(space);
        }
        self.release_descriptors(descriptors);
        // Who exits leaves its message files to its parent; who is killed, to nobody.
        let heir = self
            .tasks
            .processes
            .get(&parent)
            .filter(|heir| heir.end.is_none() && matches!(end, End::Exited(_)));
        let heir = heir.map(|heir| heir.pid);
        self.with_host(pid, |files, host| files.process_ended(pid, heir, host));
        if pid == FIRST {
            self.first.ended = Some(end);
        }
        self.give_children_away(pid);
        self.wake_all(Key::Released(pid));
        self.tell_end(pid, parent, end, signal);
    }

    /// The first process becomes the parent of a process's children, without being told of their ends: it knows nothing of them, and those
    /// that nobody asks for would fill the table.
    fn give_children_away(&mut self, pid: Pid) {
        self.tasks.processes.retain(|_, child| child.parent != pid || child.end.is_none());
        for child in self.tasks.processes.values_mut().filter(|child| child.parent == pid) {
            child.parent = FIRST;
            child.orphan = true;
        }
    }

    fn tell_end(&mut self, pid: Pid, parent: Pid, end: End, signal: u8) {
        let ignored = self.tasks.processes.get(&parent).is_none_or(|parent| {
            let actions = parent.actions.borrow();
            let action = actions.get(Signal::CHLD);
            action.handler == Action::IGNORE || action.has(linux::SA_NOCLDWAIT)
        });
        let orphan = self.tasks.processes.get(&pid).is_some_and(|process| process.orphan);
        if ignored || orphan {
            self.tasks.processes.remove(&pid);
            self.wake_all(Key::Child(parent));
            return;
        }
        let (code, status) = match end {
            End::Exited(status) => (linux::CLD_EXITED, i32::from(status)),
            End::Killed(signal) => (linux::CLD_KILLED, i32::from(signal)),
        };
        let info = Info { code: code as i32, value: u64::from(pid), status };
        if let Some(signal) = Signal::new(u64::from(signal)) {
            self.send_signal(parent, signal, info);
        }
        self.wake_all(Key::Child(parent));
    }
}
