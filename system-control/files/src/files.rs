//! The files' state as a whole.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use handover_abi::{Port, ServiceId};

use crate::{
    Errno, Region,
    arena::Arena,
    contents::{Budget, Contents},
    control::Signals,
    counter::Counter,
    descriptors::Descriptors,
    epoll::Epoll,
    message::{MappedAt, Message},
    mount::{Mount, MountKind},
    node::{Body, Inode, Node},
    open::{Object, Open},
    pair::Pair,
    pipe::Pipe,
    quota::{Payer, Quota},
    socket::Socket,
    system::System,
    terminal::{Terminal, TerminalSignal},
};

pub use crate::mount::Damaged;

/// How much there may be of everything, in the whole system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pages of files in memory.
    pub pages: u64,
    /// Files, directories, links and devices, the boot archive's included.
    pub inodes: usize,
    /// Open descriptions.
    pub opens: usize,
    /// Pipes, pairs of sockets, counters and lists to wait for, each.
    pub pipes: usize,
    /// Sockets.
    pub sockets: usize,
    /// Message files.
    pub messages: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { pages: 4096, inodes: 16_384, opens: 4096, pipes: 256, sockets: 1024, messages: 1024 }
    }
}

/// What a thread waits for: something whose readiness changes. Whoever waits for it tries again when it was named by
/// [`Files::next_wakeup`], and may find that it has to wait on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitKey(pub(crate) Waitable);

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Waitable {
    Terminal,
    Pipe(u32),
    Counter(u32),
    Epoll(u32),
    Socket(u32),
    Pair(u32),
    Control,
}

/// Keeps an open description alive outside all descriptor tables: a mapping of a file, a program that is being loaded. Given back by
/// [`Files::release`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "dropping it without `Files::release` keeps the file open for good"]
pub struct Hold(pub(crate) u32);

/// All files of the system: the tree, what is open, pipes, the terminal.
#[derive(Debug)]
pub struct Files {
    pub(crate) inodes: Arena<Inode>,
    pub(crate) opens: Arena<Open>,
    pub(crate) pipes: Arena<Pipe>,
    pub(crate) counters: Arena<Counter>,
    pub(crate) epolls: Arena<Epoll>,
    pub(crate) sockets: Arena<Socket>,
    pub(crate) pairs: Arena<Pair>,
    /// The sockets behind ports, and behind the services that they are bound to.
    pub(crate) ports: BTreeMap<Port, u32>,
    pub(crate) services: BTreeMap<ServiceId, u32>,
    /// Control signals for programs to read.
    pub(crate) signals: Signals,
    pub(crate) messages: Arena<Message>,
    /// Regions that sockets mapped into processes.
    pub(crate) mapped: BTreeMap<MappedAt, Region>,
    /// Where message files are, and the name of the next one.
    pub(crate) message_directory: u32,
    pub(crate) next_message: u64,
    pub(crate) mounts: Vec<Mount>,
    /// Pages of files in memory.
    pub(crate) budget: Quota,
    /// Who pays for what is made now.
    pub(crate) payer: Payer,
    pub(crate) terminal: Terminal,
    wakeups: VecDeque<WaitKey>,
    /// Number of the next inode.
    pub(crate) next: u64,
    /// Names in all directories.
    pub(crate) names: Quota,
}

/// The tree's root.
pub(crate) const ROOT: u32 = 0;

impl Files {
    /// The tree from a newc cpio archive, whose files stay where they lie, with `/dev`, `/proc`, `/msg`, and memory at `/tmp`,
    /// `/run` and `/dev/shm`.
    ///
    /// # Errors
    ///
    /// The archive is damaged, or has names that do not make a tree, or more of them than the limit.
    pub fn new(archive: &'static [u8], limits: Limits) -> Result<Files, Damaged> {
        let mut files = Files {
            inodes: Arena::new(limits.inodes),
            opens: Arena::new(limits.opens),
            pipes: Arena::new(limits.pipes),
            counters: Arena::new(limits.pipes),
            epolls: Arena::new(limits.pipes),
            sockets: Arena::new(limits.sockets),
            pairs: Arena::new(limits.pipes),
            ports: BTreeMap::new(),
            services: BTreeMap::new(),
            signals: Signals::default(),
            messages: Arena::new(limits.messages),
            mapped: BTreeMap::new(),
            message_directory: ROOT,
            next_message: 1,
            mounts: Vec::new(),
            budget: Quota::new(limits.pages),
            payer: Payer::ROOT,
            terminal: Terminal::new(),
            wakeups: VecDeque::new(),
            next: 1,
            names: Quota::new(limits.inodes as u64),
        };
        files.mount_root(archive)?;
        files.mount_standard()?;
        Ok(files)
    }

