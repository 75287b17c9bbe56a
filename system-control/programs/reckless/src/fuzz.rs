//! System calls with arguments that nobody means.

use std::{
    fs, io,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Processes that make random calls, one after another.
const CHILDREN: u64 = 40;
/// Calls of each.
const CALLS: u32 = 2000;
/// How long each may take, for a call may wait for what never comes.
const PATIENCE: Duration = Duration::from_millis(400);

/// Every system call with addresses that are not the program's: an error, and no more.
pub fn pointers() -> ExitCode {
    const WILD: [usize; 6] = [0, 1, 0x1000, 0x7f_ffff_ffff, 0xffff_ff80_4000_0000, usize::MAX];
    // Those that end or stop the caller, or start others, are what the other children do.
    let dangerous = [
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_clone,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_tgkill,
        libc::SYS_rt_sigreturn,
        libc::SYS_rt_sigsuspend,
        libc::SYS_rt_sigtimedwait,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_mmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_close,
        libc::SYS_close_range,
        libc::SYS_futex,
        libc::SYS_ppoll,
        libc::SYS_pselect6,
        libc::SYS_epoll_pwait,
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
    ];
    for number in (0..460).filter(|number| !dangerous.contains(number)) {
        for wild in WILD {
            for first in [wild, 0, 1, usize::MAX - 99] {
                // SAFETY: no address is this program's, so nothing of it changes.
                unsafe { libc::syscall(number, first, wild, wild, wild, wild, wild) };
            }
        }
    }
    ExitCode::from(14)
}

/// Has children make random calls; however they end, the rest goes on.
pub fn random_calls() -> ExitCode {
    for seed in 1..=CHILDREN {
        let program = std::env::current_exe().expect("the program's own path");
        let mut child = Command::new(program)
            .args(["fuzz", &seed.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start a child");
        let end = Instant::now() + PATIENCE;
        while child.try_wait().expect("look after the child").is_none() {
            if Instant::now() > end {
                child.kill().expect("kill the child");
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
    // What they have made in the file system is nobody's.
    for entry in fs::read_dir("/tmp").expect("list what is left").flatten() {
        let path = entry.path();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.expect("remove it");
    }
    ExitCode::from(24)
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.next() % from.len() as u64) as usize]
    }
}

/// Memory whose first page may be written, whose second may be read, and whose third is not there.
fn arena() -> usize {
    // SAFETY: maps three pages where nothing is, and changes the last two of them.
    unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let place = libc::mmap(std::ptr::null_mut(), 3 * 4096, protection, flags, -1, 0);
        assert!(place != libc::MAP_FAILED, "{}", io::Error::last_os_error());
        let names =
            [&b"/tmp/fuzz\0"[..], b"/proc/self/maps\0", b"/msg/fuzz\0", b"/dev/zero\0", b"/tmp\0", b"..\0"];
        for (index, name) in names.iter().enumerate() {
            place.cast::<u8>().add(4096 + 64 * index).copy_from_nonoverlapping(name.as_ptr(), name.len());
        }
        libc::mprotect(place.add(4096), 4096, libc::PROT_READ);
        libc::munmap(place.add(2 * 4096), 4096);
        place as usize
    }
}

/// Descriptors of each kind but of the one that rules partitions.
fn open_some() {
    let mut ends = [0; 2];
    // SAFETY: opens things, by names that end with a zero byte, and writes two descriptors.
    unsafe {
        libc::open(c"/tmp/fuzz".as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600);
        libc::open(c"/msg/fuzz".as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600);
        libc::open(c"/proc/self".as_ptr(), libc::O_RDONLY);
        libc::open(c"/dev/zero".as_ptr(), libc::O_RDWR);
        libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK);
        libc::epoll_create1(0);
        libc::eventfd(1, libc::EFD_NONBLOCK);
        libc::socket(63, libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK, 0);
        libc::socket(63, libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK, 0);
    }
}

/// What one child does.
pub fn child(seed: u64) -> ExitCode {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let memory = arena();
    open_some();
    for _ in 0..CALLS {
        call(&mut random, memory);
    }
    ExitCode::SUCCESS
}

fn argument(random: &mut Random, memory: usize) -> usize {
    match random.next() % 10 {
        0 => random.next() as usize,
        1 => random.pick(&[0, usize::MAX, 1 << 63, 1 << 31, (1 << 39) - 8, 0xffff_ff80_4000_0000]),
        // Just before pages that may not be written, or are not there.
        2 => memory + 4096 - (random.next() % 64) as usize,
        3 => memory + 2 * 4096 - (random.next() % 64) as usize,
        4 => memory + 8 * (random.next() % 512) as usize,
        5 => memory + 4096 + 64 * (random.next() % 8) as usize,
        6 => 1 << (random.next() % 64),
        7 => (random.next() % 4096) as usize,
        _ => (random.next() % 16) as usize,
    }
}

fn call(random: &mut Random, memory: usize) {
    let mut arguments = [0; 6].map(|_| argument(random, memory));
    let mut number = (random.next() % 460) as i64;
    match number {
        // Only itself may be hurt.
        libc::SYS_kill | libc::SYS_tkill => {
            arguments[0] = random.pick(&[std::process::id() as usize, 99_999, 1 << 31])
        }
        libc::SYS_tgkill => arguments[0] = std::process::id() as usize,
        // Its own end would come too soon.
        libc::SYS_exit | libc::SYS_exit_group if !random.next().is_multiple_of(64) => return,
        _ if random.next().is_multiple_of(32) => number = random.next() as i64,
        _ => {}
    }
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: none: the call may do to this process whatever it does.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if number == libc::SYS_clone && result == 0 {
        // SAFETY: ends a child that was not meant.
        unsafe { libc::_exit(0) };
    }
}
