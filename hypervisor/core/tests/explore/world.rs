//! The rules, a machine, and what a state is.

use std::fmt::Write;

use handover_abi::{
    Account, EndReason, MessageWord, Name, PartitionId, Port, RegionHandle, RequestFlags, SignalKind, layout,
};
use handover_core::{
    Failure, Handed, Machine, Maintenance, PAGE, Pa, Partition, PartitionIndex, Phase, Progress, System,
    VcpuId, Waited,
};

use crate::alphabet::{Goes, Op, Theme};
use crate::machine::{BASE, Model, books};

/// Two steps to zero, so that there is a state between.
const REGION: u64 = 128 << 10;
const REGIONS_MAX: u64 = 2;
const CHUNKS: usize = 6;

thread_local! {
    /// Of worlds that were.
    static SHELLS: std::cell::RefCell<Vec<&'static mut Partition>> = const { std::cell::RefCell::new(Vec::new()) };
}

pub struct World {
    system: System,
    machine: Model,
    partitions: Vec<PartitionIndex>,
    processors: &'static [(usize, u8)],
    /// Requests that were taken and not answered.
    tokens: Vec<Vec<u64>>,
    /// Who runs: neither calls nor waits nor is off.
    free: Vec<bool>,
    on: Vec<bool>,
}

fn place(number: u64) -> u64 {
    layout::WINDOW_BASE + number * layout::WINDOW_SLOT
}

impl World {
    pub fn new(theme: &Theme) -> World {
        World::on(theme, Model::new(CHUNKS, true))
    }

    /// At the start, on a machine whose memory is all free.
    fn on(theme: &Theme, mut machine: Model) -> World {
        let mut system = System::new();
        system.prepare_lending(&mut machine).unwrap();
        let create = |_| {
            let shell = SHELLS.with_borrow_mut(Vec::pop);
            let shell = shell.unwrap_or_else(|| Box::leak(Box::new(Partition::new())));
            let name = Name::new("explorer").unwrap();
            let id = system.create(&mut machine, None, name, 2, shell, 0);
            let id = id.map_err(|(failure, _)| failure).unwrap();
            for &account in Account::ALL {
                system.set_limit(&machine, id, account as u64, u64::MAX).unwrap();
            }
            let partition = system.find(id).unwrap();
            system.start(partition).unwrap();
            partition
        };
        let partitions: Vec<PartitionIndex> = (0..theme.partitions).map(create).collect();
        let mut world = World {
            system,
            machine,
            partitions,
            processors: theme.processors,
            tokens: vec![Vec::new(); theme.partitions],
            free: vec![true; theme.processors.len()],
            on: vec![true; theme.processors.len()],
        };
        for number in 0..theme.processors.len() {
            let id = world.processor(number);
            world.system.vcpu_on(id);
        }
        if theme.joined {
            for client in 0..theme.partitions {
                let server = world.next_to(client);
                let done = [Op::Connect(client, false), Op::SignalNext(server), Op::Accept(server)];
                assert!(done.into_iter().all(|op| world.perform(op) == Some(true)));
            }
            for who in 0..theme.partitions {
                while world.perform(Op::EventNext(who)) == Some(true) {}
                let own = world.partitions[who];
                world.system.region_create(&mut world.machine, own, REGION, place(0)).unwrap();
            }
        }
        assert!(theme.start.iter().all(|op| world.perform(*op) == Some(true)));
        world
    }

    fn processor(&self, number: usize) -> VcpuId {
        let (partition, index) = self.processors[number];
        VcpuId { partition: self.partitions[partition], index }
    }

    /// Whom it asks for channels.
    fn next_to(&self, who: usize) -> usize {
        (who + 1) % self.partitions.len()
    }

    fn numbers(&self) -> std::ops::Range<usize> {
        0..self.processors.len()
    }

    /// Everything goes, and the memory is all back.
    pub fn finish(mut self) -> Model {
        for &partition in &self.partitions {
            self.system.end(&mut self.machine, partition, EndReason::Stopped, 0);
            while self.system.reap(&mut self.machine, partition) == Progress::Again {}
        }
        for &partition in &self.partitions {
            let id = self.system.partition(partition).unwrap().id();
            let (shell, _) = self.system.destroy(&mut self.machine, id).unwrap();
            *shell = Partition::new();
            SHELLS.with_borrow_mut(|shells| shells.push(shell));
        }
        // The control OS's for good; but it begins again.
        for frame in self.system.zero_frames().into_iter().flatten() {
            self.machine.zero(frame, PAGE);
            self.machine.maintain(0, Maintenance::Retire);
            self.machine.free(frame, 12);
        }
        assert_eq!(self.machine.allocated_bytes(), 0);
        self.machine.check_total();
        (self.machine.tlb, self.machine.steps) = Default::default();
        (self.machine.zeroes, self.machine.interrupts, self.machine.failed_calls) = Default::default();
        self.machine
    }