    /// A descriptor table with nothing open, at the tree's root.
    #[must_use]
    pub fn descriptors(&mut self) -> Descriptors {
        self.hold_node(Node::Inode(ROOT));
        Descriptors::new(Node::Inode(ROOT))
    }

    /// Something that became ready (or may have) since it was last asked; each key once, the oldest first.
    pub fn next_wakeup(&mut self) -> Option<WaitKey> {
        self.wakeups.pop_front()
    }

    /// Whether [`next_wakeup`](Files::next_wakeup) has one.
    #[must_use]
    pub fn has_wakeups(&self) -> bool {
        !self.wakeups.is_empty()
    }

    pub(crate) fn wake(&mut self, what: Waitable) {
        let key = WaitKey(what);
        if !self.wakeups.contains(&key) {
            self.wakeups.push_back(key);
        }
        self.wake_epolls(what);
    }

    /// Bytes from the console's keyboard.
    pub fn console_input(&mut self, system: &mut dyn System, bytes: &[u8]) {
        if self.terminal.input(system, bytes) {
            self.wake(Waitable::Terminal);
        }
    }

    /// The next signal that a key asked for, with the process group it goes to.
    pub fn take_terminal_signal(&mut self) -> Option<(TerminalSignal, u32)> {
        self.terminal.take_signal()
    }

    /// Gives a hold back.
    pub fn release(&mut self, hold: Hold, system: &mut dyn System) {
        self.release_open(hold.0, system);
    }

    /// Another hold on the same.
    pub fn hold_again(&mut self, hold: &Hold) -> Hold {
        self.hold_open(hold.0);
        Hold(hold.0)
    }

    /// The absolute path of a node; `None` when it has no name any more.
    pub(crate) fn path(&self, node: Node) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = match node {
            Node::Inode(number) => number,
            Node::Proc(entry) => {
                let mut path = b"/proc".to_vec();
                path.extend(entry.path());
                return Some(path);
            }
        };
        while at != ROOT {
            let (parent, name) = self.inodes.get(at)?.place.as_ref()?;
            names.push(name);
            at = *parent;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Some(path)
    }

    /// Says on whose account is what is made from now on.
    pub fn set_payer(&mut self, payer: Payer) {
        self.payer = payer;
    }

    // Open descriptions.

    pub(crate) fn open(&self, number: u32) -> Result<&Open, Errno> {
        self.opens.get(number).ok_or(Errno::BADF)
    }

    pub(crate) fn open_mut(&mut self, number: u32) -> Result<&mut Open, Errno> {
        self.opens.get_mut(number).ok_or(Errno::BADF)
    }

    /// Makes an open description with one reference, which keeps its node.
    pub(crate) fn make_open(&mut self, open: Open) -> Result<u32, Errno> {
        let (node, object) = (open.node, open.object);
        let number = self.opens.insert(self.payer, open).ok_or(Errno::NFILE)?;
        if let Some(node) = node {
            self.hold_node(node);
        }
        if let Object::Pipe { pipe, end } = object
            && let Some(pipe) = self.pipes.get_mut(pipe)
        {
            pipe.opened(end);
        }
        Ok(number)
    }

    pub(crate) fn hold_open(&mut self, number: u32) {
        if let Some(open) = self.opens.get_mut(number) {
            open.references += 1;
        }
    }

    /// Gives a reference back; with the last one, the description is closed.
    pub(crate) fn release_open(&mut self, number: u32, system: &mut dyn System) {
        let Some(open) = self.opens.get_mut(number) else { return };
        open.references -= 1;
        if open.references > 0 {
            return;
        }
        let Some(open) = self.opens.remove(number) else { return };
        self.forget_in_epolls(number);
        match open.object {
            Object::Pipe { pipe, end } => self.close_pipe(pipe, end),
            Object::Counter(counter) => _ = self.counters.remove(counter),
            Object::Epoll(epoll) => _ = self.epolls.remove(epoll),
            Object::Socket(socket) => self.close_socket(socket, system),
            Object::Pair(end) => self.close_pair(end),
            Object::File | Object::Path | Object::Device(_) => {}
        }
        if let Some(node) = open.node {
            self.release_node(node);
        }
    }

    /// A file in memory's bytes, with what it may grow by.
    pub(crate) fn contents(&mut self, number: u32) -> Result<(&mut Contents, Budget<'_>), Errno> {
        match self.inodes.get_mut(number) {
            Some(Inode { body: Body::Memory(contents), .. }) => {
                Ok((contents, Budget { pages: &mut self.budget, payer: self.payer }))
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// The kind of file system that an inode is on.
    pub(crate) fn kind_of(&self, number: u32) -> Result<MountKind, Errno> {
        Ok(self.mount_of(self.inode(number)?)?.kind)
    }
}
