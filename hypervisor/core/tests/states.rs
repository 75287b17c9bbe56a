//! The table of docs/architecture.md, cell by cell: what may be done with a region in which state, and what becomes of it.

mod machine;
#[path = "lend/world.rs"]
mod world;

use handover_abi::{Account, Error, MessageWord, Port, RegionHandle};
use handover_core::{Failure, Handed, Progress, VcpuId, Waited};
use world::{AT, FIRST, LANDING, LENDER, SECOND, World};

const DOCUMENT: &str = include_str!("../../../docs/architecture.md");
/// Two steps to clear, so that there is a state between.
const SIZE: u64 = 128 << 10;

/// Of so many cells one is tried: a world of three partitions takes Miri seconds, and writing its records out as long.
const SHARE: usize = if cfg!(miri) { 32 } else { 1 };

/// Somebody's region, in some state.
struct Case {
    w: World,
    /// Who it is a state of.
    who: usize,
    region: RegionHandle,
}

/// What comes of an operation.
type Outcome = Result<(), Failure>;

impl Case {
    /// A region in the state of that name.
    fn new(state: &str) -> Case {
        let mut w = World::new();
        // Their other processors, for calls that have nothing to do with this one.
        for of in [LENDER, FIRST, SECOND] {
            let partition = w.partitions[of];
            w.system.vcpu_on(VcpuId { partition, index: 1 });
        }
        w.land(if state == "borrowed" { 0 } else { LANDING });
        let region = w.region(SIZE);
        let (lender, name) = (w.partitions[LENDER], u64::from(region.get()));
        let case = |w, who, region| Case { w, who, region };
        match state {
            "mapped" => case(w, LENDER, region),
            "held" => {
                let mut case = case(w, LENDER, region);
                case.w.system.region_unmap(&mut case.w.machine, lender, name).unwrap();
                case
            }
            "clearing" => {
                let mut case = case(w, LENDER, region);
                let step = case.w.system.region_destroy(&mut case.w.machine, lender, name);
                assert_eq!(step, Ok(Progress::Again));
                case
            }
            "in transit" => {
                let mut case = case(w, LENDER, region);
                let word = MessageWord::new(case.w.channels[0].0, Some(region), 0);
                case.w.system.send(&mut case.w.machine, lender, word, &[0; 16]).unwrap();
                case
            }
            "calling" => {
                let mut case = case(w, LENDER, region);
                let word = MessageWord::new(case.w.channels[0].0, Some(region), 0);
                let caller = case.w.vcpu(LENDER);
                assert_eq!(case.w.system.call(&mut case.w.machine, caller, word), Ok(Handed::Queued));
                case
            }
            "lent" => {
                let mut case = case(w, LENDER, region);
                assert_eq!(case.w.lend(0, region, false), Ok(Handed::Queued));
                case
            }
            "borrowed" | "read" | "zeroes" => {
                let mut case = case(w, FIRST, region);
                case.region = case.w.lent(region, false);
                if state == "zeroes" {
                    case.times_out();
                }
                case
            }
            other => panic!("no state is called {other}"),
        }
    }

