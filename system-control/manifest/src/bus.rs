//! A partition's rights to the bus.

use serde::{Deserialize, Serialize};

use crate::Duration;

/// How often a partition may hand message regions over, or have all processors forget translations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bus {
    /// Operations in each `period`, at least one.
    pub operations: u64,
    /// At most [`PERIOD_MAX`](crate::PERIOD_MAX).
    pub period: Duration,
}

/// How much memory traffic a partition may cause, in events that the processor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Traffic {
    /// Events in each `period`, of all its logical processors, at least one.
    pub events: u64,
    /// At most [`PERIOD_MAX`](crate::PERIOD_MAX).
    pub period: Duration,
    /// The architecture's number of the event; without it, the one that counts memory traffic on the machine.
    #[serde(default)]
    pub event: Option<u16>,
}
