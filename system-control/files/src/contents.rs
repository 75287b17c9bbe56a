//! What a file in memory holds: pages where something was written, zeroes elsewhere.

use alloc::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use crate::{
    Errno, Page, Sink, Source,
    page::PAGE,
    quota::{Payer, Quota},
    transfer::put_zeroes,
};

/// The largest size of a file.
pub(crate) const SIZE_MAX: u64 = i64::MAX as u64;

/// Pages that files in memory use together and may use, and who pays for another one.
#[derive(Debug)]
pub(crate) struct Budget<'a> {
    pub(crate) pages: &'a mut Quota,
    pub(crate) payer: Payer,
}

/// A page that is there, and the user who pays for it.
#[derive(Debug)]
struct Held {
    page: Arc<Page>,
    payer: u8,
}

impl Budget<'_> {
    fn page(&mut self) -> Result<Held, Errno> {
        if !self.pages.take(self.payer, 1) {
            return Err(Errno::NOSPC);
        }
        Ok(Held { page: Arc::new(Page::zeroed()), payer: self.payer.user() as u8 })
    }
}

impl Held {
    fn release(self, pages: &mut Quota) {
        pages.give_back(self.payer.into(), 1);
    }
}

/// A file's bytes.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pages: BTreeMap<u64, Held>,
    size: u64,
}

fn place(at: u64) -> (u64, usize) {
    (at / PAGE as u64, (at % PAGE as u64) as usize)
}

impl Contents {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// How many pages it has.
    pub(crate) fn held(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Gives its pages back.
    pub(crate) fn release(self, pages: &mut Quota) {
        self.pages.into_values().for_each(|held| held.release(pages));
    }

    pub(crate) fn read(&self, at: u64, sink: &mut dyn Sink) -> Result<usize, Errno> {
        let end = at.saturating_add(sink.room() as u64).min(self.size);
        let mut done = 0;
        while at + (done as u64) < end {
            let (index, offset) = place(at + done as u64);
            let wanted = (PAGE - offset).min((end - at) as usize - done);
            let put = match self.pages.get(&index) {
                Some(held) => sink.put_shared(held.page.bytes(offset, wanted)),
                None => put_zeroes(sink, wanted),
            };
            match put {
                Ok(taken) => {
                    done += taken;
                    if taken < wanted {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    pub(crate) fn write(
        &mut self,
        budget: &mut Budget<'_>,
        at: u64,
        source: &mut dyn Source,
    ) -> Result<usize, Errno> {
        let length = source.remaining() as u64;
        if length == 0 {
            return Ok(0);
        }
        if at >= SIZE_MAX {
            return Err(Errno::FBIG);
        }
        let length = length.min(SIZE_MAX - at) as usize;
        let mut done = 0;
        while done < length {
            let (index, offset) = place(at + done as u64);
            let wanted = (PAGE - offset).min(length - done);
            match self.write_page(budget, index, offset, wanted, source) {
                Ok(taken) => {
                    done += taken;
                    self.size = self.size.max(at + done as u64);
                    if taken < wanted {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn write_page(
        &mut self,
        budget: &mut Budget<'_>,
        index: u64,
        offset: usize,
        wanted: usize,
        source: &mut dyn Source,
    ) -> Result<usize, Errno> {
        if let Some(held) = self.pages.get(&index) {
            return source.take_shared(held.page.bytes(offset, wanted));
        }
        let held = budget.page()?;
        let taken = source.take_shared(held.page.bytes(offset, wanted));
        match taken {
            Ok(bytes) if bytes > 0 => {
                self.pages.insert(index, held);
            }
            _ => held.release(budget.pages),
        }
        taken
    }

    pub(crate) fn truncate(&mut self, budget: &mut Budget<'_>, size: u64) {
        if size < self.size {
            let (index, offset) = place(size);
            let gone = self.pages.split_off(&(index + u64::from(offset > 0)));
            gone.into_values().for_each(|held| held.release(budget.pages));
            if let Some(held) = self.pages.get(&index) {
                held.page.clear_from(offset);
            }
        }
        self.size = size;
    }

    /// Makes sure that the pages of a range are there, and the file reaches to its end if it is to `grow`.
    pub(crate) fn allocate(
        &mut self,
        budget: &mut Budget<'_>,
        at: u64,
        end: u64,
        grow: bool,
    ) -> Result<(), Errno> {
        let (first, last) = (at / PAGE as u64, (end - 1) / PAGE as u64);
        let there = self.pages.range(first..=last).count() as u64;
        if (last - first + 1) - there > budget.pages.room(budget.payer) {
            return Err(Errno::NOSPC);
        }
        for index in first..=last {
            if let Entry::Vacant(vacant) = self.pages.entry(index) {
                vacant.insert(budget.page()?);
            }
        }
        if grow {
            self.size = self.size.max(end);
        }
        Ok(())
    }

    /// A page to map. Where nothing was written, one is made if the mapping is to be shared.
    pub(crate) fn page(
        &mut self,
        budget: &mut Budget<'_>,
        index: u64,
        shared: bool,
    ) -> Result<Option<Arc<Page>>, Errno> {
        if let Some(held) = self.pages.get(&index) {
            return Ok(Some(held.page.clone()));
        }
        if !shared {
            return Ok(None);
        }
        let held = budget.page()?;
        let page = held.page.clone();
        self.pages.insert(index, held);
        Ok(Some(page))
    }

    /// The next place at or behind `at` that holds data (or, if not `data`, does not).
    pub(crate) fn seek(&self, at: u64, data: bool) -> Option<u64> {
        if at >= self.size {
            return None;
        }
        let (first, _) = place(at);
        if data {
            let (&index, _) = self.pages.range(first..).next()?;
            let found = if index == first { at } else { index * PAGE as u64 };
            return (found < self.size).then_some(found);
        }
        let mut index = first;
        while self.pages.contains_key(&index) {
            index += 1;
        }
        Some(if index == first { at } else { (index * PAGE as u64).min(self.size) })
    }
}
