//! Why a case failed.

use alloc::string::String;
use core::fmt;

use handover_guest::{Error, SendError, psci};

/// A text.
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(text: fmt::Arguments<'_>) -> Failure {
        Failure(alloc::fmt::format(text))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(format_args!("a call that should succeed: {error}"))
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Failure {
        Failure::new(format_args!("{error}"))
    }
}

impl From<psci::Error> for Failure {
    fn from(error: psci::Error) -> Failure {
        Failure::new(format_args!("{error}"))
    }
}

/// Returns a failure from the case.
macro_rules! fail {
    ($($text:tt)*) => { return Err($crate::failure::Failure::new(format_args!($($text)*))) };
}

/// Returns a failure from the case unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => { if !$condition { $crate::failure::fail!($($text)*) } };
}

pub(crate) use {ensure, fail};
