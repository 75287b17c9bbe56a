//! What open descriptions are ready for, and what tells when that changes.

use bitflags::bitflags;
use linux_raw_sys::general::{
    POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI, POLLRDHUP, POLLRDNORM, POLLWRNORM,
};

use crate::{
    files::{Files, WaitKey, Waitable},
    node::Device,
    open::{Object, Open},
    pipe::{ATOMIC, End},
    system::System,
};

bitflags! {
    /// What a descriptor is ready for, with the values of `poll` (and of `epoll`, which are the same).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Readiness: u32 {
        /// There is something to read, or its end.
        const READ = POLLIN;
        /// Something urgent.
        const URGENT = POLLPRI;
        /// There is room to write.
        const WRITE = POLLOUT;
        /// It failed, or writing would. Told without being asked for.
        const ERROR = POLLERR;
        /// The other end is gone. Told without being asked for.
        const HANG_UP = POLLHUP;
        /// No such descriptor. Told without being asked for.
        const INVALID = POLLNVAL;
        /// As [`READ`](Readiness::READ).
        const READ_NORMAL = POLLRDNORM;
        /// As [`WRITE`](Readiness::WRITE).
        const WRITE_NORMAL = POLLWRNORM;
        /// The other end writes no more.
        const READ_HANG_UP = POLLRDHUP;
        const _ = !0;
    }
}

impl Readiness {
    pub(crate) const IN: Readiness = Readiness::READ.union(Readiness::READ_NORMAL);
    pub(crate) const OUT: Readiness = Readiness::WRITE.union(Readiness::WRITE_NORMAL);
    /// What is told whether it was asked for or not.
    pub const ALWAYS: Readiness = Readiness::ERROR.union(Readiness::HANG_UP).union(Readiness::INVALID);
}

impl Files {
    pub(crate) fn wait_key_of(open: &Open) -> Option<WaitKey> {
        let what = match open.object {
            Object::Pipe { pipe, .. } => Waitable::Pipe(pipe),
            Object::Device(Device::Terminal) => Waitable::Terminal,
            Object::Device(Device::Control) => Waitable::Control,
            Object::Counter(counter) => Waitable::Counter(counter),
            Object::Epoll(epoll) => Waitable::Epoll(epoll),
            Object::Socket(socket) => Waitable::Socket(socket),
            Object::Pair(end) => Waitable::Pair(end.pair),
            Object::File | Object::Path | Object::Device(_) => return None,
        };
        Some(WaitKey(what))
    }

    /// How often something that can become ready has changed.
    pub(crate) fn changes_of(&self, open: u32) -> u64 {
        let Ok(open) = self.open(open) else { return 0 };
        let changes = match open.object {
            Object::Pipe { pipe, .. } => self.pipes.get(pipe).map(|pipe| pipe.changes),
            Object::Device(Device::Terminal) => Some(self.terminal.changes),
            Object::Device(Device::Control) => Some(self.signals.next()),
            Object::Counter(counter) => self.counters.get(counter).map(|counter| counter.changes),
            Object::Epoll(epoll) => self.epolls.get(epoll).map(|epoll| epoll.changes),
            Object::Socket(socket) => self.sockets.get(socket).map(|socket| socket.changes),
            Object::Pair(end) => self.pairs.get(end.pair).map(|pair| pair.changes),
            Object::File | Object::Path | Object::Device(_) => None,
        };
        changes.unwrap_or_default()
    }

    pub(crate) fn readiness_of(&mut self, open: u32, system: &mut dyn System) -> Readiness {
        let Ok(open) = self.open(open) else { return Readiness::INVALID };
        match open.object {
            Object::File | Object::Device(Device::Null | Device::Zero | Device::Full | Device::Random) => {
                Readiness::IN | Readiness::OUT
            }
            Object::Device(Device::Absent) | Object::Path => Readiness::empty(),
            Object::Device(Device::Control) if open.position < self.signals.next() => Readiness::IN,
            Object::Device(Device::Control) => Readiness::empty(),
            Object::Device(Device::Terminal) => {
                if self.terminal.readable() {
                    Readiness::IN | Readiness::OUT
                } else {
                    Readiness::OUT
                }
            }
            Object::Pipe { pipe, end } => self.pipe_readiness(pipe, end),
            Object::Counter(counter) => {
                let Some(counter) = self.counters.get(counter) else { return Readiness::INVALID };
                let mut ready = Readiness::empty();
                ready.set(Readiness::IN, counter.value > 0);
                ready.set(Readiness::OUT, counter.can_be_added_to());
                ready
            }
            Object::Epoll(epoll) => {
                if self.epoll_has_ready(epoll, system) {
                    Readiness::IN
                } else {
                    Readiness::empty()
                }
            }
            Object::Socket(socket) => self.socket_readiness(socket, system),
            Object::Pair(end) => {
                self.pairs.get(end.pair).map_or(Readiness::INVALID, |pair| pair.readiness(end.second))
            }
        }
    }

    fn pipe_readiness(&self, pipe: u32, end: End) -> Readiness {
        let Some(pipe) = self.pipes.get(pipe) else { return Readiness::INVALID };
        let mut ready = Readiness::empty();
        if end != End::Write {
            ready.set(Readiness::IN, pipe.length() > 0);
            ready.set(Readiness::HANG_UP, pipe.writers == 0 && pipe.had_writer);
        }
        if end != End::Read {
            ready |= if pipe.room() >= ATOMIC { Readiness::OUT } else { Readiness::empty() };
            ready.set(Readiness::ERROR, pipe.readers == 0);
        }
        ready
    }
}
