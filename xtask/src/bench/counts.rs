//! What a figure has in it that real machines take longer for than for an instruction, and whether other circumstances change that.

use super::variation::Variation;
use std::collections::BTreeMap;

/// What one sample executes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counts {
    /// TLB maintenance instructions of the control OS's.
    pub(super) tlb: u32,
    /// DSB instructions of the control OS's.
    pub(super) barriers: u32,
    /// Returns from the control OS to a guest.
    pub(super) exits: u32,
    /// Accesses of the control OS's to the interrupt controller.
    pub(super) gic: u32,
    /// The guests' TLB maintenance, DSB instructions and accesses, of which none leaves the guest.
    pub(super) guest_tlb: u32,
    pub(super) guest_barriers: u32,
    pub(super) guest_gic: u32,
}

/// How many numbers that are.
const NUMBERS: usize = 7;

impl Counts {
    const TITLES: [&str; NUMBERS] =
        ["TLBI", "DSB", "exits", "GIC", "guests' TLBI", "guests' DSB", "guests' GIC"];
    const KEYS: [&str; NUMBERS] = [
        "tlb_maintenance",
        "barriers",
        "exits",
        "gic_accesses",
        "tlb_maintenance_by_guests",
        "barriers_by_guests",
        "gic_accesses_by_guests",
    ];

    fn numbers(self) -> [u32; NUMBERS] {
        let Counts { tlb, barriers, exits, gic, guest_tlb, guest_barriers, guest_gic } = self;
        [tlb, barriers, exits, gic, guest_tlb, guest_barriers, guest_gic]
    }

    /// With their names in JSON.
    pub(super) fn named(self) -> impl Iterator<Item = (&'static str, u32)> {
        Counts::KEYS.into_iter().zip(self.numbers())
    }
}

/// What figures of these names execute.
pub(super) type ByName = Vec<(String, Counts)>;

/// What figures execute, in the order in which they were measured, plain and in other circumstances.
#[derive(Default)]
pub(super) struct Executed {
    plain: ByName,
    others: Vec<(Variation, ByName)>,
}

impl Executed {
    /// Keeps what these figures execute.
    pub(super) fn add(&mut self, variation: Option<Variation>, counts: ByName) {
        match variation {
            None => self.plain.extend(counts),
            Some(variation) => self.others.push((variation, counts)),
        }
    }

    /// All of it by the figures' flat names.
    pub(super) fn flat(&self) -> BTreeMap<String, Counts> {
        let others = self.others.iter().flat_map(|(variation, counts)| {
            counts.iter().map(|(name, counts)| (name.clone() + variation.suffix(), *counts))
        });
        self.plain.iter().cloned().chain(others).collect()
    }

    /// A row for each plain figure. Of those in other circumstances a row for each that differs, or has no plain one, and in words how many are the same.
    pub(super) fn table(&self) -> String {
        let names = self.flat();
        let Some(width) = names.keys().map(String::len).max() else { return String::new() };
        let line = |name: &str, columns: [String; NUMBERS]| {
            let columns: String = columns.iter().map(|column| format!("  {column:>12}")).collect();
            format!("{name:width$}{columns}\n")
        };
        let row = |name: &str, counts: &Counts| line(name, counts.numbers().map(|number| number.to_string()));
        let mut table = String::from("\n");
        table += &line("executed in it", Counts::TITLES.map(str::to_owned));
        for (name, counts) in &self.plain {
            table += &row(name, counts);
        }
        for (variation, counts) in &self.others {
            let different: Vec<_> =
                counts.iter().filter(|(name, counts)| !self.is_plain(name, counts)).collect();
            let (all, same) = (counts.len(), counts.len() - different.len());
            table += &format!("{}: the same in {same} of {all} figures", variation.title());
            table += if different.is_empty() { "\n" } else { ", and otherwise\n" };
            for (name, counts) in different {
                table += &row(&(name.clone() + variation.suffix()), counts);
            }
        }
        table
    }

    /// Whether the plain figure of this name executes the same.
    fn is_plain(&self, name: &str, counts: &Counts) -> bool {
        self.plain.iter().any(|(plain, executed)| plain == name && executed == counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executed() -> Executed {
        let counts = |exits, gic| Counts { exits, gic, ..Counts::default() };
        let mut executed = Executed::default();
        executed.add(None, vec![("z_call".to_owned(), counts(1, 0)), ("echo".to_owned(), counts(6, 30))]);
        let same = vec![("echo".to_owned(), counts(6, 30)), ("z_call".to_owned(), counts(1, 0))];
        executed.add(Some(Variation::Channels), same);
        let different = vec![
            ("z_call".to_owned(), counts(1, 0)),
            ("echo".to_owned(), counts(6, 40)),
            ("other".to_owned(), counts(1, 0)),
        ];
        executed.add(Some(Variation::Processors), different);
        executed.add(None, vec![("last".to_owned(), counts(2, 2))]);
        executed
    }

    #[test]
    fn what_is_the_same_takes_a_line() {
        let table = executed().table();
        let lines: Vec<String> =
            table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "",
            "executed in it TLBI DSB exits GIC guests' TLBI guests' DSB guests' GIC",
            "z_call 0 0 1 0 0 0 0",
            "echo 0 0 6 30 0 0 0",
            "last 0 0 2 2 0 0 0",
            "1,000 channels: the same in 2 of 2 figures",
            "2 processors: the same in 1 of 3 figures, and otherwise",
            "echo_2cpu 0 0 6 40 0 0 0",
            "other_2cpu 0 0 1 0 0 0 0",
        ];
        assert_eq!(lines, expected);
        assert_eq!(Executed::default().table(), "");
    }

    #[test]
    fn each_has_a_flat_name() {
        let flat = executed().flat();
        assert_eq!(flat.len(), 8);
        assert_eq!((flat["echo"].gic, flat["echo_1000_channels"].gic, flat["echo_2cpu"].gic), (30, 30, 40));
    }
}
