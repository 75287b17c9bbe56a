//! Linux's error numbers.

use linux_raw_sys::errno;

/// Why a system call failed: one of Linux's error numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(u16);

macro_rules! numbers {
    ($($name:ident = $number:ident,)*) => {
        impl Errno {
            $(#[doc = stringify!($number)]
            pub const $name: Errno = Errno(errno::$number as u16);)*
        }
    };
}

numbers! {
    ACCES = EACCES, AGAIN = EAGAIN, BADF = EBADF, CHILD = ECHILD, FAULT = EFAULT, INTR = EINTR, INVAL = EINVAL, NODEV = ENODEV,
    NOENT = ENOENT, NOEXEC = ENOEXEC, NOMEM = ENOMEM, NOSYS = ENOSYS, PERM = EPERM, SRCH = ESRCH, TIMEDOUT = ETIMEDOUT,
    TWOBIG = E2BIG, EXIST = EEXIST, SPIPE = ESPIPE, NOTTY = ENOTTY,
}

impl Errno {
    /// What a system call returns in `x0` for it.
    #[must_use]
    pub const fn to_x0(self) -> u64 {
        (self.0 as u64).wrapping_neg()
    }
}
