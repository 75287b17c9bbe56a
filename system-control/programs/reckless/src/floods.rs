//! Taking all that there is of something.

use std::{fs, hint::black_box, io, process::ExitCode, thread, time::Duration};

/// In the environment of who is to keep what it has taken until it is killed.
pub const KEEP: &str = "RECKLESS_KEEP";

/// All that can be had is taken. Who is to keep it stands still, which needs no memory, and is seen to; otherwise this is nothing.
fn keep() {
    if std::env::var_os(KEEP).is_some() {
        stand_still();
    }
}

/// Stops this process until it is killed.
pub fn stand_still() {
    // SAFETY: a signal to this process itself.
    unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
}

/// A refusal's number, as a status.
pub fn refused(error: &io::Error) -> ExitCode {
    keep();
    ExitCode::from(error.raw_os_error().unwrap_or(0) as u8)
}

/// The number of the call that failed last, as a status.
pub fn last() -> ExitCode {
    refused(&io::Error::last_os_error())
}

pub fn leak() -> ExitCode {
    let mut all = Vec::new();
    loop {
        all.push(black_box(vec![1u8; 1 << 20]));
    }
}

pub fn maps() -> ExitCode {
    let mut count = 0u32;
    loop {
        // SAFETY: maps memory at a place where nothing is, readable and writable in turn so that areas cannot become one.
        let place = unsafe {
            let protection = if count.is_multiple_of(2) { libc::PROT_READ } else { libc::PROT_NONE };
            libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        if place == libc::MAP_FAILED {
            return last();
        }
        count += 1;
    }
}

pub fn descriptors() -> ExitCode {
    let mut open = Vec::new();
    loop {
        match fs::File::open("/dev/null") {
            Ok(file) => open.push(file),
            Err(error) => return refused(&error),
        }
    }
}

pub fn files() -> ExitCode {
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
    keep();
    fs::remove_file("/tmp/flood").expect("remove the file");
    refused(&error)
}

pub fn forks() -> ExitCode {
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
    keep();
    for child in children {
        // SAFETY: ends and reaps a child of this process's own.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    }
    refused(&error)
}

pub fn threads() -> ExitCode {
    let mut count = 0u32;
    while count < 100_000 {
        let started =
            thread::Builder::new().stack_size(16 << 10).spawn(|| thread::sleep(Duration::from_secs(1000)));
        if let Err(error) = started {
            return refused(&error);
        }
        count += 1;
    }
    ExitCode::FAILURE
}

pub fn loops() -> ExitCode {
    loop {
        std::hint::spin_loop();
    }
}

pub fn names() -> ExitCode {
    let folder = "/tmp/names";
    let make = |number: u32| fs::write(format!("{folder}/{number:0>250}"), []);
    let error = match fs::create_dir(folder) {
        Ok(()) => (0..).find_map(|number| make(number).err()).expect("there is an end"),
        Err(error) => error,
    };
    keep();
    fs::remove_dir_all(folder).expect("remove the files");
    refused(&error)
}

pub fn full_pipes() -> ExitCode {
    let mut ends = Vec::new();
    loop {
        match io::pipe() {
            Ok((reader, mut writer)) => {
                if let Err(error) = io::Write::write_all(&mut writer, &[1; 65536]) {
                    return refused(&error);
                }
                ends.push((reader, writer));
            }
            Err(error) => return refused(&error),
        }
    }
}

pub fn lists_of_lists() -> ExitCode {
    let mut lists = Vec::new();
    loop {
        // SAFETY: makes a descriptor.
        let list = unsafe { libc::epoll_create1(0) };
        if list < 0 {
            return last();
        }
        for &other in &lists {
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
            // SAFETY: reads the structure.
            unsafe { libc::epoll_ctl(list, libc::EPOLL_CTL_ADD, other, &raw mut event) };
        }
        lists.push(list);
    }
}

pub fn many_open() -> ExitCode {
    let mut children = Vec::new();
    let error = loop {
        // SAFETY: the child opens files, and waits for its end.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: opens a file whose name ends with a zero byte.
                while unsafe { libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY) } >= 0 {}
                let full = io::Error::last_os_error().raw_os_error() == Some(libc::ENFILE);
                // SAFETY: ends the child, or has it wait for that.
                unsafe { if full { libc::_exit(23) } else { libc::raise(libc::SIGSTOP) } };
            }
            child if child > 0 => children.push(child),
            _ => break io::Error::last_os_error(),
        }
        let mut status = 0;
        // SAFETY: writes the status.
        unsafe { libc::waitpid(-1, &raw mut status, libc::WUNTRACED) };
        if libc::WIFEXITED(status) {
            break io::Error::from_raw_os_error(libc::WEXITSTATUS(status));
        }
    };
    keep();
    for child in children {
        // SAFETY: ends and reaps a child of this process's own; one is reaped already.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    }
    refused(&error)
}

pub fn sparse_files() -> ExitCode {
    let file = fs::File::options().create(true).truncate(true).read(true).write(true).open("/tmp/sparse");
    let file = file.expect("make a file");
    file.set_len(1 << 34).expect("make it long");
    fs::remove_file("/tmp/sparse").expect("remove it");
    loop {
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
        // SAFETY: maps a file where nothing is.
        let place = unsafe {
            libc::mmap(std::ptr::null_mut(), 1 << 34, libc::PROT_READ, libc::MAP_PRIVATE, descriptor, 0)
        };
        if place == libc::MAP_FAILED {
            return last();
        }
    }
}

pub fn deep_folders() -> ExitCode {
    let root = std::path::Path::new("/tmp/deep");
    let mut made = 0;
    let error = loop {
        let folder = if made == 0 { fs::create_dir(root) } else { fs::create_dir("d") };
        let entered =
            folder.and_then(|()| std::env::set_current_dir(if made == 0 { root } else { "d".as_ref() }));
        if let Err(error) = entered {
            break error;
        }
        made += 1;
    };
    keep();
    for _ in 1..made {
        std::env::set_current_dir("..").expect("go up");
        fs::remove_dir("d").expect("remove a folder");
    }
    std::env::set_current_dir("/").expect("go to the root");
    fs::remove_dir(root).expect("remove the first folder");
    refused(&error)
}

pub fn messages() -> ExitCode {
    let mut number = 0;
    let error = loop {
        let made = fs::File::create(format!("/msg/flood-{number}")).and_then(|file| file.set_len(2 << 20));
        match made {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
    };
    // They are this process's, and go with it.
    refused(&error)
}

pub fn arguments() -> ExitCode {
    let mut program = std::process::Command::new("/bin/reckless");
    match program.args(std::iter::repeat_n("x".repeat(1000), 1000)).status() {
        Ok(_) => ExitCode::FAILURE,
        Err(error) => refused(&error),
    }
}

pub fn many_loops() -> ExitCode {
    for _ in 0..20 {
        thread::spawn(loops);
    }
    loops()
}
