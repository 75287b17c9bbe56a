//! Hypercalls: `x0` names the call, each decodes its arguments, asks the rules, and puts the results back.

use handover_abi::device::{DeviceState, Text};
use handover_abi::layout::{EVENT_INTID, WRITE_MAX};
use handover_abi::{
    Account, BusLimit, BusStatus, Call, Counter, EndReason, Error, FEATURES, MessageWord, Name, PartitionId,
    ProcessorClaim, RequestFlags, RequestWord, SHORT_WORDS, TrafficLimit, VERSION,
};
use handover_core::schedule::State;
use handover_core::{Device, Failure, Ipa, PartitionIndex, Progress, System, Timeout, Untold};

use crate::arch;
use crate::arch::context::Context;
use crate::arch::registers::{CNTFRQ_EL0, CNTPCT_EL0};
use crate::call::{self, Then};
use crate::counters::Counters;
use crate::kernel::{Hardware, KERNEL, Kernel};
use crate::lock::Guard;
use crate::processor;
use crate::smccc;
use crate::trap::{self, Called, How, resume};
use crate::vcpu::Running;
use crate::{bus, claim, life, power, watchdog};

/// What a call has come to.
pub enum Outcome {
    /// `x0` = 0; the other results are in their registers already.
    Done,
    /// Not finished: interrupts may come in between, then the same HVC is executed again.
    Again,
}

type Result = core::result::Result<Outcome, Failure>;

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

const NOTHING: Outcome = Outcome::Done;

/// Puts results into `x1`, `x2`…
#[inline(always)]
fn results<const N: usize>(context: &mut Context, values: [u64; N]) -> Outcome {
    const { assert!(N <= 18) };
    for (register, value) in context.x[1..].iter_mut().zip(values) {
        *register = value;
    }
    Outcome::Done
}

impl From<Progress> for Outcome {
    fn from(progress: Progress) -> Outcome {
        match progress {
            Progress::Done => Outcome::Done,
            Progress::Again => Outcome::Again,
        }
    }
}

/// `Version`, the one call that needs nothing: what any call costs at least.
///
/// `vectors.s` calls this and the others of its kind with the registers that a procedure call may change in the context, and the others where the guest left
/// them: no other guest may come here. What it does not know is left to [`other`].
pub extern "C" fn version(mut guest: Running) -> Called {
    let context = guest.context();
    context.x[0] = 0;
    context.x[1] = u64::from(VERSION);
    context.x[2] = FEATURES.bits();
    guest.counters().call(Call::Version);
    Called { guest, how: How::GO_ON }
}

/// A call that may end with another guest, or is rare.
#[inline(never)]
pub fn other(mut guest: Running) -> Running {
    match Call::try_from(guest.context().x[0]) {
        Ok(Call::CallWait) => call::call_wait(guest),
        Ok(Call::Reply) => call::reply_at_length(KERNEL.lock(), guest, Then::GoOn),
        Ok(Call::Forward) => call::forward(guest, Then::GoOn),
        Ok(Call::ForwardAndWait) => call::forward(guest, Then::Wait),
        Ok(Call::Send) => send_at_length(guest),
        Ok(Call::Receive) => receive_at_length(guest),
        Ok(call) => locked(guest, call),
        Err(_) => {
            guest.counters().count(Counter::FirmwareCalls);
            smccc::call(guest)
        }
    }
}

/// The way of the calls that a message is made of: no step in it is there for another call's sake.
#[inline(always)]
fn hot(
    mut guest: Running,
    call: Call,
    rule: impl FnOnce(
        &mut System,
        &mut Hardware,
        PartitionIndex,
        &mut Context,
    ) -> core::result::Result<(), Failure>,
) -> Called {
    let who = guest.id().partition;
    let mut kernel = KERNEL.lock();
    let Kernel { system, hardware } = &mut *kernel;
    if let Err(failure) = rule(system, hardware, who, guest.context()) {
        return not_done(kernel, guest, call, failure);
    }
    guest.counters().call(call);
    guest.context().x[0] = 0;
    Called { guest, how: How::done(guest.attention()) }
}

