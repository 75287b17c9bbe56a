//! Taking what only a user's account keeps for others: memory bit by bit, the kernel's own, processors, other processes.

use std::{
    ffi::CString,
    fs,
    hint::black_box,
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    process::ExitCode,
};

use crate::floods::{last, loops, refused, stand_still};

pub fn all_memory() -> ExitCode {
    let mut all = Vec::new();
    let mut size = 1 << 20;
    loop {
        let mut part: Vec<u8> = Vec::new();
        match part.try_reserve_exact(size) {
            Ok(()) => {
                part.resize(size, 1);
                all.push(black_box(part));
            }
            // Enough is left to say so with.
            Err(_) if size == 1 << 16 => return refused(&io::Error::from_raw_os_error(libc::ENOMEM)),
            Err(_) => size /= 2,
        }
    }
}

/// Processes, as many as there may be, of which each makes the kernel keep what it can.
pub fn kernel_memory() -> ExitCode {
    loop {
        // SAFETY: the child maps memory where nothing is, and waits for its end.
        match unsafe { libc::fork() } {
            0 => {
                let mut readable = false;
                let map = |readable| {
                    let protection = if readable { libc::PROT_READ } else { libc::PROT_NONE };
                    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                    // SAFETY: as above.
                    unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) }
                };
                while map(readable) != libc::MAP_FAILED {
                    readable = !readable;
                }
                stand_still();
            }
            child if child > 0 => {
                // SAFETY: waits until the child stands still.
                unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::WUNTRACED) };
            }
            _ => return last(),
        }
    }
}

fn last_error() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

pub fn named_pipes() -> ExitCode {
    let folder = "/tmp/pipes";
    let mut open = Vec::new();
    fs::create_dir(folder).expect("make a folder");
    let error = (0..).find_map(|number| {
        let path = format!("{folder}/{number}");
        let name = CString::new(std::path::Path::new(&path).as_os_str().as_bytes()).expect("no zero byte");
        // SAFETY: the name ends with a zero byte.
        if unsafe { libc::mkfifo(name.as_ptr(), 0o600) } != 0 {
            return Some(io::Error::last_os_error());
        }
        let opened = fs::File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
        let filled = opened.and_then(|mut file| file.write_all(&[1; 65536]).map(|()| open.push(file)));
        filled.err()
    });
    let code = refused(&error.expect("there is an end"));
    drop(open);
    fs::remove_dir_all(folder).expect("remove the pipes");
    code
}

pub fn long_links() -> ExitCode {
    let folder = "/tmp/links";
    fs::create_dir(folder).expect("make a folder");
    let make = |number: u32| std::os::unix::fs::symlink("x".repeat(4000), format!("{folder}/{number}"));
    let error = (0..).find_map(|number| make(number).err()).expect("there is an end");
    let code = refused(&error);
    fs::remove_dir_all(folder).expect("remove the links");
    code
}

pub fn counters() -> ExitCode {
    loop {
        // SAFETY: makes a descriptor.
        if unsafe { libc::eventfd(0, 0) } < 0 {
            return last();
        }
    }
}

pub fn sockets() -> ExitCode {
    loop {
        // SAFETY: makes a descriptor.
        if unsafe { libc::socket(63, libc::SOCK_SEQPACKET, 0) } < 0 {
            return last();
        }
    }
}

/// Pages of files that no name leads to.
pub fn nameless_files() -> ExitCode {
    let mut files = Vec::new();
    loop {
        let made = fs::File::create("/tmp/nameless").and_then(|mut file| {
            fs::remove_file("/tmp/nameless")?;
            file.write_all(&[1; 8192]).map(|()| file)
        });
        match made {
            Ok(file) => files.push(file),
            Err(error) => return refused(&error),
        }
    }
}

/// Pages of a file that is mapped after it was cut off.
pub fn cut_files() -> ExitCode {
    loop {
        let file = fs::File::options().create(true).truncate(true).read(true).write(true).open("/tmp/cut");
        let mapped = file.and_then(|file| {
            fs::remove_file("/tmp/cut")?;
            (&file).write_all(&[1; 65536])?;
            // SAFETY: maps a file where nothing is.
            let place = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    65536,
                    libc::PROT_READ,
                    libc::MAP_SHARED,
                    file.as_raw_fd(),
                    0,
                )
            };
            file.set_len(0)?;
            if place == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
        if let Err(error) = mapped {
            return refused(&error);
        }
    }
}

/// Processes that all run, as many as there may be.
pub fn forks_that_loop() -> ExitCode {
    loop {
        // SAFETY: the child runs until it is killed.
        match unsafe { libc::fork() } {
            0 => return loops(),
            child if child > 0 => {}
            _ => return last(),
        }
    }
}

/// Signals to everybody, and to the first process.
pub fn kills() -> ExitCode {
    // SAFETY: signals; those that are let through end this process's own kind alone.
    let results = unsafe { [libc::kill(1, libc::SIGKILL), libc::kill(libc::getppid(), libc::SIGSTOP)] };
    let code = last_error();
    // SAFETY: as above.
    unsafe { libc::kill(-1, libc::SIGKILL) };
    if results == [-1, -1] { refused(&io::Error::from_raw_os_error(code)) } else { ExitCode::FAILURE }
}

/// Another user, and higher limits.
pub fn rises() -> ExitCode {
    let limit = libc::rlimit { rlim_cur: 1 << 40, rlim_max: 1 << 40 };
    // SAFETY: reads the structure.
    let raised =
        unsafe { [libc::setuid(0), libc::setuid(2), libc::setrlimit(libc::RLIMIT_RSS, &raw const limit)] };
    let error = last_error();
    if raised == [-1; 3] { refused(&io::Error::from_raw_os_error(error)) } else { ExitCode::FAILURE }
}
