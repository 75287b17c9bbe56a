//! What a call comes back with.

use handover_abi::{Account, Error, Unsupported};

/// Why a call failed, and what `x1` says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `x0`.
    pub error: Error,
    /// `x1`: the account of [`Error::Limit`], the bytes of [`Error::TooLarge`], the nanoseconds of [`Error::Throttled`], the reason of an [`Error::NotSupported`] that has one, otherwise 0.
    pub detail: u64,
}

impl Failure {
    /// No failure: the call is not finished, and belongs executed again with the same arguments, like [`Progress::Again`]. Comes of calls that hand a region
    /// over, where stage 2 does not force write-back. No call has this otherwise.
    pub const AGAIN: Failure = Failure { error: Error::WouldBlock, detail: u64::MAX };

    /// No failure either, and nothing has happened: what is asked is off the plain way.
    pub const NOT_PLAIN: Failure = Failure { error: Error::WouldBlock, detail: u64::MAX - 1 };

    /// A limit of the named account is in the way.
    #[must_use]
    pub const fn limit(account: Account) -> Failure {
        Failure { error: Error::Limit, detail: account as u64 }
    }

    /// This machine cannot do it, for a reason that the caller is told.
    #[must_use]
    pub const fn unsupported(reason: Unsupported) -> Failure {
        Failure { error: Error::NotSupported, detail: reason as u64 }
    }

    /// Over a rate, for so many nanoseconds more.
    #[must_use]
    pub const fn throttled(nanoseconds: u64) -> Failure {
        Failure { error: Error::Throttled, detail: nanoseconds }
    }

    /// A region of `size` bytes does not fit.
    #[must_use]
    pub const fn too_large(size: u64) -> Failure {
        Failure { error: Error::TooLarge, detail: size }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { error, detail: 0 }
    }
}

/// How far a call that works in bounded steps has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// All done.
    Done,
    /// Call the same again with the same arguments; anything may happen in between.
    Again,
}