/// A call has failed, or belongs made by [`other`].
#[cold]
#[inline(never)]
#[expect(improper_ctypes_definitions, reason = "as those are that end by it")]
extern "C" fn not_done(kernel: Guard<Kernel>, mut guest: Running, call: Call, failure: Failure) -> Called {
    if failure == Failure::NOT_PLAIN {
        return Called { guest, how: How::NOT_HERE };
    }
    let counters = guest.counters();
    counters.call(call);
    fail(guest.context(), counters, call, failure);
    let how = How::done(guest.attention());
    drop(kernel);
    Called { guest, how }
}

#[cold]
pub fn fail(context: &mut Context, counters: &Counters, call: Call, failure: Failure) {
    counters.failed(call, failure.error);
    context.x[0] = failure.error.to_x0();
    if matches!(failure.error, Error::Limit | Error::TooLarge | Error::Throttled) || failure.detail != 0 {
        context.x[1] = failure.detail;
    }
}

/// `Send` by the plain way, as for [`version`].
pub extern "C" fn send(mut guest: Running) -> Called {
    let who = guest.id().partition;
    let mut kernel = KERNEL.lock();
    let Kernel { system, hardware } = &mut *kernel;
    let context = guest.context();
    let word = MessageWord::from_register(context.x[1]);
    let sent = match system.send_plainly(hardware, who, word, short(context)) {
        Ok(sent) => sent,
        Err(failure) => return not_done(kernel, guest, Call::Send, failure),
    };
    context.x[0] = 0;
    let counters = guest.counters();
    counters.call(Call::Send);
    counters.add(Counter::BytesSent, sent.bytes);
    match sent.untold {
        None => Called { guest, how: How::done(guest.attention()) },
        Some(untold) => tell_sent(kernel, guest, untold),
    }
}

/// The peer of one that has sent has to be told.
#[inline(never)]
#[expect(improper_ctypes_definitions, reason = "as those are that end by it")]
extern "C" fn tell_sent(mut kernel: Guard<Kernel>, guest: Running, untold: Untold) -> Called {
    let Kernel { system, hardware } = &mut *kernel;
    system.tell_sent(hardware, untold);
    Called { guest, how: How::done(guest.attention()) }
}

/// `Send` at length: what its plain way has left alone, or the next step of one.
#[cold]
fn send_at_length(mut guest: Running) -> Running {
    let who = guest.id().partition;
    let mut kernel = KERNEL.lock();
    let Kernel { system, hardware } = &mut *kernel;
    let counters = guest.counters();
    let context = guest.context();
    match system.send_at_length(hardware, who, MessageWord::from_register(context.x[1]), short(context)) {
        Err(Failure::AGAIN) => context.pc = context.pc.wrapping_sub(4),
        result => {
            counters.call(Call::Send);
            match result {
                Ok(bytes) => {
                    counters.add(Counter::BytesSent, bytes);
                    context.x[0] = 0;
                }
                Err(failure) => fail(context, counters, Call::Send, failure),
            }
        }
    }
    resume(kernel, guest, false)
}

/// `Receive` by the plain way, as for [`version`].
pub extern "C" fn receive(mut guest: Running) -> Called {
    let who = guest.id().partition;
    let mut kernel = KERNEL.lock();
    let Kernel { system, hardware } = &mut *kernel;
    let context = guest.context();
    let (port, at) = (context.x[1], context.x[2]);
    // The rule writes the registers only if it succeeds.
    match system.receive_plainly(hardware, who, port, at, short(context)) {
        Ok(word) => {
            context.x[0] = 0;
            context.x[1] = word.to_register();
            let counters = guest.counters();
            counters.call(Call::Receive);
            counters.add(Counter::BytesReceived, word.bytes());
            Called { guest, how: How::done(guest.attention()) }
        }
        Err(failure) => not_done(kernel, guest, Call::Receive, failure),
    }
}