    /// Begins again, and does what leads to a state.
    pub fn replay(self, theme: &Theme, path: &[Op]) -> World {
        let mut world = World::on(theme, self.finish());
        for op in path {
            assert_eq!(world.perform(*op), Some(true), "{op:?} of {path:?}");
        }
        world
    }

    fn regions(&self) -> u64 {
        let used = |ix: &PartitionIndex| self.system.partition(*ix).unwrap().accounts().used(Account::Memory);
        self.partitions.iter().map(used).sum::<u64>() / REGION
    }

    fn ports(&self, who: usize) -> u64 {
        self.system.partition(self.partitions[who]).unwrap().accounts().used(Account::Ports)
    }

    /// → whether it was done; `None`: it makes no sense here.
    pub fn perform(&mut self, op: Op) -> Option<bool> {
        let done = self.perform_any(op);
        self.answered();
        done
    }

    fn perform_any(&mut self, op: Op) -> Option<bool> {
        match op {
            Op::Create(..) if self.regions() >= REGIONS_MAX => return None,
            Op::Connect(who, _) if self.ports(who) >= 2 => return None,
            _ => {}
        }
        let next = |who| (who + 1) % self.partitions.len();
        let own = |who: usize| self.partitions[who];
        let (system, machine) = (&mut self.system, &mut self.machine);
        let done = |result: Result<Progress, Failure>| Some(result.is_ok());
        match op {
            Op::Create(who, at) => {
                let at = at.map_or(0, place);
                Some(system.region_create(machine, own(who), REGION, at).is_ok())
            }
            Op::Destroy(who, name) => done(system.region_destroy(machine, own(who), name)),
            Op::Map(who, name, at) => Some(system.region_map(machine, own(who), name, place(at)).is_ok()),
            Op::Unmap(who, name) => Some(system.region_unmap(machine, own(who), name).is_ok()),
            Op::Connect(who, memory) => {
                let id = u64::from(system.partition(own(next(who))).unwrap().id().get());
                let flags = if memory { RequestFlags::MEMORY } else { RequestFlags::empty() };
                // The first asks for memory that both write to, the second for some that it alone writes to.
                let flags = if memory && who == 1 { flags | RequestFlags::SEND_ONLY } else { flags };
                let order = if memory { u64::from(REGION.trailing_zeros()) } else { 0 };
                let word = 1 | u64::from(flags.bits()) << 32 | order << 56;
                Some(system.connect(machine, own(who), id, word).is_ok())
            }
            Op::SignalNext(who) => match system.signal_next(own(who)) {
                Ok(signal) => {
                    if signal.kind == SignalKind::Connect {
                        self.tokens[who].push(signal.token);
                    }
                    Some(true)
                }
                Err(_) => Some(false),
            },
            Op::Accept(who) => {
                let token = *self.tokens[who].first()?;
                if system.accept(machine, own(who), token).is_err() {
                    return Some(false);
                }
                self.tokens[who].remove(0);
                Some(true)
            }
            Op::Refuse(who) => {
                let token = *self.tokens[who].first()?;
                let refused = system.refuse(machine, own(who), token, 1);
                // One that was withdrawn is of no use any more.
                self.tokens[who].remove(0);
                _ = refused;
                Some(true)
            }
            Op::Disconnect(who, port) => done(system.disconnect(machine, own(who), port)),
            Op::Send(who, port, region) => {
                let port = Port::new(port as u32);
                let word = MessageWord::new(port, (region != 0).then(|| RegionHandle::new(region as u32)), 0);
                // Two that wait are as good as more.
                if Digest::of([system.partition(own(who)).unwrap()]).entries > 8 {
                    return None;
                }
                Some(system.send(machine, own(who), word, &[0; 16]).is_ok())
            }
            Op::Receive(who, port, at) => {
                let at = at.map_or(0, place);
                Some(system.receive(machine, own(who), port, at, &mut [0; 16]).is_ok())
            }
            Op::EventNext(who) => Some(system.event_next(own(who)).is_ok()),
            Op::EventSend(who, port) => Some(system.event_send(machine, own(who), port).is_ok()),
            Op::SharedMap(who, port, at) => {
                Some(system.shared_map(machine, own(who), port, place(at)).is_ok())
            }
            Op::SharedUnmap(who, port) => Some(system.shared_unmap(machine, own(who), port).is_ok()),
            Op::Land(who, port) => Some(system.call_setup(own(who), port, place(1), 0).is_ok()),
            Op::End(who) => {
                if system.partition(own(who)).unwrap().phase() != Phase::Active {
                    return None;
                }
                system.end(machine, own(who), EndReason::Stopped, 0);
                for (number, (of, _)) in self.processors.iter().enumerate() {
                    if *of == who {
                        (self.free[number], self.on[number]) = (false, false);
                    }
                }
                Some(true)
            }
            Op::Reap(who) => {
                if system.partition(own(who)).unwrap().phase() != Phase::Ending {
                    return None;
                }
                let _: Progress = system.reap(machine, own(who));
                Some(true)
            }
            _ => self.perform_call(op),
        }
    }

