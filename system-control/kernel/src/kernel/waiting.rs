//! Threads that wait in a system call, until it is made again.

use handover_kernel::{Errno, clock::Nanoseconds};

use crate::{
    arch,
    task::{Call, Key, State, Tid},
};

use super::Kernel;

impl Kernel {
    /// The state of the caller's system call, if it was tried before.
    pub fn call(&mut self) -> Option<&mut Call> {
        self.tasks.threads.get_mut(&self.current)?.call.as_mut()
    }

    /// Until when the system call waits: `first` says so when it is tried for the first time.
    pub fn deadline(
        &mut self,
        first: impl FnOnce(&mut Kernel) -> Result<Option<Nanoseconds>, Errno>,
    ) -> Result<Option<Nanoseconds>, Errno> {
        match self.call() {
            Some(call) => Ok(call.deadline),
            None => first(self),
        }
    }

    /// Whether a deadline has passed.
    pub fn is_over(&self, deadline: Option<Nanoseconds>) -> bool {
        deadline.is_some_and(|deadline| deadline <= self.now())
    }

    /// Has the current thread wait.
    pub(super) fn block(&mut self, call: Call) {
        let tid = self.current;
        if let Some(deadline) = call.deadline {
            self.timers.add(self.rate.ticks(deadline), tid);
        }
        for &key in &call.keys {
            self.sleepers.entry(key).or_default().push(tid);
        }
        if let Ok(thread) = self.thread() {
            thread.call = Some(call);
            thread.state = State::Blocked;
        }
    }

    /// Has a thread go on that waits: its system call is tried again.
    pub fn wake(&mut self, tid: Tid) {
        let Some(thread) = self.tasks.threads.get_mut(&tid) else { return };
        match thread.state {
            State::Blocked => thread.state = State::Ready,
            State::Stopped { blocked: true } => thread.state = State::Stopped { blocked: false },
            _ => return,
        }
        let ready = thread.state == State::Ready;
        self.forget_waiting(tid);
        if ready {
            self.make_ready(tid);
        }
    }

    /// Takes a thread out of everything it waits in, but for a futex that it is still queued at.
    fn forget_waiting(&mut self, tid: Tid) {
        let Some(call) = self.tasks.threads.get(&tid).and_then(|thread| thread.call.as_ref()) else { return };
        if let Some(deadline) = call.deadline {
            self.timers.remove(self.rate.ticks(deadline), tid);
        }
        for key in &call.keys {
            if let Some(sleepers) = self.sleepers.get_mut(key) {
                sleepers.retain(|&other| other != tid);
                if sleepers.is_empty() {
                    self.sleepers.remove(key);
                }
            }
        }
    }

    /// Takes a thread out of its futex's queue.
    pub fn leave_futex(&mut self, tid: Tid) {
        let Some(call) = self.tasks.threads.get_mut(&tid).and_then(|thread| thread.call.as_mut()) else {
            return;
        };
        if let Some(word) = call.futex.take() {
            self.futexes.remove(word, tid);
        }
    }

    /// Wakes everybody who waits for something.
    pub fn wake_all(&mut self, key: Key) {
        for tid in self.sleepers.remove(&key).unwrap_or_default() {
            self.wake(tid);
        }
    }

    /// A new thread is ready, or one whose process goes on.
    pub fn make_ready(&mut self, tid: Tid) {
        let user = self.tasks.threads.get(&tid).map_or(0, |thread| thread.user);
        self.ready.push(user, tid);
    }

    /// A thread ends: nothing knows it any more.
    pub fn forget_thread(&mut self, tid: Tid) {
        self.forget_waiting(tid);
        self.leave_futex(tid);
        if let Some(thread) = self.tasks.threads.get(&tid) {
            self.ready.remove(thread.user, tid);
        }
        self.tasks.threads.remove(&tid);
        if self.loaded == Some(tid) {
            self.loaded = None;
        }
    }

    /// An address space is about to go: it must not be in place.
    pub fn leave_space(&mut self, id: u64) {
        if self.space == Some(id) {
            arch::set_address_space(self.nowhere, 0);
            self.space = None;
        }
    }
}