/// `Receive` at length.
#[cold]
fn receive_at_length(mut guest: Running) -> Running {
    let who = guest.id().partition;
    let mut kernel = KERNEL.lock();
    let Kernel { system, hardware } = &mut *kernel;
    let counters = guest.counters();
    counters.call(Call::Receive);
    let context = guest.context();
    let (port, at) = (context.x[1], context.x[2]);
    match system.receive_at_length(hardware, who, port, at, short(context)) {
        Ok(word) => {
            context.x[0] = 0;
            context.x[1] = word.to_register();
            counters.add(Counter::BytesReceived, word.bytes());
        }
        Err(failure) => fail(context, counters, Call::Receive, failure),
    }
    resume(kernel, guest, false)
}

/// `EventNext`, as for [`version`].
pub extern "C" fn event_next(guest: Running) -> Called {
    hot(guest, Call::EventNext, |system, _, who, context| {
        context.x[1] = system.event_next(who)?.to_register();
        Ok(())
    })
}

/// `EventSend`, as for [`version`].
pub extern "C" fn event_send(guest: Running) -> Called {
    hot(guest, Call::EventSend, |system, hardware, who, context| {
        system.event_send(hardware, who, context.x[1])
    })
}

#[inline(never)]
fn locked(mut guest: Running, call: Call) -> Running {
    let who = guest.id().partition;
    let counters = guest.counters();
    loop {
        let mut kernel = KERNEL.lock();
        let context = guest.context();
        match dispatch(&mut kernel, who, context, call) {
            Ok(Outcome::Done) => {
                counters.call(call);
                context.x[0] = 0;
            }
            Ok(Outcome::Again) => {
                if !arch::interrupt_pending() {
                    // Others get the lock before the next step, as they have tickets for it; the guest need not be asked.
                    drop(kernel);
                    continue;
                }
                context.pc = context.pc.wrapping_sub(4);
            }
            Err(failure) => {
                counters.call(call);
                fail(context, counters, call, failure);
            }
        }
        return resume(kernel, guest, false);
    }
}

/// The registers of a short message: `x2` to `x17`.
#[inline(always)]
pub fn short(context: &mut Context) -> &mut [u64; SHORT_WORDS] {
    context.x[2..].first_chunk_mut().expect("a context has 19 in place")
}

