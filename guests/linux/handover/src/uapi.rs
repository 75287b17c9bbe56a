//! The driver's structures and requests, as `driver/uapi/handover.h` has them. A test compares the two.

use rustix::{
    fd::AsFd,
    io::Result,
    ioctl::{Getter, NoArg, Opcode, Setter, Updater, ioctl, opcode},
};

/// Do not wait.
pub const NONBLOCK: u32 = 1;
/// Of a request: who asks sends, and does not receive.
pub const SEND_ONLY: u32 = 4;
/// Of a request: who asks receives, and does not send.
pub const RECEIVE_ONLY: u32 = 8;
/// Of a request: for an event port. Of a listener: for such requests.
pub const EVENTS: u32 = 0x10;
/// Of a direct call: the region is out of reach until the reply.
pub const LEND: u32 = 0x20;
/// Of a direct call: everybody goes on reading the region.
pub const SHOW: u32 = 0x40;
/// A request was refused because nobody listens.
pub const REASON_NO_LISTENER: u32 = 0xffff_ffff;
/// A request was refused because too many wait already.
pub const REASON_BACKLOG: u32 = 0xffff_fffe;
/// A request was refused because the listener was closed.
pub const REASON_CLOSED: u32 = 0xffff_fffd;
/// This partition may connect to the service.
pub const ROLE_CLIENT: u32 = 1;
/// This partition provides the service.
pub const ROLE_SERVER: u32 = 2;
/// Of a listener: for shared memory, not for channels.
pub const LISTEN_SHARED: u32 = 2;
/// Of a listener: for channels whose messages go one way.
pub const LISTEN_ONE_WAY: u32 = 0x80;
/// Only who asks writes to shared memory.
pub const SHARE_I_WRITE: u32 = 1;
/// Only who is asked does.
pub const SHARE_PEER_WRITES: u32 = 2;
/// This side may write.
pub const SHARED_OWN: u32 = 1;
/// The other side may.
pub const SHARED_PEER: u32 = 2;
/// Bytes of a service's name, its terminating zero included.
pub const NAME_SIZE: usize = 32;

const MAGIC: u8 = 0xbe;

macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident = $size:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            #[repr(C)]
            #[allow(missing_docs, reason = "the C header says what each field means")]
            pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

            const _: () = assert!(size_of::<$name>() == $size);
        )*
    };
}

structures! {
    /// `struct handover_info`.
    Info = 40 {
        version: u32, partition: u32, features: u64, window_base: u64, window_size: u64, services: u32, privileged: u32,
    }
    /// `struct handover_service`.
    Service = 48 { index: u32, role: u32, partition: u32, service: u32, name: [u8; NAME_SIZE], }
    /// `struct handover_connect`.
    Connect = 24 { partition: u32, service: u32, flags: u32, fd: i32, reason: u32, reserved: u32, }
    /// `struct handover_listen`.
    Listen = 16 { service: u32, flags: u32, fd: i32, reserved: u32, }
    /// `struct handover_request`.
    Request = 16 { flags: u32, request: u32, partition: u32, service: u32, }
    /// `struct handover_accept`.
    Accept = 16 { request: u32, flags: u32, fd: i32, partition: u32, }
    /// `struct handover_refuse`.
    Refuse = 8 { request: u32, reason: u32, }
    /// `struct handover_account`.
    Account = 24 { account: u32, reserved: u32, used: u64, limit: u64, }
    /// `struct handover_region_create`.
    RegionCreate = 16 { size: u64, flags: u32, fd: i32, }
    /// `struct handover_region_info`.
    RegionInfo = 16 { size: u64, address: u64, }
    /// `struct handover_message`.
    Message = 152 {
        region_fd: i32, length: u32, region_size: u64, flags: u32, reserved: u32, data: [u8; crate::SHORT_MAX],
    }
    /// `struct handover_status`.
    Status = 16 { state: u32, partition: u32, reason: u32, reserved: u32, }
    /// `struct handover_share`.
    Share = 32 { partition: u32, service: u32, size: u64, flags: u32, fd: i32, reason: u32, reserved: u32, }
    /// `struct handover_shared_info`.
    SharedInfo = 24 { size: u64, address: u64, access: u32, reserved: u32, }
}

macro_rules! requests {
    ($($name:ident = $opcode:expr;)*) => {
        $(
            #[doc = concat!("`HANDOVER_", stringify!($name), "`.")]
            pub const $name: Opcode = $opcode;
        )*

        /// Every request with its name in the C header, less the prefix.
        pub const REQUESTS: &[(&str, Opcode)] = &[$((stringify!($name), $name),)*];
    };
}

