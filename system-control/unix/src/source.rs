//! Files that programs' memory comes from.

use handover_guest::mapping;
use handover_unix::layout::PAGE;

/// A file of the boot archive.
pub struct FileSource {
    data: &'static [u8],
}

impl FileSource {
    /// A file that lies there.
    pub fn new(data: &'static [u8]) -> FileSource {
        FileSource { data }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.data.len() as u64
    }

    /// The physical address of a whole page of the file, if it lies on one.
    pub fn archive_page(&self, offset: u64) -> Option<u64> {
        let page = self.data.get(offset as usize..)?.get(..PAGE as usize)?;
        let physical = mapping::ipa(page.as_ptr().addr());
        physical.is_multiple_of(PAGE).then_some(physical)
    }

    /// Reads from an offset on; `None` behind the end.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Option<usize> {
        let rest = self.data.get(usize::try_from(offset).ok()?..).filter(|rest| !rest.is_empty())?;
        let size = rest.len().min(into.len());
        into[..size].copy_from_slice(&rest[..size]);
        Some(size)
    }
}
