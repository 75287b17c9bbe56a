//! Linux's error numbers.

use core::fmt;
use linux_raw_sys::errno;

macro_rules! numbers {
    ($($name:ident = $number:ident, $text:literal;)*) => {
        /// Why an operation failed: one of Linux's error numbers.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct Errno(u16);

        impl Errno {
            $(#[doc = concat!("`", stringify!($number), "`: ", $text, ".")]
            pub const $name: Errno = Errno(errno::$number as u16);)*

            /// Linux's name of it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Errno::$name => stringify!($number),)* _ => "unknown" }
            }
        }
    };
}

numbers! {
    ACCES = EACCES, "permission denied";
    ADDRINUSE = EADDRINUSE, "somebody listens on that service already";
    ADDRNOTAVAIL = EADDRNOTAVAIL, "no such partition";
    AFNOSUPPORT = EAFNOSUPPORT, "no such domain";
    AGAIN = EAGAIN, "would block: wait for the descriptor's key and try again";
    ALREADY = EALREADY, "under way already";
    BADF = EBADF, "no such descriptor, or not for this";
    BUSY = EBUSY, "in use";
    CHILD = ECHILD, "no child";
    CONNABORTED = ECONNABORTED, "the request was withdrawn";
    CONNREFUSED = ECONNREFUSED, "refused by the peer";
    CONNRESET = ECONNRESET, "the peer has closed the channel";
    DESTADDRREQ = EDESTADDRREQ, "an address is needed";
    EXIST = EEXIST, "exists already";
    FAULT = EFAULT, "not the caller's memory";
    FBIG = EFBIG, "too large for a file";
    INPROGRESS = EINPROGRESS, "has begun; the descriptor becomes writable when it is done";
    INTR = EINTR, "interrupted by a signal";
    INVAL = EINVAL, "invalid argument";
    IO = EIO, "the machine failed";
    ISCONN = EISCONN, "connected already";
    ISDIR = EISDIR, "is a directory";
    LOOP = ELOOP, "too many symbolic links";
    MFILE = EMFILE, "too many descriptors in this process";
    MLINK = EMLINK, "too many links";
    MSGSIZE = EMSGSIZE, "the message does not fit";
    NAMETOOLONG = ENAMETOOLONG, "a name of more than 255 bytes, or a path of more than 4095";
    NFILE = ENFILE, "too many open files in the system";
    NOBUFS = ENOBUFS, "an account's limit is reached";
    NODEV = ENODEV, "cannot be mapped";
    NOENT = ENOENT, "no such file";
    NOEXEC = ENOEXEC, "no program";
    NOLCK = ENOLCK, "too many locks";
    NOMEM = ENOMEM, "out of memory";
    NOPROTOOPT = ENOPROTOOPT, "no such option";
    NOSPC = ENOSPC, "the file system's memory limit is reached";
    NOSYS = ENOSYS, "no such call";
    NOTCONN = ENOTCONN, "not connected";
    NOTDIR = ENOTDIR, "not a directory";
    NOTEMPTY = ENOTEMPTY, "directory not empty";
    NOTSOCK = ENOTSOCK, "not a socket";
    NOTTY = ENOTTY, "not a terminal, or no such request";
    NXIO = ENXIO, "nobody at the other end";
    OPNOTSUPP = EOPNOTSUPP, "not supported by this file";
    OVERFLOW = EOVERFLOW, "does not fit";
    PERM = EPERM, "not permitted";
    PIPE = EPIPE, "nobody reads any more";
    PROTONOSUPPORT = EPROTONOSUPPORT, "no such protocol";
    PROTOTYPE = EPROTOTYPE, "wrong type of socket";
    RANGE = ERANGE, "does not fit";
    ROFS = EROFS, "read-only file system";
    SOCKTNOSUPPORT = ESOCKTNOSUPPORT, "no such type of socket";
    SPIPE = ESPIPE, "has no position";
    SRCH = ESRCH, "no such process";
    STALE = ESTALE, "the message was handed over or discarded";
    TIMEDOUT = ETIMEDOUT, "timed out";
    TXTBSY = ETXTBSY, "is being executed";
    XDEV = EXDEV, "on another file system";
}

impl Errno {
    /// Linux's number, positive.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// What a system call returns in `x0` for it.
    #[must_use]
    pub const fn to_x0(self) -> u64 {
        (self.0 as u64).wrapping_neg()
    }

    /// The error of this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Errno {
        Errno(number)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for Errno {}
