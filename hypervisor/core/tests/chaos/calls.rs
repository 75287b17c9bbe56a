//! Direct calls at any time, by processors that are switched on and off.

use std::collections::BTreeSet;

use handover_core::{Handed, VcpuId, Waited};

use super::*;

/// Of each partition.
pub const PROCESSORS: u32 = 3;

/// Processors that are on, and those of them that owe a reply, as far as was heard.
#[derive(Default)]
pub struct Processors {
    on: BTreeSet<VcpuId>,
    owing: BTreeSet<VcpuId>,
}

impl Processors {
    /// A partition has ended.
    pub fn forget(&mut self, ix: PartitionIndex) {
        self.on.retain(|id| id.partition != ix);
        self.owing.retain(|id| id.partition != ix);
    }
}

impl Chaos {
    /// A partition has started.
    pub fn switch_on(&mut self, ix: PartitionIndex) {
        for index in 0..PROCESSORS as u8 {
            let id = VcpuId { partition: ix, index };
            self.system.vcpu_on(id);
            self.processors.on.insert(id);
        }
        self.count("vcpu_on");
    }

    /// A processor that may make a call; one that waits for a call has had an interrupt.
    fn ready(&mut self, from: &[VcpuId]) -> Option<VcpuId> {
        let free: Vec<_> = from.iter().copied().filter(|id| !self.system.is_calling(*id)).collect();
        let id = self.random.pick(&free)?;
        if self.system.call_interrupted(id) {
            self.count("call_interrupted");
        }
        Some(id)
    }

    fn likely_port(&mut self, who: PartitionIndex) -> u64 {
        let ports: Vec<u64> = (1..16).filter(|port| self.system.port_status(who, *port).is_ok()).collect();
        self.random.pick(&ports).filter(|_| !self.random.chance(6)).unwrap_or_else(|| self.any_number())
    }

    fn call_word(&mut self, port: u64) -> MessageWord {
        let region = self.any_number();
        let region = if self.random.chance(2) { 0 } else { region };
        let handle = RegionHandle::from_register(region).filter(|handle| handle.get() != 0);
        MessageWord::new(Port::new(port as u32), handle, (self.random.next() % 129) as u8)
    }

    fn handed(&mut self, handed: Option<Handed>) {
        if let Some(Handed::To(server, _)) = handed {
            self.processors.owing.insert(server);
        }
    }

    fn waited(&mut self, server: VcpuId, waited: Option<Waited>) {
        if let Some(Waited::Call(_)) = waited {
            self.processors.owing.insert(server);
        }
    }

    /// What it owed is out, or may never have been owed.
    fn answered(&mut self, server: VcpuId, succeeded: bool) {
        if succeeded || self.random.chance(4) {
            self.processors.owing.remove(&server);
        }
    }

    pub fn direct_call(&mut self) {
        let on: Vec<_> = self.processors.on.iter().copied().collect();
        let owing: Vec<_> = self.processors.owing.iter().copied().collect();
        match self.random.below(20) {
            0 => {
                let blocked: Vec<_> = on.into_iter().filter(|id| self.system.is_calling(*id)).collect();
                if let Some(caller) = self.random.pick(&blocked) {
                    self.system.call_expired(&mut self.machine, caller);
                    self.count("call_expired");
                }
            }
            1 => self.switch(&on),
            2 => {
                let Some(id) = self.ready(&on) else { return };
                let number = self.likely_port(id.partition);
                let (at, patience, before) = (self.any_place(), self.random.next(), self.state());
                let result = self.system.call_setup(id.partition, number, at, patience);
                self.judge("call_setup", result, &before);
            }
            3..8 => {
                let Some(id) = self.ready(&on) else { return };
                let before = self.state();
                let result = self.system.call_wait(&mut self.machine, id);
                let waited = self.judge("call_wait", result, &before);
                self.waited(id, waited);
            }
            8..12 => {
                let Some(id) = self.ready(&on) else { return };
                let number = self.likely_port(id.partition);
                let (word, before) = (self.call_word(number), self.state());
                let (word, name) = match self.random.below(4) {
                    0 if word.region().is_some() => (word.lent(), "call, lending"),
                    1 if word.region().is_some() => (word.lent().kept(), "call, showing"),
                    _ => (word, "call"),
                };
                let result = in_steps(&mut self.random, &mut self.steps, || {
                    self.system.call(&mut self.machine, id, word)
                });
                let handed = self.judge(name, result, &before);
                self.handed(handed);
            }
            12..16 => {
                let Some(id) = self.ready(if owing.is_empty() { &on } else { &owing }) else { return };
                let number = self.likely_port(id.partition);
                let (word, before) = (self.call_word(number), self.state());
                let result = in_steps(&mut self.random, &mut self.steps, || {
                    self.system.forward(&mut self.machine, id, word)
                });
                let handed = self.judge("forward", result, &before);
                if handed.is_some_and(|(_, handed)| matches!(handed, Handed::To(_, word) if word.is_lent())) {
                    self.count("forward of what is lent");
                }
                self.answered(id, handed.is_some());
                self.handed(handed.map(|(_, handed)| handed));
            }
            kind => {
                let Some(id) = self.ready(if owing.is_empty() { &on } else { &owing }) else { return };
                let (word, before) = (self.call_word(0), self.state());
                if kind < 18 {
                    let result = in_steps(&mut self.random, &mut self.steps, || {
                        self.system.reply(&mut self.machine, id, word)
                    });
                    let replied = self.judge("reply", result, &before).is_some();
                    self.answered(id, replied);
                } else {
                    let result = in_steps(&mut self.random, &mut self.steps, || {
                        self.system.reply_and_wait(&mut self.machine, id, word)
                    });
                    let waited = self.judge("reply_and_wait", result, &before);
                    self.answered(id, waited.is_some());
                    self.waited(id, waited.map(|(_, waited)| waited));
                }
            }
        }
        self.machine.failed_calls.clear();
    }

    /// Only a processor that runs can switch itself off.
    fn switch(&mut self, on: &[VcpuId]) {
        let all = self.indexes();
        let off = self.random.pick(&all).filter(|ix| self.phase(*ix) == Phase::Active);
        if let Some(ix) = off.filter(|_| self.random.chance(2)) {
            self.switch_on(ix);
        } else if let Some(id) = self.ready(on) {
            self.system.vcpu_off(&mut self.machine, id);
            self.processors.on.remove(&id);
            self.processors.owing.remove(&id);
            self.count("vcpu_off");
        }
    }
}