    /// Those whose calls have failed go on.
    fn answered(&mut self) {
        for (caller, ..) in std::mem::take(&mut self.machine.failed_calls) {
            let number = self.number(caller);
            assert!(!self.free[number], "{caller:?} did not wait");
            self.free[number] = true;
        }
    }

    fn runs(&self, number: usize) -> Option<VcpuId> {
        self.free[number].then(|| self.processor(number))
    }

    fn number(&self, of: VcpuId) -> usize {
        self.numbers().find(|n| self.processor(*n) == of).unwrap()
    }

    fn perform_call(&mut self, op: Op) -> Option<bool> {
        let region = |name: u64| (name != 0).then(|| RegionHandle::new(name as u32));
        let done = match op {
            Op::Call(number, port, name, how) => {
                let caller = self.runs(number)?;
                let word = MessageWord::new(Port::new(port as u32), region(name), 0);
                let word = match how {
                    Goes::Moved => word,
                    Goes::Lent => word.lent(),
                    Goes::Shown => word.lent().kept(),
                };
                let result = self.system.call(&mut self.machine, caller, word);
                if let Ok(handed) = result {
                    self.free[number] = false;
                    self.handed(handed);
                }
                result.is_ok()
            }
            Op::CallWait(number) => {
                let server = self.runs(number)?;
                match self.system.call_wait(&mut self.machine, server) {
                    Ok(waited) => {
                        self.free[number] = waited != Waited::Waiting;
                        true
                    }
                    Err(_) => false,
                }
            }
            Op::Reply(number, name) => {
                let server = self.runs(number)?;
                let word = MessageWord::new(Port::new(0), region(name), 0);
                match self.system.reply(&mut self.machine, server, word) {
                    Ok(delivered) => {
                        let caller = self.number(delivered.caller);
                        assert!(!self.free[caller]);
                        self.free[caller] = true;
                        true
                    }
                    Err(_) => false,
                }
            }
            Op::Forward(number, port, name) => {
                let server = self.runs(number)?;
                let word = MessageWord::new(Port::new(port as u32), region(name), 0);
                match self.system.forward(&mut self.machine, server, word) {
                    Ok((_, handed)) => {
                        self.handed(handed);
                        true
                    }
                    Err(_) => false,
                }
            }
            Op::Expire(number) => {
                let caller = self.processor(number);
                if !self.system.is_calling(caller) {
                    return None;
                }
                self.system.call_expired(&mut self.machine, caller);
                true
            }
            Op::Interrupted(number) => {
                let server = self.processor(number);
                if !self.system.call_interrupted(server) {
                    return None;
                }
                self.free[number] = true;
                true
            }
            Op::Switch(number, on) => {
                let id = self.processor(number);
                let lives = self.system.partition(id.partition).unwrap().phase() == Phase::Active;
                if !lives || on == self.on[number] || !on && !self.free[number] {
                    return None;
                }
                if on {
                    self.system.vcpu_on(id);
                } else {
                    self.system.vcpu_off(&mut self.machine, id);
                }
                (self.free[number], self.on[number]) = (on, on);
                true
            }
            _ => unreachable!("{op:?}"),
        };
        Some(done)
    }

    fn handed(&mut self, handed: Handed) {
        if let Handed::To(server, _) = handed {
            let number = self.number(server);
            assert!(!self.free[number], "who takes a call has waited");
            self.free[number] = true;
        }
    }

    /// What a failed operation must leave as it was, as far as it is quick to tell.
    pub fn quick(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let used: Vec<_> =
            self.partitions.iter().map(|ix| self.system.partition(*ix).unwrap().accounts().clone()).collect();
        (self.machine.digest(), used, self.machine.steps, self.free.clone())
    }

