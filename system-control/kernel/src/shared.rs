//! Anonymous memory that address spaces share.

use alloc::collections::BTreeMap;
use core::cell::RefCell;

use handover_kernel::{frames::Frames, layout::PAGE};

use crate::{arch::table::zeroed, unused::Unused};

/// Frames of shared memory that nobody has mapped any more, until [`release_unused`].
pub static UNUSED: Unused<u64> = Unused::new();

/// The pages that were touched, by number. They have one holder of their own, besides those that have them mapped.
#[derive(Default)]
pub struct SharedPages {
    pages: RefCell<BTreeMap<u64, u64>>,
}

impl SharedPages {
    /// The frame of a page, for another one who maps it; made at the first touch.
    pub fn page(&self, frames: &mut Frames, offset: u64) -> Option<u64> {
        let mut pages = self.pages.borrow_mut();
        let index = offset / PAGE;
        let frame = match pages.get(&index) {
            Some(&frame) => frame,
            None => {
                let frame = zeroed(frames)?;
                pages.insert(index, frame);
                frame
            }
        };
        frames.share(frame);
        Some(frame)
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        UNUSED.extend(self.pages.borrow().values().copied());
    }
}

/// Gives back the frames of shared memory that is gone.
pub fn release_unused(frames: &mut Frames) {
    for frame in UNUSED.take() {
        frames.release(frame);
    }
}
