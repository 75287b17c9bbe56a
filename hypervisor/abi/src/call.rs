//! Call numbers, versions and features.

use bitflags::bitflags;

use crate::Error;

/// The interface's version as `version` returns it: major in bits 31:16, minor in bits 15:0. A minor version only adds.
pub const VERSION: u32 = 1 << 16;

/// The UID that the vendor-specific hypervisor service's UID query (`0x8600_FF01`) returns in `w0` to `w3`
/// (DEN0028, 6.2): 9c2f5a1e-6d0b-4e87-b35a-41f7c8d2e690, in little-endian words.
pub const UID: [u32; 4] = [0x1e5a_2f9c, 0x874e_0b6d, 0xf741_5ab3, 0x90e6_d2c8];

/// Major and minor revision, as the revision query (`0x8600_FF03`) returns them in `w0` and `w1`.
pub const REVISION: (u32, u32) = (VERSION >> 16, VERSION & 0xffff);

bitflags! {
    /// What this control OS can do beyond the base interface, as `version` returns it in `x2`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// Message channels, regions and events.
        const CHANNELS = 1 << 0;
    }
}

/// The features of this version of the interface.
pub const FEATURES: Features = Features::CHANNELS;

/// Function identifiers of other owners that a guest may call (DEN0028, DEN0022, DEN0098).
pub mod smccc {
    /// `SMCCC_VERSION`.
    pub const VERSION: u32 = 0x8000_0000;
    /// `SMCCC_ARCH_FEATURES`.
    pub const ARCH_FEATURES: u32 = 0x8000_0001;
    /// `TRNG_VERSION`.
    pub const TRNG_VERSION: u32 = 0x8400_0050;
    /// `TRNG_FEATURES`.
    pub const TRNG_FEATURES: u32 = 0x8400_0051;
    /// `TRNG_GET_UUID`.
    pub const TRNG_GET_UUID: u32 = 0x8400_0052;
    /// `TRNG_RND32`.
    pub const TRNG_RND32: u32 = 0x8400_0053;
    /// `TRNG_RND64`.
    pub const TRNG_RND64: u32 = 0xc400_0053;
    /// `PV_TIME_FEATURES` (Arm DEN0057).
    pub const PV_TIME_FEATURES: u32 = 0xc500_0020;
    /// `PV_TIME_ST`: where a processor's stolen time is.
    pub const PV_TIME_ST: u32 = 0xc500_0021;
    /// Call UID query of the vendor-specific hypervisor service range.
    pub const VENDOR_HYP_UID: u32 = 0x8600_ff01;
    /// Revision query of the vendor-specific hypervisor service range.
    pub const VENDOR_HYP_REVISION: u32 = 0x8600_ff03;
    /// What a call nobody knows returns in `x0`.
    pub const NOT_SUPPORTED: i64 = -1;
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        /// A hypercall: fast, 64-bit, vendor-specific hypervisor service (`0xC600_0000` plus a number).
        ///
        /// "→" lists the results. Every call may also fail with [`Error::NotSupported`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Call { $($(#[$doc])* $name = Call::BASE | $number,)* }

        impl Call {
            /// Every call, in numeric order.
            pub const ALL: &[Call] = &[$(Call::$name,)*];

            /// Where the call is in [`Call::ALL`].
            #[must_use]
            #[inline(always)]
            pub const fn position(self) -> usize {
                POSITIONS[(self as u32 & 0xff) as usize] as usize
            }
        }

        impl TryFrom<u64> for Call {
            type Error = Error;

            /// The call whose function identifier is in the low half of `x0` (DEN0028: bits 63:32 are ignored).
            fn try_from(x0: u64) -> Result<Call, Error> {
                match x0 as u32 {
                    $(number if number == Call::$name as u32 => Ok(Call::$name),)*
                    _ => Err(Error::NotSupported),
                }
            }
        }
    };
}

/// By the low byte of a call's number.
static POSITIONS: [u8; 0x100] = {
    let mut positions = [0; 0x100];
    let mut at = 0;
    while at < Call::ALL.len() {
        positions[(Call::ALL[at] as u32 & 0xff) as usize] = at as u8;
        at += 1;
    }
    positions
};

impl Call {
    /// Fast call, SMC64, owner 6.
    pub const BASE: u32 = 0xc600_0000;
}

