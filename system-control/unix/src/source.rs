//! Files that programs' memory comes from.

use alloc::{sync::Arc, vec::Vec};

use handover_files::{Caller, Errno, Hold, Page, PageSource};
use handover_guest::mapping;
use handover_unix::layout::PAGE;

/// The most pages of a file that is mapped.
const PAGES_MAX: u64 = 1 << 16;

enum Part {
    /// Where it lies in the boot archive; the file's last page may be shorter.
    Archive(&'static [u8]),
    Memory(Arc<Page>),
    Zeroes,
}

/// A file's pages, as they were when it was mapped: what is written to them is seen, a file that becomes longer or shorter is not.
pub struct FileSource {
    parts: Vec<Part>,
    first: u64,
}

impl FileSource {
    /// The pages of an open file from one on; of `most` at most. With `shared`, pages are made where nothing was written.
    pub fn new(
        caller: &mut Caller<'_>,
        hold: &Hold,
        first: u64,
        most: u64,
        shared: bool,
    ) -> Result<FileSource, Errno> {
        let mut parts = Vec::new();
        for index in first..first.saturating_add(most.min(PAGES_MAX)) {
            let Some(page) = caller.page(hold, index, shared)? else { break };
            parts.push(match page {
                PageSource::Archive { bytes } => Part::Archive(bytes),
                PageSource::Memory(page) => Part::Memory(page),
                PageSource::Zero => Part::Zeroes,
                PageSource::Region { .. } => return Err(Errno::NODEV),
            });
        }
        Ok(FileSource { parts, first })
    }

    fn part(&self, offset: u64) -> Option<&Part> {
        self.parts.get(usize::try_from((offset / PAGE).checked_sub(self.first)?).ok()?)
    }

    /// The physical address of a page, where it can be mapped as it is.
    pub fn physical(&self, offset: u64) -> Option<u64> {
        let place = match self.part(offset)? {
            Part::Archive(bytes) if bytes.len() as u64 == PAGE => bytes.as_ptr().addr(),
            Part::Memory(page) => page.as_ptr().addr(),
            Part::Archive(_) | Part::Zeroes => return None,
        };
        let physical = mapping::ipa(place);
        physical.is_multiple_of(PAGE).then_some(physical)
    }

    /// Copies a page; `None` behind the end.
    pub fn copy(&self, offset: u64, into: &mut [u8]) -> Option<()> {
        match self.part(offset)? {
            Part::Archive(bytes) => into[..bytes.len()].copy_from_slice(bytes),
            Part::Memory(page) => _ = page.read(0, into),
            Part::Zeroes => {}
        }
        Some(())
    }
}
