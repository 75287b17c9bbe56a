//! Partitions as system-control sees them.

/// Bytes of a partition's name.
pub const NAME_MAX: usize = 15;

/// A partition's name: 1 to 15 bytes of `[a-z0-9-]`, what its console is labelled with. In registers: 16 bytes, zero-padded.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name([u8; NAME_MAX + 1]);

impl Name {
    /// `None` unless `text` is a name.
    #[must_use]
    pub fn new(text: &str) -> Option<Name> {
        let mut bytes = [0; NAME_MAX + 1];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Name::from_bytes(bytes)
    }

    fn from_bytes(bytes: [u8; NAME_MAX + 1]) -> Option<Name> {
        let length = bytes.iter().position(|&b| b == 0)?;
        let (text, rest) = bytes.split_at(length);
        let valid = text.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        (length > 0 && valid && rest.iter().all(|&b| b == 0)).then_some(Name(bytes))
    }

    /// From two registers.
    #[must_use]
    pub fn from_registers(words: [u64; 2]) -> Option<Name> {
        let mut bytes = [0; NAME_MAX + 1];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Name::from_bytes(bytes)
    }

    /// To two registers.
    #[must_use]
    pub fn to_registers(self) -> [u64; 2] {
        let word = |at: usize| {
            let mut value = [0; 8];
            value.copy_from_slice(&self.0[at..at + 8]);
            u64::from_le_bytes(value)
        };
        [word(0), word(8)]
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|&b| b == 0).unwrap_or(0);
        core::str::from_utf8(&self.0[..length]).unwrap_or("")
    }
}

impl core::fmt::Debug for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.as_str().fmt(f)
    }
}

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.as_str())
    }
}

values! {
    /// The kinds of resource a partition is charged for (seed Partitions, [0051]). A new partition's limits are all zero, but that of [`Account::Bus`]: there is none.
    Account {
        /// a) time on physical processors that is promised; millionths of one.
        ProcessorTime = 0, "processor time";
        /// b) ranges of intermediate physical addresses.
        AddressSpace = 1, "address space";
        /// c) memory its programs can touch, message regions included; bytes.
        Memory = 2, "memory";
        /// d) memory the control OS spends on it: tables, ports, queue entries; bytes.
        ControlMemory = 3, "control memory";
        /// e) ports.
        Ports = 4, "ports";
        /// f) rights to devices.
        Devices = 5, "devices";
        /// g) cache colours.
        CacheColours = 6, "cache colours";
        /// h) rights to the bus; operations within a period ([`BusLimit`](crate::BusLimit)), all ones: no limit.
        Bus = 7, "bus";
    }
}

values! {
    /// Where a partition is in its life (seed Partitions, [0053]).
    PartitionState {
        /// Made, not started yet.
        Created = 0, "created";
        /// Its guest runs.
        Active = 1, "active";
        /// Ended: nothing of it runs again.
        Terminated = 2, "terminated";
        /// Its guest stands still until system-control resumes it.
        Paused = 3, "paused";
    }
}

values! {
    /// Why a partition ended.
    EndReason {
        /// It has not.
        None = 0, "not ended";
        /// The guest called `End` with a status.
        Exited = 1, "exited";
        /// The guest switched itself off (PSCI `SYSTEM_OFF`).
        PoweredOff = 2, "powered off";
        /// The guest asked for a reset (PSCI `SYSTEM_RESET`).
        Reset = 3, "asked for a reset";
        /// System-control stopped it.
        Stopped = 4, "stopped";
        /// It did what it could not go on from; the console has the particulars.
        Fault = 5, "fatal fault";
        /// It did not kick its watchdog in time.
        Watchdog = 6, "watchdog";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "linux", "system-control", "0123456789abcde"] {
            let name = Name::new(good).unwrap();
            assert_eq!(name.as_str(), good);
            assert_eq!(Name::from_registers(name.to_registers()), Some(name));
        }
        for bad in ["", "0123456789abcdef", "Upper", "sp ace", "\u{1b}[2J", "nul\0nul"] {
            assert_eq!(Name::new(bad), None, "{bad:?}");
        }
        assert_eq!(Name::from_registers([u64::MAX, u64::MAX]), None);
        assert_eq!(Name::from_registers([0, 0]), None);
        assert_eq!(Name::from_registers([u64::from(b'a'), 0x61]), None);
    }

    #[test]
    fn values_round_trip() {
        for &account in Account::ALL {
            assert_eq!(Account::try_from(account as u64), Ok(account));
        }
        assert!(Account::try_from(8).is_err());
        assert!(PartitionState::try_from(4).is_err());
        assert!(EndReason::try_from(7).is_err());
    }
}
