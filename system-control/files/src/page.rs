//! Pages of files that live in memory.

use core::sync::atomic::{AtomicU8, Ordering};

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// A page of a file in memory. A program may have it mapped and write it while it is read here, so its bytes are atomic.
#[repr(C, align(4096))]
pub struct Page([AtomicU8; PAGE]);

impl Page {
    /// A page of zeroes.
    #[must_use]
    pub const fn zeroed() -> Page {
        Page([const { AtomicU8::new(0) }; PAGE])
    }

    /// Where it lies. A kernel maps it there, or copies from and to it at once.
    #[must_use]
    pub const fn as_ptr(&self) -> *const AtomicU8 {
        self.0.as_ptr()
    }

    /// Its bytes from `offset` on, so many at most.
    #[must_use]
    pub fn bytes(&self, offset: usize, most: usize) -> &[AtomicU8] {
        let rest = self.0.get(offset..).unwrap_or_default();
        &rest[..most.min(rest.len())]
    }

    /// Copies from `offset` on; as many bytes as there are, and fit.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> usize {
        let bytes = self.0.get(offset..).unwrap_or_default();
        into.iter_mut().zip(bytes).map(|(to, from)| *to = from.load(Ordering::Relaxed)).count()
    }

    /// Copies to `offset` on; as many bytes as there are, and fit.
    pub fn write(&self, offset: usize, from: &[u8]) -> usize {
        let bytes = self.0.get(offset..).unwrap_or_default();
        bytes.iter().zip(from).map(|(to, &from)| to.store(from, Ordering::Relaxed)).count()
    }

    /// Makes zeroes of everything from `offset` on.
    pub fn clear_from(&self, offset: usize) {
        for byte in self.0.get(offset..).unwrap_or_default() {
            byte.store(0, Ordering::Relaxed);
        }
    }
}

impl core::fmt::Debug for Page {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Page").field(&self.as_ptr()).finish()
    }
}
