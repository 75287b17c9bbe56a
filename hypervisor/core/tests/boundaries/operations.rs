//! Every operation of the rules.

use handover_abi::{Account, MessageWord, Port, RegionHandle};
use handover_core::{Failure, Ipa, Progress, VcpuId};

use crate::world::*;

pub fn done<T>(result: Result<T, Failure>) -> Outcome {
    result.map(|_| Progress::Done)
}

fn send(w: &mut World, region: u64) -> Outcome {
    let region = RegionHandle::from_register(region).filter(|region| region.get() != 0);
    let word = MessageWord::new(Port::new(w.port as u32), region, 128);
    done(w.system.send(&mut w.machine, w.actor, word, &[7; 16]))
}

fn word(port: Port, region: Option<u64>) -> MessageWord {
    MessageWord::new(port, region.and_then(RegionHandle::from_register), 16)
}

fn call(w: &mut World, port: Port, region: Option<u64>) -> Outcome {
    done(w.system.call(&mut w.machine, VcpuId { partition: w.actor, index: 0 }, word(port, region)))
}

fn lend(w: &mut World, port: Port, region: u64) -> Outcome {
    let word = word(port, Some(region)).lent();
    done(w.system.call(&mut w.machine, VcpuId { partition: w.actor, index: 0 }, word))
}

fn forward(w: &mut World, port: Port, region: Option<u64>) -> Outcome {
    done(w.system.forward(&mut w.machine, VcpuId { partition: w.actor, index: 1 }, word(port, region)))
}

fn receive(w: &mut World, port: u64, at: u64) -> Outcome {
    done(w.system.receive(&mut w.machine, w.actor, port, at, &mut [0; 16]))
}

fn create_region(w: &mut World, size: u64, at: u64) -> Outcome {
    done(w.system.region_create(&mut w.machine, w.actor, size, at))
}

fn request_memory(w: &mut World, order: u64, flags: u64) -> Outcome {
    let id = w.id(w.peer);
    done(w.system.connect(&mut w.machine, w.actor, id, memory(order, flags)))
}

