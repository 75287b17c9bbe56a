//! Message regions in a program: as files, and as memory.

use std::{
    fs::{self, File},
    io,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    os::fd::{AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::wire::{MAPPED_HEADER, MESSAGES, check};

/// A message region that this program has. Dropping it discards it.
#[derive(Debug)]
pub enum Region {
    /// As a file.
    File(MessageFile),
    /// As memory.
    Mapped(MappedRegion),
}

impl Region {
    /// It was sent: it is nobody's here any more.
    pub(crate) fn forget(self) {
        match self {
            Region::File(file) => file.forget(),
            Region::Mapped(region) => _ = ManuallyDrop::new(region),
        }
    }
}

/// A message's file: reading and writing reach the region's own bytes. Dropping it unlinks it, which discards the message.
#[derive(Debug)]
pub struct MessageFile {
    path: PathBuf,
    file: ManuallyDrop<File>,
}

impl MessageFile {
    /// A region of so many bytes at least, all zeroes.
    ///
    /// # Errors
    ///
    /// Those of making a file and setting its size.
    pub fn create(bytes: usize) -> io::Result<MessageFile> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(MESSAGES).join(format!("new-{}-{number}", std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        let made = MessageFile { path, file: ManuallyDrop::new(file) };
        made.file.set_len(bytes as u64)?;
        Ok(made)
    }

    pub(crate) fn received(path: PathBuf) -> io::Result<MessageFile> {
        let file = File::options().read(true).write(true).open(&path)?;
        Ok(MessageFile { path, file: ManuallyDrop::new(file) })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a record starts with that names it.
    pub(crate) fn name_record(&self) -> io::Result<Vec<u8>> {
        let name = self.path.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
        let mut record = name.as_bytes().to_vec();
        record.push(0);
        Ok(record)
    }

    fn forget(self) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used any more, and not dropped.
        unsafe {
            ManuallyDrop::drop(&mut this.file);
            ptr::drop_in_place(&mut this.path);
        }
    }
}

impl Deref for MessageFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for MessageFile {
    fn drop(&mut self) {
        // It fails only where the file has gone already.
        let _gone = fs::remove_file(&self.path);
        // SAFETY: dropped here and nowhere else.
        unsafe { ManuallyDrop::drop(&mut self.file) };
    }
}

/// A region that is mapped in this process, readable and writable. Dropping it unmaps and discards it.
#[derive(Debug)]
pub struct MappedRegion {
    address: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it owns its memory, like a `Vec<u8>`: the kernel maps a region once, and nobody else can reach it.
unsafe impl Send for MappedRegion {}

// SAFETY: shared references only read.
unsafe impl Sync for MappedRegion {}

impl MappedRegion {
    pub(crate) fn create(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<MappedRegion> {
        let bytes = bytes.max(4096).checked_next_power_of_two().ok_or(io::ErrorKind::InvalidInput)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let address =
            unsafe { libc::mmap(ptr::null_mut(), bytes, access, libc::MAP_SHARED, socket.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(MappedRegion { address, bytes })
    }

    /// From a received record's header; `None` where no region came.
    ///
    /// # Safety
    ///
    /// The header is as the kernel told it, and was not used before.
    pub(crate) unsafe fn from_record(header: &[u8; MAPPED_HEADER]) -> Option<MappedRegion> {
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_le_bytes(bytes) as usize
        };
        let address = NonNull::new(ptr::with_exposed_provenance_mut(word(0)))?;
        Some(MappedRegion { address, bytes: word(8) })
    }

    /// What a record starts with that names it.
    pub(crate) fn record(&self) -> Vec<u8> {
        let address = self.address.as_ptr().expose_provenance() as u64;
        [address.to_le_bytes(), (self.bytes as u64).to_le_bytes()].concat()
    }
}

impl Deref for MappedRegion {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped there for as long as this exists, and for this process alone.
        unsafe { slice::from_raw_parts(self.address.as_ptr(), self.bytes) }
    }
}

impl DerefMut for MappedRegion {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`.
        unsafe { slice::from_raw_parts_mut(self.address.as_ptr(), self.bytes) }
    }
}

impl Drop for MappedRegion {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference to it any more.
        let unmapped = check(unsafe { libc::munmap(self.address.as_ptr().cast(), self.bytes) });
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

/// A file that is mapped to be read, without being copied: a kernel or an initramfs of the boot archive.
#[derive(Debug)]
pub struct MappedFile(Option<MappedRegion>);

impl MappedFile {
    /// Maps a whole file.
    ///
    /// # Errors
    ///
    /// Those of opening and mapping a file.
    ///
    /// # Safety
    ///
    /// Nobody changes the file while it is mapped. Those of the boot archive cannot be changed.
    pub unsafe fn open(path: &Path) -> io::Result<MappedFile> {
        let file = File::open(path)?;
        let bytes = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if bytes == 0 {
            return Ok(MappedFile(None));
        }
        let (access, descriptor) = (libc::PROT_READ, file.as_raw_fd());
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let address = unsafe { libc::mmap(ptr::null_mut(), bytes, access, libc::MAP_PRIVATE, descriptor, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(MappedFile(Some(MappedRegion { address, bytes })))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_mapped_whole() {
        // SAFETY: nobody changes the source while its test runs.
        let file =
            unsafe { MappedFile::open(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/region.rs"))) };
        assert_eq!(&file.unwrap()[..], include_bytes!("region.rs"));
        // SAFETY: it is always empty.
        assert!(unsafe { MappedFile::open(Path::new("/dev/null")) }.unwrap().is_empty());
        // SAFETY: there is no such file.
        assert!(unsafe { MappedFile::open(Path::new("/nowhere")) }.is_err());
    }
}
