//! Files that programs' memory comes from.

use alloc::{sync::Arc, vec::Vec};

use handover_files::{Caller, Errno, Hold, Page, PageSource};
use handover_guest::mapping;
use handover_kernel::layout::PAGE;

/// The most pages of a file that is mapped.
const PAGES_MAX: u64 = 1 << 14;

/// A page.
pub enum Part {
    /// One that exists.
    Memory(Arc<Page>),
    /// Nothing was written there.
    Zeroes,
}

/// A file's pages, as they were when it was mapped: what is written to them is seen, a file that becomes longer or shorter is not.
pub enum FileSource {
    /// A whole file of the boot archive, where it lies.
    Archive(&'static [u8]),
    /// Pages of another one.
    Pages {
        /// Each.
        parts: Vec<Part>,
        /// The first one's index in the file.
        first: u64,
    },
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
        if let Some(bytes) = caller.archive_bytes(hold)? {
            return Ok(FileSource::Archive(bytes));
        }
        let mut parts = Vec::new();
        for index in first..first.saturating_add(most.min(PAGES_MAX)) {
            let Some(page) = caller.page(hold, index, shared)? else { break };
            parts.try_reserve(1).map_err(|_| Errno::NOMEM)?;
            parts.push(match page {
                PageSource::Memory(page) => Part::Memory(page),
                PageSource::Zero => Part::Zeroes,
                PageSource::Archive { .. } | PageSource::Region { .. } => return Err(Errno::NODEV),
            });
        }
        Ok(FileSource::Pages { parts, first })
    }

    /// The physical address of a page, where it can be mapped as it is.
    pub fn physical(&self, offset: u64) -> Option<u64> {
        let place = match self {
            FileSource::Archive(bytes) => archive_rest(bytes, offset)?.get(..PAGE as usize)?.as_ptr().addr(),
            FileSource::Pages { parts, first } => match part(parts, *first, offset)? {
                Part::Memory(page) => page.as_ptr().addr(),
                Part::Zeroes => return None,
            },
        };
        let physical = mapping::ipa(place);
        physical.is_multiple_of(PAGE).then_some(physical)
    }

    /// Where the file's bytes from one on lie together, and how many; if that is for good.
    pub fn lies(&self, offset: u64) -> Option<(u64, u64)> {
        let FileSource::Archive(bytes) = self else { return None };
        let rest = archive_rest(bytes, offset)?;
        Some((mapping::ipa(rest.as_ptr().addr()), rest.len() as u64))
    }

    /// Copies a page; `None` behind the end.
    pub fn copy(&self, offset: u64, into: &mut [u8]) -> Option<()> {
        match self {
            FileSource::Archive(bytes) => {
                let rest = archive_rest(bytes, offset)?;
                let size = rest.len().min(into.len());
                into[..size].copy_from_slice(&rest[..size]);
            }
            FileSource::Pages { parts, first } => match part(parts, *first, offset)? {
                Part::Memory(page) => _ = page.read(0, into),
                Part::Zeroes => {}
            },
        }
        Some(())
    }
}

/// What there is from an offset on; not nothing.
fn archive_rest(bytes: &'static [u8], offset: u64) -> Option<&'static [u8]> {
    bytes.get(usize::try_from(offset).ok()?..).filter(|rest| !rest.is_empty())
}

fn part(parts: &[Part], first: u64, offset: u64) -> Option<&Part> {
    parts.get(usize::try_from((offset / PAGE).checked_sub(first)?).ok()?)
}
