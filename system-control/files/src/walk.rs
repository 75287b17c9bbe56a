//! From a path to what it leads to.

use alloc::{borrow::Cow, vec::Vec};

use arrayvec::ArrayVec;

use crate::{
    Errno,
    calls::{Caller, Fd},
    files::ROOT,
    node::{Body, Node},
    proc::Entry,
};

/// A path's bytes at most, without the zero byte that ends it.
pub(crate) const PATH_LIMIT: usize = 4095;
/// A name's bytes at most.
const NAME_LIMIT: usize = 255;
/// Symbolic links on one way at most.
const LINK_LIMIT: u32 = 40;

/// A name within a directory.
pub(crate) type Name = ArrayVec<u8, NAME_LIMIT>;

/// When a symbolic link at a path's end is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// Never: the entry itself is meant, which is to be made or removed.
    Never,
    /// If a slash is behind it.
    Slash,
    /// Always.
    Always,
    /// Never, and no slash may be behind the last name: a file may be made.
    NeverCreate,
    /// Always, and no slash may be behind the last name: a file may be made.
    Create,
}

impl Follow {
    fn creates(self) -> bool {
        matches!(self, Follow::Create | Follow::NeverCreate)
    }

    fn at_end(self, slash: bool) -> bool {
        matches!(self, Follow::Always | Follow::Create) || slash && self == Follow::Slash
    }
}

/// A path's last component.
#[derive(Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives on the stack for one call, and saves that call an allocation"
)]
pub(crate) enum Last {
    Root,
    Dot,
    DotDot,
    Name(Name),
    /// A name that is too long for anything to have it. Told only where an entry itself is meant: other errors come before this one.
    TooLong,
}

/// Where a path leads.
#[derive(Debug)]
pub(crate) struct Place {
    /// The directory of the last component.
    pub(crate) parent: Node,
    pub(crate) last: Last,
    /// What is there.
    pub(crate) node: Option<Node>,
    /// Whether the path ends with a slash.
    pub(crate) slash: bool,
}

impl Place {
    /// What is there.
    pub(crate) fn found(&self) -> Result<Node, Errno> {
        self.node.ok_or(Errno::NOENT)
    }
}

impl Caller<'_> {
    /// Where a relative path starts.
    fn start(&self, folder: Fd, path: &[u8]) -> Result<Node, Errno> {
        if path.first() == Some(&b'/') {
            Ok(Node::Inode(ROOT))
        } else if folder == linux_raw_sys::general::AT_FDCWD {
            Ok(self.descriptors.folder)
        } else {
            let open = self.files.open(self.descriptors.get(folder)?.open)?;
            open.node.ok_or(Errno::NOTDIR)
        }
    }

    /// Where a path leads.
    pub(crate) fn walk(&self, folder: Fd, path: &[u8], follow: Follow) -> Result<Place, Errno> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        if path.len() > PATH_LIMIT {
            return Err(Errno::NAMETOOLONG);
        }
        let mut here = self.start(folder, path)?;
        let mut text = Cow::Borrowed(path);
        let mut at = 0;
        let mut links = 0;
        loop {
            while text.get(at) == Some(&b'/') {
                at += 1;
            }
            let rest = text.get(at..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(Place { parent: here, last: Last::Root, node: Some(here), slash: true });
            }
            self.check_directory(here)?;
            let length = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
            let (name, behind) = rest.split_at(length);
            let slash = !behind.is_empty();
            let last = behind.iter().all(|&byte| byte == b'/');
            if matches!(name, b"." | b"..") {
                let parent = here;
                if name == b".." {
                    here = self.parent(here)?;
                }
                if last {
                    let last = if name == b"." { Last::Dot } else { Last::DotDot };
                    return Ok(Place { parent, last, node: Some(here), slash: true });
                }
                at += length;
                continue;
            }
            if last && slash && follow.creates() {
                return Err(Errno::ISDIR);
            }
            if name.len() > NAME_LIMIT {
                return match here {
                    // Nothing is looked up in a directory that was removed.
                    Node::Inode(number) if self.files.inode(number)?.links == 0 => Err(Errno::NOENT),
                    _ if last && follow == Follow::Never => {
                        Ok(Place { parent: here, last: Last::TooLong, node: None, slash })
                    }
                    _ => Err(Errno::NAMETOOLONG),
                };
            }
            let found = self.look_up(here, name)?;
            if let Some(node) = found
                && (!last || follow.at_end(slash))
                && let Some(step) = self.follow(node)?
            {
                links += 1;
                if links > LINK_LIMIT {
                    return Err(Errno::LOOP);
                }
                match step {
                    Step::Text(mut target) => {
                        target.extend_from_slice(behind);
                        if target.first() == Some(&b'/') {
                            here = Node::Inode(ROOT);
                        }
                        text = Cow::Owned(target);
                        at = 0;
                        continue;
                    }
                    Step::Node(node) if !last => {
                        here = node;
                        at += length;
                        continue;
                    }
                    Step::Node(_) => {}
                }
            }
            if last {
                let last = Last::Name(Name::try_from(name).map_err(|_| Errno::NAMETOOLONG)?);
                return Ok(Place { parent: here, last, node: found, slash });
            }
            here = found.ok_or(Errno::NOENT)?;
            at += length;
        }
    }

    /// What a path leads to; with a slash at its end, it has to be a directory.
    pub(crate) fn find(&self, folder: Fd, path: &[u8], follow: bool) -> Result<Node, Errno> {
        let follow = if follow { Follow::Always } else { Follow::Slash };
        let place = self.walk(folder, path, follow)?;
        let node = place.found()?;
        if place.slash {
            self.check_directory(node)?;
        }
        Ok(node)
    }

    pub(crate) fn is_directory(&self, node: Node) -> bool {
        match node {
            Node::Inode(number) => self.files.directory(number).is_ok(),
            Node::Proc(entry) => entry.is_directory(),
        }
    }

    pub(crate) fn check_directory(&self, node: Node) -> Result<(), Errno> {
        if self.is_directory(node) { Ok(()) } else { Err(Errno::NOTDIR) }
    }

    pub(crate) fn parent(&self, node: Node) -> Result<Node, Errno> {
        match node {
            Node::Inode(ROOT) => Ok(node),
            Node::Inode(number) => self.files.inode(number)?.parent().map(Node::Inode).ok_or(Errno::NOENT),
            Node::Proc(entry) => Ok(entry.parent().map_or(Node::Inode(ROOT), Node::Proc)),
        }
    }

    fn look_up(&self, directory: Node, name: &[u8]) -> Result<Option<Node>, Errno> {
        match directory {
            Node::Inode(number) => Ok(self.files.directory(number)?.get(name)),
            Node::Proc(entry) => Ok(self.proc_entry(entry, name).map(Node::Proc)),
        }
    }

    /// Where a symbolic link leads; `None` if it is none.
    fn follow(&self, node: Node) -> Result<Option<Step>, Errno> {
        match node {
            Node::Inode(number) => match &self.files.inode(number)?.body {
                Body::Link(target, _) => Ok(Some(Step::Text(target.clone()))),
                _ => Ok(None),
            },
            Node::Proc(Entry::Descriptor(_, fd)) => {
                let open = self.files.open(self.descriptors.get(fd).map_err(|_| Errno::NOENT)?.open)?;
                Ok(Some(Step::Node(open.node.unwrap_or(node))))
            }
            Node::Proc(entry) => Ok(self.proc_link(entry).map(Step::Text)),
        }
    }
}

/// A symbolic link's end.
enum Step {
    /// A path.
    Text(Vec<u8>),
    /// An open file itself, whatever its name is now.
    Node(Node),
}
