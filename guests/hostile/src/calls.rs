//! Calls that nobody knows, or that this partition may not make, and arguments that mean nothing.

use core::arch::asm;

use handover_guest::{
    Boot, Error,
    abi::{Call, MessageWord, Port, RegionHandle, UID, VERSION, smccc},
    fault::{self, Fault},
    hvc, println,
};

use crate::{
    failure::{Failure, ensure, fail},
    random::Random,
    registers::expect_undefined,
};

/// Numbers that name no region, port or token of this partition.
const WILD: [u64; 9] =
    [0xff_ffff, 0xff_fffe, 0x1234, 1 << 24, 1 << 24 | 1, 1 << 32, 1 << 63, u64::MAX, u64::MAX - 1];

/// Makes a call with `x1` and on as given, the others 0.
pub(crate) fn make(call: Call, arguments: &[u64]) -> [u64; 18] {
    let mut registers = [0; 18];
    registers[0] = call as u64;
    registers[1..=arguments.len()].copy_from_slice(arguments);
    // SAFETY: cases keep no reference into a region that they name in a call.
    unsafe { hvc::raw(registers) }
}

/// Makes a call that must fail with one of `errors`.
pub(crate) fn refused(call: Call, arguments: &[u64], errors: &[Error]) -> Result<(), Failure> {
    let x0 = make(call, arguments)[0];
    match Error::from_x0(x0) {
        Some(error) if errors.contains(&error) => Ok(()),
        Some(error) => fail!("{call:?} {arguments:x?}: {error} instead of {errors:?}"),
        None => fail!("{call:?} {arguments:x?}: x0={x0:#x} instead of {errors:?}"),
    }
}

/// Makes a call that must succeed; its `x1`.
pub(crate) fn granted(call: Call, arguments: &[u64]) -> Result<u64, Failure> {
    let [x0, x1, ..] = make(call, arguments);
    match Error::from_x0(x0) {
        None if x0 == 0 => Ok(x1),
        Some(error) => fail!("{call:?} {arguments:x?}: {error}, x1={x1:#x}"),
        None => fail!("{call:?} {arguments:x?}: x0={x0:#x}"),
    }
}

/// Function identifiers that this interface leaves out: `NOT_SUPPORTED`, and no other register changed.
pub(crate) fn unknown(_: &Boot) -> Result<(), Failure> {
    // Bits 23:16 set, 32-bit, yielding, of other owners, of nobody.
    let strange = [
        0xc601_0000,
        0xc680_0000,
        0x8600_0000,
        0x8600_0001,
        0x4600_0000,
        0x0600_0000,
        0xc500_0000,
        0x8500_0000,
        0xc400_ffff,
        0x8400_ffff,
        0xc300_0000,
        0xb200_0000,
        0xbf00_0000,
        0xff00_0000,
        0,
        1,
        0xffff_ffff,
        0xffff_ffff_ffff_ffff,
    ];
    strange.iter().try_for_each(|&number| unknown_call(number))?;
    let mut random = Random::new(1);
    for number in (0..0x200).chain((0..2000).map(|_| random.below(0xff00))) {
        let number = u64::from(Call::BASE) | number;
        if Call::try_from(number).is_err() {
            unknown_call(number)?;
        }
    }
    Ok(())
}

fn unknown_call(number: u64) -> Result<(), Failure> {
    let mut registers = core::array::from_fn(|index| 0xa5a5_0000_0000_0000 | index as u64);
    registers[0] = number;
    // SAFETY: no such call.
    let after = unsafe { hvc::raw(registers) };
    ensure!(after[0] as i32 == -1, "call {number:#x}: x0={:#x}, not NOT_SUPPORTED", after[0]);
    for index in 1..18 {
        let (before, after) = (registers[index], after[index]);
        ensure!(before == after, "call {number:#x} changed x{index} to {after:#x}");
    }
    Ok(())
}

/// What the control OS says of itself.
pub(crate) fn identification(_: &Boot) -> Result<(), Failure> {
    let query = |function: u32| {
        let mut registers = [0; 18];
        registers[0] = u64::from(function);
        // SAFETY: queries change no memory.
        unsafe { hvc::raw(registers) }
    };
    let version = query(smccc::VERSION)[0];
    ensure!((0x1_0002..1 << 31).contains(&version), "SMCCC_VERSION {version:#x} is not 1.2 or newer");
    let uid = query(smccc::VENDOR_HYP_UID);
    ensure!(uid[..4].iter().map(|&word| word as u32).eq(UID), "UID {:x?} instead of {UID:x?}", &uid[..4]);
    let [major, minor, ..] = query(smccc::VENDOR_HYP_REVISION);
    ensure!(major << 16 | minor == u64::from(VERSION), "revision {major}.{minor}");
    let (version, _) = hvc::version()?;
    ensure!(version == VERSION, "version {version:#x}");
    // DEN0028: bits 63:32 of the function identifier are ignored.
    let with_garbage = 0xdead_beef_0000_0000 | Call::Version as u64;
    let mut registers = [0; 18];
    registers[0] = with_garbage;
    // SAFETY: changes no memory.
    let [x0, x1, ..] = unsafe { hvc::raw(registers) };
    ensure!(x0 == 0 && x1 == u64::from(VERSION), "{with_garbage:#x}: x0={x0:#x} x1={x1:#x}");
    Ok(())
}

