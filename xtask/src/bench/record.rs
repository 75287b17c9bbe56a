//! QEMU's record of where certain instructions were executed, in the control OS and in what runs on it, and the guests' marks in it, which say what of it
//! belongs to which figure.

use super::{
    counts::{ByName, Counts},
    instruction::{self, Kind, Mark},
};
use crate::{elf, machine::Record, run::CONTROL_OS_ADDRESS};
use addr2line::{Loader, demangle_auto};
use anyhow::{Context, Result, bail};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

/// The functions that the control OS reaches the interrupt controller's memory by.
const GIC_MEMORY: [&str; 2] = ["drivers::gic::read", "drivers::gic::write"];

/// Where system-control's kernel puts a program that may be anywhere.
const PROGRAM_ADDRESS: u64 = 0x2a_aaaa_0000;

/// The addresses of instructions that are recorded, in the control OS and in what runs on it, where addresses may be the same.
#[derive(Default)]
pub(super) struct Sites {
    control_os: HashMap<u64, Kind>,
    others: HashMap<u64, Kind>,
}

impl Sites {
    /// Of guests, of which no two may have the same addresses, and their programs.
    pub(super) fn of(control_os: &Path, others: &BTreeSet<PathBuf>) -> Result<Sites> {
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
        for file in others {
            let bytes = read(file)?;
            let base = if elf::is_position_independent(&bytes)? { PROGRAM_ADDRESS } else { 0 };
            let found = elf::instructions(&bytes)?.into_iter();
            sites
                .add(found.map(|(address, word)| (base + address, word)))
                .with_context(|| format!("{} cannot be told from another guest", file.display()))?;
        }
        Ok(sites)
    }

    /// What runs on the control OS.
    fn add(&mut self, instructions: impl Iterator<Item = (u64, u32)>) -> Result<()> {
        for (address, word) in instructions {
            // A return there is not one from the control OS.
            let Some(kind) = Kind::of(word).filter(|kind| *kind != Kind::Return) else { continue };
            if self.others.insert(address, kind).is_some() {
                bail!("both have something at {address:#x}");
            }
        }
        Ok(())
    }

    /// What QEMU has to record.
    pub(super) fn record(&self, file: &Path) -> Record {
        let mut addresses: Vec<u64> = self.control_os.keys().chain(self.others.keys()).copied().collect();
        addresses.sort_unstable();
        addresses.dedup();
        Record { file: file.to_owned(), addresses }
    }

    /// Of each of these figures, which have been printed in this order, what its samples most often executed, if there are samples.
    pub(super) fn counts(&self, record: &Path, names: &[String]) -> Result<ByName> {
        let file = File::open(record).with_context(|| format!("cannot read {}", record.display()))?;
        let mut reader = Reader::default();
        for line in BufReader::new(file).lines() {
            let line = line?;
            let Some((address, regime)) = executed(&line) else { continue };
            // The first is the control OS's: nobody else runs yet.
            let is_own = regime == *reader.regime.get_or_insert(regime);
            let sites = if is_own { &self.control_os } else { &self.others };
            if let Some(kind) = sites.get(&address) {
                reader.take(*kind, address, is_own);
            }
        }
        if reader.told.len() != names.len() {
            bail!("{} figures were printed, and {} marked", names.len(), reader.told.len());
        }
        Ok(names.iter().cloned().zip(reader.told).filter_map(|(name, told)| Some((name, told?))).collect())
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
    /// What belongs to the figures. `None`: no sample was marked.
    told: Vec<Option<Counts>>,
}

impl Reader {
    fn take(&mut self, kind: Kind, address: u64, is_own: bool) {
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
            Kind::Tlbi | Kind::Barrier | Kind::Return | Kind::Gic => {
                if let Some((_, _, counts)) = &mut self.sample {
                    count(counts, kind, is_own);
                }
            }
        }
    }
}

/// Counts an instruction of the control OS's own or of others.
fn count(counts: &mut Counts, kind: Kind, is_own: bool) {
    let number = match (kind, is_own) {
        (Kind::Return, _) => &mut counts.exits,
        (Kind::Tlbi, true) => &mut counts.tlb,
        (Kind::Barrier, true) => &mut counts.barriers,
        (Kind::Gic, true) => &mut counts.gic,
        (Kind::Tlbi, false) => &mut counts.guest_tlb,
        (Kind::Barrier, false) => &mut counts.guest_barriers,
        (Kind::Gic, false) => &mut counts.guest_gic,
        (Kind::Mark(_), _) => return,
    };
    *number += 1;
}