calls! {
    /// Does nothing else. → `x1` [`VERSION`], `x2` [`Features`].
    Version = 0x00;
    /// Who am I? → `x1` partition id, `x2` 1 if privileged else 0, `x3` INTID of the event interrupt.
    Identify = 0x01;
    /// Ends the calling partition. `x1` exit status. Does not return.
    End = 0x02;
    /// Reads an account. `x1` partition id (0: the caller's own; others need the privilege), `x2` [`Account`](crate::Account). →
    /// `x1` use, `x2` limit.
    AccountRead = 0x03;

    /// Makes a message region of zeroes. `x1` size in bytes (a power of two, 4 KiB to 1 GiB) in bits 31:0, and in 63:32 the port whose channel
    /// it is for, or 0: it is made of the channel's cache colours, if any are declared, and else of the partition's own. `x2` where in the
    /// message window to map it, or 0. → `x1` region handle.
    RegionCreate = 0x10;
    /// Zeroes a region and gives its memory back. `x1` region handle.
    RegionDestroy = 0x11;
    /// Maps a region. `x1` region handle, `x2` address in the message window.
    RegionMap = 0x12;
    /// Takes a region's mapping away, keeping the region. `x1` region handle.
    RegionUnmap = 0x13;
    /// → `x1` size in bytes, `x2` address or 0. `x1` region handle.
    RegionInfo = 0x14;

    /// Takes zeroed memory, within the caller's limits. `x1` address (2 MiB aligned), `x2` size (a multiple of 2 MiB, at most
    /// [`MEMORY_CALL_MAX`](crate::layout::MEMORY_CALL_MAX)).
    MemoryAdd = 0x18;
    /// Gives memory back: it is unmapped, then zeroed. `x1` and `x2` as for `MemoryAdd`.
    MemoryRemove = 0x19;
    /// → `x1` 1 if memory is there, else 0; `x2` the address where that changes, the next multiple of 1 GiB at the latest. `x1` address.
    MemoryInfo = 0x1a;

    /// Asks for a channel, or for shared memory, which is made and charged at once. `x1` partition id, `x2` [`RequestWord`](crate::RequestWord), `x3` the timeout in nanoseconds, if the word says that there
    /// is one. → `x1` port; its event tells whether it was accepted.
    Connect = 0x20;
    /// Accepts a request. `x1` the signal's token. → `x1` port.
    Accept = 0x21;
    /// Refuses a request. `x1` the signal's token, `x2` a reason of the server's (32 bits).
    Refuse = 0x22;
    /// Destroys a port. `x1` port. What was sent to it and not received is given back to free memory; the peer gets an event.
    Disconnect = 0x23;
    /// Sends a message. `x1` [`MessageWord`](crate::MessageWord), `x2` to `x17` the short message.
    Send = 0x24;
    /// Takes the next message. `x1` port, `x2` where in the message window to map the region, or 0. →
    /// `x1` [`MessageWord`](crate::MessageWord), `x2` to `x17` the short message, zero-filled; as they were if it is empty.
    Receive = 0x25;
    /// → `x1` [`Causes`](crate::Causes) that hold now, `x2` the peer's partition id, `x3` the reason of a refusal. `x1` port.
    PortStatus = 0x26;
    /// Makes a port set: ports put into it have their events taken by [`PortSetNext`](Call::PortSetNext). `x1` the INTID that tells of them, from
    /// [`CHOSEN_INTID_FIRST`](crate::layout::CHOSEN_INTID_FIRST) to [`CHOSEN_INTID_LAST`](crate::layout::CHOSEN_INTID_LAST), or 0: the event
    /// interrupt; `x2` the logical processor that this INTID is routed to. → `x1` set.
    PortSetCreate = 0x27;
    /// Destroys a port set without members. `x1` set.
    PortSetDestroy = 0x28;
    /// Puts a port, or the control-signal port, into a set. `x1` set, `x2` port. What is pending at the port is taken by the set from then on.
    PortSetAdd = 0x29;
    /// Takes a port out of its set. `x1` port. What is pending at it is taken by [`EventNext`](Call::EventNext) from then on.
    PortSetRemove = 0x2a;
    /// Takes the next pending event of a set's members. `x1` set. → `x1` [`Event`](crate::Event). [`Error::WouldBlock`] when none is pending.
    PortSetNext = 0x2b;

    /// Takes the next pending event. → `x1` [`Event`](crate::Event). [`Error::WouldBlock`] when none is pending.
    EventNext = 0x30;
    /// Signals the peer of a channel. `x1` port.
    EventSend = 0x31;
    /// Keeps a port's events from being taken and from interrupting; what happens is latched. `x1` port.
    EventMask = 0x32;
    /// Lets a port's events through again, and those that were latched meanwhile. `x1` port.
    EventUnmask = 0x33;
    /// Makes a port that receives events raise an interrupt of its own by them, instead of being taken by [`EventNext`](Call::EventNext). `x1` port,
    /// `x2` INTID as for [`PortSetCreate`](Call::PortSetCreate), 0: as before; `x3` the logical processor that the INTID is routed to.
    EventBind = 0x34;

    /// Calls the peer and waits for its reply: the caller's physical processor and time go straight to a logical processor of the peer's that
    /// waits for calls, or the call waits for one. `x1` [`MessageWord`](crate::MessageWord), `x2` to `x17` the short message. →
    /// `x1` [`MessageWord`](crate::MessageWord), `x2` to `x17` of the reply, as for `Receive`. If it fails after it has waited, `x1` is a word with the region that has come
    /// back, unmapped.
    Call = 0x60;
    /// Waits for a call. → `x1` [`MessageWord`](crate::MessageWord), `x2` to `x17` as for `Receive`; port 0: there is none, but an interrupt.
    CallWait = 0x61;
    /// Answers the call that this logical processor has taken. `x1` [`MessageWord`](crate::MessageWord) with port 0, `x2` to `x17` the short message.
    Reply = 0x62;
    /// `Reply` and then `CallWait`.
    ReplyAndWait = 0x63;
    /// Passes the call on to the peer of another port, who answers the first caller directly. Arguments as for `Call`.
    Forward = 0x64;
    /// `Forward` and then `CallWait`.
    ForwardAndWait = 0x65;
    /// Prepares a port for direct calls. `x1` port, `x2` where in the message window regions that come by calls are mapped if they can be, or 0, `x3` nanoseconds
    /// that a call waits for its reply, or 0: for ever.
    CallSetup = 0x66;

    /// Takes the next control signal. → `x1` to `x4` [`Signal`](crate::Signal). [`Error::WouldBlock`] when there is none.
    SignalNext = 0x40;

    /// Maps shared memory. `x1` its port, `x2` address in the message window.
    SharedMap = 0x48;
    /// Takes the mapping of shared memory away, keeping the memory. `x1` its port.
    SharedUnmap = 0x49;
    /// → `x1` bytes, `x2` address or 0, `x3` [`SharedAccess`](crate::SharedAccess). `x1` port.
    SharedInfo = 0x4a;

    /// Puts the watchdog off by its timeout from now. → `x1` the timeout in nanoseconds, 0: no watchdog is set.
    WatchdogKick = 0x58;
    /// Reads counters. `x1` partition id (0: the caller's own; others need the privilege), `x2` logical processor, or all ones for the sum
    /// over all, `x3` the first counter's [number](crate::CounterNumber). → `x1` to `x16` that counter and the next ones; 0 for numbers
    /// that name none.
    CountersRead = 0x59;

    /// Privileged. Makes an empty partition. `x1`, `x2` its [`Name`](crate::Name), `x3` logical processors. → `x1` partition id.
    PartitionCreate = 0x80;
    /// Privileged. `x1` partition id, `x2` [`Account`](crate::Account), `x3` limit.
    PartitionSetLimit = 0x81;
    /// Privileged. Gives zeroed memory to a partition that has not ended. `x1` partition id, `x2` address in the partition (2 MiB aligned), `x3` size (a multiple of 2 MiB, at most
    /// [`ADD_MEMORY_MAX`](crate::layout::ADD_MEMORY_MAX)).
    PartitionAddMemory = 0x82;
    /// Privileged. Copies into a partition that has not started. `x1` partition id, `x2` address there, `x3` address in the caller, `x4` bytes
    /// (at most [`WRITE_MAX`](crate::layout::WRITE_MAX)).
    PartitionWrite = 0x83;
    /// Privileged. Starts logical processor 0 at EL1, MMU off. `x1` partition id, `x2` entry address, `x3` what its `x0` holds.
    PartitionStart = 0x84;
    /// Privileged. Ends a partition. `x1` partition id.
    PartitionStop = 0x85;
    /// Privileged. Forgets a partition that has ended, or was never started; what it held is given back. `x1` partition id.
    PartitionDestroy = 0x86;
    /// Privileged. `x1` partition id. → `x1` [`PartitionState`](crate::PartitionState), `x2` [`EndReason`](crate::EndReason), `x3` exit status.
    PartitionStatus = 0x87;
    /// Privileged. Ends the machine: a console record with the status in `x1`, then PSCI. Does not return.
    MachineOff = 0x88;
    /// Privileged. → `x1` physical processors, `x2` free memory in bytes.
    MachineInfo = 0x89;

    /// Privileged. Sets what a logical processor may claim of the physical ones, at any time. `x1` partition id, `x2` its number there, `x3` to `x5`
    /// [`ProcessorClaim`](crate::ProcessorClaim).
    ProcessorSet = 0x8A;
    /// Privileged. `x1` partition id, `x2` the logical processor's number there. → `x1` to `x3` [`ProcessorClaim`](crate::ProcessorClaim), `x4` nanoseconds
    /// it has run, `x5` nanoseconds it has wanted to run and did not, `x6` the physical processor that serves it.
    ProcessorRead = 0x8B;

    /// Privileged. Confines a partition that has not started and has no memory to cache colours. `x1` partition id, `x2` the colours that its
    /// memory, tables and records are made of, bit by bit, 0: any; `x3` those declared for the channels that it accepts, 0: none.
    PartitionSetColours = 0x90;
    /// Privileged. → `x1` how many cache colours the machine's pages have; 1: none that could be told apart.
    CacheInfo = 0x91;

    /// Privileged. What a [device](crate::device) is. `x1` device number, from 0 on without gaps. → `x1` first address of its registers in the
    /// machine, `x2` bytes, a multiple of 4096, `x3` [`DeviceState`](crate::device::DeviceState), `x4` the partition that holds it or 0, `x5`
    /// where its registers are there, `x6` and `x7` INTIDs in the machine, 16 bits each, `x8` to `x10` the node's name, `x11` to `x14` what it
    /// is compatible with ([`Text`](crate::device::Text)), `x15` the INTID there of its first interrupt.
    DeviceInfo = 0x98;
    /// Privileged. Gives a partition the right to a device: its registers, and its interrupts. `x1` partition id, `x2` device number, `x3` address
    /// there ([`DEVICE_BASE`](crate::layout::DEVICE_BASE)), `x4` INTID there of its first interrupt
    /// ([`DEVICE_INTID`](crate::layout::DEVICE_INTID)); the others follow.
    DeviceAssign = 0x99;
    /// Privileged. Takes a device back. `x1` device number.
    DeviceRevoke = 0x9a;
    /// Privileged. Limits how often a partition may hand regions over or broadcast TLB maintenance, at any time. `x1` partition id, `x2` and `x3`
    /// [`BusLimit`](crate::BusLimit): operations, period.
    PartitionSetBus = 0x9b;
    /// Privileged. Limits a partition's memory traffic, at any time. `x1` partition id, `x2` to `x4` [`TrafficLimit`](crate::TrafficLimit): event, events,
    /// period.
    PartitionSetTraffic = 0x9c;
    /// Privileged. `x1` partition id. → `x1` and `x2` [`BusLimit`](crate::BusLimit), `x3` operations that count now, `x4` to `x6`
    /// [`TrafficLimit`](crate::TrafficLimit), `x7` events of this period.
    BusRead = 0x9d;

    /// Privileged. Takes all of a partition's logical processors off the physical ones; its virtual time stands still until it is resumed.
    /// One that is paused already stays so. `x1` partition id, not the caller's.
    PartitionPause = 0xa0;
    /// Privileged. Lets a paused partition go on. `x1` partition id.
    PartitionResume = 0xa1;
    /// Privileged. Sends a partition the signal [`ShutdownRequest`](crate::SignalKind::ShutdownRequest). One that it has not taken yet is
    /// replaced. `x1` partition id, `x2` the signal's argument.
    PartitionShutdown = 0xa2;
    /// Privileged. Makes a partition that has ended as it was when it was made, under its id and with its limits: empty, and not started.
    /// `x1` partition id.
    PartitionReset = 0xa3;
    /// Privileged. Ends a partition with [`Watchdog`](crate::EndReason::Watchdog) when so much time of its own count passes without `WatchdogKick`,
    /// from its start or from now on. `x1` partition id, `x2` nanoseconds, 0: never.
    PartitionSetWatchdog = 0xa4;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_nothing_else_decodes() {
        for &call in Call::ALL {
            assert_eq!(Call::try_from(u64::from(call as u32)), Ok(call));
            assert_eq!(Call::try_from(u64::from(call as u32) | 0xdead_beef << 32), Ok(call));
            assert_eq!(Call::ALL[call.position()], call);
            assert!(call as u32 - Call::BASE < 0x100);
        }
        let known = (0..=0xffffu64).filter(|n| Call::try_from(u64::from(Call::BASE) | n).is_ok()).count();
        assert_eq!(known, Call::ALL.len());
        assert_eq!(Call::try_from(0x8600_0000), Err(Error::NotSupported));
    }
}
