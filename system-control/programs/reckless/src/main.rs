//! Children that leak, flood, fault and loop, each until it is stopped; after each, an honest child must work as ever.

use std::{
    env, fs,
    hint::black_box,
    io,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

/// How a child misbehaves, and what it does.
type Way = (&'static str, fn() -> ExitCode);

const WAYS: [Way; 9] = [
    ("touches all memory", leak),
    ("maps more and more", maps),
    ("opens until it cannot", descriptors),
    ("fills the file system", files),
    ("forks until it cannot", forks),
    ("starts threads until it cannot", threads),
    ("overflows its stack", overflow),
    ("passes wild pointers", pointers),
    ("loops", loops),
];

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    match arguments.next().as_deref() {
        Some("honest") => return honest(),
        Some(way) => {
            return WAYS.iter().find(|(name, _)| *name == way).map_or(ExitCode::from(99), |(_, way)| way());
        }
        None => {}
    }
    let mut all_well = true;
    for (name, _) in WAYS {
        let mut child = itself(name);
        let status = if name == "loops" {
            thread::sleep(Duration::from_millis(50));
            child.kill().expect("kill the child");
            child.wait().expect("wait for the child")
        } else {
            child.wait().expect("wait for the child")
        };
        let honest = itself("honest").wait().expect("wait for the honest child");
        println!(
            "reckless: who {name}: {:?}, signal {:?}; honest: {:?}",
            status.code(),
            status.signal(),
            honest.code()
        );
        all_well &= honest.success();
    }
    println!("reckless: {}", if all_well { "all others are well" } else { "somebody else was hurt" });
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn itself(way: &str) -> std::process::Child {
    let program = env::current_exe().expect("the program's own path");
    Command::new(program).arg(way).stderr(Stdio::null()).spawn().expect("start a child")
}

fn honest() -> ExitCode {
    let bytes = black_box(vec![1u8; 2 << 20]);
    let sum: u64 = bytes.iter().map(|&byte| u64::from(byte)).sum();
    fs::write("/tmp/honest", [5; 5000]).expect("write a file");
    let back = fs::read("/tmp/honest").expect("read it back");
    fs::remove_file("/tmp/honest").expect("remove it");
    let thread = thread::spawn(|| 7).join().expect("join a thread");
    if (sum, back.len(), thread) == (2 << 20, 5000, 7) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn leak() -> ExitCode {
    let mut all = Vec::new();
    loop {
        all.push(black_box(vec![1u8; 1 << 20]));
    }
}

fn maps() -> ExitCode {
    let mut count = 0u32;
    loop {
        // SAFETY: maps memory at a place where nothing is, readable and writable in turn so that areas cannot become one.
        let place = unsafe {
            let protection = if count.is_multiple_of(2) { libc::PROT_READ } else { libc::PROT_NONE };
            libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        if place == libc::MAP_FAILED {
            let error = io::Error::last_os_error().raw_os_error();
            return if error == Some(libc::ENOMEM) { ExitCode::from(12) } else { ExitCode::FAILURE };
        }
        count += 1;
    }
}

fn descriptors() -> ExitCode {
    let mut open = Vec::new();
    loop {
        match fs::File::open("/dev/null") {
            Ok(file) => open.push(file),
            Err(error) => return ExitCode::from(error.raw_os_error().unwrap_or(0) as u8),
        }
    }
}

fn files() -> ExitCode {
    let error = loop {
        let written = fs::File::options()
            .create(true)
            .append(true)
            .open("/tmp/flood")
            .and_then(|mut file| io::Write::write_all(&mut file, &[1; 65536]));
        if let Err(error) = written {
            break error;
        }
    };
    fs::remove_file("/tmp/flood").expect("remove the file");
    ExitCode::from(error.raw_os_error().unwrap_or(0) as u8)
}

fn forks() -> ExitCode {
    let mut children = Vec::new();
    let error = loop {
        // SAFETY: the child only waits for its end.
        match unsafe { libc::fork() } {
            0 => loop {
                thread::sleep(Duration::from_secs(1000));
            },
            child if child > 0 => children.push(child),
            _ => break io::Error::last_os_error(),
        }
    };
    for child in children {
        // SAFETY: ends and reaps a child of this process's own.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    }
    ExitCode::from(error.raw_os_error().unwrap_or(0) as u8)
}

fn threads() -> ExitCode {
    let mut count = 0u32;
    while count < 100_000 {
        let started =
            thread::Builder::new().stack_size(16 << 10).spawn(|| thread::sleep(Duration::from_secs(1000)));
        if let Err(error) = started {
            return ExitCode::from(error.raw_os_error().unwrap_or(0) as u8);
        }
        count += 1;
    }
    ExitCode::FAILURE
}

fn overflow() -> ExitCode {
    fn deeper(depth: u64) -> u64 {
        let room = black_box([depth; 512]);
        if depth == u64::MAX { 0 } else { deeper(depth + 1) + room[1] }
    }
    ExitCode::from(deeper(0) as u8)
}

/// Every system call with addresses that are not the program's: an error, and no more.
fn pointers() -> ExitCode {
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

fn loops() -> ExitCode {
    loop {
        std::hint::spin_loop();
    }
}
