//! Which system calls there are: Linux's for arm64, by their numbers and names.

use linux_raw_sys::general as linux;

macro_rules! system_calls {
    ($($variant:ident = $number:ident $name:literal,)*) => {
        /// A system call that there is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "their names are Linux's")]
        pub enum SystemCall {
            $($variant,)*
        }

        impl SystemCall {
            /// All of them.
            pub const ALL: &[SystemCall] = &[$(SystemCall::$variant,)*];

            /// The one of this number.
            #[must_use]
            pub const fn of(number: u32) -> Option<SystemCall> {
                match number {
                    $(linux::$number => Some(SystemCall::$variant),)*
                    _ => None,
                }
            }

            /// Linux's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(SystemCall::$variant => $name,)*
                }
            }
        }
    };
}

system_calls! {
    Openat = __NR_openat "openat",
    Close = __NR_close "close",
    CloseRange = __NR_close_range "close_range",
    Pipe2 = __NR_pipe2 "pipe2",
    Dup = __NR_dup "dup",
    Dup3 = __NR_dup3 "dup3",
    Fcntl = __NR_fcntl "fcntl",
    Ioctl = __NR_ioctl "ioctl",
    Read = __NR_read "read",
    Readv = __NR_readv "readv",
    Write = __NR_write "write",
    Writev = __NR_writev "writev",
    Pread64 = __NR_pread64 "pread64",
    Pwrite64 = __NR_pwrite64 "pwrite64",
    Lseek = __NR_lseek "lseek",
    Ftruncate = __NR_ftruncate "ftruncate",
    Truncate = __NR_truncate "truncate",
    Fallocate = __NR_fallocate "fallocate",
    Fsync = __NR_fsync "fsync",
    Fdatasync = __NR_fdatasync "fdatasync",
    Sync = __NR_sync "sync",
    Getdents64 = __NR_getdents64 "getdents64",
    Fstat = __NR_fstat "fstat",
    Newfstatat = __NR_newfstatat "newfstatat",
    Statx = __NR_statx "statx",
    Statfs = __NR_statfs "statfs",
    Fstatfs = __NR_fstatfs "fstatfs",
    Faccessat = __NR_faccessat "faccessat",
    Faccessat2 = __NR_faccessat2 "faccessat2",
    Fchmod = __NR_fchmod "fchmod",
    Fchmodat = __NR_fchmodat "fchmodat",
    Fchown = __NR_fchown "fchown",
    Fchownat = __NR_fchownat "fchownat",
    Utimensat = __NR_utimensat "utimensat",
    Mkdirat = __NR_mkdirat "mkdirat",
    Mknodat = __NR_mknodat "mknodat",
    Unlinkat = __NR_unlinkat "unlinkat",
    Symlinkat = __NR_symlinkat "symlinkat",
    Linkat = __NR_linkat "linkat",
    Renameat = __NR_renameat "renameat",
    Renameat2 = __NR_renameat2 "renameat2",
    Readlinkat = __NR_readlinkat "readlinkat",
    Chdir = __NR_chdir "chdir",
    Fchdir = __NR_fchdir "fchdir",
    Getcwd = __NR_getcwd "getcwd",
    Umask = __NR_umask "umask",
    Ppoll = __NR_ppoll "ppoll",
    EpollCreate1 = __NR_epoll_create1 "epoll_create1",
    EpollCtl = __NR_epoll_ctl "epoll_ctl",
    EpollPwait = __NR_epoll_pwait "epoll_pwait",
    Eventfd2 = __NR_eventfd2 "eventfd2",
    Pselect6 = __NR_pselect6 "pselect6",

    Socket = __NR_socket "socket",
    Socketpair = __NR_socketpair "socketpair",
    Bind = __NR_bind "bind",
    Listen = __NR_listen "listen",
    Accept = __NR_accept "accept",
    Accept4 = __NR_accept4 "accept4",
    Connect = __NR_connect "connect",
    Getsockname = __NR_getsockname "getsockname",
    Getpeername = __NR_getpeername "getpeername",
    Getsockopt = __NR_getsockopt "getsockopt",
    Setsockopt = __NR_setsockopt "setsockopt",
    Shutdown = __NR_shutdown "shutdown",
    Sendto = __NR_sendto "sendto",
    Recvfrom = __NR_recvfrom "recvfrom",

    Mmap = __NR_mmap "mmap",
    Munmap = __NR_munmap "munmap",
    Mprotect = __NR_mprotect "mprotect",
    Mremap = __NR_mremap "mremap",
    Madvise = __NR_madvise "madvise",
    Brk = __NR_brk "brk",
    Membarrier = __NR_membarrier "membarrier",

    Getpid = __NR_getpid "getpid",
    Gettid = __NR_gettid "gettid",
    Getppid = __NR_getppid "getppid",
    Getuid = __NR_getuid "getuid",
    Geteuid = __NR_geteuid "geteuid",
    Getgid = __NR_getgid "getgid",
    Getegid = __NR_getegid "getegid",
    Setuid = __NR_setuid "setuid",
    Setgid = __NR_setgid "setgid",
    Getgroups = __NR_getgroups "getgroups",
    Setgroups = __NR_setgroups "setgroups",
    SetTidAddress = __NR_set_tid_address "set_tid_address",
    Clone = __NR_clone "clone",
    Execve = __NR_execve "execve",
    Exit = __NR_exit "exit",
    ExitGroup = __NR_exit_group "exit_group",
    Wait4 = __NR_wait4 "wait4",
    Waitid = __NR_waitid "waitid",
    Setpgid = __NR_setpgid "setpgid",
    Getpgid = __NR_getpgid "getpgid",
    Setsid = __NR_setsid "setsid",
    Getsid = __NR_getsid "getsid",
    Prctl = __NR_prctl "prctl",
    Prlimit64 = __NR_prlimit64 "prlimit64",
    Getrusage = __NR_getrusage "getrusage",
    Times = __NR_times "times",

    RtSigaction = __NR_rt_sigaction "rt_sigaction",
    RtSigprocmask = __NR_rt_sigprocmask "rt_sigprocmask",
    RtSigpending = __NR_rt_sigpending "rt_sigpending",
    RtSigsuspend = __NR_rt_sigsuspend "rt_sigsuspend",
    RtSigtimedwait = __NR_rt_sigtimedwait "rt_sigtimedwait",
    RtSigreturn = __NR_rt_sigreturn "rt_sigreturn",
    Sigaltstack = __NR_sigaltstack "sigaltstack",
    Kill = __NR_kill "kill",
    Tkill = __NR_tkill "tkill",
    Tgkill = __NR_tgkill "tgkill",

    Futex = __NR_futex "futex",
    SetRobustList = __NR_set_robust_list "set_robust_list",

    ClockGettime = __NR_clock_gettime "clock_gettime",
    ClockGetres = __NR_clock_getres "clock_getres",
    ClockSettime = __NR_clock_settime "clock_settime",
    Gettimeofday = __NR_gettimeofday "gettimeofday",
    Nanosleep = __NR_nanosleep "nanosleep",
    ClockNanosleep = __NR_clock_nanosleep "clock_nanosleep",

    Getrandom = __NR_getrandom "getrandom",
    Uname = __NR_uname "uname",
    Sysinfo = __NR_sysinfo "sysinfo",
    SchedYield = __NR_sched_yield "sched_yield",
    SchedGetaffinity = __NR_sched_getaffinity "sched_getaffinity",
    Getcpu = __NR_getcpu "getcpu",

}

impl SystemCall {
    /// Whether it may make the kernel keep something. The others work when its heap is nearly full: they give back.
    #[must_use]
    pub const fn takes_memory(self) -> bool {
        !matches!(
            self,
            SystemCall::Exit
                | SystemCall::ExitGroup
                | SystemCall::Munmap
                | SystemCall::Close
                | SystemCall::Wait4
                | SystemCall::Waitid
                | SystemCall::RtSigreturn
                | SystemCall::RtSigprocmask
                | SystemCall::Futex
                | SystemCall::Kill
                | SystemCall::Getpid
                | SystemCall::Gettid
                | SystemCall::ClockGettime
                | SystemCall::SchedYield
        )
    }
}
