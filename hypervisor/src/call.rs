//! Direct calls carried out: a message passes from one logical processor's registers into another's, and the physical processor goes with it.

use handover_abi::layout::PROCESSORS_MAX;
use handover_abi::{Call, MessageWord};
use handover_core::{Failure, Handed, VcpuId, Waited, copy_message};

use crate::arch::registers::CNTPCT_EL0;
use crate::hypercall::{fail, short};
use crate::kernel::{Hardware, KERNEL, Kernel};
use crate::lock::Guard;
use crate::processor::{self, Processor};
use crate::schedule::{self, Leave, schedule};
use crate::trap::{is_interrupted, resume};
use crate::vcpu::{InCall, Running, VcpuKey};

/// Whether `*AndWait` was called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The server goes on.
    GoOn,
    /// It waits for the next call.
    Wait,
}

/// Something concerns the caller, which may not go on, or not here, or the call goes in steps: that first, and then the same `hvc` again.
#[cold]
#[inline(never)]
fn again(kernel: Guard<Kernel>, mut guest: Running) -> Running {
    let context = guest.context();
    context.pc = context.pc.wrapping_sub(4);
    resume(kernel, guest, false)
}

#[cold]
fn failed(kernel: Guard<Kernel>, mut guest: Running, call: Call, failure: Failure) -> Running {
    let counters = guest.counters();
    if failure == Failure::AGAIN {
        counters.not_called(call);
        return again(kernel, guest);
    }
    fail(guest.context(), counters, call, failure);
    resume(kernel, guest, false)
}

/// Puts the message in `from`'s registers into `to`'s, which does not run.
#[inline(always)]
fn deliver(from: VcpuKey, to: VcpuKey, word: MessageWord) {
    debug_assert!(from != to);
    // SAFETY: two different frames, both placed; under the lock, `from` is the one that runs here or does not run, `to` does not, and no other
    // borrow of either lives.
    let (from, to) = unsafe { (&mut *from.as_ptr(), &mut *to.as_ptr()) };
    copy_message(short(&mut to.context), short(&mut from.context), word.length());
    to.context.x[0] = 0;
    to.context.x[1] = word.to_register();
    to.in_call = InCall::No;
}

impl Hardware {
    #[inline(always)]
    fn key(&self, id: VcpuId) -> VcpuKey {
        let index = usize::from(id.index) % PROCESSORS_MAX as usize;
        self.shell(id.partition).and_then(|shell| shell.vcpus[index]).expect("who calls or waits exists")
    }

    /// It has its answer, or will have none.
    fn call_over(&mut self, caller: VcpuKey) {
        // SAFETY: a key names a placed frame; the fields are touched under the lock alone, which this is.
        let vcpu = unsafe { &mut *caller.as_ptr() };
        vcpu.in_call = InCall::No;
        if vcpu.timeout != u64::MAX {
            vcpu.timeout = u64::MAX;
            self.timeouts = self.timeouts.wrapping_sub(1);
        }
    }

    /// A caller takes its processor and time back from whom it has lent them to, and goes on.
    fn call_returns(&mut self, caller: VcpuKey) {
        let pokes = self.schedule.recall(&mut self.records, caller, CNTPCT_EL0.get());
        self.poke_all(pokes);
        self.make_ready(caller);
    }

    /// A call ends without a reply.
    pub fn call_failed(&mut self, caller: VcpuId, error: handover_abi::Error, word: MessageWord) {
        let caller = self.key(caller);
        self.call_over(caller);
        // SAFETY: it waits for its reply, so it does not run; under the lock.
        let context = unsafe { &mut (*caller.as_ptr()).context };
        context.x[0] = error.to_x0();
        context.x[1] = word.to_register();
        self.call_returns(caller);
    }
}

/// From here on `caller` waits for its reply.
#[inline(always)]
fn begin(kernel: &mut Kernel, caller: VcpuKey, patience: u64) {
    // SAFETY: as in `call_over`.
    unsafe { (*caller.as_ptr()).in_call = InCall::Calling };
    if patience != 0 {
        kernel.hardware.set_timeout(caller, patience);
    }
}

