//! Balancing the books: each frame has one owner, and the accounts say what is held.

use std::collections::{BTreeMap, BTreeSet};

use handover_abi::{Account, PartitionId, layout::WINDOW_BASE as WINDOW};
use handover_core::{Ipa, PAGE, PARTITIONS_MAX, Pa, PartitionIndex, Phase, System};

use super::{BASE, Model, PALETTE, Tables, devices};

const MIB: u64 = 1 << 20;
const ADDRESS: u64 = 0xffff_ffff_f000;

/// What one translation tree maps: first byte and size of every leaf, and the tables.
#[derive(Default)]
pub struct Tree {
    pub leaves: Vec<(u64, u64)>,
    pub tables: Vec<u64>,
    /// Frames that are the partition's and no region's: memory, and the tables that map it or the window.
    pub own: Vec<(u64, u64)>,
    /// Those leaves and tables that two partitions may have.
    pub shared: BTreeSet<u64>,
    /// Leaves and tables by which something is lent to the partition: first byte and size.
    pub lent: Vec<(u64, u64)>,
    touched: Vec<Ipa>,
    /// Pages of what is no memory of the machine's, and where they are mapped.
    pub others: Vec<(u64, u64)>,
}

impl Tree {
    /// Everything that walks from a root find.
    pub fn of(tables: &Tables, root: Pa) -> Tree {
        let mut tree = Tree::default();
        tree.own.push((root.get(), PAGE));
        tree.branch(tables, root, 0, 39);
        tree
    }

    /// Everything under a table that maps `1 << shift` bytes from `at` on.
    fn branch(&mut self, tables: &Tables, table: Pa, at: u64, shift: u32) {
        let shift = shift - 9;
        for (index, entry) in tables.entries(table).filter(|(_, entry)| entry & 1 != 0) {
            let pa = entry & ADDRESS;
            let at = at + ((index as u64) << shift);
            // Bit 56: shared memory, whose descriptors all say so.
            if entry & 1 << 56 != 0 {
                self.shared.insert(pa);
            }
            // Bit 55: a window table of its own.
            if pa >= BASE && (at < WINDOW || shift == 30 && entry & 1 << 55 != 0) {
                let is_table = shift > 12 && entry & 2 != 0;
                self.own.push((pa, if is_table { PAGE } else { 1 << shift }));
            }
            // Bit 57: lent, and only to be read.
            let lent = entry & 1 << 57 != 0;
            if shift > 12 && entry & 2 != 0 {
                if lent {
                    self.lent.push((pa, PAGE));
                } else {
                    self.tables.push(pa);
                }
                self.branch(tables, Pa::new(pa), at, shift);
            } else if lent {
                assert_eq!(entry & 1 << 7, 0, "{pa:#x} is lent to write");
                self.lent.push((pa, 1 << shift));
                if shift != 12 || at.is_multiple_of(256 << 10) || at % (2 * MIB) == PAGE {
                    self.touched.push(Ipa::new(at));
                }
            } else if pa < BASE {
                // The archive's files are nobody's, and devices no memory.
                self.others.push((pa, at));
            } else {
                self.leaves.push((pa, 1 << shift));
                if shift != 12 || at.is_multiple_of(256 << 10) || at % (2 * MIB) == PAGE {
                    self.touched.push(Ipa::new(at));
                }
            }
        }
    }
}

/// Bytes of addresses that a translation tree has in use.
fn space(tables: &Tables, root: Pa) -> u64 {
    let used = |(index, entry): (usize, u64)| match index {
        // Below memory there are devices alone.
        0 => 0,
        // Bit 55: a window table of its own.
        _ if index < 256 || entry & 1 << 55 != 0 => {
            tables.entries(Pa::new(entry & ADDRESS)).count() as u64 * 2 * MIB
        }
        _ => 1 << 30,
    };
    tables.entries(root).map(used).sum()
}

/// All partitions there are.
pub fn partitions(system: &System) -> Vec<PartitionIndex> {
    let all = (0..PARTITIONS_MAX).filter_map(PartitionIndex::new);
    all.filter(|ix| system.partition(*ix).is_some()).collect()
}

