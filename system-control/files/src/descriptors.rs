//! A process's descriptors, with its working directory and file mode mask.

use alloc::vec::Vec;

use crate::{Errno, files::Files, node::Node, system::System};

/// A descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Number of the open description.
    pub(crate) open: u32,
    pub(crate) close_on_exec: bool,
}

/// A process's descriptor table; its threads share it.
///
/// It has to be given back by [`close_all`](Descriptors::close_all): what it holds belongs to [`Files`].
#[derive(Debug)]
pub struct Descriptors {
    slots: Vec<Option<Slot>>,
    limit: usize,
    pub(crate) folder: Node,
    pub(crate) mask: u32,
}

impl Descriptors {
    /// How many descriptors a new table may have.
    pub const LIMIT: usize = 1024;

    pub(crate) fn new(folder: Node) -> Descriptors {
        Descriptors { slots: Vec::new(), limit: Descriptors::LIMIT, folder, mask: 0o022 }
    }

    /// What a child process gets: descriptors of its own for the same open descriptions.
    #[must_use]
    pub fn fork(&self, files: &mut Files) -> Descriptors {
        for slot in self.slots.iter().flatten() {
            files.hold_open(slot.open);
        }
        files.hold_node(self.folder);
        Descriptors { slots: self.slots.clone(), ..*self }
    }

    /// Closes what is not for another program to see.
    pub fn exec(&mut self, files: &mut Files, system: &mut dyn System) {
        for slot in &mut self.slots {
            if slot.is_some_and(|slot| slot.close_on_exec)
                && let Some(slot) = slot.take()
            {
                files.release_open(slot.open, system);
            }
        }
        self.trim();
    }

    /// Closes everything.
    pub fn close_all(mut self, files: &mut Files, system: &mut dyn System) {
        for slot in core::mem::take(&mut self.slots).into_iter().flatten() {
            files.release_open(slot.open, system);
        }
        files.release_node(self.folder);
    }

    /// One more than the highest descriptor there may be.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Sets it (`RLIMIT_NOFILE`); what is open already stays.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The descriptors that are open, lowest first.
    pub fn open(&self) -> impl Iterator<Item = i32> {
        self.slots.iter().enumerate().filter(|(_, slot)| slot.is_some()).map(|(fd, _)| fd as i32)
    }

    pub(crate) fn get(&self, fd: i32) -> Result<Slot, Errno> {
        let fd = usize::try_from(fd).map_err(|_| Errno::BADF)?;
        self.slots.get(fd).copied().flatten().ok_or(Errno::BADF)
    }

    pub(crate) fn get_mut(&mut self, fd: i32) -> Result<&mut Slot, Errno> {
        let fd = usize::try_from(fd).map_err(|_| Errno::BADF)?;
        self.slots.get_mut(fd).and_then(Option::as_mut).ok_or(Errno::BADF)
    }

    /// The lowest free descriptor from `first` on.
    pub(crate) fn lowest(&self, first: usize) -> Result<usize, Errno> {
        let free = self.slots.iter().skip(first).position(Option::is_none);
        let fd = free.map_or_else(|| self.slots.len().max(first), |offset| first + offset);
        if fd < self.limit { Ok(fd) } else { Err(Errno::MFILE) }
    }

    /// Has a descriptor stand for something; what it stood for before.
    pub(crate) fn set(&mut self, fd: usize, slot: Slot) -> Option<Slot> {
        if fd >= self.slots.len() {
            self.slots.resize(fd + 1, None);
        }
        self.slots.get_mut(fd)?.replace(slot)
    }

    pub(crate) fn take(&mut self, fd: i32) -> Result<Slot, Errno> {
        self.get(fd)?;
        let slot = usize::try_from(fd).ok().and_then(|fd| self.slots.get_mut(fd)?.take());
        self.trim();
        slot.ok_or(Errno::BADF)
    }

    /// The number behind the last open descriptor.
    pub(crate) fn end(&self) -> usize {
        self.slots.len()
    }

    fn trim(&mut self) {
        while let Some(None) = self.slots.last() {
            self.slots.pop();
        }
    }
}
