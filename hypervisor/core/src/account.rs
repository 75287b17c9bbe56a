//! What a partition uses, and how much it may.

use handover_abi::{Account, Error};

use crate::Failure;

const KINDS: usize = Account::ALL.len();

/// Use and limit of every [`Account`] of one partition. Limits start at zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounts {
    used: [u64; KINDS],
    limits: [u64; KINDS],
}

impl Accounts {
    pub(crate) const fn new() -> Accounts {
        Accounts { used: [0; KINDS], limits: [0; KINDS] }
    }

    /// Units in use.
    #[must_use]
    #[inline]
    pub fn used(&self, account: Account) -> u64 {
        self.used.get(account as usize).copied().unwrap_or(0)
    }

    /// Units that may be in use.
    #[must_use]
    #[inline]
    pub fn limit(&self, account: Account) -> u64 {
        self.limits.get(account as usize).copied().unwrap_or(0)
    }

    /// A limit below the use takes nothing away; it only lets nothing more in.
    pub(crate) fn set_limit(&mut self, account: Account, limit: u64) {
        if let Some(slot) = self.limits.get_mut(account as usize) {
            *slot = limit;
        }
    }

    /// Whether `amount` more would be within the limit.
    #[inline]
    pub(crate) fn check(&self, account: Account, amount: u64) -> Result<(), Failure> {
        match self.used(account).checked_add(amount) {
            Some(total) if amount == 0 || total <= self.limit(account) => Ok(()),
            _ => Err(Failure::limit(account)),
        }
    }

    /// Charges what [`Accounts::check`] has let through.
    #[inline]
    pub(crate) fn charge(&mut self, account: Account, amount: u64) {
        if let Some(used) = self.used.get_mut(account as usize) {
            *used = used.saturating_add(amount);
        }
    }

    /// Gives back what was charged.
    #[inline]
    pub(crate) fn release(&mut self, account: Account, amount: u64) {
        if let Some(used) = self.used.get_mut(account as usize) {
            debug_assert!(*used >= amount, "{account:?}: {amount} of {used} released");
            *used = used.saturating_sub(amount);
        }
    }

    /// The account that a register names.
    pub(crate) fn named(account: u64) -> Result<Account, Failure> {
        Account::try_from(account).map_err(|error: Error| error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_to_the_last_unit() {
        let mut accounts = Accounts::new();
        assert_eq!(accounts.check(Account::Memory, 1), Err(Failure::limit(Account::Memory)));
        assert_eq!(accounts.check(Account::Memory, 0), Ok(()));
        accounts.set_limit(Account::Memory, 10);
        accounts.charge(Account::Memory, 10);
        assert!(accounts.check(Account::Memory, 1).is_err());
        assert!(accounts.check(Account::Memory, u64::MAX).is_err());
        accounts.release(Account::Memory, 4);
        assert_eq!(accounts.check(Account::Memory, 4), Ok(()));
        assert!(accounts.check(Account::Memory, 5).is_err());
        accounts.set_limit(Account::Memory, 3);
        assert!(accounts.check(Account::Memory, 1).is_err());
        assert_eq!((accounts.used(Account::Memory), accounts.limit(Account::Memory)), (6, 3));
        assert_eq!(accounts.used(Account::Ports), 0);
    }
}