/// What partitions do with memory, channels, messages and calls.
pub const OPERATIONS: &[(&str, Operation)] = &[
    ("create", |w| done(w.partition(Some(w.actor)))),
    ("set_limit", |w| {
        let id = w.system.partition(w.peer).unwrap().id();
        w.system.set_limit(&w.machine, id, Account::Memory as u64, 0).map(|()| Progress::Done)
    }),
    ("add_memory, before the start", |w| {
        done(w.system.add_memory(&mut w.machine, w.newborn, Ipa::new(MEMORY + GIB - 2 * MIB), 6 * MIB))
    }),
    ("add_memory, to one that runs", |w| {
        done(w.system.add_memory(&mut w.machine, w.peer, Ipa::new(MEMORY + GIB - 2 * MIB), 6 * MIB))
    }),
    ("start", |w| done(w.system.start(w.newborn))),
    ("pause", |w| done(w.system.pause(w.peer))),
    ("resume", |w| {
        w.system.pause(w.peer)?;
        done(w.system.resume(w.peer))
    }),
    ("end", |w| {
        w.end(w.peer);
        Ok(Progress::Done)
    }),
    ("reap", |w| {
        w.end(w.peer);
        Ok(w.system.reap(&mut w.machine, w.peer))
    }),
    ("destroy", |w| {
        let id = w.system.partition(w.dead).unwrap().id();
        let shell = w.system.destroy(&mut w.machine, id)?.0;
        w.shells.push(shell);
        Ok(Progress::Done)
    }),
    ("region_create 4 KiB", |w| create_region(w, 4 << 10, 0)),
    ("region_create 64 KiB, mapped", |w| create_region(w, 64 << 10, FRESH)),
    ("region_create 2 MiB, mapped", |w| create_region(w, 2 * MIB, FRESH)),
    ("region_create 8 MiB, mapped", |w| create_region(w, 8 * MIB, FRESH)),
    ("region_destroy", |w| w.system.region_destroy(&mut w.machine, w.actor, w.mapped)),
    ("region_map", |w| done(w.system.region_map(&mut w.machine, w.actor, w.loose, FRESH))),
    ("region_unmap", |w| done(w.system.region_unmap(&mut w.machine, w.actor, w.mapped))),
    ("region_info", |w| done(w.system.region_info(w.actor, w.mapped))),
    ("connect", |w| {
        let id = w.id(w.peer);
        done(w.system.connect(&mut w.machine, w.actor, id, 5))
    }),
    ("accept", |w| done(w.system.accept(&mut w.machine, w.actor, w.token))),
    ("refuse", |w| done(w.system.refuse(&mut w.machine, w.actor, w.token, 4))),
    ("disconnect", |w| w.system.disconnect(&mut w.machine, w.actor, w.crowded)),
    ("port_status", |w| done(w.system.port_status(w.actor, w.port))),
    ("send", |w| send(w, 0)),
    ("send a region", |w| send(w, w.mapped)),
    ("send a region that is not mapped", |w| send(w, w.loose)),
    ("receive a region", |w| receive(w, w.crowded, 0)),
    ("receive a region, mapped", |w| receive(w, w.crowded, FRESH)),
    ("receive", |w| {
        // The message behind the regions.
        (0..3).try_for_each(|_| receive(w, w.crowded, 0).map(|_| ())).and_then(|()| receive(w, w.crowded, 0))
    }),
    ("event_next", |w| done(w.system.event_next(w.actor))),
    ("event_send", |w| done(w.system.event_send(&mut w.machine, w.actor, w.port))),
    ("signal_next", |w| done(w.system.signal_next(w.actor))),
    ("call that is taken", |w| call(w, w.calls, None)),
    ("call that is taken, with a region", |w| call(w, w.calls, Some(w.mapped))),
    ("call that is queued", |w| call(w, w.own, None)),
    ("call that is queued, with a region", |w| call(w, w.own, Some(w.mapped))),
    ("call that is taken, lending", |w| lend(w, w.calls, w.mapped)),
    ("call that is taken, lending what is not mapped", |w| lend(w, w.calls, w.loose)),
    ("call that is queued, lending", |w| lend(w, w.own, w.mapped)),
    ("call that is taken, showing", |w| {
        let word = word(w.calls, Some(w.mapped)).lent().kept();
        done(w.system.call(&mut w.machine, VcpuId { partition: w.actor, index: 0 }, word))
    }),
    ("call_expired, lending", |w| {
        w.system.call_expired(&mut w.machine, VcpuId { partition: w.peer, index: 2 });
        Ok(Progress::Done)
    }),
    ("region_unmap what is lent", |w| done(w.system.region_unmap(&mut w.machine, w.actor, w.lent))),
    ("region_destroy zeroes", |w| {
        w.system.call_expired(&mut w.machine, VcpuId { partition: w.peer, index: 2 });
        w.system.region_destroy(&mut w.machine, w.actor, w.lent)
    }),
    ("forward that is taken, with what is lent", |w| forward(w, w.calls, Some(w.lent))),
    ("forward that is queued, with what is lent", |w| forward(w, w.own, Some(w.lent))),
    ("call_setup", |w| done(w.system.call_setup(w.actor, u64::from(w.calls.get()), FRESH, 5))),
    ("call_wait", |w| done(w.system.call_wait(&mut w.machine, VcpuId { partition: w.actor, index: 0 }))),
    ("call_expired", |w| {
        w.system.call_expired(&mut w.machine, VcpuId { partition: w.peer, index: 3 });
        Ok(Progress::Done)
    }),
    ("reply", |w| {
        done(w.system.reply(
            &mut w.machine,
            VcpuId { partition: w.actor, index: 1 },
            word(Port::CONTROL, None),
        ))
    }),
    ("reply with a region", |w| {
        done(w.system.reply(
            &mut w.machine,
            VcpuId { partition: w.actor, index: 1 },
            word(Port::CONTROL, Some(w.mapped)),
        ))
    }),
    ("reply_and_wait", |w| {
        done(w.system.reply_and_wait(
            &mut w.machine,
            VcpuId { partition: w.actor, index: 1 },
            word(Port::CONTROL, Some(w.loose)),
        ))
    }),
    ("forward that is taken", |w| forward(w, w.calls, None)),
    ("forward that is taken, with a region", |w| forward(w, w.calls, Some(w.mapped))),
    ("forward that is queued, with a region", |w| forward(w, w.own, Some(w.mapped))),
    ("vcpu_off", |w| {
        w.system.vcpu_off(&mut w.machine, VcpuId { partition: w.actor, index: 1 });
        Ok(Progress::Done)
    }),
    ("memory_add", |w| done(w.system.memory_add(&mut w.machine, w.actor, MEMORY + GIB - 2 * MIB, 6 * MIB))),
    ("memory_remove", |w| w.system.memory_remove(&mut w.machine, w.actor, MEMORY, 2 * MIB)),
    ("set_colours", |w| {
        let id = w.system.partition(w.blank).unwrap().id();
        done(w.system.set_colours(&mut w.machine, id, 0xf0, 0x300))
    }),
    ("add_memory, of colours", |w| {
        done(w.system.add_memory(&mut w.machine, w.tinted, Ipa::new(MEMORY + GIB), 2 * MIB))
    }),
    ("memory_remove, of colours", |w| w.system.memory_remove(&mut w.machine, w.tinted, MEMORY, 2 * MIB)),
    ("region_create 2 MiB, of colours", |w| {
        done(w.system.region_create(&mut w.machine, w.tinted, 2 * MIB, FRESH))
    }),
    ("region_create for a channel, of colours", |w| {
        let size = w.tinted_port << 32 | 64 << 10;
        done(w.system.region_create(&mut w.machine, w.tinted, size, FRESH))
    }),
    ("send a region, of colours", |w| {
        let region = RegionHandle::from_register(w.tinted_region);
        let word = MessageWord::new(Port::new(w.tinted_port as u32), region, 128);
        done(w.system.send(&mut w.machine, w.tinted, word, &[7; 16]))
    }),
    ("connect for shared memory", |w| request_memory(w, 15, 0)),
    ("connect for shared memory to read", |w| request_memory(w, 15, RECEIVE_ONLY)),
    ("connect for shared memory, of colours", |w| {
        let id = w.id(w.actor);
        done(w.system.connect(&mut w.machine, w.tinted, id, memory(14, RECEIVE_ONLY)))
    }),
    ("accept shared memory to read", |w| done(w.system.accept(&mut w.machine, w.actor, w.share_token))),
    ("refuse shared memory", |w| done(w.system.refuse(&mut w.machine, w.actor, w.share_token, 4))),
    ("shared_map", |w| done(w.system.shared_map(&mut w.machine, w.actor, w.unmapped, FRESH))),
    ("shared_unmap", |w| done(w.system.shared_unmap(&mut w.machine, w.actor, w.shared))),
    ("shared_info", |w| done(w.system.shared_info(w.actor, w.shared))),
    ("disconnect from shared memory", |w| w.system.disconnect(&mut w.machine, w.actor, w.shared)),
    ("disconnect from shared memory to read", |w| w.system.disconnect(&mut w.machine, w.actor, w.read)),
    ("disconnect from shared memory alone", |w| w.system.disconnect(&mut w.machine, w.actor, w.alone)),
    ("stolen_time_page", |w| done(w.system.stolen_time_page(&mut w.machine, w.actor))),
    ("stolen_time_page, of colours", |w| done(w.system.stolen_time_page(&mut w.machine, w.tinted))),
    ("memory_info", |w| done(w.system.memory_info(&w.machine, w.actor, MEMORY))),
];
