//! Users, and what each may have of what there is for all.

/// Users: 0 to 63. What a user's processes make the kernel keep is on the user's account.
pub const USERS_MAX: u32 = 64;

/// Whole shares are this many parts.
const PARTS: u64 = 1 << 16;
/// This part of everything is for user 0 alone.
const RESERVE: u64 = 8;

/// A user who is to pay, and which part of everything it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payer {
    user: u8,
    parts: u32,
}

impl Payer {
    /// User 0: init and the kernel itself, who may have all.
    pub const ROOT: Payer = Payer { user: 0, parts: PARTS as u32 };

    /// A user who may have `limit` of `whole`, and so much in proportion of everything else. Users beyond [`USERS_MAX`] are the last one.
    #[must_use]
    pub fn new(user: u32, limit: u64, whole: u64) -> Payer {
        let parts = (u128::from(limit.min(whole)) * u128::from(PARTS)).checked_div(u128::from(whole));
        Payer { user: user.min(USERS_MAX - 1) as u8, parts: parts.unwrap_or(0) as u32 }
    }

    /// The user's number.
    #[must_use]
    pub fn user(self) -> u32 {
        u32::from(self.user)
    }

    /// Its part of a whole: all of it for user 0.
    #[must_use]
    pub fn part(self, whole: u64) -> u64 {
        if self.user == 0 {
            return whole;
        }
        ((u128::from(whole) * u128::from(self.parts)) / u128::from(PARTS)) as u64
    }

    /// How much more it may take of a whole of which `used` is taken, `own` of that by itself.
    #[must_use]
    pub fn room(self, whole: u64, used: u64, own: u64) -> u64 {
        let reserve = if self.user == 0 { 0 } else { Payer::reserve(whole) };
        let left = whole.saturating_sub(reserve).saturating_sub(used);
        left.min(self.part(whole).saturating_sub(own))
    }

    /// What is for user 0 alone of a whole.
    #[must_use]
    pub fn reserve(whole: u64) -> u64 {
        whole / RESERVE
    }
}

/// Who has how much of something that there is for all.
#[derive(Clone, Debug)]
pub struct Quota {
    whole: u64,
    used: u64,
    own: [u64; USERS_MAX as usize],
}

impl Quota {
    /// Nobody has anything of it yet.
    #[must_use]
    pub const fn new(whole: u64) -> Quota {
        Quota { whole, used: 0, own: [0; USERS_MAX as usize] }
    }

    /// How much there is.
    #[must_use]
    pub const fn whole(&self) -> u64 {
        self.whole
    }

    /// How much is taken.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// How much a user has.
    #[must_use]
    pub fn own(&self, user: u32) -> u64 {
        self.own.get(user as usize).copied().unwrap_or(0)
    }

    /// How much more a user may take.
    #[must_use]
    pub fn room(&self, payer: Payer) -> u64 {
        payer.room(self.whole, self.used, self.own(payer.user()))
    }

    /// Takes so much, if the user may.
    #[must_use]
    pub fn take(&mut self, payer: Payer, amount: u64) -> bool {
        let has_room = amount <= self.room(payer);
        if has_room {
            self.charge(payer.user(), amount);
        }
        has_room
    }

    /// Puts something onto a user's account though it may have no more of it.
    pub fn charge(&mut self, user: u32, amount: u64) {
        if let Some(own) = self.own.get_mut(user as usize) {
            *own += amount;
            self.used += amount;
        }
    }

    /// Gives back what a user had taken.
    pub fn give_back(&mut self, user: u32, amount: u64) {
        if let Some(own) = self.own.get_mut(user as usize) {
            *own = own.saturating_sub(amount);
            self.used = self.used.saturating_sub(amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_its_part_of_everything() {
        let payer = Payer::new(3, 25, 100);
        assert_eq!(
            (payer.user(), payer.part(4096), payer.part(3), payer.part(u64::MAX) >> 60),
            (3, 1024, 0, 3)
        );
        assert_eq!(Payer::ROOT.part(u64::MAX), u64::MAX);
        assert_eq!(Payer::new(99, 500, 100).part(100), 100, "more than everything is everything");
        assert_eq!(Payer::new(1, 1, 0).part(100), 0);
    }

    #[test]
    fn nobody_takes_what_is_another_users() {
        let mut quota = Quota::new(80);
        let (one, two) = (Payer::new(1, 30, 80), Payer::new(2, 40, 80));
        assert!(quota.take(one, 30) && !quota.take(one, 1));
        assert!(quota.take(two, 40) && !quota.take(two, 1));
        // What is left is user 0's.
        let all = Payer::new(3, 80, 80);
        assert_eq!((quota.room(all), quota.room(Payer::ROOT)), (0, 10));
        assert!(!quota.take(all, 1) && quota.take(Payer::ROOT, 10) && !quota.take(Payer::ROOT, 1));
        quota.give_back(1, 30);
        assert_eq!((quota.used(), quota.own(1), quota.own(2)), (50, 0, 40));
        assert!(quota.take(one, 20) && !quota.take(all, 1), "user 0 has some of what is not its alone");
        quota.give_back(1, 999);
        assert_eq!(quota.own(1), 0);
    }

    #[test]
    fn a_smaller_part_does_not_take_back() {
        let mut quota = Quota::new(100);
        assert!(quota.take(Payer::new(1, 50, 100), 50));
        let less = Payer::new(1, 20, 100);
        assert_eq!(quota.room(less), 0);
        quota.give_back(1, 31);
        assert_eq!(quota.room(less), 0);
        quota.give_back(1, 9);
        assert_eq!(quota.room(less), 9);
    }
}
