//! Every operation of the rules: lives, limits, devices, requests, sets and events.

use handover_abi::{Account, BusLimit, MessageWord, Port, RegionHandle, layout};
use handover_core::{Ipa, Progress, Timeout, VcpuId};

use crate::operations::done;
use crate::world::*;

/// More operations than any test makes.
const PLENTY: BusLimit = BusLimit { operations: 1000, period: 1_000_000 };

/// What system-control does, and what partitions do with requests, sets and events.
pub const OPERATIONS: &[(&str, Operation)] = &[
    ("reset", |w| {
        let id = w.system.partition(w.dead).unwrap().id();
        done(w.system.reset(id))
    }),
    ("request_shutdown", |w| done(w.system.request_shutdown(&mut w.machine, w.peer, 5))),
    ("request_shutdown, and taken", |w| {
        w.system.request_shutdown(&mut w.machine, w.actor, 5)?;
        done(w.system.signal_next(w.actor))
    }),
    ("account", |w| done(w.system.account(&w.machine, w.peer, Account::Memory as u64))),
    ("account of the bus", |w| done(w.system.account(&w.machine, w.peer, Account::Bus as u64))),
    ("set_limit of the bus", |w| {
        let id = w.system.partition(w.peer).unwrap().id();
        done(w.system.set_limit(&w.machine, id, Account::Bus as u64, 3))
    }),
    ("set_bus", |w| done(w.system.set_bus(&w.machine, w.peer, PLENTY))),
    ("set_bus, and a region is sent", |w| {
        w.system.set_bus(&w.machine, w.actor, PLENTY)?;
        let word = MessageWord::new(Port::new(w.port as u32), RegionHandle::from_register(w.mapped), 8);
        done(w.system.send(&mut w.machine, w.actor, word, &[7; 16]))
    }),
    ("broadcast", |w| done(w.system.broadcast(&w.machine, w.actor))),
    ("promise_time", |w| done(w.system.promise_time(w.peer, 0, 100_000, || Ok(())))),
    ("device_assign", |w| {
        let intid = u64::from(layout::DEVICE_INTID);
        done(w.system.device_assign(&mut w.machine, w.peer, 0, Ipa::new(layout::DEVICE_BASE), intid))
    }),
    ("device_assign, where no device was", |w| {
        let intid = u64::from(layout::DEVICE_INTID);
        done(w.system.device_assign(&mut w.machine, w.newborn, 0, Ipa::new(layout::DEVICE_BASE), intid))
    }),
    ("device_revoke", |w| w.system.device_revoke(&mut w.machine, 1)),
    ("device_revoke, one without interrupts", |w| w.system.device_revoke(&mut w.machine, 2)),
    ("connect, with a request's time", |w| {
        let (id, timeout) = (w.id(w.peer), Some(Timeout { now: 0, after: 500 }));
        done(w.system.connect_within(&mut w.machine, w.actor, id, 17, timeout))
    }),
    ("expire requests", |w| Ok(w.system.expire(&mut w.machine, 1 << 20))),
    ("disconnect, a request that was not taken", |w| w.system.disconnect(&mut w.machine, w.actor, w.asked)),
    ("disconnect, a request that was taken", |w| w.system.disconnect(&mut w.machine, w.actor, w.taken)),
    ("disconnect, a request with a time", |w| w.system.disconnect(&mut w.machine, w.actor, w.timed)),
    ("signal_next, a request", |w| done(w.system.signal_next(w.peer))),
    ("set_create", |w| done(w.system.set_create(&mut w.machine, w.actor, 0, 0))),
    ("set_create, with an interrupt", |w| done(w.system.set_create(&mut w.machine, w.actor, 201, 1))),
    ("set_destroy", |w| done(w.system.set_destroy(w.actor, w.empty))),
    ("set_add", |w| done(w.system.set_add(&mut w.machine, w.actor, w.empty, w.masked))),
    ("set_add, the control-signal port", |w| done(w.system.set_add(&mut w.machine, w.actor, w.set, 0))),
    ("set_remove", |w| done(w.system.set_remove(&mut w.machine, w.actor, w.member))),
    ("set_next", |w| done(w.system.set_next(w.actor, w.set))),
    ("event_mask", |w| done(w.system.event_mask(w.actor, w.member))),
    ("event_mask, the control-signal port", |w| done(w.system.event_mask(w.actor, 0))),
    ("event_unmask", |w| done(w.system.event_unmask(&mut w.machine, w.actor, w.masked))),
    ("event_bind", |w| done(w.system.event_bind(&mut w.machine, w.actor, w.bell, 192, 0))),
    ("event_bind, to nothing", |w| done(w.system.event_bind(&mut w.machine, w.actor, w.bell, 0, 0))),
    ("vcpu_on", |w| {
        w.system.vcpu_on(VcpuId { partition: w.peer, index: 0 });
        Ok(Progress::Done)
    }),
    ("call_interrupted", |w| {
        w.system.call_interrupted(VcpuId { partition: w.peer, index: 1 });
        Ok(Progress::Done)
    }),
];
