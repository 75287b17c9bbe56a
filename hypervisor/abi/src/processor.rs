//! What a logical processor may claim of the physical ones.

/// Millionths of a physical processor, the unit of [`Account::ProcessorTime`](crate::Account::ProcessorTime): one whole.
pub const PROCESSOR_WHOLE: u64 = 1_000_000;

/// What `ProcessorSet` sets and `ProcessorRead` returns: a claim on processor time, and where it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessorClaim {
    /// Nanoseconds that it may run in each period, and is sure to get: 100 µs to `period`; 0: it claims nothing and takes what others leave.
    pub budget: u64,
    /// Nanoseconds, up to a second; 0 without a budget.
    pub period: u64,
    /// Bit n: physical processor n may serve it; 0: any.
    pub allowed: u16,
    /// With its budget used up it may go on in time that others leave.
    pub work_conserving: bool,
    /// It owns a physical processor alone, and has no budget.
    pub alone: bool,
}

impl ProcessorClaim {
    /// Physical processors in bits 15:0.
    const ALLOWED: u64 = 0xffff;
    const WORK_CONSERVING: u64 = 1 << 32;
    const ALONE: u64 = 1 << 33;

    /// From three registers; `None` if bits are set that mean nothing.
    #[must_use]
    pub fn from_registers([budget, period, how]: [u64; 3]) -> Option<ProcessorClaim> {
        if how & !(Self::ALLOWED | Self::WORK_CONSERVING | Self::ALONE) != 0 {
            return None;
        }
        Some(ProcessorClaim {
            budget,
            period,
            allowed: how as u16,
            work_conserving: how & Self::WORK_CONSERVING != 0,
            alone: how & Self::ALONE != 0,
        })
    }

    /// To three registers.
    #[must_use]
    pub fn to_registers(self) -> [u64; 3] {
        let work_conserving = if self.work_conserving { Self::WORK_CONSERVING } else { 0 };
        let alone = if self.alone { Self::ALONE } else { 0 };
        [self.budget, self.period, u64::from(self.allowed) | work_conserving | alone]
    }

    /// Millionths of a physical processor that it is charged, rounded up; more than anybody has for a period of 0 with a budget.
    #[must_use]
    pub fn bandwidth(&self) -> u64 {
        if self.alone {
            return PROCESSOR_WHOLE;
        }
        let parts = u128::from(self.budget) * u128::from(PROCESSOR_WHOLE);
        u64::try_from(parts.div_ceil(u128::from(self.period.max(1)))).unwrap_or(u64::MAX)
    }
}

/// What `ProcessorRead` tells of a logical processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessorStatus {
    /// What it may claim.
    pub claim: ProcessorClaim,
    /// Nanoseconds it has run, the control OS's work for it included.
    pub used: u64,
    /// Nanoseconds it has wanted to run and did not.
    pub waited: u64,
    /// The physical processor that serves it.
    pub physical: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_round_trip() {
        for how in [0, 0x8001, 1 << 32, 1 << 33 | 2, 0xffff | 1 << 32] {
            let claim = ProcessorClaim::from_registers([1, 2, how]).unwrap();
            assert_eq!(claim.to_registers(), [1, 2, how]);
        }
        assert_eq!(ProcessorClaim::from_registers([1, 2, 1 << 16]), None);
        assert_eq!(ProcessorClaim::from_registers([1, 2, 1 << 34]), None);
    }

    #[test]
    fn bandwidth_is_rounded_up() {
        let claim = |budget, period| ProcessorClaim { budget, period, ..Default::default() };
        assert_eq!(claim(0, 0).bandwidth(), 0);
        assert_eq!(claim(1, 3).bandwidth(), 333_334);
        assert_eq!(claim(u64::MAX, 0).bandwidth(), u64::MAX);
        assert_eq!(ProcessorClaim { alone: true, ..Default::default() }.bandwidth(), PROCESSOR_WHOLE);
    }
}
