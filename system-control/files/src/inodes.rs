//! Files, directories and links: making them, giving them names, and forgetting those that nothing leads to.

use alloc::sync::Arc;

use crate::{
    Errno,
    files::Files,
    mount::Mount,
    node::{Body, Directory, Inode, Node},
    system::Time,
};

impl Files {
    pub(crate) fn inode(&self, number: u32) -> Result<&Inode, Errno> {
        self.inodes.get(number).ok_or(Errno::NOENT)
    }

    pub(crate) fn inode_mut(&mut self, number: u32) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(number).ok_or(Errno::NOENT)
    }

    /// The directory of this number.
    pub(crate) fn directory(&self, number: u32) -> Result<&Directory, Errno> {
        self.inode(number)?.directory().ok_or(Errno::NOTDIR)
    }

    pub(crate) fn mount_of(&self, inode: &Inode) -> Result<&Mount, Errno> {
        self.mounts.get(usize::from(inode.mount)).ok_or(Errno::IO)
    }

    /// That a directory's file system may be changed.
    pub(crate) fn writable(&self, number: u32) -> Result<&Mount, Errno> {
        let mount = self.mount_of(self.inode(number)?)?;
        if mount.read_only() { Err(Errno::ROFS) } else { Ok(mount) }
    }

    /// Makes an inode that nothing leads to yet.
    pub(crate) fn make(&mut self, mount: u8, permissions: u32, now: Time, body: Body) -> Result<u32, Errno> {
        if !self.inodes.has_room(self.payer) {
            return Err(Errno::NOSPC);
        }
        let inode = Inode {
            number: self.next_number(),
            mount,
            permissions: permissions & 0o7777,
            user: self.payer.user(),
            group: 0,
            links: 0,
            holders: 0,
            accessed: now,
            modified: now,
            changed: now,
            place: None,
            left: None,
            body,
        };
        self.inodes.insert(self.payer, inode).ok_or(Errno::NOSPC)
    }

    /// Pages that a symbolic link's target counts as: a long one is no part of the inode.
    pub(crate) fn link_pages(target: &[u8]) -> u64 {
        u64::from(target.len() > 255)
    }

    /// Room for another name of an inode that has one: of these there may be as many as inodes.
    pub(crate) fn room_for_name(&self) -> Result<(), Errno> {
        if self.names.room(self.payer) > 0 { Ok(()) } else { Err(Errno::NOSPC) }
    }

    /// Has a directory's entry lead to an inode.
    pub(crate) fn link(&mut self, directory: u32, name: &[u8], inode: u32, now: Time) -> Result<(), Errno> {
        let name: Arc<[u8]> = name.into();
        let payer = self.payer;
        let record = self.inode_mut(inode)?;
        let is_directory = record.directory().is_some();
        record.links += if is_directory { 2 } else { 1 };
        record.changed = now;
        record.place = Some((directory, name.clone()));
        let parent = self.inode_mut(directory)?;
        parent.links += u32::from(is_directory);
        parent.touch(now);
        parent.directory_mut().ok_or(Errno::NOTDIR)?.insert(&name, Node::Inode(inode), payer.user() as u8);
        self.names.charge(payer.user(), 1);
        Ok(())
    }

    /// Takes an entry out of a directory; the inode goes when nothing else keeps it.
    pub(crate) fn unlink(&mut self, directory: u32, name: &[u8], now: Time) -> Result<(), Errno> {
        let parent = self.inode_mut(directory)?;
        let (node, payer) = parent.directory_mut().ok_or(Errno::NOTDIR)?.remove(name).ok_or(Errno::NOENT)?;
        parent.touch(now);
        let Node::Inode(number) = node else { return Ok(()) };
        self.names.give_back(payer.into(), 1);
        let inode = self.inode_mut(number)?;
        inode.changed = now;
        let is_directory = inode.directory().is_some();
        inode.links = inode.links.saturating_sub(if is_directory { 2 } else { 1 });
        if inode.place.as_ref().is_some_and(|(at, called)| *at == directory && **called == *name) {
            inode.place = None;
        }
        if is_directory {
            let removed = inode.place.is_none();
            inode.left = removed.then_some(directory);
            let parent = self.inode_mut(directory)?;
            parent.links -= 1;
            parent.holders += u32::from(removed);
        }
        self.forget_unused(number);
        Ok(())
    }

    /// A number that nothing else has, or will have.
    pub(crate) fn next_number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    pub(crate) fn hold_node(&mut self, node: Node) {
        if let Node::Inode(number) = node
            && let Some(inode) = self.inodes.get_mut(number)
        {
            inode.holders += 1;
        }
    }

    pub(crate) fn release_node(&mut self, node: Node) {
        if let Node::Inode(number) = node
            && let Some(inode) = self.inodes.get_mut(number)
        {
            inode.holders -= 1;
            self.forget_unused(number);
        }
    }

    /// Forgets an inode that has neither name nor holder.
    pub(crate) fn forget_unused(&mut self, mut number: u32) {
        while self.inodes.get(number).is_some_and(|inode| inode.links == 0 && inode.holders == 0) {
            let Some(Inode { body, left, .. }) = self.inodes.remove(number) else { return };
            match body {
                Body::Memory(contents) => contents.release(&mut self.budget),
                Body::Message(message) => _ = self.messages.remove(message),
                Body::Link(target, payer) => self.budget.give_back(payer.into(), Files::link_pages(&target)),
                _ => {}
            }
            let Some(parent) = left else { return };
            if let Some(inode) = self.inodes.get_mut(parent) {
                inode.holders -= 1;
            }
            number = parent;
        }
    }
}