fn dispatch(kernel: &mut Kernel, who: PartitionIndex, context: &mut Context, call: Call) -> Result {
    let [_, a, b] = *context.x.first_chunk().expect("a context has 19 in place");
    let Kernel { system, hardware } = kernel;
    match call {
        // `call` has dealt with these.
        Call::Version
        | Call::Send
        | Call::Receive
        | Call::EventNext
        | Call::EventSend
        | Call::Call
        | Call::CallWait
        | Call::Reply
        | Call::ReplyAndWait
        | Call::Forward
        | Call::ForwardAndWait => Err(Error::NotSupported.into()),
        Call::Identify => {
            let partition = system.partition(who).ok_or(Error::BadHandle)?;
            let privileged = hardware.privileged == Some(who);
            Ok(results(
                context,
                [u64::from(partition.id().get()), u64::from(privileged), u64::from(EVENT_INTID)],
            ))
        }
        Call::End => {
            trap::end(kernel, who, EndReason::Exited, a);
            Ok(NOTHING)
        }
        Call::WatchdogKick => Ok(results(context, [hardware.kick_watchdog(who)])),
        Call::CountersRead => {
            let about = about(system, hardware, who, a)?;
            let first = context.x[3];
            hardware.counters(about, b, first).map(|values| results(context, values))
        }
        Call::AccountRead => {
            let about = about(system, hardware, who, a)?;
            system.account(hardware, about, b).map(|(used, limit)| results(context, [used, limit]))
        }
        Call::RegionCreate => system
            .region_create(hardware, who, a, b)
            .map(|handle| results(context, [u64::from(handle.get())])),
        Call::RegionDestroy => system.region_destroy(hardware, who, a).map(Outcome::from),
        Call::RegionMap => system.region_map(hardware, who, a, b).map(|()| NOTHING),
        Call::RegionUnmap => system.region_unmap(hardware, who, a).map(|()| NOTHING),
        Call::RegionInfo => system.region_info(who, a).map(|(size, at)| results(context, [size, at])),
        Call::MemoryAdd => {
            system.memory_add(hardware, who, a, b)?;
            arch::discard_instructions();
            Ok(NOTHING)
        }
        Call::MemoryRemove => system.memory_remove(hardware, who, a, b).map(Outcome::from),
        Call::MemoryInfo => {
            system.memory_info(hardware, who, a).map(|(there, end)| results(context, [u64::from(there), end]))
        }
        Call::Connect => {
            let timeout = timeout(b, context.x[3]);
            let port = system.connect_within(hardware, who, a, b, timeout)?;
            hardware.set_request_deadline(system.next_timeout());
            Ok(results(context, [u64::from(port.get())]))
        }
        Call::Accept => system.accept(hardware, who, a).map(|port| results(context, [u64::from(port.get())])),
        Call::Refuse => system.refuse(hardware, who, a, b).map(|()| NOTHING),
        Call::Disconnect => system.disconnect(hardware, who, a).map(Outcome::from),
        Call::PortStatus => system.port_status(who, a).map(|(causes, peer, reason)| {
            results(context, [u64::from(causes.bits()), u64::from(peer.get()), u64::from(reason)])
        }),
        Call::PortSetCreate => {
            system.set_create(hardware, who, a, b).map(|set| results(context, [u64::from(set.get())]))
        }
        Call::PortSetDestroy => system.set_destroy(who, a).map(|()| NOTHING),
        Call::PortSetAdd => system.set_add(hardware, who, a, b).map(|()| NOTHING),
        Call::PortSetRemove => system.set_remove(hardware, who, a).map(|()| NOTHING),
        Call::PortSetNext => system.set_next(who, a).map(|event| results(context, [event.to_register()])),
        Call::EventMask => system.event_mask(who, a).map(|()| NOTHING),
        Call::EventUnmask => system.event_unmask(hardware, who, a).map(|()| NOTHING),
        Call::EventBind => system.event_bind(hardware, who, a, b, context.x[3]).map(|()| NOTHING),
        Call::CallSetup => {
            let [_, port, landing, patience] = *context.x.first_chunk().expect("a context has 19 in place");
            system.call_setup(who, port, landing, patience).map(|()| NOTHING)
        }
        Call::SharedMap => system.shared_map(hardware, who, a, b).map(|()| NOTHING),
        Call::SharedUnmap => system.shared_unmap(hardware, who, a).map(|()| NOTHING),
        Call::SharedInfo => {
            system.shared_info(who, a).map(|(size, at, access)| results(context, [size, at, access.bits()]))
        }
        Call::SignalNext => system.signal_next(who).map(|signal| {
            results(
                context,
                [signal.kind as u64, signal.token, u64::from(signal.partition.get()), signal.argument],
            )
        }),
        _ => {
            privilege(hardware, who)?;
            privileged(kernel, who, context, call)
        }
    }
}

/// The partition that a question is about: 0 is the caller's own, others need the privilege.
fn about(
    system: &System,
    hardware: &Hardware,
    who: PartitionIndex,
    id: u64,
) -> core::result::Result<PartitionIndex, Failure> {
    if id == 0 {
        return Ok(who);
    }
    let named = find(system, id)?;
    if named != who {
        privilege(hardware, who)?;
    }
    Ok(named)
}

