//! What the control OS counts of each logical processor.

use crate::{Call, Error};

/// Counters that one `CountersRead` returns.
pub const COUNTERS_AT_ONCE: usize = 16;
/// No counter has this number or a higher one.
pub const COUNTERS_END: u64 = 0x400;

values! {
    /// What is counted beside calls. Counters start at 0 when the partition is made and never go back.
    Counter {
        /// Handover's calls: all of them.
        Calls = 0, "hypercalls";
        /// Calls of the firmware, and of nobody.
        FirmwareCalls = 1, "firmware calls";
        /// Exits: WFI with no interrupt there.
        Waits = 2, "waits";
        /// Exits: the first FP/SIMD instruction since it came onto its physical processor.
        FloatTraps = 3, "FP traps";
        /// Exits: system registers that the control OS plays.
        SystemRegisters = 4, "system registers";
        /// Exits: data accesses where nothing is mapped, devices that the control OS plays among them.
        DataAborts = 5, "data aborts";
        /// Exits: instruction fetches where nothing is mapped.
        InstructionAborts = 6, "instruction aborts";
        /// Exits: instructions that it has not.
        Undefined = 7, "undefined instructions";
        /// Exits: physical interrupts, anybody's.
        Interrupts = 8, "physical interrupts";
        /// Exits: SErrors.
        Serrors = 9, "SErrors";
        /// External aborts that it was given.
        AbortsGiven = 10, "aborts given";
        /// Accesses to the interrupt controller's distributor and redistributors.
        DistributorAccesses = 11, "distributor accesses";
        /// Accesses to the console.
        ConsoleAccesses = 12, "console accesses";
        /// Times that the virtual interrupt controller's list registers were brought up to date.
        ListRegisterUpdates = 13, "list register updates";
        /// How often it came onto its physical processor.
        Switches = 14, "switches";
        /// Messages sent.
        MessagesSent = 15, "messages sent";
        /// Messages received.
        MessagesReceived = 16, "messages received";
        /// Bytes sent, of regions and short messages.
        BytesSent = 17, "bytes sent";
        /// Bytes received, of regions and short messages.
        BytesReceived = 18, "bytes received";
        /// Of the partition's translation, with all its processors alone: times that the TLBs had to forget some addresses.
        TranslationUnlinks = 19, "translation unlinks";
        /// The same: times that they had to forget all of it.
        TranslationFlushes = 20, "translation flushes";
        /// Broadcasts of TLB maintenance that the control OS carried out for the guest, its bus being limited.
        Broadcasts = 21, "broadcasts";
        /// Times that it waited because of its bus limit or its limit of memory traffic.
        BusWaits = 22, "waits for the bus";
        /// Exits: of the physical interrupts, those of the control OS's own timer.
        Timers = 23, "timer interrupts of the control OS";
    }
}

/// What a counter's number names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterNumber {
    /// One of [`Counter`].
    Named(Counter),
    /// Finished calls of this number: `0x100` and the low byte of the call's number.
    Calls(Call),
    /// Those that failed: `0x200` and that byte.
    Failed(Call),
    /// Calls that failed with this error: `0x300` and the error's number without its sign.
    Errors(Error),
}

impl CounterNumber {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        match self {
            CounterNumber::Named(counter) => counter as u64,
            CounterNumber::Calls(call) => 0x100 | call as u64 & 0xff,
            CounterNumber::Failed(call) => 0x200 | call as u64 & 0xff,
            CounterNumber::Errors(error) => 0x300 | (error as i64).unsigned_abs(),
        }
    }

    /// What a number names; `None`: nothing yet.
    #[must_use]
    pub fn new(number: u64) -> Option<CounterNumber> {
        let low = number & 0xff;
        let call = || Call::try_from(u64::from(Call::BASE) | low).ok();
        match number >> 8 {
            0 => Counter::try_from(low).ok().map(CounterNumber::Named),
            1 => call().map(CounterNumber::Calls),
            2 => call().map(CounterNumber::Failed),
            3 => Error::from_x0(low.wrapping_neg()).map(CounterNumber::Errors),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        let known = (0..2 * COUNTERS_END).filter_map(|number| {
            let name = CounterNumber::new(number)?;
            assert_eq!(name.get(), number);
            Some(name)
        });
        assert_eq!(known.count(), Counter::ALL.len() + 2 * Call::ALL.len() + Error::ALL.len());
    }
}
