//! Control signals: what reaches a partition's control-signal port (seed Partitions, [0056]-[0057]).

use crate::PartitionId;

/// What a control signal asks or tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum SignalKind {
    /// A partition asks for a channel to a service: answer the token with `Accept` or `Refuse`. `argument` is the
    /// [`RequestWord`](crate::RequestWord): the service id, if it is a channel on which both ends send.
    Connect = 1,
    /// A partition has ended (sent to system-control). `argument` is its [`EndReason`](crate::EndReason).
    PartitionEnded = 2,
    /// System-control asks the partition to end by itself. `partition` is who asks, `argument` what it says beside: the nanoseconds that it will
    /// wait, or 0.
    ShutdownRequest = 3,
}

impl TryFrom<u64> for SignalKind {
    type Error = crate::Error;

    fn try_from(value: u64) -> Result<SignalKind, crate::Error> {
        match value {
            1 => Ok(SignalKind::Connect),
            2 => Ok(SignalKind::PartitionEnded),
            3 => Ok(SignalKind::ShutdownRequest),
            _ => Err(crate::Error::InvalidArgument),
        }
    }
}

/// A control signal, as `SignalNext` returns it in `x1` to `x4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// `x1`.
    pub kind: SignalKind,
    /// `x2`: what answers name it by; 0 where no answer is due.
    pub token: u64,
    /// `x3`: who sent it, or whom it is about.
    pub partition: PartitionId,
    /// `x4`: depends on the kind.
    pub argument: u64,
}