/// `Call` by the plain way, with all of the guest's registers in its context, as `vectors.s` puts them there.
pub extern "C" fn call(mut guest: Running) -> ! {
    let word = MessageWord::from_register(guest.context().x[1]);
    // Apart, so that neither has to make way for the other's registers.
    let processor = processor::this();
    processor.enter(match word.region() {
        Some(_) => call_with_region(processor, guest, word),
        None => call_here(processor, guest, word),
    })
}

#[inline(never)]
fn call_with_region(processor: &'static Processor, guest: Running, word: MessageWord) -> Running {
    call_here(processor, guest, word)
}

#[inline(always)]
fn call_here(processor: &'static Processor, guest: Running, word: MessageWord) -> Running {
    let mut kernel = KERNEL.lock();
    if guest.attention() != 0 {
        return again(kernel, guest);
    }
    let caller = guest.key();
    let Kernel { system, hardware } = &mut *kernel;
    let Ok((server, word)) = system.call_plainly(hardware, caller.id(), word) else {
        return call_at_length(kernel, guest);
    };
    guest.counters().call(Call::Call);
    let server = hardware.key(server);
    deliver(caller, server, word);
    // SAFETY: as in `call_over`.
    unsafe { (*caller.as_ptr()).in_call = InCall::Calling };
    schedule::lend(kernel, processor, caller, server)
}

/// `Call` at length.
#[inline(never)]
fn call_at_length(mut kernel: Guard<Kernel>, mut guest: Running) -> Running {
    guest.counters().call(Call::Call);
    let caller = guest.key();
    let word = MessageWord::from_register(guest.context().x[1]);
    let Kernel { system, hardware } = &mut *kernel;
    match system.call_at_length(hardware, caller.id(), word) {
        Ok((Handed::To(server, word), patience)) => {
            let server = hardware.key(server);
            deliver(caller, server, word);
            begin(&mut kernel, caller, patience);
            schedule::lend_at_length(kernel, server)
        }
        Ok((Handed::Queued, patience)) => {
            begin(&mut kernel, caller, patience);
            schedule(kernel, Leave::Calling)
        }
        Err(failure) => failed(kernel, guest, Call::Call, failure),
    }
}

/// `CallWait`.
#[inline(never)]
pub fn call_wait(guest: Running) -> Running {
    let mut kernel = KERNEL.lock();
    if guest.attention() != 0 {
        return again(kernel, guest);
    }
    guest.counters().call(Call::CallWait);
    let Kernel { system, hardware } = &mut *kernel;
    match system.call_wait(hardware, guest.key().id()) {
        Ok(waited) if waits(&mut kernel, guest, waited) => schedule::block(kernel),
        Ok(_) => resume(kernel, guest, false),
        Err(failure) => failed(kernel, guest, Call::CallWait, failure),
    }
}

/// What becomes of a server that has asked for a call: whether it waits now.
#[inline(always)]
fn waits(kernel: &mut Kernel, mut guest: Running, waited: Waited) -> bool {
    let server = guest.key();
    match waited {
        Waited::Call(call) => {
            let caller = kernel.hardware.key(call.caller);
            deliver(caller, server, call.word);
            return false;
        }
        Waited::Waiting if !is_interrupted(&mut kernel.hardware, guest) => {
            // SAFETY: as in `call_over`.
            unsafe { (*server.as_ptr()).in_call = InCall::Waiting };
            return true;
        }
        Waited::Waiting => _ = kernel.system.call_interrupted(server.id()),
        Waited::Nothing => {}
    }
    guest.context().x[..2].fill(0);
    false
}

/// `ReplyAndWait` by the plain way, as for [`call`].
pub extern "C" fn reply_and_wait(mut guest: Running) -> ! {
    let word = MessageWord::from_register(guest.context().x[1]);
    // As in `call`.
    let processor = processor::this();
    processor.enter(match word.region() {
        Some(_) => reply_with_region(processor, guest, word),
        None => reply_here(processor, guest, word),
    })
}

