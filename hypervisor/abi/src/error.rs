//! What a failed call returns in `x0`.

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why a call failed. A failed call has changed nothing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i64)]
        pub enum Error { $($(#[$doc])* $name = $number,)* }

        impl Error {
            /// Every error, in numeric order from -1 down.
            pub const ALL: &[Error] = &[$(Error::$name,)*];

            /// The error that `x0` holds; `None` for success and for values that no version defines.
            #[must_use]
            pub fn from_x0(x0: u64) -> Option<Error> {
                match x0 as i64 { $($number => Some(Error::$name),)* _ => None }
            }

            /// A short phrase for people.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Error::$name => $text,)* }
            }
        }
    };
}

errors! {
    /// No such call, or not by this control OS.
    NotSupported = -1, "not supported";
    /// An argument is out of its range: a size of zero, a misaligned address, an unknown account.
    InvalidArgument = -2, "invalid argument";
    /// The handle, port, token or partition id names nothing of the caller's.
    BadHandle = -3, "no such handle";
    /// The address range is not in the message window, or not in the partition's memory.
    BadAddress = -4, "bad address";
    /// Something else is already there: a mapped slot, a region that is mapped.
    InUse = -5, "in use";
    /// Nothing to take now; an event tells when there is.
    WouldBlock = -6, "nothing there yet";
    /// The peer's queue is full; an event tells when there is room.
    QueueFull = -7, "queue full";
    /// The peer has destroyed its port.
    PeerClosed = -8, "closed by the peer";
    /// The port is not connected yet, or was refused.
    NotConnected = -9, "not connected";
    /// A limit of the caller's (or of the named partition's) would be exceeded. `x1` holds the [`Account`](crate::Account).
    Limit = -10, "limit reached";
    /// The machine has no memory left.
    NoMemory = -11, "out of memory";
    /// The caller has not the privilege.
    Denied = -12, "permission denied";
    /// Not in this state: a partition that runs already, or has ended.
    WrongState = -13, "wrong state";
    /// The message's region does not fit where it should go. `x1` holds its size in bytes; the message stays.
    TooLarge = -14, "too large";
    /// No answer came in time.
    TimedOut = -15, "timed out";
    /// No physical processor has so much time to give.
    NoCapacity = -16, "no capacity";
    /// Over the rate that the partition may do this at. `x1` holds the nanoseconds until it may again.
    Throttled = -17, "throttled";
    /// The answer would have to come from who waits for the caller's own.
    Deadlock = -18, "would wait for itself";
}

impl Error {
    /// The value of `x0`.
    #[must_use]
    pub const fn to_x0(self) -> u64 {
        self as i64 as u64
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_dense_and_round_trip() {
        for (index, &error) in Error::ALL.iter().enumerate() {
            assert_eq!(error as i64, -1 - index as i64);
            assert_eq!(Error::from_x0(error.to_x0()), Some(error));
        }
        assert_eq!(Error::from_x0(0), None);
        assert_eq!(Error::from_x0((-19i64) as u64), None);
    }
}
