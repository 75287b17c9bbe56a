//! `renameat2`.

use alloc::sync::Arc;

use linux_raw_sys::general::{RENAME_EXCHANGE, RENAME_NOREPLACE};

use super::{Caller, Fd};
use crate::{
    Errno,
    node::Node,
    system::Time,
    walk::{Follow, Last, Name, Place},
};

/// An entry that is to be renamed, or replaced.
struct Named {
    parent: u32,
    /// Empty, if it is too long.
    name: Name,
    inode: Option<u32>,
    slash: bool,
}

impl Caller<'_> {
    /// `renameat2`, with `RENAME_NOREPLACE` or `RENAME_EXCHANGE`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn renameat2(
        &mut self,
        old_folder: Fd,
        old: &[u8],
        new_folder: Fd,
        new: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        let exchange = flags & RENAME_EXCHANGE != 0;
        let replace = flags & RENAME_NOREPLACE == 0;
        if flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE) != 0 || exchange && !replace {
            return Err(Errno::INVAL);
        }
        let (old, new) =
            (self.walk(old_folder, old, Follow::Never)?, self.walk(new_folder, new, Follow::Never)?);
        let old = self.named(old, Errno::BUSY)?;
        let new = self.named(new, if replace { Errno::BUSY } else { Errno::EXIST })?;
        if self.files.inode(old.parent)?.mount != self.files.inode(new.parent)?.mount {
            return Err(Errno::XDEV);
        }
        self.files.writable(old.parent)?;
        if old.name.is_empty() {
            return Err(Errno::NAMETOOLONG);
        }
        let source = old.inode.ok_or(Errno::NOENT)?;
        if new.name.is_empty() {
            return Err(Errno::NAMETOOLONG);
        }
        if !replace && new.inode.is_some() {
            return Err(Errno::EXIST);
        }
        if exchange && new.inode.is_none() {
            return Err(Errno::NOENT);
        }
        self.check_rename(&old, &new, source, exchange)?;
        if new.inode == Some(source) {
            return Ok(());
        }
        let now = self.system.now();
        match new.inode {
            Some(target) if exchange => self.exchange(&old, &new, source, target, now),
            _ => self.rename(&old, &new, source, now),
        }
    }

    fn named(&self, place: Place, otherwise: Errno) -> Result<Named, Errno> {
        let Place { parent, last, node, slash } = place;
        let name = match last {
            Last::Name(name) => name,
            Last::TooLong => Name::new(),
            Last::Root | Last::Dot | Last::DotDot => return Err(otherwise),
        };
        let Node::Inode(parent) = parent else { return Err(Errno::PERM) };
        match node {
            Some(Node::Proc(_)) => Err(Errno::BUSY),
            Some(Node::Inode(inode)) => Ok(Named { parent, name, inode: Some(inode), slash }),
            None => Ok(Named { parent, name, inode: None, slash }),
        }
    }

    /// That a file or directory may take the new place.
    fn check_rename(&self, old: &Named, new: &Named, source: u32, exchange: bool) -> Result<(), Errno> {
        let moved = self.files.inode(source)?;
        let moves_directory = moved.directory().is_some();
        if !moves_directory && (old.slash || !exchange && new.slash) {
            return Err(Errno::NOTDIR);
        }
        if let Some(target) = new.inode
            && exchange
            && new.slash
            && self.files.inode(target)?.directory().is_none()
        {
            return Err(Errno::NOTDIR);
        }
        if self.is_within(new.parent, source)? {
            return Err(Errno::INVAL);
        }
        if let Some(target) = new.inode
            && self.is_within(old.parent, target)?
        {
            return Err(if exchange { Errno::INVAL } else { Errno::NOTEMPTY });
        }
        if self.files.inode(new.parent)?.links == 0 {
            return Err(Errno::NOENT);
        }
        let mount = self.files.inode(old.parent)?.mount;
        let Some(target) = new.inode else {
            return if moved.mount == mount { Ok(()) } else { Err(Errno::BUSY) };
        };
        if target == source {
            return Ok(());
        }
        let replaced = self.files.inode(target)?;
        if !exchange {
            match (moves_directory, replaced.directory()) {
                (true, None) => return Err(Errno::NOTDIR),
                (false, Some(_)) => return Err(Errno::ISDIR),
                _ => {}
            }
        }
        if moved.mount != mount || replaced.mount != mount {
            return Err(Errno::BUSY);
        }
        match replaced.directory() {
            Some(directory) if !exchange && !directory.is_empty() => Err(Errno::NOTEMPTY),
            _ => Ok(()),
        }
    }

    /// Whether a directory is another one, or somewhere below it.
    fn is_within(&self, mut directory: u32, other: u32) -> Result<bool, Errno> {
        loop {
            if directory == other {
                return Ok(true);
            }
            match self.files.inode(directory)?.parent() {
                Some(parent) => directory = parent,
                None => return Ok(false),
            }
        }
    }

    fn rename(&mut self, old: &Named, new: &Named, source: u32, now: Time) -> Result<(), Errno> {
        if let Some(replaced) = new.inode
            && !self.files.discard_if_message(Node::Inode(replaced), self.system)?
        {
            self.files.unlink(new.parent, &new.name, now)?;
        }
        // Linked at its new place first, so that it never is without a name.
        self.files.link(new.parent, &new.name, source, now)?;
        self.files.unlink(old.parent, &old.name, now)?;
        Ok(())
    }

    fn exchange(
        &mut self,
        old: &Named,
        new: &Named,
        source: u32,
        target: u32,
        now: Time,
    ) -> Result<(), Errno> {
        for (at, inode) in [(old, target), (new, source)] {
            let name: Arc<[u8]> = at.name[..].into();
            let record = self.files.inode_mut(inode)?;
            record.place = Some((at.parent, name.clone()));
            record.changed = now;
            let parent = self.files.inode_mut(at.parent)?;
            parent.touch(now);
            parent.directory_mut().ok_or(Errno::NOTDIR)?.insert(&name, Node::Inode(inode), 0);
        }
        let is_directory = |caller: &Caller<'_>, inode| caller.files.directory(inode).is_ok();
        let (source, target) = (is_directory(self, source), is_directory(self, target));
        for (parent, came, left) in [(old.parent, target, source), (new.parent, source, target)] {
            let parent = self.files.inode_mut(parent)?;
            parent.links = parent.links + u32::from(came) - u32::from(left);
        }
        Ok(())
    }
}
