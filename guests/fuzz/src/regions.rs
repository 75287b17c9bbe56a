//! Calls about regions, at random.

use handover_guest::{
    Error,
    abi::{Account, Call, layout::REGION_MAX},
};

use crate::{
    content,
    coverage::Outcome,
    stream::{Answer, Held, REGIONS, Stream},
    window,
};

/// A region's log2 sizes, and how often.
const ORDERS: &[u8] = &[12, 12, 12, 12, 12, 12, 12, 13, 14, 16, 16, 18, 20, 21, 21, 22, 23];
/// More memory in use than this, and no large regions are made: the machine's memory is for scenarios.
const ENOUGH: u64 = 12 << 20;
impl Stream {
    pub(crate) fn create(&mut self) {
        let order = self.random.one_of(ORDERS);
        let at = self.slots.address(order, &mut self.random);
        let size = match self.random.below(32) {
            0 => self.random.next(),
            1 => self.random.one_of(&[0, 1, 4095, 4097, 3 << 12, 1 << 11, 1 << 31, 1 << 63, u64::MAX]),
            2 => REGION_MAX,
            // For a channel, if it names a port.
            3 => 1 << order | self.random.below(24) << 32,
            _ => 1 << order,
        };
        let bytes = size & 0xffff_ffff;
        if self.regions.is_full() || (bytes > 1 << 16 && bytes <= 1 << 23 && self.holds_enough()) {
            return self.destroy();
        }
        let answer = self.call(Call::RegionCreate, &[size, at]);
        if answer.done() {
            let held = Held { handle: answer.x[1], order: size.trailing_zeros() as u8, at };
            content::expect_zeroes(self, held);
            self.keep(held);
        }
    }

    fn holds_enough(&mut self) -> bool {
        let answer = self.call(Call::AccountRead, &[0, Account::Memory as u64]);
        answer.x[1] > ENOUGH
    }

    /// Makes a region this processor's own.
    pub(crate) fn keep(&mut self, held: Held) {
        if !self.exact() && self.random.one_in(8) {
            REGIONS.show(held.handle, &mut self.random);
        }
        content::write(self, held);
        if self.regions.try_push(held).is_err() {
            self.call(Call::RegionDestroy, &[held.handle]);
        }
    }

    /// One of its own regions, by index.
    pub(crate) fn own_region(&mut self) -> Option<usize> {
        let count = self.regions.len() as u64;
        (count > 0).then(|| self.random.below(count) as usize)
    }

    /// A name of somebody else's region, or of none.
    pub(crate) fn strange_region(&mut self) -> Option<u64> {
        match self.random.below(24) {
            0 => Some(self.wild()),
            1 | 2 if !self.exact() => Some(REGIONS.look(&mut self.random)),
            _ => None,
        }
    }

    pub(crate) fn map(&mut self) {
        if let Some(handle) = self.strange_region() {
            let at = window::contested(&mut self.random);
            self.call(Call::RegionMap, &[handle, at]);
            return;
        }
        let Some(index) = self.own_region() else { return self.create() };
        let held = self.regions[index];
        let at = self.slots.address(held.order, &mut self.random);
        let answer = self.call(Call::RegionMap, &[held.handle, at]);
        if answer.done() {
            self.regions[index].at = at;
            content::check(self, Held { at, ..held });
        }
        if held.at != 0 {
            self.expect(&answer, answer.outcome == Outcome::Fails(Error::InUse), "a mapped region");
        }
    }

    pub(crate) fn unmap(&mut self) {
        if let Some(handle) = self.strange_region() {
            self.call(Call::RegionUnmap, &[handle]);
            return;
        }
        let Some(index) = self.own_region() else { return self.create() };
        let held = self.regions[index];
        let answer = self.call(Call::RegionUnmap, &[held.handle]);
        self.expect(&answer, answer.done() == (held.at != 0), "its own region");
        if answer.done() {
            self.regions[index].at = 0;
            content::expect_gone(self, held);
        }
    }

    pub(crate) fn info(&mut self) {
        if let Some(handle) = self.strange_region() {
            self.call(Call::RegionInfo, &[handle]);
            return;
        }
        let Some(index) = self.own_region() else { return self.create() };
        let held = self.regions[index];
        let answer = self.call(Call::RegionInfo, &[held.handle]);
        let as_known = answer.done() && answer.x[1] == 1 << held.order && answer.x[2] == held.at;
        self.expect(&answer, as_known, "its own region");
    }

    pub(crate) fn destroy(&mut self) {
        if let Some(handle) = self.strange_region() {
            self.call(Call::RegionDestroy, &[handle]);
            return;
        }
        let Some(index) = self.own_region() else { return };
        let held = self.regions.swap_remove(index);
        let answer = self.call(Call::RegionDestroy, &[held.handle]);
        self.expect(&answer, answer.done(), "its own region");
        if answer.done() {
            content::expect_gone(self, held);
        }
    }

    /// Where each result is known beforehand: that it is so.
    pub(crate) fn expect(&self, answer: &Answer, as_known: bool, what: &str) {
        if self.exact() && !as_known {
            self.fail(format_args!("{what}: {:?} {:x?}", answer.outcome, &answer.x[..3]));
        }
    }
}
