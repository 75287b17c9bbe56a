//! All processors make any call there is, with arguments that make sense and others, for good and at partitions of ids near its own too, while they
//! come and go: for somebody else to end.

use core::{arch::asm, sync::atomic::AtomicU64};

use handover_guest::{
    Boot,
    abi::{Call, MessageWord, smccc},
    hvc, processor,
};

use crate::{
    calls::make,
    failure::Failure,
    hammer::{self, PORTS, REGIONS, address, keep, near, one_of},
    random::Random,
};

/// Calls that a processor beside the first makes before it switches itself off.
const SPELL: usize = 3_000;
/// The longest that a direct call waits, in nanoseconds.
const PATIENCE: u64 = 200_000;

/// Port sets.
static SETS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Calls of the firmware that do not end, stop or start anything (DEN0022, DEN0028, DEN0057, DEN0098).
const FIRMWARE: &[u32] = &[
    0x8400_0000,
    0xc400_0004,
    0x8400_0006,
    0x8400_000a,
    0xc500_0020,
    0xc500_0021,
    smccc::VERSION,
    smccc::ARCH_FEATURES,
    smccc::TRNG_VERSION,
    smccc::TRNG_FEATURES,
    smccc::TRNG_RND32,
    smccc::TRNG_RND64,
    smccc::VENDOR_HYP_UID,
    smccc::VENDOR_HYP_REVISION,
];

pub(crate) fn forever(boot: &Boot) -> Result<(), Failure> {
    let own = hammer::aim(3)?;
    let mut random = Random::new(own);
    loop {
        for index in 1..boot.processors() {
            // It may be on still.
            let _on_already = processor::start(index, spell, random.next() as usize);
        }
        for _ in 0..SPELL / 3 {
            step(&mut random, false);
        }
    }
}

fn spell(seed: usize) {
    let mut random = Random::new(seed as u64);
    for _ in 0..SPELL {
        step(&mut random, true);
    }
}

/// `may_wait`: another processor goes on meanwhile.
fn step(random: &mut Random, may_wait: bool) {
    match random.below(64) {
        0 => {
            let mut registers = [0; 18];
            registers[0] = u64::from(random.one_of(FIRMWARE));
            registers[1] =
                if random.below(2) == 0 { random.next() } else { u64::from(random.one_of(FIRMWARE)) };
            // SAFETY: none of these touches memory.
            unsafe { hvc::raw(registers) };
        }
        // SAFETY: TLB maintenance and barriers change no memory and no register.
        1 => unsafe { asm!("tlbi vmalle1is", "dsb ish", "isb", options(nostack, preserves_flags)) },
        2..32 => {
            hammer::step(random);
        }
        _ => any_call(random, may_wait),
    }
}

/// Any of all calls but the one that would end it.
fn any_call(random: &mut Random, may_wait: bool) {
    let call = random.one_of(Call::ALL);
    match call {
        Call::End => return,
        // They wait until somebody calls.
        Call::CallWait | Call::ReplyAndWait | Call::ForwardAndWait if !may_wait || random.below(4) != 0 => {
            return;
        }
        Call::Call => {
            make(Call::CallSetup, &[one_of(&PORTS, random), address(random), 1 + random.below(PATIENCE)]);
        }
        _ => {}
    }
    let [x0, x1, ..] = make(call, &arguments(call, random));
    if x0 != 0 {
        return;
    }
    match call {
        Call::RegionCreate => keep(&REGIONS, x1, Call::RegionDestroy, random),
        Call::Connect | Call::Accept => keep(&PORTS, x1, Call::Disconnect, random),
        Call::PortSetCreate => keep(&SETS, x1, Call::PortSetDestroy, random),
        Call::Call | Call::CallWait | Call::ReplyAndWait | Call::ForwardAndWait => {
            if let Some(region) = MessageWord::from_register(x1).region() {
                keep(&REGIONS, u64::from(region.get()), Call::RegionDestroy, random);
            }
        }
        _ => {}
    }
}

fn arguments(call: Call, random: &mut Random) -> [u64; 17] {
    let mut arguments = hammer::arguments(call, random);
    let processor = random.below(5);
    let port = if random.below(4) == 0 { 0 } else { one_of(&PORTS, random) };
    let first = match call {
        Call::PortSetCreate => [random.one_of(&[0, 191, 192, 200, 255, 256]), processor],
        Call::PortSetDestroy | Call::PortSetNext => [one_of(&SETS, random), random.next()],
        Call::PortSetAdd => [one_of(&SETS, random), port],
        Call::PortSetRemove | Call::EventMask | Call::EventUnmask => [port, random.next()],
        Call::EventBind => [port, random.one_of(&[0, 192, 200, 255, 256])],
        Call::SharedMap => [one_of(&PORTS, random), address(random)],
        Call::SharedUnmap | Call::SharedInfo => [one_of(&PORTS, random), random.next()],
        Call::CallSetup => [one_of(&PORTS, random), address(random)],
        // All flags, and sizes of shared memory.
        Call::Connect => {
            [near(random), random.below(32) << 32 | random.one_of(&[0, 12, 13, 16, 21, 30, 63]) << 56 | 1]
        }
        Call::Call | Call::Forward | Call::ForwardAndWait => {
            [word(one_of(&PORTS, random), random), random.next()]
        }
        Call::Reply | Call::ReplyAndWait => [word(0, random), random.next()],
        Call::AccountRead => [if random.below(2) == 0 { 0 } else { near(random) }, random.below(10)],
        Call::CountersRead => {
            arguments[2] = random.below(0x401);
            [if random.below(2) == 0 { 0 } else { near(random) }, random.one_of(&[0, 1, 5, u64::MAX])]
        }
        Call::SignalNext | Call::EventNext | Call::CallWait => [random.next(), random.next()],
        // What only system-control may do: to itself, to others, and to system-control.
        call if call as u32 & 0x80 != 0 => {
            [if random.below(8) == 0 { 1 } else { near(random) }, random.below(64)]
        }
        _ => return arguments,
    };
    arguments[..2].copy_from_slice(&first);
    if matches!(call, Call::EventBind) {
        arguments[2] = processor;
    }
    // A request's or a call's time.
    if matches!(call, Call::Connect | Call::CallSetup) {
        arguments[2] = random.below(PATIENCE);
    }
    arguments
}

/// A message through a port, or a reply: perhaps with a region, perhaps lent.
fn word(port: u64, random: &mut Random) -> u64 {
    let region = if random.below(2) == 0 { one_of(&REGIONS, random) & 0xff_ffff } else { 0 };
    let wild = random.next() & !0 << 56;
    let flags = random.one_of(&[0, 0, 1 << 63, 3 << 62, 1 << 62, wild]);
    port & 0xff_ffff | region << 24 | random.below(140) << 48 | flags
}
