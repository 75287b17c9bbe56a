//! The end of a partition: everything it held comes back, exactly once, in bounded steps.

use handover_abi::{Account, EndReason, Error, PartitionId, layout};

use crate::addr::BLOCK;
use crate::channel::Link;
use crate::region::STEP;
use crate::signal::Signals;
use crate::stage2::{self, ENTRIES};
use crate::table::Scan;
use crate::{
    Colours, Failure, Machine, Maintenance, PAGE, Pa, Partition, PartitionIndex, Phase, Progress, System,
};

const PAGE_ORDER: u8 = 12;

/// What is to be given back next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reap {
    /// The translation: from here on it leads nowhere, and no TLB remembers it.
    Unlink,
    /// Rights to devices.
    Devices,
    /// Those who have called it.
    Calls,
    /// Ports, with what is queued at them and what was sent from them.
    Ports {
        /// Where to look for the next one.
        cursor: u32,
    },
    /// Control signals.
    Signals,
    /// Regions.
    Regions {
        /// Where to look for the next one.
        cursor: u32,
    },
    /// Memory and tables.
    Memory {
        /// Entry of the root.
        first: usize,
        /// Entry of its level-2 table.
        second: usize,
    },
    /// The pages of its records.
    Records,
}

impl System {
    /// Ends a partition: no call of its is served any more. One that has ended already stays as it is.
    pub fn end(&mut self, m: &mut impl Machine, ix: PartitionIndex, reason: EndReason, status: u64) {
        if let Some(p) = self.get_mut(ix)
            && matches!(p.phase, Phase::Created | Phase::Active)
        {
            p.enter(Phase::Ending);
            p.shutdown = None;
            p.reason = reason;
            p.status = status;
            p.reap = Reap::Unlink;
            // None of its processors runs again, so nothing is promised to them any more.
            let promised = p.accounts.used(Account::ProcessorTime);
            p.accounts.release(Account::ProcessorTime, promised);
            self.calls_end(m, ix);
        }
    }

    /// One bounded step of giving back everything an ending partition holds: 64 KiB zeroed, or a few hundred words looked at. After the last one it is
    /// [`Phase::Terminated`], and its creator gets a signal. None of its logical processors may run any more.
    pub fn reap(&mut self, m: &mut impl Machine, ix: PartitionIndex) -> Progress {
        let Some(p) = self.get_mut(ix).filter(|p| p.phase == Phase::Ending) else { return Progress::Done };
        let stage = p.reap;
        let next = match stage {
            Reap::Unlink => {
                p.unlink_root(m);
                Reap::Devices
            }
            Reap::Devices => match self.reap_device(m, ix) {
                Progress::Again => Reap::Devices,
                Progress::Done => Reap::Calls,
            },
            Reap::Calls => match self.calls_reap(m, ix) {
                true => Reap::Ports { cursor: 1 },
                false => Reap::Calls,
            },
            Reap::Ports { cursor } => self.reap_port(m, ix, cursor),
            Reap::Signals => self.reap_signals(m, ix),
            Reap::Regions { cursor } => p.reap_region(m, cursor),
            Reap::Memory { first, second } => p.reap_memory(m, first, second),
            Reap::Records => {
                if let Some(frame) = p.reap_record_page(m) {
                    p.accounts.release(Account::ControlMemory, PAGE);
                    m.zero(frame, PAGE);
                    m.free(frame, PAGE_ORDER);
                    Reap::Records
                } else {
                    p.accounts.release(Account::CacheColours, p.accounts.used(Account::CacheColours));
                    p.colours = Colours::ANY;
                    p.channel_colours = 0;
                    p.bus.forget();
                    p.enter(Phase::Terminated);
                    self.tell_creator(m, ix);
                    return Progress::Done;
                }
            }
        };
        if let Some(p) = self.get_mut(ix) {
            p.reap = next;
        }
        Progress::Again
    }

    fn reap_port(&mut self, m: &mut impl Machine, ix: PartitionIndex, mut cursor: u32) -> Reap {
        let Some(p) = self.get_mut(ix) else { return Reap::Signals };
        match p.ports.scan(&mut cursor) {
            Scan::End => return Reap::Signals,
            Scan::Nothing => {}
            Scan::Found(port) => {
                // Stays at this port until it is gone.
                let _: Progress = self.close(m, Link::new(ix, port), true);
            }
        }
        Reap::Ports { cursor }
    }

    fn reap_signals(&mut self, m: &mut impl Machine, ix: PartitionIndex) -> Reap {
        for _ in 0..STEP {
            let queued = self.signals_pop(ix, Signals::Queued);
            let Some(signal) = queued.or_else(|| self.signals_pop(ix, Signals::Delivered)) else {
                if let Some(p) = self.get_mut(ix) {
                    p.unlatch(0);
                }
                return Reap::Regions { cursor: 1 };
            };
            if signal.port() != 0 {
                self.abandon(m, signal);
            } else if let Some(p) = self.get_mut(signal.partition()) {
                p.ended.queued = false;
            }
        }
        Reap::Signals
    }

    /// The creator of a partition, if it still exists.
    fn creator(&self, ix: PartitionIndex) -> Option<PartitionIndex> {
        let (creator, id) = self.get(ix)?.creator?;
        (self.get(creator)?.id == id).then_some(creator)
    }

    fn tell_creator(&mut self, m: &mut impl Machine, ix: PartitionIndex) {
        let Some(creator) = self.creator(ix) else { return };
        if !self.get(creator).is_some_and(|p| p.phase == Phase::Active) {
            return;
        }
        if let Some(p) = self.get_mut(ix) {
            p.ended.queued = true;
        }
        self.signal(m, creator, Link::new(ix, 0));
    }

