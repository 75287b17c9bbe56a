//! Why something could not be done.

use std::{fmt, io};

use handover_abi::{Account, PartitionId};
use handover_manifest::MemorySize;

/// What was tried, with whom, and what stood against it.
#[derive(Debug)]
pub struct Error {
    /// What was tried: completes "cannot".
    pub what: String,
    /// Whom it was about, if anyone.
    pub partition: Option<PartitionId>,
    /// What stood against it.
    pub cause: Cause,
}

/// What stands against an operation.
#[derive(Debug)]
pub enum Cause {
    /// A limit, and how far it was used up.
    Limit {
        /// Whose: system-control's own where that pays.
        of: PartitionId,
        /// Of what.
        account: Account,
        /// What is used, in the account's unit.
        used: u64,
        /// What may be used.
        limit: u64,
    },
    /// Any other error of the control OS's.
    Control(handover_abi::Error),
    /// The kernel.
    System(io::Error),
    /// What was to be loaded is unfit.
    Content(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Limit { of, account, used, limit } => {
                write!(f, "limit reached: of {account}, partition {of} uses ")?;
                match account {
                    Account::Memory | Account::ControlMemory | Account::AddressSpace => {
                        write!(f, "{} of {}", MemorySize(*used), MemorySize(*limit))
                    }
                    _ => write!(f, "{used} of {limit}"),
                }
            }
            Cause::Control(error) => error.fmt(f),
            Cause::System(error) => error.fmt(f),
            Cause::Content(text) => text.fmt(f),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.what)?;
        if let Some(partition) = self.partition {
            write!(f, " (partition {partition})")?;
        }
        write!(f, ": {}", self.cause)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Limit { .. } | Cause::Content(_) => None,
            Cause::Control(error) => Some(error),
            Cause::System(error) => Some(error),
        }
    }
}

impl Error {
    /// The control OS's error, if it was one.
    #[must_use]
    pub fn control(&self) -> Option<handover_abi::Error> {
        match self.cause {
            Cause::Limit { .. } => Some(handover_abi::Error::Limit),
            Cause::Control(error) => Some(error),
            Cause::System(_) | Cause::Content(_) => None,
        }
    }
}
