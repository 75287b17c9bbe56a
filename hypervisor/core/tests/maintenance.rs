//! Every instruction of every maintenance sequence is needed, and together they are enough.

mod machine;

use handover_abi::{Account, EndReason, MessageWord, Name, layout};
use handover_core::{Failure, Ipa, Partition, PartitionIndex, Progress, System};
use machine::Model;

const AT: u64 = layout::WINDOW_BASE;

struct World {
    system: System,
    machine: Model,
    who: PartitionIndex,
}

fn world(tlb_range: bool) -> World {
    let mut machine = Model::new(80, tlb_range);
    let mut system = System::new();
    let shell = Box::leak(Box::new(Partition::new()));
    let name = Name::new("test").unwrap();
    let id = system.create(&mut machine, None, name, 1, shell, 4096).map_err(|(failure, _)| failure).unwrap();
    let who = system.find(id).unwrap();
    for &account in Account::ALL {
        system.set_limit(&machine, id, account as u64, u64::MAX).unwrap();
    }
    system.add_memory(&mut machine, who, Ipa::new(layout::MEMORY_BASE), 2 << 20).unwrap();
    system.start(who).unwrap();
    World { system, machine, who }
}

impl World {
    fn touch(&mut self, size: u64) {
        let p = self.system.partition(self.who).unwrap();
        let (root, vmid) = (p.root(), p.vmid());
        let leaf = if size > 2 << 20 { 2 << 20 } else { 4096 };
        let mut touched: Vec<_> =
            (0..size / leaf).map(|leaf_index| (vmid, root, Ipa::new(AT + leaf_index * leaf))).collect();
        touched.push((vmid, root, Ipa::new(layout::MEMORY_BASE)));
        self.machine.touch(touched);
    }

    /// What is wrong, if anything.
    fn verdict(&self) -> Result<(), String> {
        if self.machine.freed_early {
            return Err("a table freed too early".into());
        }
        self.machine.tlb.check(&self.machine.tables)
    }
}

type Act = fn(&mut World, u64) -> Result<(), Failure>;

const ACTS: [(&str, Act); 3] = [
    ("unmap", |w, handle| w.system.region_unmap(&mut w.machine, w.who, handle)),
    ("destroy", |w, handle| w.system.region_destroy(&mut w.machine, w.who, handle).map(|_: Progress| ())),
    ("end", |w, _| {
        w.system.end(&mut w.machine, w.who, EndReason::Stopped, 0);
        let _: Progress = w.system.reap(&mut w.machine, w.who);
        Ok(())
    }),
];

/// Takes a region that guests have touched away, without the step `omit`. → what the TLB says, and how many steps were taken.
fn take_away(tlb_range: bool, size: u64, act: Act, omit: Option<u64>) -> (Result<(), String>, u64) {
    let mut w = world(tlb_range);
    let handle = w.system.region_create(&mut w.machine, w.who, size, AT).unwrap();
    w.touch(size);
    assert_eq!(w.verdict(), Ok(()));
    assert!(!w.machine.tlb.combined.is_empty());
    let before = w.machine.steps;
    w.machine.omit = omit.map(|step| before + step);
    act(&mut w, u64::from(handle.get())).unwrap();
    (w.verdict(), w.machine.steps - before)
}

#[test]
#[cfg_attr(miri, ignore = "the model TLB alone would take hours")]
fn no_step_of_taking_away_can_be_left_out() {
    let sizes: &[u64] = &[4096, 8192, 65536, 1 << 20, 2 << 20, 4 << 20, 8 << 20, 64 << 20];
    for (tlb_range, &size) in
        [false, true].into_iter().flat_map(|range| sizes.iter().map(move |s| (range, s)))
    {
        for (name, act) in ACTS {
            let (verdict, steps) = take_away(tlb_range, size, act, None);
            assert_eq!(verdict, Ok(()), "{name} of {size:#x} bytes, range {tlb_range}");
            // With a frame to be used again at the end.
            assert!(steps <= 1 + if tlb_range { 6 } else { 5 + 16 });
            for omit in 0..steps {
                let (verdict, _) = take_away(tlb_range, size, act, Some(omit));
                assert!(
                    verdict.is_err(),
                    "{name} of {size:#x} bytes, range {tlb_range}: {omit} does nothing"
                );
            }
        }
    }
}