#[inline(never)]
fn reply_with_region(processor: &'static Processor, guest: Running, word: MessageWord) -> Running {
    reply_here(processor, guest, word)
}

#[inline(always)]
fn reply_here(processor: &'static Processor, guest: Running, word: MessageWord) -> Running {
    let mut kernel = KERNEL.lock();
    if guest.attention() != 0 || guest.may_be_interrupted() {
        return reply_at_length(kernel, guest, Then::Wait);
    }
    let server = guest.key();
    let Kernel { system, hardware } = &mut *kernel;
    let Ok(delivered) = system.reply_and_wait_plainly(hardware, server.id(), word) else {
        return reply_at_length(kernel, guest, Then::Wait);
    };
    guest.counters().call(Call::ReplyAndWait);
    let caller = hardware.key(delivered.caller);
    deliver(server, caller, delivered.word);
    hardware.call_over(caller);
    // SAFETY: as in `call_over`.
    unsafe { (*server.as_ptr()).in_call = InCall::Waiting };
    schedule::give_back(kernel, processor, server, caller)
}

/// `Reply`, `ReplyAndWait` at length.
#[inline(never)]
pub fn reply_at_length(mut kernel: Guard<Kernel>, mut guest: Running, then: Then) -> Running {
    if guest.attention() != 0 {
        return again(kernel, guest);
    }
    let call = if then == Then::Wait { Call::ReplyAndWait } else { Call::Reply };
    guest.counters().call(call);
    let server = guest.key();
    let word = MessageWord::from_register(guest.context().x[1]);
    let Kernel { system, hardware } = &mut *kernel;
    let result = match then {
        Then::Wait => system.reply_and_wait_at_length(hardware, server.id(), word),
        Then::GoOn => system.reply(hardware, server.id(), word).map(|delivered| (delivered, Waited::Nothing)),
    };
    let (delivered, waited) = match result {
        Ok(result) => result,
        Err(failure) => return failed(kernel, guest, call, failure),
    };
    let caller = hardware.key(delivered.caller);
    deliver(server, caller, delivered.word);
    hardware.call_over(caller);
    let waiting = match then {
        Then::Wait => waits(&mut kernel, guest, waited),
        Then::GoOn => {
            guest.context().x[0] = 0;
            false
        }
    };
    if then == Then::GoOn || waiting {
        // Back on the processor that the caller had lent, if it had.
        return schedule::give_back_at_length(kernel, caller, waiting);
    }
    kernel.hardware.call_returns(caller);
    resume(kernel, guest, true)
}

/// `Forward`, `ForwardAndWait`.
#[inline(always)]
pub fn forward(mut guest: Running, then: Then) -> Running {
    let mut kernel = KERNEL.lock();
    if guest.attention() != 0 {
        return again(kernel, guest);
    }
    let call = if then == Then::Wait { Call::ForwardAndWait } else { Call::Forward };
    guest.counters().call(call);
    let server = guest.key();
    let word = MessageWord::from_register(guest.context().x[1]);
    let Kernel { system, hardware } = &mut *kernel;
    let (caller, handed) = match system.forward(hardware, server.id(), word) {
        Ok(forwarded) => forwarded,
        Err(failure) => return failed(kernel, guest, call, failure),
    };
    let caller = hardware.key(caller);
    let next = match handed {
        Handed::To(next, word) => {
            let next = hardware.key(next);
            deliver(server, next, word);
            Some(next)
        }
        Handed::Queued => {
            // Where a call waits, its message is in the caller's registers.
            deliver(server, caller, word);
            // SAFETY: as in `call_over`.
            unsafe { (*caller.as_ptr()).in_call = InCall::Calling };
            None
        }
    };
    guest.context().x[0] = 0;
    let waiting = match then {
        Then::GoOn => false,
        Then::Wait => {
            let waited = system.call_wait(hardware, server.id()).unwrap_or(Waited::Nothing);
            waits(&mut kernel, guest, waited)
        }
    };
    schedule::pass_on(kernel, guest, caller, next, waiting)
}