/// What most of those samples executed that began where the last did: samples before may be of something that nobody printed.
fn usual(samples: &[(u64, Counts)]) -> Option<Counts> {
    let mut often: BTreeMap<Counts, usize> = BTreeMap::new();
    let (last, _) = samples.last()?;
    for (_, counts) in samples.iter().filter(|(began, _)| began == last) {
        *often.entry(*counts).or_default() += 1;
    }
    often.into_iter().max_by_key(|(_, times)| *times).map(|(counts, _)| counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLBI: u32 = 0xd508_831f;
    const NOP: u32 = 0xd503_201f;
    const ERET: u32 = 0xd69f_03e0;

    #[test]
    fn reads_the_record() {
        let line = "Trace 0: 0x7fccb88b1340 [00200008/00000000402012b0/00000061/ff022201] ";
        assert_eq!(executed(line), Some((0x4020_12b0, 6)));
        assert_eq!(executed("Stopped execution of TB chain before 0x7fcc [00000000402012b0] "), None);
        assert_eq!(executed(""), None);
    }

    #[test]
    fn what_others_execute_is_found_and_their_returns_are_none_of_the_control_os() {
        let mut sites = Sites::default();
        sites.add([(0x1000, NOP), (0x1004, TLBI), (0x1008, ERET)].into_iter()).unwrap();
        sites.add([(0x2000, TLBI)].into_iter()).unwrap();
        assert_eq!(sites.others, HashMap::from([(0x1004, Kind::Tlbi), (0x2000, Kind::Tlbi)]));
        assert_eq!(sites.record(Path::new("executed")).addresses, [0x1004, 0x2000]);
        let error = sites.add([(0x1004, TLBI)].into_iter()).unwrap_err();
        assert_eq!(error.to_string(), "both have something at 0x1004");
    }

    #[test]
    fn each_line_is_whose_regime_it_was_executed_in() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("executed");
        let mark = |mark| Kind::Mark(mark);
        let sites = Sites {
            // The same address at both.
            control_os: HashMap::from([(0x1000, Kind::Return), (0x1004, Kind::Gic)]),
            others: HashMap::from([
                (0x1000, mark(Mark::Begin(0))),
                (0x1004, Kind::Gic),
                (0x1008, mark(Mark::End)),
                (0x100c, mark(Mark::Told)),
            ]),
        };
        let lines = |all: &[(u64, u32)]| -> String {
            let line = |(address, flags): &(u64, u32)| {
                format!("Trace 0: 0x7fcc [00200008/{address:016x}/{flags:08x}/ff022201] \n")
            };
            all.iter().map(line).collect()
        };
        let (own, guest, program) = (0x61, 0x21, 0x01);
        let run = [
            (0x1000, own),
            (0x100c, guest),
            (0x1000, guest),
            (0x1000, own),
            (0x1004, own),
            (0x1004, guest),
            (0x1004, guest),
            (0x2000, own),
            (0x1008, program),
            (0x100c, program),
        ];
        fs::write(&file, lines(&run)).unwrap();
        let names = ["first".to_owned(), "second".to_owned()];
        let counts = Counts { exits: 1, gic: 1, guest_gic: 2, ..Counts::default() };
        // The first has no samples.
        assert_eq!(sites.counts(&file, &names).unwrap(), [("second".to_owned(), counts)]);
        let error = sites.counts(&file, &names[..1]).unwrap_err();
        assert_eq!(error.to_string(), "1 figures were printed, and 2 marked");
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
            take(&[(begin, 120), (Kind::Gic, 4), (end, 121)]);
            take(&[(second, 122), (Kind::Gic, 123), (Kind::Tlbi, 124), (Kind::Barrier, 125), (end, 126)]);
        }
        take(&[(told, 110), (told, 110)]);
        // One without samples.
        take(&[(told, 110)]);
        let none = Counts::default();
        let guest = Counts { guest_gic: 1, guest_tlb: 1, guest_barriers: 1, ..none };
        let expected =
            [Some(Counts { tlb: 1, exits: 2, ..none }), Some(Counts { gic: 1, ..none }), Some(guest), None];
        assert_eq!(reader.told, expected);
    }
}