/// The frames of zeroes that take the place of what was lent.
pub fn zeroes(system: &System) -> BTreeSet<u64> {
    system.zero_frames().into_iter().flatten().map(Pa::get).collect()
}

/// Checks everything; `creator` says who made a partition and pays `shell` bytes for it, which the model does not have. `rest`: no call is half
/// done, so that the sums are equal to the byte. → what guests can touch.
pub fn balance(
    system: &System,
    machine: &Model,
    shell: u64,
    creator: impl Fn(PartitionId) -> PartitionId,
    mut rest: bool,
) -> Vec<(u16, Pa, Ipa)> {
    machine.check_total();
    let mut owned: Vec<(u64, &str)> = machine.record_frames().into_iter().map(|pa| (pa, "records")).collect();
    let mut once = |pa: u64, what: &'static str| owned.push((pa, what));
    let mut joint = BTreeMap::new();
    let mut lent = BTreeSet::new();
    let zeroes = zeroes(system);
    let mut touched = Vec::new();
    let mut charged = 0;
    let mut shells = 0;
    for ix in partitions(system) {
        let p = system.partition(ix).unwrap();
        rest &= p.phase() != Phase::Ending;
        let accounts = p.accounts();
        if p.phase() != Phase::Ending {
            assert_eq!(
                accounts.used(Account::AddressSpace),
                space(&machine.tables, p.root()) + devices::space(system, p.id()),
                "address space"
            );
        }
        charged += accounts.used(Account::Memory) + accounts.used(Account::ControlMemory);
        // Whoever made it pays for the shell, which is not the model's, and for the root, which is.
        if system.find(creator(p.id())).is_ok() {
            shells += shell;
        } else {
            charged += PAGE;
        }
        once(p.root().get(), "a root");
        let tree = Tree::of(&machine.tables, p.root());
        devices::balance(system, machine, ix, &tree.others);
        let colours = p.colours();
        for (pa, size) in tree.own.iter().filter(|_| !colours.is_any()) {
            assert_eq!(*size, PAGE);
            assert!(colours.bits() >> PALETTE.of(Pa::new(*pa)) & 1 != 0, "{pa:#x} is of another colour");
        }
        let mut once_or_joint = |pa: u64, what: &'static str| {
            if !tree.shared.contains(&pa) {
                return once(pa, what);
            }
            let ends = joint.entry(pa).or_insert(0);
            *ends += 1;
            assert!(*ends <= 2, "{pa:#x} is shared by more than two");
            if *ends == 1 {
                once(pa, what);
            }
        };
        for (pa, size) in &tree.leaves {
            let order = size.trailing_zeros() as u8;
            assert_eq!(machine.owner(Pa::new(*pa)), Some((*pa, order)), "mapped, but not allocated");
            once_or_joint(*pa, "mapped");
        }
        for table in &tree.tables {
            assert_eq!(machine.owner(Pa::new(*table)), Some((*table, 12)));
            once_or_joint(*table, "a table");
        }
        for &(pa, size) in &tree.lent {
            let order = size.trailing_zeros() as u8;
            assert_eq!(machine.owner(Pa::new(pa)), Some((pa, order)), "lent, but not allocated");
            assert!(zeroes.contains(&pa) || lent.insert(pa), "{pa:#x} is lent twice");
        }
        touched.push((p.vmid(), p.root(), Ipa::new(0)));
        touched.extend(tree.touched.iter().map(|at| (p.vmid(), p.root(), *at)));
    }
    owned.sort_unstable();
    for pair in owned.windows(2) {
        assert_ne!(pair[0].0, pair[1].0, "{:#x} is {} and {}", pair[0].0, pair[0].1, pair[1].1);
    }
    let allocated = machine.allocated_bytes();
    let charged = charged - shells - system.charged_twice() + zeroes.len() as u64 * PAGE;
    if rest {
        assert_eq!(allocated, charged, "allocated and charged");
    } else {
        assert!(allocated <= charged, "{allocated:#x} allocated, {charged:#x} charged");
    }
    touched
}
