//! What a figure has in it that real machines take longer for than for an instruction: QEMU records where in the control OS and in the guest that measures such
//! instructions are executed, and the guest's marks say which of them belong to which figure.

use super::instruction::{self, Kind, Mark};
use crate::{elf, machine::Record, run::CONTROL_OS_ADDRESS};
use addr2line::{Loader, demangle_auto};
use anyhow::{Context, Result, bail};
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
};

/// What one sample executes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counts {
    /// TLB maintenance instructions.
    pub(super) tlb: u32,
    /// DSB instructions of the control OS.
    pub(super) barriers: u32,
    /// Returns from the control OS to a guest.
    pub(super) exits: u32,
    /// Accesses of the control OS's to the interrupt controller.
    pub(super) gic: u32,
    /// The guests', of which none leaves the guest.
    pub(super) guest_gic: u32,
}

impl Counts {
    pub(super) const TITLES: [&str; 5] = ["TLBI", "DSB", "exits", "GIC", "GIC by guests"];
    pub(super) const KEYS: [&str; 5] =
        ["tlb_maintenance", "barriers", "exits", "gic_accesses", "gic_accesses_by_guests"];

    pub(super) fn numbers(self) -> [u32; 5] {
        [self.tlb, self.barriers, self.exits, self.gic, self.guest_gic]
    }
}

/// The functions that the control OS reaches the interrupt controller's memory by.
const GIC_MEMORY: [&str; 2] = ["drivers::gic::read", "drivers::gic::write"];

/// The addresses of instructions that are recorded, in the control OS and in the guest, where addresses may be the same.
#[derive(Default)]
pub(super) struct Sites {
    control_os: HashMap<u64, Kind>,
    guest: HashMap<u64, Kind>,
}

impl Sites {
    pub(super) fn of(control_os: &Path, guest: &Path) -> Result<Sites> {
        let read = |file: &Path| fs::read(file).with_context(|| format!("cannot read {}", file.display()));
        let mut sites = Sites::default();
        let symbols = Loader::new(control_os)
            .map_err(|error| anyhow::anyhow!("{} has no symbols: {error}", control_os.display()))?;
        for (address, word) in elf::instructions(&read(control_os)?)? {
            let gic = instruction::is_access(word) && is_gic_memory(&symbols, address);
            if let Some(kind) = Kind::of(word).or(gic.then_some(Kind::Gic)) {
                sites.control_os.insert(CONTROL_OS_ADDRESS + address, kind);
            }
        }
        for (address, word) in elf::instructions(&read(guest)?)? {
            if let Some(kind @ (Kind::Mark(_) | Kind::Gic)) = Kind::of(word) {
                sites.guest.insert(address, kind);
            }
        }
        Ok(sites)
    }

    /// What QEMU has to record.
    pub(super) fn record(&self, file: &Path) -> Record {
        let mut addresses: Vec<u64> = self.control_os.keys().chain(self.guest.keys()).copied().collect();
        addresses.sort_unstable();
        addresses.dedup();
        Record { file: file.to_owned(), addresses }
    }

    /// Of each of these figures, which a guest has printed in this order, what its samples most often executed.
    pub(super) fn counts(&self, record: &Path, names: &[String]) -> Result<BTreeMap<String, Counts>> {
        let file = File::open(record).with_context(|| format!("cannot read {}", record.display()))?;
        let mut reader = Reader::default();
        for line in BufReader::new(file).lines() {
            let line = line?;
            let Some((address, regime)) = executed(&line) else { continue };
            // The first is the control OS's: nobody else runs yet.
            let is_own = regime == *reader.regime.get_or_insert(regime);
            let sites = if is_own { &self.control_os } else { &self.guest };
            if let Some(kind) = sites.get(&address) {
                reader.take(*kind, address, is_own);
            }
        }
        if reader.told.len() != names.len() {
            bail!("{} figures were printed, and {} marked", names.len(), reader.told.len());
        }
        Ok(names.iter().cloned().zip(reader.told).collect())
    }
}

/// Whether this is where the interrupt controller's memory is read or written.
fn is_gic_memory(symbols: &Loader, address: u64) -> bool {
    let Ok(mut frames) = symbols.find_frames(address) else { return false };
    while let Ok(Some(frame)) = frames.next() {
        let name = frame.function.and_then(|function| function.raw_name().map(|name| name.into_owned()).ok());
        let name = name.map(|name| demangle_auto(name.into(), None).into_owned());
        if name.is_some_and(|name| GIC_MEMORY.iter().any(|function| name.contains(function))) {
            return true;
        }
    }
    false
}

