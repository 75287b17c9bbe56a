//! Message files: regions of memory as files of `/msg`. The bytes are the region's own, and nobody keeps a copy.

use alloc::{format, vec::Vec};

use handover_abi::layout::{REGION_MAX, REGION_MIN};

use crate::{
    Errno, Region, Sink, Source,
    channels::errno,
    files::Files,
    mount::MountKind,
    node::{Body, Node},
    system::{System, Time},
};

/// A message file's region.
#[derive(Debug)]
pub(crate) struct Message {
    state: State,
    /// Bytes of the file; the region has as many or more.
    size: u64,
    /// The process whose end is the message's.
    owner: u32,
    /// Where it is: the directory, and the inode.
    pub(crate) inode: u32,
}

#[derive(Debug)]
enum State {
    /// Nothing was written yet.
    Empty,
    Here(Region),
    /// Handed over, or discarded.
    Gone,
}

/// A region that is mapped into a process without being a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MappedAt {
    pub(crate) process: u32,
    pub(crate) address: u64,
}

/// Zeroes, to write.
struct Zeroes(u64);

impl Source for Zeroes {
    fn remaining(&self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let length = into.len().min(self.remaining());
        into[..length].fill(0);
        self.0 -= length as u64;
        Ok(length)
    }
}

impl Message {
    /// The region, if there is one.
    pub(crate) fn region(&self) -> Result<Option<Region>, Errno> {
        match self.state {
            State::Empty => Ok(None),
            State::Here(region) => Ok(Some(region)),
            State::Gone => Err(Errno::STALE),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that the region takes.
    pub(crate) fn held(&self) -> u64 {
        if let State::Here(region) = self.state { region.bytes } else { 0 }
    }
}

impl Files {
    pub(crate) fn message(&self, number: u32) -> Result<&Message, Errno> {
        self.messages.get(number).ok_or(Errno::STALE)
    }

    fn message_mut(&mut self, number: u32) -> Result<&mut Message, Errno> {
        self.messages.get_mut(number).ok_or(Errno::STALE)
    }

    /// The message behind an inode.
    pub(crate) fn message_of(&self, inode: u32) -> Option<u32> {
        match self.inodes.get(inode)?.body {
            Body::Message(number) => Some(number),
            _ => None,
        }
    }

    /// Makes an empty message file's inode, without a name yet.
    pub(crate) fn make_message(
        &mut self,
        directory: u32,
        permissions: u32,
        owner: u32,
        now: Time,
    ) -> Result<u32, Errno> {
        if !self.messages.has_room(self.payer) {
            return Err(Errno::NOSPC);
        }
        let mount = self.inode(directory)?.mount;
        let inode = self.make(mount, permissions, now, Body::Message(0))?;
        let message = Message { state: State::Empty, size: 0, owner, inode };
        let number = self.messages.insert(self.payer, message).ok_or(Errno::NOSPC)?;
        self.inode_mut(inode)?.body = Body::Message(number);
        Ok(inode)
    }

    /// That a file for a message that has come could be made now.
    pub(crate) fn room_for_message(&self) -> Result<(), Errno> {
        if self.messages.has_room(self.payer) && self.inodes.has_room(self.payer) {
            Ok(())
        } else {
            Err(Errno::NOBUFS)
        }
    }

    /// The name that the next message's file will have in `/msg`.
    pub(crate) fn next_message_name(&mut self) -> Result<Vec<u8>, Errno> {
        loop {
            let name = format!("{}", self.next_message).into_bytes();
            if self.directory(self.message_directory)?.get(&name).is_none() {
                return Ok(name);
            }
            self.next_message += 1;
        }
    }

    /// Makes the file of a message that has come.
    pub(crate) fn receive_message(
        &mut self,
        name: &[u8],
        region: Region,
        owner: u32,
        now: Time,
    ) -> Result<(), Errno> {
        let inode = self.make_message(self.message_directory, 0o600, owner, now)?;
        self.link(self.message_directory, name, inode, now)?;
        let message = self.message_of(inode).ok_or(Errno::IO)?;
        let message = self.message_mut(message)?;
        message.state = State::Here(region);
        message.size = region.bytes;
        self.next_message += 1;
        Ok(())
    }

    /// Takes the name of a message file away, and has open descriptors say that it is gone. Its region is no longer the file's.
    pub(crate) fn forget_message(&mut self, number: u32, now: Time) -> Result<(), Errno> {
        let message = self.message_mut(number)?;
        message.state = State::Gone;
        message.size = 0;
        let inode = message.inode;
        if let Some((directory, name)) = self.inode(inode)?.place.clone() {
            self.unlink(directory, &name, now)?;
        }
        Ok(())
    }

    /// Discards a message file with its region.
    pub(crate) fn discard_message(&mut self, number: u32, system: &mut dyn System) -> Result<(), Errno> {
        let region = self.message(number)?.region().ok().flatten();
        self.forget_message(number, system.now())?;
        if let Some(region) = region {
            destroy(region, system);
        }
        Ok(())
    }

    pub(crate) fn read_message(
        &mut self,
        number: u32,
        at: u64,
        sink: &mut dyn Sink,
        system: &mut dyn System,
    ) -> Result<usize, Errno> {
        let message = self.message(number)?;
        let (region, size) = (message.region()?, message.size);
        let Some(region) = region.filter(|_| at < size) else { return Ok(0) };
        let length = (size - at).min(sink.room() as u64);
        if length == 0 { Ok(0) } else { system.read_region(region, at, length, sink) }
    }

    /// Writes at a place, or at the end; where that was, and how much.
    pub(crate) fn write_message(
        &mut self,
        number: u32,
        at: Option<u64>,
        source: &mut dyn Source,
        system: &mut dyn System,
    ) -> Result<(u64, usize), Errno> {
        let message = self.message(number)?;
        message.region()?;
        let at = at.unwrap_or(message.size);
        if source.remaining() == 0 {
            return Ok((at, 0));
        }
        if at >= REGION_MAX {
            return Err(Errno::FBIG);
        }
        let length = (source.remaining() as u64).min(REGION_MAX - at);
        let region = self.grow_message(number, at + length, system)?;
        let done = system.write_region(region, at, length, source)?;
        let message = self.message_mut(number)?;
        message.size = message.size.max(at + done as u64);
        Ok((at, done))
    }

    pub(crate) fn resize_message(
        &mut self,
        number: u32,
        size: u64,
        system: &mut dyn System,
    ) -> Result<(), Errno> {
        let message = self.message(number)?;
        let (region, before) = (message.region()?, message.size);
        if size > REGION_MAX {
            return Err(Errno::FBIG);
        }
        if size > before {
            self.grow_message(number, size, system)?;
        } else if let Some(region) = region
            && size < before
        {
            // What is behind the end has to be zeroes when the file grows again, and nobody's to see.
            system.write_region(region, size, before - size, &mut Zeroes(before - size))?;
        }
        self.message_mut(number)?.size = size;
        Ok(())
    }

    /// Makes sure that the region has so many bytes. A larger one takes the smaller one's place.
    fn grow_message(&mut self, number: u32, bytes: u64, system: &mut dyn System) -> Result<Region, Errno> {
        let message = self.message(number)?;
        let (before, size) = (message.region()?, message.size);
        if let Some(region) = before
            && bytes <= region.bytes
        {
            return Ok(region);
        }
        let wanted = bytes.next_power_of_two().max(REGION_MIN);
        let region = system.create_region(wanted).map_err(errno)?;
        if let Some(before) = before {
            if let Err(failed) = system.copy_region(before, region, size) {
                destroy(region, system);
                return Err(failed);
            }
            destroy(before, system);
        }
        self.message_mut(number)?.state = State::Here(region);
        Ok(region)
    }

    /// A process has ended: the regions mapped into it go, and its message files do, or become `heir`'s.
    pub fn process_ended(&mut self, process: u32, heir: Option<u32>, system: &mut dyn System) {
        self.discard_mappings(process, system);
        let owned: Vec<u32> = self
            .messages
            .iter()
            .filter(|(_, message)| message.owner == process)
            .map(|(number, _)| number)
            .collect();
        for number in owned {
            match (heir, self.messages.get_mut(number)) {
                (Some(heir), Some(message)) => message.owner = heir,
                // It is there, and what cannot be destroyed is gone already.
                _ => _ = self.discard_message(number, system),
            }
        }
    }

    /// Discards the regions that are mapped into a process, but for those that are files: it executes another program, or has ended.
    pub fn discard_mappings(&mut self, process: u32, system: &mut dyn System) {
        let (first, last) = (MappedAt { process, address: 0 }, MappedAt { process, address: u64::MAX });
        while let Some((&at, _)) = self.mapped.range(first..=last).next() {
            if let Some(region) = self.mapped.remove(&at) {
                destroy(region, system);
            }
        }
    }

    /// Whether a directory is for message files.
    pub(crate) fn holds_messages(&self, directory: u32) -> bool {
        self.kind_of(directory) == Ok(MountKind::Messages)
    }

    /// Prepares an inode's name to be removed: a message goes with its name.
    pub(crate) fn discard_if_message(&mut self, node: Node, system: &mut dyn System) -> Result<bool, Errno> {
        match node {
            Node::Inode(inode) => match self.message_of(inode) {
                Some(message) => self.discard_message(message, system).map(|()| true),
                None => Ok(false),
            },
            Node::Proc(_) => Ok(false),
        }
    }
}

/// Gives a region back. It fails only if the control OS does not know the region, which is what is wanted.
pub(crate) fn destroy(region: Region, system: &mut dyn System) {
    _ = system.destroy_region(region);
}