/// Takes memory that guests have touched away, without the step `omit`. → what the TLB says, and how many steps were taken.
fn take_memory(size: u64, omit: Option<u64>) -> (Result<(), String>, u64) {
    let mut w = world(true);
    let at = layout::MEMORY_BASE + (4 << 20);
    w.system.memory_add(&mut w.machine, w.who, at, size).unwrap();
    let p = w.system.partition(w.who).unwrap();
    let (vmid, root) = (p.vmid(), p.root());
    let granules = (at..at + size).step_by(2 << 20);
    w.machine.touch(granules.map(|at| (vmid, root, Ipa::new(at))).collect());
    assert_eq!(w.verdict(), Ok(()));
    let before = w.machine.steps;
    w.machine.omit = omit.map(|step| before + step);
    let first = w.system.memory_remove(&mut w.machine, w.who, at, size);
    assert_eq!(first, Ok(Progress::Again));
    (w.verdict(), w.machine.steps - before)
}

#[test]
#[cfg_attr(miri, ignore = "the model TLB alone would take minutes")]
fn no_step_of_giving_memory_back_can_be_left_out() {
    for size in [2 << 20, 4 << 20, layout::MEMORY_CALL_MAX] {
        let (verdict, steps) = take_memory(size, None);
        assert_eq!(verdict, Ok(()), "{size:#x} bytes");
        for omit in 0..steps {
            assert!(take_memory(size, Some(omit)).0.is_err(), "{size:#x} bytes: {omit} does nothing");
        }
    }
}

#[test]
fn no_step_of_mapping_can_be_left_out() {
    for omit in 0..2 {
        let mut w = world(true);
        let handle = w.system.region_create(&mut w.machine, w.who, 4096, 0).unwrap();
        let before = w.machine.steps;
        w.machine.omit = Some(before + omit);
        w.system.region_map(&mut w.machine, w.who, u64::from(handle.get()), AT).unwrap();
        assert_eq!(w.machine.steps - before, 2);
        w.touch(4096);
        // Without the first, walkers may still see the entry empty; without the second, this processor may.
        assert!(w.verdict().is_err() || !w.machine.all_visible(), "step {omit} does nothing");
    }
}

#[test]
#[cfg_attr(miri, ignore = "the model TLB alone would take minutes")]
fn a_send_takes_the_region_from_every_tlb() {
    for tlb_range in [false, true] {
        let mut w = world(tlb_range);
        let me = u64::from(w.system.partition(w.who).unwrap().id().get());
        let port = w.system.connect(&mut w.machine, w.who, me, 1).unwrap();
        let token = w.system.signal_next(w.who).unwrap().token;
        w.system.accept(&mut w.machine, w.who, token).unwrap();
        let handle = w.system.region_create(&mut w.machine, w.who, 1 << 20, AT).unwrap();
        w.touch(1 << 20);
        let word = MessageWord::new(port, Some(handle), 0);
        let before = w.machine.steps;
        w.system.send(&mut w.machine, w.who, word, &[0; 16]).unwrap();
        assert_eq!(w.machine.tlb.check(&w.machine.tables), Ok(()));
        assert_eq!(w.machine.steps - before, if tlb_range { 6 } else { 4 });
        // What is not mapped takes no maintenance to send.
        let handle = w.system.region_create(&mut w.machine, w.who, 1 << 20, 0).unwrap();
        let before = w.machine.steps;
        w.system.send(&mut w.machine, w.who, MessageWord::new(port, Some(handle), 0), &[0; 16]).unwrap();
        assert_eq!(w.machine.steps, before);
    }
}