    /// What it is now to whom it is a case of.
    fn state(&self) -> &'static str {
        let p = self.w.system.partition(self.w.partitions[self.who]).unwrap();
        let text = format!("{p:?}");
        let (_, rest) = text.split_once("regions: {").unwrap();
        let (regions, rest) = rest.split_once(", ports: ").unwrap();
        let (_, rest) = rest.split_once("entries: {").unwrap();
        let (entries, _) = rest.split_once(", pending: ").unwrap();
        let key = format!("{}: Region ", self.region.get());
        let Some((_, record)) = regions.split_once(&key) else {
            return if entries.contains("body: Some") { "in transit" } else { "gone" };
        };
        let mapped = !record.contains("Mapping { at: 0,");
        let (_, standing) = record.split_once("standing: ").unwrap();
        match standing.split_once(|c: char| !c.is_alphabetic()).unwrap().0 {
            "Held" if mapped => "mapped",
            "Held" => "held",
            "Clearing" => "clearing",
            "Calling" => "calling",
            "Lent" => "lent",
            "Borrowed" if mapped => "read",
            "Borrowed" => "borrowed",
            "Replaced" => "zeroes",
            other => panic!("{other}"),
        }
    }

    fn times_out(&mut self) {
        let caller = self.w.vcpu(LENDER);
        self.w.system.call_expired(&mut self.w.machine, caller);
    }

    /// Another processor of its partition's, and a channel to the second server, which does not wait.
    fn other(&self) -> (VcpuId, Port) {
        let partition = self.w.partitions[self.who];
        let channel = if self.who == LENDER { 1 } else { 2 };
        (VcpuId { partition, index: 1 }, self.w.channels[channel].0)
    }

    /// A call of the second server's that the other processor has taken.
    fn claim(&mut self) -> VcpuId {
        let (server, _) = self.other();
        self.w.join(SECOND, self.who);
        let port = self.w.channels.last().unwrap().0;
        let caller = VcpuId { partition: self.w.partitions[SECOND], index: 1 };
        let word = MessageWord::new(port, None, 0);
        assert_eq!(self.w.system.call(&mut self.w.machine, caller, word), Ok(Handed::Queued));
        // Somebody else's may be there before it.
        let Ok(Waited::Call(taken)) = self.w.system.call_wait(&mut self.w.machine, server) else { panic!() };
        assert_eq!(taken.caller, caller);
        server
    }

    /// Does what a row of the table is called.
    fn perform(&mut self, what: &str) -> Outcome {
        let (partition, name) = (self.w.partitions[self.who], u64::from(self.region.get()));
        let (processor, port) = self.other();
        let word = MessageWord::new(port, Some(self.region), 0);
        match what {
            "`RegionMap`" => {
                let at = AT + (64 << 21);
                self.w.system.region_map(&mut self.w.machine, partition, name, at)
            }
            "`RegionUnmap`" => self.w.system.region_unmap(&mut self.w.machine, partition, name),
            "`RegionInfo`" => self.w.system.region_info(partition, name).map(|_| ()),
            "`RegionDestroy`, a step" => {
                self.w.system.region_destroy(&mut self.w.machine, partition, name).map(|_| ())
            }
            "`Send`" => self.w.system.send(&mut self.w.machine, partition, word, &[0; 16]).map(|_| ()),
            "`Call`" => self.w.system.call(&mut self.w.machine, processor, word).map(|_| ()),
            "`Call`, lending" => self.w.system.call(&mut self.w.machine, processor, word.lent()).map(|_| ()),
            "`Reply`" => {
                let server = self.claim();
                let word = MessageWord::new(Port::new(0), Some(self.region), 0);
                self.w.system.reply(&mut self.w.machine, server, word).map(|_| ())
            }
            "`Forward` of its call" => {
                // What is borrowed belongs to the call that is being served.
                let server = match self.state() {
                    "borrowed" | "read" => self.w.vcpu(self.who),
                    _ => self.claim(),
                };
                self.w.system.forward(&mut self.w.machine, server, word).map(|_| ())
            }
            "the peer receives it" => {
                let (peer, port) = (self.w.partitions[FIRST], u64::from(self.w.channels[0].1.get()));
                self.w.system.receive(&mut self.w.machine, peer, port, 0, &mut [0; 16]).map(|_| ())
            }
            "a server takes the call" => {
                assert!(matches!(self.w.wait(FIRST), Waited::Call(_)));
                Ok(())
            }
            "the call is answered" => {
                if self.state() == "lent" {
                    assert!(matches!(self.w.wait(FIRST), Waited::Call(_)));
                }
                self.w.reply(FIRST, None).map(|_| ())
            }
            "the call's time is up" => {
                self.times_out();
                Ok(())
            }
            "the other partition ends" => {
                self.w.end(if self.who == LENDER { FIRST } else { LENDER });
                Ok(())
            }
            "the partition itself ends" => {
                self.w.end(self.who);
                Ok(())
            }
            other => panic!("no operation is called {other}"),
        }
    }

    /// The books, wherever they can be balanced: something that is half cleared is charged as a whole.
    fn finish(mut self) {
        if self.state() != "clearing" && self.who == LENDER {
            self.w.check();
        }
        self.w.finish();
    }
}

/// The table's heading, and its rows.
fn table() -> (Vec<&'static str>, Vec<Vec<&'static str>>) {
    let (_, text) = DOCUMENT.split_once("## What may be done with a region").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        cells
    });
    let heading = lines.next().unwrap();
    let count = heading.len();
    (heading, lines.skip(1).take_while(|row| row.len() == count).collect())
}

#[test]
fn every_cell_is_as_it_stands_there() {
    let (states, rows) = table();
    let mut cells = 0_usize;
    for row in &rows {
        for (state, cell) in states.iter().zip(row).skip(1).filter(|(_, cell)| **cell != "–") {
            cells += 1;
            if !cells.is_multiple_of(SHARE) {
                continue;
            }
            let mut case = Case::new(state);
            assert_eq!(case.state(), *state, "before {}", row[0]);
            let before = case.w.system.partition(case.w.partitions[case.who]).unwrap();
            let before = before.accounts().used(Account::Memory);
            let outcome = case.perform(row[0]);
            let place = format!("{} of what is {state}: {outcome:?}", row[0]);
            if let Some(name) = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) {
                let error = Error::ALL.iter().find(|error| format!("{error:?}") == name).unwrap();
                assert_eq!(outcome.map_err(|failure| failure.error), Err(*error), "{place}");
                assert_eq!(case.state(), *state, "{place}");
                let after = case.w.system.partition(case.w.partitions[case.who]).unwrap();
                assert_eq!(after.accounts().used(Account::Memory), before, "{place}");
            } else {
                assert_eq!(outcome, Ok(()), "{place}");
                assert_eq!(case.state(), *cell, "{place}");
            }
            case.finish();
        }
    }
    assert_eq!((states.len(), rows.len()), (10, 15), "{states:?}");
    assert!(cells > 100, "{cells} cells");
}