/// The timeout of a request, if its word says that `nanoseconds` is one.
fn timeout(word: u64, nanoseconds: u64) -> Option<Timeout> {
    let flags = RequestFlags::from_bits_retain((word >> 32) as u32);
    if !flags.contains(RequestFlags::TIMEOUT) || nanoseconds == 0 {
        return None;
    }
    let nanoseconds = nanoseconds.min(RequestWord::TIMEOUT_MAX);
    let frequency = CNTFRQ_EL0.get();
    let after = nanoseconds / SECOND * frequency + nanoseconds % SECOND * frequency / SECOND;
    Some(Timeout { now: CNTPCT_EL0.get(), after })
}

fn privilege(hardware: &Hardware, who: PartitionIndex) -> core::result::Result<(), Failure> {
    if hardware.privileged == Some(who) { Ok(()) } else { Err(Error::Denied.into()) }
}

fn id_of(value: u64) -> core::result::Result<PartitionId, Failure> {
    PartitionId::from_register(value).ok_or(Error::BadHandle.into())
}

fn find(system: &System, id: u64) -> core::result::Result<PartitionIndex, Failure> {
    system.find(id_of(id)?)
}

/// The calls that only system-control may make.
fn privileged(kernel: &mut Kernel, who: PartitionIndex, context: &mut Context, call: Call) -> Result {
    let [_, a, b, c, d] = *context.x.first_chunk().expect("a context has 19 in place");
    match call {
        Call::PartitionCreate => {
            let name = Name::from_registers([a, b]).ok_or(Error::InvalidArgument)?;
            let processors = u32::try_from(c).map_err(|_| Error::InvalidArgument)?;
            life::create(kernel, Some(who), name, processors)
                .map(|id| results(context, [u64::from(id.get())]))
        }
        Call::PartitionSetLimit if b == Account::Bus as u64 => {
            let partition = find(&kernel.system, a)?;
            bus::set_operations(kernel, partition, c).map(|()| NOTHING)
        }
        Call::PartitionSetLimit => {
            kernel.system.set_limit(&kernel.hardware, id_of(a)?, b, c).map(|()| NOTHING)
        }
        Call::PartitionAddMemory => {
            let partition = find(&kernel.system, a)?;
            kernel.system.add_memory(&mut kernel.hardware, partition, Ipa::new(b), c)?;
            arch::discard_instructions();
            Ok(NOTHING)
        }
        Call::PartitionWrite => {
            let partition = find(&kernel.system, a)?;
            if partition == who || d > WRITE_MAX {
                return Err(Error::InvalidArgument.into());
            }
            life::write(kernel, partition, Ipa::new(b), who, Ipa::new(c), d).map(|()| NOTHING)
        }
        Call::PartitionStart => {
            let partition = find(&kernel.system, a)?;
            life::start(kernel, partition, b, c).map(|()| NOTHING)
        }
        Call::PartitionStop => {
            let partition = find(&kernel.system, a)?;
            trap::end(kernel, partition, EndReason::Stopped, 0);
            Ok(NOTHING)
        }
        Call::PartitionDestroy => life::destroy(kernel, id_of(a)?),
        Call::PartitionStatus => {
            let partition = find(&kernel.system, a)?;
            let partition = kernel.system.partition(partition).ok_or(Error::BadHandle)?;
            Ok(results(context, [partition.state() as u64, partition.reason() as u64, partition.status()]))
        }
        Call::PartitionPause => {
            let partition = find(&kernel.system, a)?;
            life::pause(kernel, who, partition)
        }
        Call::PartitionResume => {
            let partition = find(&kernel.system, a)?;
            kernel.system.resume(partition)?;
            kernel.hardware.resume_processors(partition);
            Ok(NOTHING)
        }
        Call::PartitionShutdown => {
            let partition = find(&kernel.system, a)?;
            kernel.system.request_shutdown(&mut kernel.hardware, partition, b).map(|()| NOTHING)
        }
        Call::PartitionReset => life::reset(kernel, id_of(a)?),
        Call::PartitionSetWatchdog => {
            let partition = find(&kernel.system, a)?;
            watchdog::set(kernel, partition, b).map(|()| NOTHING)
        }
        Call::PartitionSetColours => {
            kernel.system.set_colours(&mut kernel.hardware, id_of(a)?, b, c).map(|()| NOTHING)
        }
        Call::CacheInfo => Ok(results(context, [u64::from(kernel.system.palette().count())])),
        Call::MachineOff => power::off(kernel, a),
        Call::MachineInfo => {
            Ok(results(context, [processor::count() as u64, kernel.hardware.memory.free_bytes()]))
        }
        Call::ProcessorSet => {
            let claim = ProcessorClaim::from_registers([c, d, context.x[5]]).ok_or(Error::InvalidArgument)?;
            let partition = find(&kernel.system, a)?;
            claim::set(kernel, partition, b, claim).map(|()| NOTHING)
        }
        Call::ProcessorRead => {
            let partition = find(&kernel.system, a)?;
            let status = claim::read(&kernel.hardware, partition, b)?;
            let [budget, period, how] = status.claim.to_registers();
            Ok(results(context, [budget, period, how, status.used, status.waited, status.physical]))
        }
        Call::DeviceInfo => {
            let device = kernel.system.device(a)?;
            Ok(results(context, describe(device)))
        }
        Call::DeviceAssign => {
            let Kernel { system, hardware } = kernel;
            let partition = find(system, a)?;
            system.device_assign(hardware, partition, b, Ipa::new(c), d).map(|()| NOTHING)
        }
        Call::PartitionSetBus => {
            let partition = find(&kernel.system, a)?;
            bus::set_bus(kernel, partition, BusLimit { operations: b, period: c }).map(|()| NOTHING)
        }
        Call::PartitionSetTraffic => {
            let partition = find(&kernel.system, a)?;
            bus::set_traffic(kernel, partition, TrafficLimit { event: b, events: c, period: d })
                .map(|()| NOTHING)
        }
        Call::BusRead => {
            let partition = find(&kernel.system, a)?;
            let BusStatus { limit, used, traffic, caused } = bus::read(kernel, partition)?;
            let TrafficLimit { event, events, period } = traffic;
            Ok(results(context, [limit.operations, limit.period, used, event, events, period, caused]))
        }
        Call::DeviceRevoke => {
            let Kernel { system, hardware } = kernel;
            system.device_revoke(hardware, a).map(Outcome::from)
        }
        _ => Err(Error::NotSupported.into()),
    }
}

