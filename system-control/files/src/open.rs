//! Open descriptions: what descriptors, also of several processes, stand for.

use alloc::vec::Vec;

use linux_raw_sys::general::{O_ACCMODE, O_APPEND, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY};

use crate::{
    node::{Device, Node},
    pair::PairEnd,
    pipe::End,
};

/// What an open description reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// The file or directory that is its node.
    File,
    /// Its node, but only as a place (`O_PATH`).
    Path,
    Device(Device),
    Pipe {
        pipe: u32,
        end: End,
    },
    Counter(u32),
    Epoll(u32),
    Socket(u32),
    /// One of two sockets that are connected.
    Pair(PairEnd),
}

impl Object {
    /// Whether it is a stream of some kind, without positions.
    pub(crate) fn is_stream(self) -> bool {
        !matches!(self, Object::File | Object::Path)
            && !matches!(self, Object::Device(device) if !matches!(device, Device::Terminal | Device::Control))
    }
}

/// An open description.
#[derive(Debug)]
pub(crate) struct Open {
    /// Descriptors and holds.
    pub(crate) references: u32,
    pub(crate) object: Object,
    /// The file it was opened at; a pipe has none.
    pub(crate) node: Option<Node>,
    /// Access mode and status flags, as `F_GETFL` returns them.
    pub(crate) flags: u32,
    /// Where the next read or write starts; in a directory, the place of the next entry.
    pub(crate) position: u64,
    /// What a file below `/proc` says, since it was read from its start.
    pub(crate) text: Option<Vec<u8>>,
}

impl Open {
    pub(crate) fn new(object: Object, node: Option<Node>, flags: u32) -> Open {
        Open { references: 1, object, node, flags, position: 0, text: None }
    }

    pub(crate) fn readable(&self) -> bool {
        matches!(self.flags & O_ACCMODE, O_RDONLY | O_RDWR) && self.object != Object::Path
    }

    pub(crate) fn writable(&self) -> bool {
        matches!(self.flags & O_ACCMODE, O_WRONLY | O_RDWR) && self.object != Object::Path
    }

    pub(crate) fn appends(&self) -> bool {
        self.flags & O_APPEND != 0
    }

    pub(crate) fn nonblocking(&self) -> bool {
        self.flags & O_NONBLOCK != 0
    }
}