    /// A number for the state, without the names and addresses that things happen to have.
    pub fn fingerprint(&self) -> u128 {
        let mut digest = Digest::default();
        for (who, ix) in self.partitions.iter().enumerate() {
            let p = self.system.partition(*ix).unwrap();
            write!(digest, "{p:?} {:?} {:?} {:?} ", self.tokens[who].len(), self.free, self.on).unwrap();
            self.write_window(&mut digest, p.root());
        }
        digest.hash
    }

    /// The entries of a partition's window, as they are.
    fn write_window(&self, digest: &mut Digest, root: Pa) {
        let first = (layout::WINDOW_BASE >> 30) as usize;
        let entry = self.machine.tables.get(root, first);
        digest.number(entry);
        for index in 0..2 {
            digest.number(self.machine.tables.get(Pa::new(entry & 0xffff_ffff_f000), index));
        }
    }

    /// Guests touch all that they reach.
    pub fn touch(&mut self) {
        let touched = self.balance();
        self.machine.touch(touched);
    }

    fn balance(&mut self) -> Vec<(u16, Pa, handover_core::Ipa)> {
        self.machine.zeroes = books::zeroes(&self.system);
        let rest =
            !Digest::of(self.partitions.iter().map(|ix| self.system.partition(*ix).unwrap())).half_done;
        books::balance(&self.system, &self.machine, 0, |_| PartitionId::new(0), rest)
    }

    /// What must hold after an operation.
    pub fn check_after(&mut self, op: Op, path: &[Op]) {
        let stale = self.machine.tlb.check(&self.machine.tables);
        assert!(!self.machine.freed_early, "a table is freed early by {op:?} after {path:?}");
        if self.machine.steps > 0 {
            assert_eq!(stale, Ok(()), "{op:?} after {path:?}");
        }
    }

    /// What must hold in a state.
    pub fn check_state(&mut self, op: Op, path: &[Op]) {
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.balance()));
        assert!(checked.is_ok(), "the books are wrong by {op:?} after {path:?}");
        let alive = self.numbers().any(|n| self.free[n] || self.waits(n));
        let calling = self.numbers().any(|n| self.system.is_calling(self.processor(n)));
        // One that ends tells its callers on the way.
        let phase = |ix: &PartitionIndex| self.system.partition(*ix).unwrap().phase();
        let ending = self.partitions.iter().any(|ix| phase(ix) == Phase::Ending);
        assert!(alive || ending || !calling, "all wait for each other by {op:?} after {path:?}");
    }

    fn waits(&self, number: usize) -> bool {
        let id = self.processor(number);
        self.on[number] && !self.free[number] && !self.system.is_calling(id)
    }
}

/// What records are, from how they are written: each large number, which is an address or a descriptor, is numbered in the order in which it appears; what
/// only counts up is left out.
#[derive(Default)]
struct Digest {
    hash: u128,
    names: Vec<u64>,
    /// What is written next is how often something has happened.
    counts_up: bool,
    /// Something is being cleared, or a port closes.
    half_done: bool,
    /// Messages.
    entries: u32,
}

impl Digest {
    fn of<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> Digest {
        let mut digest = Digest::default();
        partitions.into_iter().for_each(|p| write!(digest, "{p:?} ").unwrap());
        digest
    }

    fn feed(&mut self, value: u64) {
        let hash = (self.hash ^ u128::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.hash = hash ^ hash >> 64;
    }

    fn number(&mut self, value: u64) {
        let address = value & 0x0000_ffff_ffff_f000;
        if address < BASE || value == u64::MAX {
            return self.feed(value);
        }
        let known = self.names.iter().position(|name| *name == address);
        let name = known.unwrap_or_else(|| {
            self.names.push(address);
            self.names.len() - 1
        });
        self.feed(value & !0x0000_ffff_ffff_f000);
        self.feed(name as u64);
    }
}

impl Write for Digest {
    /// Names and numbers come each as a whole.
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        let bytes = piece.as_bytes();
        match bytes.first() {
            Some(first) if first.is_ascii_digit() => {
                let counts_up = std::mem::take(&mut self.counts_up);
                // Flags are written in another way.
                if let Ok(value) = piece.parse() {
                    if !counts_up {
                        self.number(value);
                    }
                    return Ok(());
                }
            }
            Some(first) if first.is_ascii_alphabetic() => {
                self.half_done |= matches!(piece, "Clearing" | "Closing" | "Leaving");
                self.entries += u32::from(piece == "body");
                // It tells requests apart.
                self.counts_up = piece == "sequence";
            }
            _ => {}
        }
        for part in bytes.chunks(8) {
            self.feed(part.iter().fold(part.len() as u64, |word, byte| word << 8 ^ u64::from(*byte)));
        }
        Ok(())
    }
}