/// `x1` to `x15` of `DeviceInfo`.
fn describe(device: &Device) -> [u64; 15] {
    let state = DeviceState { interrupts: device.interrupts().len() as u8, refused: device.refused() };
    let (holder, at) = device.holder().map_or((0, 0), |(id, at)| (id.get(), at.get()));
    let intid = |n: usize| device.interrupts().get(n).map_or(0, |interrupt| u64::from(interrupt.intid));
    let intids = |first: usize| (0..4).fold(0, |word, n| word | intid(first + n) << (16 * n));
    let Text([name0, name1, name2]) = device.name();
    let Text([compatible0, compatible1, compatible2, compatible3]) = device.compatible();
    [
        device.base(),
        device.size(),
        state.to_register(),
        u64::from(holder),
        at,
        intids(0),
        intids(4),
        name0,
        name1,
        name2,
        compatible0,
        compatible1,
        compatible2,
        compatible3,
        device.holder_intid().map_or(0, u64::from),
    ]
}

/// Whether a logical processor may be switched on.
pub fn is_off(hardware: &Hardware, partition: PartitionIndex, index: usize) -> Option<bool> {
    let key = (*hardware.shell(partition)?.vcpus.get(index)?)?;
    Some(hardware.schedule.state(&hardware.records, key) == State::Off)
}