/// Handles, ports and tokens that name nothing.
pub(crate) fn wild_handles(_: &Boot) -> Result<(), Failure> {
    use Call::{
        Accept, AccountRead, CallSetup, Connect, Disconnect, EventSend, Forward, ForwardAndWait, PortStatus,
        Receive, Refuse, RegionDestroy, RegionInfo, RegionMap, RegionUnmap, Reply, ReplyAndWait, Send,
    };
    const BAD: &[Error] = &[Error::BadHandle];
    for wild in WILD {
        for call in [RegionDestroy, RegionUnmap, RegionInfo, Disconnect, PortStatus, EventSend] {
            refused(call, &[wild], BAD)?;
        }
        for call in [RegionMap, Accept, Refuse, Receive] {
            refused(call, &[wild, 0], BAD)?;
        }
        refused(Connect, &[wild, 0], BAD)?;
        refused(CallSetup, &[wild, 0, 0], BAD)?;
        refused(AccountRead, &[wild, 0], &[Error::BadHandle, Error::Denied])?;
    }
    for call in [RegionDestroy, RegionUnmap, RegionInfo, RegionMap, Accept] {
        refused(call, &[0, 0], BAD)?;
    }
    // The control-signal port is no channel.
    for call in [Disconnect, Receive, EventSend] {
        refused(call, &[0, 0], &[Error::BadHandle, Error::InvalidArgument, Error::NotConnected])?;
    }
    // Nobody has called.
    for call in [Reply, ReplyAndWait, Forward, ForwardAndWait] {
        refused(call, &[0], BAD)?;
    }
    refused(Call::Call, &[0xff_ffff], BAD)?;
    for (port, region) in [(0xff_ffff, None), (0x1234, Some(1)), (0, None), (0, Some(0xff_ffff))] {
        let word = MessageWord::new(Port::new(port), region.map(RegionHandle::new), 0);
        refused(Send, &[word.to_register()], &[Error::BadHandle, Error::NotConnected])?;
    }
    Ok(())
}

/// Arguments out of their ranges.
pub(crate) fn wild_arguments(_: &Boot) -> Result<(), Failure> {
    for account in [8, 9, 1 << 32, u64::MAX] {
        refused(Call::AccountRead, &[0, account], &[Error::InvalidArgument])?;
    }
    for length in 129..=255 {
        let word = MessageWord::new(Port::new(1), None, length);
        refused(Call::Send, &[word.to_register()], &[Error::InvalidArgument])?;
    }
    refused(Call::Connect, &[1, 1 << 36], &[Error::InvalidArgument, Error::BadHandle])?;
    Ok(())
}

/// Every call that needs the privilege.
pub(crate) fn privileged(_: &Boot) -> Result<(), Failure> {
    ensure!(!hvc::identify()?.privileged, "this partition is privileged; the case needs one that is not");
    let mut random = Random::new(2);
    for &call in Call::ALL.iter().filter(|&&call| call as u32 >= Call::PartitionCreate as u32) {
        refused(call, &[], &[Error::Denied])?;
        refused(call, &[1, 1, 1, 1], &[Error::Denied])?;
        for _ in 0..100 {
            let arguments = [random.next(), random.next(), random.next(), random.next()];
            refused(call, &arguments, &[Error::Denied])?;
        }
    }
    refused(Call::AccountRead, &[1, 0], &[Error::Denied, Error::BadHandle])
}

/// Names, each with a function that makes the version call with that immediate.
macro_rules! immediates {
    ($($name:literal),*) => {
        [$(($name, (|| {
            // SAFETY: the version call, if anybody took it; SMCCC preserves the rest. A fault is caught.
            fault::catch(|| unsafe {
                asm!(concat!("hvc #", $name), in("x0") u64::from(smccc::VERSION), clobber_abi("C"), options(nostack));
            })
        }) as fn() -> Result<(), Fault>),)*]
    };
}

/// HVC with an immediate that is not 0 is no call (DEN0028, 2.9).
pub(crate) fn immediates(_: &Boot) -> Result<(), Failure> {
    immediates!("1", "0x100", "0x8000", "0xffff")
        .iter()
        .try_for_each(|(name, call)| expect_undefined(name, call()))
}

/// A 32-bit call's arguments are 32 bits (DEN0028, 3.1), here the number of random bits.
pub(crate) fn random_bits(_: &Boot) -> Result<(), Failure> {
    const INVALID_PARAMETERS: i32 = -2;
    let call = |function: u32, bits: u64| {
        let mut registers = [0; 18];
        (registers[0], registers[1]) = (u64::from(function), bits);
        // SAFETY: changes no memory.
        unsafe { hvc::raw(registers) }
    };
    if call(smccc::TRNG_VERSION, 0)[0] as i32 == -1 {
        println!("hostile: there are no random numbers to ask for; nothing to try");
        return Ok(());
    }
    for upper in [0, 1, 0xdead_beef, 0xffff_ffff] {
        let [x0, x1, x2, x3, ..] = call(smccc::TRNG_RND32, upper << 32 | 40);
        ensure!(x0 as i32 == 0, "40 bits, and {upper:#x} above: {x0:#x}");
        let given = [x1, x2 >> 8, x3 >> 32].iter().all(|&excess| excess == 0);
        ensure!(given, "40 bits, and {upper:#x} above: more than that in {x1:#x} {x2:#x} {x3:#x}");
        for bits in [0, 97] {
            let x0 = call(smccc::TRNG_RND32, upper << 32 | bits)[0];
            ensure!(x0 as i32 == INVALID_PARAMETERS, "{bits} bits, and {upper:#x} above: {x0:#x}");
        }
    }
    Ok(())
}
