//! A lender and two servers.
#![allow(dead_code, reason = "each test uses a part")]

use handover_abi::{Account, EndReason, Error, MessageWord, Name, PartitionId, Port, RegionHandle, layout};
use handover_core::{
    Attributes, Delivered, Failure, Handed, Ipa, PAGE, Pa, Partition, PartitionIndex, Progress, System,
    VcpuId, Waited,
};

use crate::machine::{Model, PALETTE, books};

pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;
pub const LANDING: u64 = layout::WINDOW_BASE + 6 * MIB;
pub const AT: u64 = layout::WINDOW_BASE + GIB + 2 * MIB;
pub const WIDE: u64 = layout::WINDOW_BASE + 4 * GIB;

/// A lender, two servers, each with one processor, and channels from the lender to both and from the first server to the second.
pub struct World {
    pub system: System,
    pub machine: Model,
    pub partitions: Vec<PartitionIndex>,
    /// Client's and server's port: lender and first, lender and second, first and second.
    pub channels: Vec<(Port, Port)>,
}

pub const LENDER: usize = 0;
pub const FIRST: usize = 1;
pub const SECOND: usize = 2;

impl World {
    pub fn new() -> World {
        World::with(Model::new(64, true))
    }

    pub fn with(machine: Model) -> World {
        World::declaring(machine, 0)
    }

    /// Where channels to each take regions of these colours alone; 0: of any.
    pub fn declaring(machine: Model, colours: u64) -> World {
        let mut w = World { system: System::new(), machine, partitions: Vec::new(), channels: Vec::new() };
        let fwb = w.machine.capabilities.forced_write_back;
        w.system.set_attributes(Attributes { fwb });
        w.system.set_palette(PALETTE);
        w.system.prepare_lending(&mut w.machine).unwrap();
        for _ in 0..3 {
            let shell = Box::leak(Box::new(Partition::new()));
            let name = Name::new("loan").unwrap();
            let id = w.system.create(&mut w.machine, None, name, 2, shell, 2 * PAGE);
            let id = id.map_err(|(failure, _)| failure).unwrap();
            for &account in Account::ALL {
                w.system.set_limit(&w.machine, id, account as u64, u64::MAX).unwrap();
            }
            let partition = w.system.find(id).unwrap();
            w.system.set_colours(&mut w.machine, id, 0, colours).unwrap();
            w.system.start(partition).unwrap();
            w.system.vcpu_on(VcpuId { partition, index: 0 });
            w.partitions.push(partition);
        }
        for (client, server) in [(LENDER, FIRST), (LENDER, SECOND), (FIRST, SECOND)] {
            w.join(client, server);
        }
        w
    }

    pub fn join(&mut self, client: usize, server: usize) {
        let (client, server) = (self.partitions[client], self.partitions[server]);
        let id = u64::from(self.system.partition(server).unwrap().id().get());
        let port = self.system.connect(&mut self.machine, client, id, 1).unwrap();
        let token = self.system.signal_next(server).unwrap().token;
        let theirs = self.system.accept(&mut self.machine, server, token).unwrap();
        self.channels.push((port, theirs));
    }

    pub fn vcpu(&self, of: usize) -> VcpuId {
        VcpuId { partition: self.partitions[of], index: 0 }
    }

    /// Where the first server's and the second's regions of calls are mapped.
    pub fn land(&mut self, at: u64) {
        for (channel, of) in [(0, FIRST), (1, SECOND), (2, SECOND)] {
            let port = u64::from(self.channels[channel].1.get());
            self.system.call_setup(self.partitions[of], port, at, 0).unwrap();
        }
    }

    /// A region of the lender's that is mapped and holds something.
    pub fn region(&mut self, size: u64) -> RegionHandle {
        let at = if size > 2 * MIB { WIDE } else { AT };
        let region = self.system.region_create(&mut self.machine, self.partitions[LENDER], size, at).unwrap();
        let (pa, _) = self.reach(LENDER, at).unwrap();
        self.machine.write(pa, 17);
        region
    }

    /// Where an address leads and whether it may be written to.
    pub fn reach(&self, of: usize, at: u64) -> Option<(Pa, bool)> {
        let span = self.system.translate(&self.machine, self.partitions[of], Ipa::new(at))?;
        Some((span.pa, span.writable))
    }

    pub fn reads(&self, of: usize, at: u64) -> Option<u64> {
        self.reach(of, at).map(|(pa, _)| self.machine.read(pa))
    }

    pub fn wait(&mut self, of: usize) -> Waited {
        let server = self.vcpu(of);
        self.system.call_wait(&mut self.machine, server).unwrap()
    }

    pub fn lend(&mut self, channel: usize, region: RegionHandle, kept: bool) -> Result<Handed, Failure> {
        let word = MessageWord::new(self.channels[channel].0, Some(region), 8).lent();
        let word = if kept { word.kept() } else { word };
        let caller = self.vcpu(LENDER);
        self.system.call(&mut self.machine, caller, word)
    }

    /// Lends to the first server, which waits. → its name there.
    pub fn lent(&mut self, region: RegionHandle, kept: bool) -> RegionHandle {
        assert_eq!(self.wait(FIRST), Waited::Waiting);
        let Ok(Handed::To(_, word)) = self.lend(0, region, kept) else { panic!("nobody took it") };
        assert!(word.is_lent());
        word.region().unwrap()
    }

    pub fn reply(&mut self, of: usize, region: Option<RegionHandle>) -> Result<Delivered, Failure> {
        let server = self.vcpu(of);
        self.system.reply(&mut self.machine, server, MessageWord::new(Port::new(0), region, 8))
    }

    pub fn info(&self, of: usize, region: RegionHandle) -> Result<(u64, u64), Failure> {
        self.system.region_info(self.partitions[of], u64::from(region.get()))
    }

    pub fn failed(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.machine.failed_calls).into_iter().map(|(_, error, _)| error).collect()
    }

    pub fn end(&mut self, of: usize) {
        self.system.end(&mut self.machine, self.partitions[of], EndReason::Stopped, 0);
        self.check();
        while self.system.reap(&mut self.machine, self.partitions[of]) == Progress::Again {}
    }

    pub fn check(&mut self) {
        self.machine.zeroes = books::zeroes(&self.system);
        self.machine.check_tlb();
        let touched = books::balance(&self.system, &self.machine, 2 * PAGE, |_| PartitionId::new(0), true);
        self.machine.touch(touched);
    }

    /// Everything that is left goes, and nothing remains but the zeroes.
    pub fn finish(mut self) {
        for of in 0..3 {
            self.end(of);
            self.check();
            let id = self.system.partition(self.partitions[of]).unwrap().id();
            self.system.destroy(&mut self.machine, id).unwrap();
        }
        let zeroes = books::zeroes(&self.system).len() as u64 * PAGE;
        assert_eq!(self.machine.allocated_bytes(), zeroes);
        self.machine.check_total();
    }
}
