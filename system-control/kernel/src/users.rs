//! What each user may have.

use handover_files::{Errno, Payer, USERS_MAX};

/// Frames that a user may have: `setrlimit`'s two limits of `RLIMIT_RSS`. Of everything else it may have as much in proportion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What counts.
    pub soft: u64,
    /// What `soft` may become.
    pub hard: u64,
}

/// All users.
#[derive(Clone, Debug)]
pub struct Users {
    frames: u64,
    limits: [Limit; USERS_MAX as usize],
}

impl Users {
    /// Who share so many frames. At first, all but user 0 may have everything but what is for user 0 alone.
    #[must_use]
    pub fn new(frames: u64) -> Users {
        let most = frames - Payer::reserve(frames);
        let mut limits = [Limit { soft: most, hard: most }; USERS_MAX as usize];
        limits[0] = Limit { soft: frames, hard: frames };
        Users { frames, limits }
    }

    /// What a user may have.
    #[must_use]
    pub fn limit(&self, user: u32) -> Limit {
        self.limits.get(user as usize).copied().unwrap_or(Limit { soft: 0, hard: 0 })
    }

    /// As one who pays.
    #[must_use]
    pub fn payer(&self, user: u32) -> Payer {
        if user == 0 { Payer::ROOT } else { Payer::new(user, self.limit(user).soft, self.frames) }
    }

    /// Sets what a user may have; what it has already stays. Only who is `privileged` can raise a hard limit, and nobody user 0's.
    ///
    /// # Errors
    ///
    /// [`Errno::INVAL`], [`Errno::PERM`].
    pub fn set(&mut self, user: u32, limit: Limit, privileged: bool) -> Result<(), Errno> {
        let most = self.limits.first().map_or(0, |root| root.hard);
        let there = self.limits.get_mut(user as usize).ok_or(Errno::INVAL)?;
        if limit.soft > limit.hard {
            return Err(Errno::INVAL);
        }
        let raises = limit.hard > there.hard;
        if user == 0 && limit != *there || raises && (!privileged || limit.hard > most) {
            return Err(Errno::PERM);
        }
        *there = limit;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let mut users = Users::new(800);
        let limit = |soft, hard| Limit { soft, hard };
        assert_eq!((users.limit(0), users.limit(1)), (limit(800, 800), limit(700, 700)));
        assert_eq!((users.payer(0), users.payer(2).part(800)), (Payer::ROOT, 700));
        assert_eq!(users.set(1, limit(9, 8), true), Err(Errno::INVAL));
        users.set(1, limit(200, 400), false).unwrap();
        assert_eq!(users.payer(1).part(8000), 2000);
        users.set(1, limit(400, 400), false).unwrap();
        assert_eq!(users.set(1, limit(400, 401), false), Err(Errno::PERM));
        users.set(1, limit(401, 800), true).unwrap();
        assert_eq!(users.set(1, limit(0, 801), true), Err(Errno::PERM));
        assert_eq!(users.set(0, limit(1, 1), true), Err(Errno::PERM), "init keeps what it needs");
        users.set(0, limit(800, 800), true).unwrap();
        assert_eq!(users.set(USERS_MAX, limit(0, 0), true), Err(Errno::INVAL));
    }
}
