//! Pages of files, to map.

use super::{Caller, Fd, PageSource};
use crate::{
    Errno,
    files::Hold,
    node::{Body, Device, Node},
    open::Object,
    page::PAGE,
};

impl Caller<'_> {
    /// What a page of a file is to be mapped from; `None` behind the file's end, which is to be a `SIGBUS`.
    ///
    /// # Errors
    ///
    /// [`Errno::NODEV`] when it is nothing that can be mapped; [`Errno::STALE`] when it was a message that is gone; [`Errno::NOSPC`] when a page of a `shared` mapping has to be made and cannot.
    pub fn page(&mut self, hold: &Hold, index: u64, shared: bool) -> Result<Option<PageSource>, Errno> {
        let open = self.files.open(hold.0)?;
        if open.object == Object::Device(Device::Zero) {
            return Ok(Some(PageSource::Zero));
        }
        let (Object::File, Some(Node::Inode(number))) = (open.object, open.node) else {
            return Err(Errno::NODEV);
        };
        let start = index.checked_mul(PAGE as u64).ok_or(Errno::INVAL)?;
        if let Body::Archive(bytes) = self.files.inode(number)?.body {
            let rest = usize::try_from(start).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
            let bytes = &rest[..rest.len().min(PAGE)];
            return Ok((!bytes.is_empty()).then_some(PageSource::Archive { bytes }));
        }
        if let Some(message) = self.files.message_of(number) {
            let message = self.files.message(message)?;
            let region = message.region()?.filter(|_| start < message.size());
            return Ok(region.map(|region| PageSource::Region { region, offset: start }));
        }
        let (contents, mut budget) = self.files.contents(number).map_err(|_| Errno::NODEV)?;
        if start >= contents.size() {
            return Ok(None);
        }
        Ok(Some(match contents.page(&mut budget, index, shared)? {
            Some(page) => PageSource::Memory(page),
            None => PageSource::Zero,
        }))
    }

    /// All bytes of a file of the archive, which lie together; `None` for any other.
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`] when it is nobody's any more.
    pub fn archive_bytes(&self, hold: &Hold) -> Result<Option<&'static [u8]>, Errno> {
        let open = self.files.open(hold.0)?;
        let (Object::File, Some(Node::Inode(number))) = (open.object, open.node) else { return Ok(None) };
        match self.files.inode(number)?.body {
            Body::Archive(bytes) => Ok(Some(bytes)),
            _ => Ok(None),
        }
    }

    /// Whether a descriptor is a message file, which is mapped where its region is.
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`].
    pub fn is_message(&self, fd: Fd) -> Result<bool, Errno> {
        let (_, open) = self.open_of(fd)?;
        Ok(
            matches!((open.object, open.node), (Object::File, Some(Node::Inode(number))) if self.files.message_of(number).is_some()),
        )
    }

    /// Whether a descriptor can be mapped, and so: `mmap` calls it before it takes a hold.
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`], [`Errno::ACCES`] when it is not open for what the mapping does, [`Errno::NODEV`].
    pub fn check_map(&self, fd: Fd, shared: bool, writes: bool) -> Result<(), Errno> {
        let (_, open) = self.open_of(fd)?;
        match (open.object, open.node) {
            (Object::Path, _) => Err(Errno::BADF),
            _ if !open.readable() || shared && writes && !open.writable() => Err(Errno::ACCES),
            (Object::Device(Device::Zero), _) => Ok(()),
            (Object::File, Some(Node::Inode(number))) => match self.files.inode(number)?.body {
                Body::Archive(_) | Body::Memory(_) | Body::Message(_) => Ok(()),
                _ => Err(Errno::NODEV),
            },
            _ => Err(Errno::NODEV),
        }
    }
}
