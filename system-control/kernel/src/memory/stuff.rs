//! What programs' pages are made of.

use alloc::rc::Rc;

use handover_kernel::areas::Backing;

use crate::{region::RegionMapping, shared::SharedPages, source::FileSource};

/// What an area's pages are made of.
#[derive(Clone)]
pub enum Stuff {
    /// Zeroes at first.
    Anonymous,
    /// A file from an offset on, the program's own copy.
    File {
        /// The file.
        file: Rc<FileSource>,
        /// Where the area starts in it.
        offset: u64,
    },
    /// A file from an offset on, the file's own pages.
    SharedFile {
        /// The file.
        file: Rc<FileSource>,
        /// Where the area starts in it.
        offset: u64,
    },
    /// Pages that address spaces share.
    Shared {
        /// The pages.
        pages: Rc<SharedPages>,
        /// Where the area starts in them.
        offset: u64,
    },
    /// A message's region, the region's own pages.
    Region {
        /// The region, or the file that has one.
        mapping: Rc<RegionMapping>,
        /// Where the area starts in it.
        offset: u64,
    },
}

impl Backing for Stuff {
    fn advance(&self, bytes: u64) -> Stuff {
        match self {
            Stuff::Anonymous => Stuff::Anonymous,
            Stuff::File { file, offset } => Stuff::File { file: file.clone(), offset: offset + bytes },
            Stuff::SharedFile { file, offset } => {
                Stuff::SharedFile { file: file.clone(), offset: offset + bytes }
            }
            Stuff::Shared { pages, offset } => Stuff::Shared { pages: pages.clone(), offset: offset + bytes },
            Stuff::Region { mapping, offset } => {
                Stuff::Region { mapping: mapping.clone(), offset: offset + bytes }
            }
        }
    }

    fn continues(&self, bytes: u64, next: &Stuff) -> bool {
        match (self, next) {
            (Stuff::Anonymous, Stuff::Anonymous) => true,
            (Stuff::File { file, offset }, Stuff::File { file: other, offset: at })
            | (Stuff::SharedFile { file, offset }, Stuff::SharedFile { file: other, offset: at }) => {
                Rc::ptr_eq(file, other) && offset + bytes == *at
            }
            (Stuff::Shared { pages, offset }, Stuff::Shared { pages: other, offset: at }) => {
                Rc::ptr_eq(pages, other) && offset + bytes == *at
            }
            (Stuff::Region { mapping, offset }, Stuff::Region { mapping: other, offset: at }) => {
                Rc::ptr_eq(mapping, other) && offset + bytes == *at
            }
            _ => false,
        }
    }
}

impl Stuff {
    /// Whether a write reaches others.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Stuff::Shared { .. } | Stuff::SharedFile { .. } | Stuff::Region { .. })
    }

    /// The region, if it is one.
    pub fn region(&self) -> Option<&Rc<RegionMapping>> {
        match self {
            Stuff::Region { mapping, .. } => Some(mapping),
            _ => None,
        }
    }
}
