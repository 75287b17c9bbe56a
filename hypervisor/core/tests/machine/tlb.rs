//! A TLB that is as unhelpful as the architecture allows: it caches whatever it can see as soon as it can, keeps stage-2 leaves, intermediate table
//! descriptors and entries that combine both stages apart, completes invalidations only at a barrier and then in the wrong
//! order, and may see a store late.

use std::collections::{BTreeMap, BTreeSet};

use handover_core::maintenance::Step;
use handover_core::{Ipa, Pa};

/// Reads a descriptor as the walker sees it: by table and index, all values that may be visible.
pub trait Visible {
    fn visible(&self, table: Pa, index: usize) -> Vec<u64>;
}

/// `size` bytes at `at` lead to `to`: memory, or a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cached {
    pub vmid: u16,
    pub at: u64,
    pub size: u64,
    pub to: u64,
}

#[derive(Default)]
pub struct Tlb {
    pub leaves: BTreeSet<Cached>,
    pub tables: BTreeSet<Cached>,
    pub combined: BTreeSet<Cached>,
    issued: Vec<(u16, Step)>,
    /// Whether this processor may still go by what was before the last maintenance: it has not come to an ISB.
    behind: bool,
    /// What guests touch: VMID, root, address.
    pub touched: Vec<(u16, Pa, Ipa)>,
}

const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

impl Tlb {
    /// A translation is about to change.
    pub fn start(&mut self) {
        self.behind = true;
    }

    /// Caches everything that guests touch and walkers can see.
    pub fn refill(&mut self, memory: &impl Visible) {
        for &(vmid, root, at) in &self.touched {
            let at = at.get();
            let mut tables = BTreeSet::from([(root.get(), 1u32)]);
            for cached in self.tables.iter().filter(|c| c.vmid == vmid && at >= c.at && at - c.at < c.size) {
                tables.insert((cached.to, if cached.size == 1 << 30 { 2 } else { 3 }));
            }
            while let Some((table, level)) = tables.pop_first() {
                let shift = 39 - 9 * level;
                let size = 1u64 << shift;
                for descriptor in memory.visible(Pa::new(table), (at >> shift) as usize & 511) {
                    if descriptor & 1 == 0 {
                        continue;
                    }
                    let cached = Cached { vmid, at: at & !(size - 1), size, to: descriptor & ADDRESS };
                    if level < 3 && descriptor & 2 != 0 {
                        self.tables.insert(cached);
                        tables.insert((cached.to, level + 1));
                    } else {
                        self.leaves.insert(cached);
                    }
                }
            }
        }
        self.combined.extend(self.leaves.iter().copied());
    }

    /// Executes one instruction. `settle` makes all stores visible.
    pub fn execute<M: Visible>(&mut self, memory: &mut M, settle: fn(&mut M), vmid: u16, step: Step) {
        self.refill(memory);
        match step {
            Step::DsbIshst => settle(memory),
            Step::DsbIsh => {
                // Stores become visible last, invalidations in reverse order, and between any two the walkers are at work.
                while let Some((vmid, step)) = self.issued.pop() {
                    self.invalidate(vmid, step);
                    self.refill(memory);
                }
                settle(memory);
            }
            Step::Isb => self.behind = false,
            _ => {
                self.behind = true;
                self.issued.push((vmid, step));
            }
        }
    }

    fn invalidate(&mut self, vmid: u16, step: Step) {
        let outside = |c: &Cached, at: Ipa, size: u64| {
            c.vmid != vmid || c.at + c.size <= at.get() || c.at >= at.get() + size
        };
        let (at, size) = match step {
            Step::TlbiIpas2 { at } => (at, 1 << 12),
            Step::TlbiIpas2Range { at, scale, num } => {
                assert!(scale < 4 && num < 32);
                (at, (u64::from(num) + 1) << (5 * scale + 1 + 12))
            }
            Step::TlbiVmalle1 => return self.combined.retain(|c| c.vmid != vmid),
            Step::TlbiVmalls12 => {
                for set in [&mut self.leaves, &mut self.tables, &mut self.combined] {
                    set.retain(|c| c.vmid != vmid);
                }
                return;
            }
            Step::DsbIshst | Step::DsbIsh | Step::Isb => unreachable!(),
        };
        self.leaves.retain(|c| outside(c, at, size));
        self.tables.retain(|c| outside(c, at, size));
    }

    /// What is wrong once a call has returned, if anything: everything cached must be what a walk finds now.
    pub fn check(&self, memory: &impl Visible) -> Result<(), String> {
        if self.behind {
            return Err("no ISB after the last maintenance".into());
        }
        // What a TLB that knows nothing finds at the same addresses. A VMID that nobody touches has no translation.
        let fresh = {
            let roots: BTreeMap<u16, Pa> =
                self.touched.iter().map(|(vmid, root, _)| (*vmid, *root)).collect();
            let held = self.leaves.iter().chain(&self.tables).chain(&self.combined);
            let touched = held.filter_map(|c| Some((c.vmid, *roots.get(&c.vmid)?, Ipa::new(c.at)))).collect();
            let mut tlb = Tlb { touched, ..Tlb::default() };
            tlb.refill(memory);
            tlb
        };
        for (name, held, real) in [
            ("stage-2 entry", &self.leaves, &fresh.leaves),
            ("table entry", &self.tables, &fresh.tables),
            ("combined entry", &self.combined, &fresh.combined),
        ] {
            if let Some(stale) = held.difference(real).next() {
                return Err(format!("stale {name}: {stale:x?}"));
            }
        }
        Ok(())
    }
}