    /// `PartitionReset`: a partition that holds nothing is again what it was when it was made: empty, under its id, with its limits. The
    /// signal of its end is taken back if nobody has taken it.
    ///
    /// [`Error::BadHandle`]: no such partition. [`Error::WrongState`]: it is not terminated.
    pub fn reset(&mut self, id: PartitionId) -> Result<(), Failure> {
        let ix = self.find(id)?;
        let p = self.get(ix).ok_or(Error::BadHandle)?;
        if p.phase != Phase::Terminated {
            return Err(Error::WrongState.into());
        }
        self.withdraw_end(ix);
        if let Some(p) = self.get_mut(ix) {
            p.renew();
        }
        Ok(())
    }

    /// Takes the signal of a partition's end out of its creator's list.
    fn withdraw_end(&mut self, ix: PartitionIndex) {
        let queued = self.get_mut(ix).is_some_and(|p| core::mem::replace(&mut p.ended.queued, false));
        if let Some(creator) = self.creator(ix).filter(|_| queued) {
            self.signals_remove(creator, Signals::Queued, Link::new(ix, 0));
        }
    }

    /// Forgets a partition that is terminated, and hands back its memory and `shell_bytes`.
    ///
    /// [`Error::BadHandle`]: no such partition. [`Error::WrongState`]: it is not terminated.
    pub fn destroy(
        &mut self,
        m: &mut impl Machine,
        id: PartitionId,
    ) -> Result<(&'static mut Partition, u64), Failure> {
        let ix = self.find(id)?;
        let p = self.get(ix).ok_or(Error::BadHandle)?;
        if p.phase != Phase::Terminated {
            return Err(Error::WrongState.into());
        }
        let (root, shell_bytes) = (p.root, p.shell_bytes);
        self.withdraw_end(ix);
        if let Some(creator) = self.creator(ix).and_then(|creator| self.get_mut(creator)) {
            creator.accounts.release(Account::ControlMemory, shell_bytes.saturating_add(PAGE));
        }
        let shell = self.remove(ix).ok_or(Error::BadHandle)?;
        stage2::free_table(m, root);
        Ok((shell, shell_bytes))
    }
}

impl Partition {
    /// Makes every walk end at the root, and every TLB forget. The entries keep their addresses for [`Partition::reap_memory`].
    fn unlink_root(&mut self, m: &mut impl Machine) {
        for index in 0..ENTRIES {
            let descriptor = m.entry(self.root, index);
            if descriptor != 0 {
                m.set_entry(self.root, index, stage2::invalid(descriptor));
            }
        }
        m.maintain(self.vmid, Maintenance::All);
    }

    fn reap_region(&mut self, m: &mut impl Machine, mut cursor: u32) -> Reap {
        let found = self.regions.scan(&mut cursor);
        if found == Scan::End {
            return Reap::Memory { first: 0, second: 0 };
        }
        if let Scan::Found(region) = found
            && let Some(region_record) = self.regions.get_mut(region)
        {
            // The root leads nowhere any more.
            let slot = region_record.forget_mapping();
            self.accounts.release(Account::AddressSpace, slot);
            let _: Result<Progress, Failure> = self.destroy_region(m, region);
        }
        Reap::Regions { cursor }
    }

    fn reap_memory(&mut self, m: &mut impl Machine, first: usize, second: usize) -> Reap {
        let Some((first, second, descriptor)) = (first..ENTRIES)
            .zip(core::iter::once(second).chain(core::iter::repeat(0)))
            .find_map(|(index, second)| {
                let descriptor = m.entry(self.root, index);
                (descriptor != 0).then_some((index, second, descriptor))
            })
        else {
            return Reap::Records;
        };
        let table = stage2::address(descriptor);
        if first >= stage2::level1(layout::WINDOW_BASE) {
            m.set_entry(self.root, first, 0);
            // What is not the partition's own was a region's, and is gone.
            if stage2::is_own(descriptor) {
                self.give_table(m, table);
            }
            return Reap::Memory { first, second: 0 };
        }
        let found =
            (second..ENTRIES).map(|index| (index, m.entry(table, index))).find(|(_, entry)| *entry != 0);
        let Some((at, entry)) = found else {
            m.set_entry(self.root, first, 0);
            self.give_table(m, table);
            return Reap::Memory { first, second: 0 };
        };
        if first < stage2::level1(layout::MEMORY_BASE) {
            // Of devices, which have been given back, or of stolen time.
            m.set_entry(table, at, 0);
            self.give_stolen_time_page(m, at, stage2::address(entry));
            self.give_table(m, stage2::address(entry));
        } else if first >= stage2::level1(layout::ARCHIVE_BASE) {
            // Of files: the pages are nobody's.
            m.set_entry(table, at, 0);
            self.give_table(m, stage2::address(entry));
            self.accounts.release(Account::AddressSpace, BLOCK);
        } else {
            self.clear_granule(m, table, at);
        }
        Reap::Memory { first, second: at }
    }

    fn give_table(&mut self, m: &mut impl Machine, table: Pa) {
        m.zero(table, PAGE);
        stage2::free_table(m, table);
        self.accounts.release(Account::ControlMemory, PAGE);
    }

    fn reap_record_page(&mut self, m: &mut impl Machine) -> Option<Pa> {
        self.regions.shrink(m).or_else(|| self.ports.shrink(m)).or_else(|| self.entries.shrink(m))
    }
}