/// The address of an instruction in QEMU's record, and in which translation regime it was executed: `Trace CPU: HOST [BASE/ADDRESS/FLAGS/…`, of whose flags bits
/// 7 to 4 are QEMU's index of the regime.
fn executed(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.strip_prefix("Trace ")?.split_once('[')?.1.split('/');
    let number = |field: Option<&str>| u64::from_str_radix(field?, 16).ok();
    let (address, flags) = (number(fields.nth(1))?, number(fields.next())?);
    Some((address, flags >> 4 & 0xf))
}

/// Goes through a record.
#[derive(Default)]
struct Reader {
    /// The control OS's.
    regime: Option<u64>,
    /// Of the sample that has begun, if one has: which of a pair it is, and where it began.
    sample: Option<(usize, u64, Counts)>,
    /// Samples since a figure was printed, with where they began, of the first and the second of a pair.
    samples: [Vec<(u64, Counts)>; 2],
    /// What belongs to the figures.
    told: Vec<Counts>,
}

impl Reader {
    fn take(&mut self, kind: Kind, address: u64, is_own: bool) {
        let count = |sample: &mut Option<(usize, u64, Counts)>, change: fn(&mut Counts)| {
            if let Some((_, _, counts)) = sample {
                change(counts);
            }
        };
        match kind {
            Kind::Mark(Mark::Begin(which)) => self.sample = Some((which, address, Counts::default())),
            Kind::Mark(Mark::End) => {
                if let Some((which, began, counts)) = self.sample.take() {
                    self.samples[which].push((began, counts));
                }
            }
            Kind::Mark(Mark::Told) => {
                let which = usize::from(self.samples[0].is_empty());
                self.told.push(usual(&std::mem::take(&mut self.samples[which])));
            }
            Kind::Tlbi => count(&mut self.sample, |counts| counts.tlb += 1),
            Kind::Barrier => count(&mut self.sample, |counts| counts.barriers += 1),
            Kind::Return => count(&mut self.sample, |counts| counts.exits += 1),
            Kind::Gic if is_own => count(&mut self.sample, |counts| counts.gic += 1),
            Kind::Gic => count(&mut self.sample, |counts| counts.guest_gic += 1),
        }
    }
}

/// What most of those samples executed that began where the last did: samples before may be of something that nobody printed.
fn usual(samples: &[(u64, Counts)]) -> Counts {
    let mut often: BTreeMap<Counts, usize> = BTreeMap::new();
    let last = samples.last().map(|(began, _)| *began);
    for (_, counts) in samples.iter().filter(|(began, _)| Some(*began) == last) {
        *often.entry(*counts).or_default() += 1;
    }
    often.into_iter().max_by_key(|(_, times)| *times).map(|(counts, _)| counts).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_record() {
        let line = "Trace 0: 0x7fccb88b1340 [00200008/00000000402012b0/00000061/ff022201] ";
        assert_eq!(executed(line), Some((0x4020_12b0, 6)));
        assert_eq!(executed("Stopped execution of TB chain before 0x7fcc [00000000402012b0] "), None);
        assert_eq!(executed(""), None);
    }

    #[test]
    fn what_is_between_the_marks_is_counted() {
        let mut reader = Reader::default();
        let mut take = |kinds: &[(Kind, u64)]| {
            kinds.iter().for_each(|(kind, address)| reader.take(*kind, *address, *address < 100));
        };
        let (begin, second) = (Kind::Mark(Mark::Begin(0)), Kind::Mark(Mark::Begin(1)));
        let (end, told) = (Kind::Mark(Mark::End), Kind::Mark(Mark::Told));
        // Of something that is not printed.
        take(&[(begin, 100), (Kind::Tlbi, 1), (Kind::Tlbi, 1), (end, 101)]);
        take(&[(Kind::Tlbi, 1), (Kind::Return, 2)]);
        for exits in [1, 2, 2] {
            take(&[(begin, 104), (Kind::Tlbi, 1)]);
            (0..exits).for_each(|_| take(&[(Kind::Return, 2)]));
            take(&[(end, 105), (Kind::Barrier, 3)]);
        }
        take(&[(told, 110)]);
        // A pair.
        for _ in 0..2 {
            take(&[(begin, 120), (Kind::Gic, 4), (end, 121), (second, 122), (Kind::Gic, 123), (end, 124)]);
        }
        take(&[(told, 110), (told, 110)]);
        let none = Counts::default();
        let expected =
            [Counts { tlb: 1, exits: 2, ..none }, Counts { gic: 1, ..none }, Counts { guest_gic: 1, ..none }];
        assert_eq!(reader.told, expected);
    }
}