requests! {
    INFO = opcode::read::<Info>(MAGIC, 0x00);
    SERVICE = opcode::read_write::<Service>(MAGIC, 0x01);
    CONNECT = opcode::read_write::<Connect>(MAGIC, 0x02);
    LISTEN = opcode::read_write::<Listen>(MAGIC, 0x03);
    REGION_CREATE = opcode::read_write::<RegionCreate>(MAGIC, 0x04);
    EXIT = opcode::write::<u64>(MAGIC, 0x05);
    ACCOUNT = opcode::read_write::<Account>(MAGIC, 0x06);
    SHARE = opcode::read_write::<Share>(MAGIC, 0x09);
    REQUEST = opcode::read_write::<Request>(MAGIC, 0x10);
    ACCEPT = opcode::read_write::<Accept>(MAGIC, 0x11);
    REFUSE = opcode::write::<Refuse>(MAGIC, 0x12);
    REGION_INFO = opcode::read::<RegionInfo>(MAGIC, 0x20);
    SHARED_INFO = opcode::read::<SharedInfo>(MAGIC, 0x21);
    SEND = opcode::write::<Message>(MAGIC, 0x30);
    RECEIVE = opcode::read_write::<Message>(MAGIC, 0x31);
    STATUS = opcode::read::<Status>(MAGIC, 0x32);
    SIGNAL = opcode::none(MAGIC, 0x33);
    SIGNAL_TAKE = opcode::none(MAGIC, 0x34);
    EVENT = opcode::read::<u32>(MAGIC, 0x35);
    MASK = opcode::none(MAGIC, 0x36);
    UNMASK = opcode::none(MAGIC, 0x37);
    SIGNAL_WAIT = opcode::none(MAGIC, 0x38);
    CALL = opcode::read_write::<Message>(MAGIC, 0x39);
    PATIENCE = opcode::write::<u64>(MAGIC, 0x3a);
}

/// A request without an argument.
pub(crate) trait Told<const REQUEST: Opcode> {}
/// A structure that a request reads and answers into.
pub(crate) trait Exchanged<const REQUEST: Opcode> {}
/// A structure that a request only reads.
pub(crate) trait Given<const REQUEST: Opcode> {}
/// A structure that a request only writes; every bit pattern is a value of it.
pub(crate) trait Answered<const REQUEST: Opcode> {}

impl Exchanged<SERVICE> for Service {}
impl Exchanged<CONNECT> for Connect {}
impl Exchanged<LISTEN> for Listen {}
impl Exchanged<ACCOUNT> for Account {}
impl Exchanged<REGION_CREATE> for RegionCreate {}
impl Exchanged<REQUEST> for Request {}
impl Exchanged<ACCEPT> for Accept {}
impl Exchanged<RECEIVE> for Message {}
impl Exchanged<SHARE> for Share {}
impl Told<SIGNAL> for () {}
impl Told<SIGNAL_TAKE> for () {}
impl Told<SIGNAL_WAIT> for () {}
impl Told<MASK> for () {}
impl Told<UNMASK> for () {}
impl Exchanged<CALL> for Message {}
impl Given<PATIENCE> for u64 {}
impl Given<EXIT> for u64 {}
impl Given<REFUSE> for Refuse {}
impl Given<SEND> for Message {}
impl Answered<INFO> for Info {}
impl Answered<REGION_INFO> for RegionInfo {}
impl Answered<SHARED_INFO> for SharedInfo {}
impl Answered<STATUS> for Status {}
impl Answered<EVENT> for u32 {}

pub(crate) fn exchange<const REQUEST: Opcode, T: Exchanged<REQUEST>>(
    fd: impl AsFd,
    value: &mut T,
) -> Result<()> {
    // SAFETY: the opcode names a structure of T's layout (`Exchanged`), all integers, which the driver reads and writes. A driver
    // that has other requests under these numbers encodes another size or magic, and answers ENOTTY.
    unsafe { ioctl(fd, Updater::<REQUEST, T>::new(value)) }
}

pub(crate) fn give<const REQUEST: Opcode, T: Given<REQUEST>>(fd: impl AsFd, value: T) -> Result<()> {
    // SAFETY: the opcode names a structure of T's layout (`Given`), which the driver only reads.
    unsafe { ioctl(fd, Setter::<REQUEST, T>::new(value)) }
}

pub(crate) fn ask<const REQUEST: Opcode, T: Answered<REQUEST>>(fd: impl AsFd) -> Result<T> {
    // SAFETY: the opcode names a structure of T's layout (`Answered`), which the driver fills when it succeeds.
    unsafe { ioctl(fd, Getter::<REQUEST, T>::new()) }
}

pub(crate) fn tell<const REQUEST: Opcode>(fd: impl AsFd) -> Result<()>
where
    (): Told<REQUEST>,
{
    // SAFETY: the request takes no argument (`Told`).
    unsafe { ioctl(fd, NoArg::<REQUEST>::new()) }
}
