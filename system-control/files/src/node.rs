//! Inodes: files, directories, links and devices of the tree.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use linux_raw_sys::general::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG};

use crate::{contents::Contents, proc::Entry, system::Time};

/// Something that a path can lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// By its number in the arena.
    Inode(u32),
    /// Below `/proc`, where nothing is stored.
    Proc(Entry),
}

/// A device that a file stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// `/dev/null`.
    Null,
    /// `/dev/zero`.
    Zero,
    /// `/dev/full`.
    Full,
    /// `/dev/random` and `/dev/urandom`.
    Random,
    /// `/dev/tty` and `/dev/console`.
    Terminal,
    /// `/dev/control`: what happens to partitions; the kernel adds the control OS's calls.
    Control,
    /// One that this kernel does not have.
    Absent,
}

/// A name in a directory.
#[derive(Debug)]
struct Name {
    node: Node,
    /// Its place in the list.
    place: u64,
    /// The user who pays for it.
    payer: u8,
}

/// A directory's entries.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    entries: BTreeMap<Arc<[u8]>, Name>,
    /// In the order in which they were made, which is how they are listed: a place in the list stays good while others go.
    order: BTreeMap<u64, Arc<[u8]>>,
    next: u64,
}

impl Directory {
    pub(crate) fn get(&self, name: &[u8]) -> Option<Node> {
        self.entries.get(name).map(|entry| entry.node)
    }

    /// Adds an entry, or has the one of that name lead elsewhere.
    pub(crate) fn insert(&mut self, name: &Arc<[u8]>, node: Node, payer: u8) {
        if let Some(there) = self.entries.get_mut(name) {
            there.node = node;
            return;
        }
        self.entries.insert(name.clone(), Name { node, place: self.next, payer });
        self.order.insert(self.next, name.clone());
        self.next += 1;
    }

    /// What the entry led to, and the user who has paid for it.
    pub(crate) fn remove(&mut self, name: &[u8]) -> Option<(Node, u8)> {
        let Name { node, place, payer } = self.entries.remove(name)?;
        self.order.remove(&place);
        Some((node, payer))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first entry at or behind a place: its place, name and node.
    pub(crate) fn at(&self, place: u64) -> Option<(u64, &Arc<[u8]>, Node)> {
        let (&place, name) = self.order.range(place..).next()?;
        Some((place, name, self.get(name)?))
    }
}

/// What an inode is.
#[derive(Debug)]
pub(crate) enum Body {
    Directory(Directory),
    /// A file where it lies in the boot archive.
    Archive(&'static [u8]),
    /// A file in memory.
    Memory(Contents),
    /// A symbolic link's target, and the user who pays for it.
    Link(Vec<u8>, u8),
    Device(Device, u64),
    /// A named pipe, with the pipe behind it while it is open.
    Fifo(Option<u32>),
    /// A message file, by its number among the messages.
    Message(u32),
}

/// A file of the tree.
#[derive(Debug)]
pub(crate) struct Inode {
    /// Unlike its place in the arena, never used again.
    pub(crate) number: u64,
    /// The file system it belongs to.
    pub(crate) mount: u8,
    /// Permissions: the low twelve bits of `st_mode`.
    pub(crate) permissions: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) links: u32,
    /// Open descriptions, working directories and mappings that keep it.
    pub(crate) holders: u32,
    pub(crate) accessed: Time,
    pub(crate) modified: Time,
    pub(crate) changed: Time,
    /// Its directory and its name there; of several links, the one made last. `None` when it was removed.
    pub(crate) place: Option<(u32, Arc<[u8]>)>,
    /// The directory that this directory was removed from: `..` still leads there, so it is kept as long as this one is.
    pub(crate) left: Option<u32>,
    pub(crate) body: Body,
}

impl Inode {
    /// The kind, as `st_mode` has it.
    pub(crate) fn kind(&self) -> u32 {
        match self.body {
            Body::Directory(_) => S_IFDIR,
            Body::Archive(_) | Body::Memory(_) | Body::Message(_) => S_IFREG,
            Body::Link(..) => S_IFLNK,
            Body::Device(Device::Absent, device) if device >> 63 != 0 => S_IFBLK,
            Body::Device(..) => S_IFCHR,
            Body::Fifo(_) => S_IFIFO,
        }
    }

    pub(crate) fn directory(&self) -> Option<&Directory> {
        match &self.body {
            Body::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub(crate) fn directory_mut(&mut self) -> Option<&mut Directory> {
        match &mut self.body {
            Body::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// The directory above it, also after it was removed.
    pub(crate) fn parent(&self) -> Option<u32> {
        self.place.as_ref().map(|(parent, _)| *parent).or(self.left)
    }

    /// Notes a change of its bytes.
    pub(crate) fn touch(&mut self, now: Time) {
        self.modified = now;
        self.changed = now;
    }
}
