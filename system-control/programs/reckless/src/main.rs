//! Children that crash, leak, flood, loop and pass what makes no sense, as a user who may have a third of everything, each twice; after each, an
//! honest child, another user's, must work as ever, and after the second, no memory may be missing that was there before it. Those that take all
//! they get do so a third time, and keep it while the honest child works.

mod crashes;
mod floods;
mod fuzz;
mod taking;

use std::{
    env, fs,
    hint::black_box,
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::Duration,
};

/// How a child misbehaves, and what it does.
type Way = (&'static str, fn() -> ExitCode);

const WAYS: [Way; 38] = [
    ("reads address 0", crashes::null),
    ("reads the kernel", crashes::kernel),
    ("writes its code", crashes::own_code),
    ("executes data", crashes::data),
    ("jumps between instructions", crashes::between_instructions),
    ("executes no instruction", crashes::no_instruction),
    ("executes a privileged instruction", crashes::privileged_instruction),
    ("stops at a breakpoint", crashes::breakpoint),
    ("overflows its stack", crashes::overflow),
    ("touches all memory", floods::leak),
    ("takes all memory", taking::all_memory),
    ("has the kernel keep what it can", taking::kernel_memory),
    ("maps more and more", floods::maps),
    ("maps long files", floods::sparse_files),
    ("opens until it cannot", floods::descriptors),
    ("has others open until they cannot", floods::many_open),
    ("fills the file system", floods::files),
    ("makes names until it cannot", floods::names),
    ("makes folders in folders", floods::deep_folders),
    ("fills pipes until it cannot", floods::full_pipes),
    ("fills named pipes until it cannot", taking::named_pipes),
    ("makes long links until it cannot", taking::long_links),
    ("keeps files without names", taking::nameless_files),
    ("maps what it cuts off", taking::cut_files),
    ("makes counters until it cannot", taking::counters),
    ("makes sockets until it cannot", taking::sockets),
    ("makes lists of lists to wait for", floods::lists_of_lists),
    ("makes messages until it cannot", floods::messages),
    ("passes too many arguments", floods::arguments),
    ("forks until it cannot", floods::forks),
    ("forks until it cannot, and all loop", taking::forks_that_loop),
    ("kills all others", taking::kills),
    ("wants to be somebody else", taking::rises),
    ("starts threads until it cannot", floods::threads),
    ("passes wild pointers", fuzz::pointers),
    ("makes random calls", fuzz::random_calls),
    ("loops", floods::loops),
    ("loops in many threads", floods::many_loops),
];

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    match arguments.next().as_deref() {
        Some("honest") => return work(),
        Some("fuzz") => return fuzz::child(arguments.next().and_then(|seed| seed.parse().ok()).unwrap_or(1)),
        Some("keep") => return keep(&arguments.next().unwrap_or_default()),
        Some(way) => {
            return WAYS.iter().find(|(name, _)| *name == way).map_or(ExitCode::from(99), |(_, way)| way());
        }
        None => {}
    }
    let all_well = WAYS.iter().fold(true, |well, (name, _)| misbehave(name) && well);
    println!("reckless: {}", if all_well { "all others are well" } else { "somebody else was hurt" });
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How often something must be missing afterwards to count.
const TIMES: u32 = 3;
/// Who misbehaves, and who does not.
const RECKLESS: u32 = 1;
const HONEST: u32 = 2;

/// Has a child misbehave, and says how it ended; whether others were well, and all came back.
fn misbehave(name: &str) -> bool {
    // The first time the kernel may get memory that it keeps for the next.
    once(name);
    beside(name);
    let mut before = memory();
    let mut times = 1;
    let (status, honest, beside, after) = loop {
        let ((status, honest), beside, after) = (once(name), beside(name), memory());
        // This program itself may need another page now and then; what is lost each time is a leak.
        if before == after || times == TIMES {
            break (status, honest, beside, after);
        }
        (before, times) = (after, times + 1);
    };
    print!(
        "reckless: who {name}: {:?}, signal {:?}; honest: {:?}",
        status.code(),
        status.signal(),
        honest.code()
    );
    match beside {
        Some(beside) => println!(", and beside it: {:?}", beside.code()),
        None => println!(),
    }
    if before != after {
        println!("reckless: who {name}: memory was {before:?}, and is {after:?}");
    }
    honest.success() && before == after && beside.is_none_or(|beside| beside.success())
}

/// How the child and the honest one after it ended.
fn once(name: &str) -> (ExitStatus, ExitStatus) {
    let mut child = start(&mut itself(name, RECKLESS));
    if name.starts_with("loops") {
        thread::sleep(Duration::from_millis(50));
        child.kill().expect("kill the child");
    }
    let status = child.wait().expect("wait for the child");
    end_group(&child);
    (status, honest())
}

/// How the honest child ended beside one that keeps all it has got, if it is of that kind.
fn beside(name: &str) -> Option<ExitStatus> {
    let mut child = start(itself(name, RECKLESS).env(floods::KEEP, "1"));
    let keeps = if name.starts_with("loops") {
        thread::sleep(Duration::from_millis(50));
        true
    } else {
        let mut status = 0;
        // SAFETY: writes the status; a child that has ended is not waited for again.
        unsafe { libc::waitpid(child.id() as libc::pid_t, &raw mut status, libc::WUNTRACED) };
        libc::WIFSTOPPED(status)
    };
    let honest = keeps.then(honest);
    end_group(&child);
    // One that keeps nothing was waited for already.
    let waited = child.wait();
    if keeps {
        waited.expect("wait for the child");
        // What it has left is nobody's.
        clear("/tmp").and_then(|()| clear("/msg")).expect("remove what is left");
    }
    honest
}

/// Ends a child's process group, and waits until nobody is in it.
fn end_group(child: &Child) {
    let group = child.id() as libc::pid_t;
    // SAFETY: signals to processes that this one has started.
    while unsafe { libc::kill(-group, libc::SIGKILL) } == 0 {
        thread::yield_now();
        // SAFETY: looks whether the child has ended, which leaves it in its group until it is waited for.
        let alone = unsafe {
            let mut information: libc::siginfo_t = std::mem::zeroed();
            let result = libc::waitid(
                libc::P_PID,
                group as libc::id_t,
                &raw mut information,
                libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
            );
            result == 0 && information.si_pid() == group
        };
        if alone && members(group) <= 1 {
            return;
        }
    }
}

/// Processes of a group.
fn members(group: libc::pid_t) -> usize {
    let entries = fs::read_dir("/proc").expect("list processes").flatten();
    let of_group = |stat: String| {
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        rest.split(' ').nth(2).is_some_and(|field| field == group.to_string())
    };
    entries
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| of_group(stat.clone()))
        .count()
}

/// Removes what is in a folder.
fn clear(folder: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !path.is_dir() {
            fs::remove_file(&path)?;
            continue;
        }
        // Folders in folders, deeper than there are descriptors to remove them with: what is below comes up.
        let (below, lifted) = (path.join("d"), path.with_file_name("lifted"));
        while fs::rename(&below, &lifted).is_ok() {
            fs::remove_dir(&path)?;
            fs::rename(&lifted, &path)?;
        }
        fs::remove_dir_all(&path)?;
    }
    Ok(())
}

/// How the honest child ends.
fn honest() -> ExitStatus {
    start(&mut itself("honest", HONEST)).wait().expect("wait for the honest child")
}

fn start(command: &mut Command) -> Child {
    command.spawn().expect("start a child")
}

/// This program, as a user who may have a third of all memory.
fn itself(way: &str, user: u32) -> Command {
    let program = env::current_exe().expect("the program's own path");
    let mut command = Command::new(program);
    command.arg(way).stderr(Stdio::null()).uid(user).process_group(0);
    // SAFETY: two system calls, which the new process makes.
    unsafe {
        command.pre_exec(|| {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::getrlimit(libc::RLIMIT_RSS, &raw mut limit);
            limit.rlim_cur = limit.rlim_max / 3;
            if libc::setrlimit(libc::RLIMIT_RSS, &raw const limit) == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        });
    }
    command
}

/// KiB of programs' memory that are free, and that the kernel has for itself.
fn memory() -> [u64; 2] {
    let text = fs::read_to_string("/proc/meminfo").expect("read what memory there is");
    ["MemFree:", "Slab:"].map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the line");
        line.trim_end_matches("kB").trim().parse().expect("a number")
    })
}

/// For init: has a child misbehave and keep what it gets, tells that it is so, and stays.
fn keep(way: &str) -> ExitCode {
    let ready: libc::c_int = env::var("HANDOVER_READY").ok().and_then(|fd| fd.parse().ok()).unwrap_or(-1);
    let program = env::current_exe().expect("the program's own path");
    let mut command = Command::new(program);
    command.arg(way).env(floods::KEEP, "1").stderr(Stdio::null());
    // SAFETY: a system call, which the new process makes.
    unsafe {
        command.pre_exec(move || {
            libc::close(ready);
            Ok(())
        });
    }
    let mut child = start(&mut command);
    let mut status = 0;
    // SAFETY: writes the status.
    unsafe { libc::waitpid(child.id() as libc::pid_t, &raw mut status, libc::WUNTRACED) };
    if libc::WIFSTOPPED(status) {
        // SAFETY: init's end of the pipe is told; closing needs no memory.
        unsafe { libc::close(ready) };
    }
    // It stands still for good, or has ended, as it should not have.
    child.wait().map_or(ExitCode::FAILURE, |_| ExitCode::FAILURE)
}

/// What an honest child does.
fn work() -> ExitCode {
    let bytes = black_box(vec![1u8; 2 << 20]);
    let sum: u64 = bytes.iter().map(|&byte| u64::from(byte)).sum();
    fs::write("/tmp/honest", [5; 5000]).expect("write a file");
    let back = fs::read("/tmp/honest").expect("read it back");
    fs::remove_file("/tmp/honest").expect("remove it");
    let thread = thread::spawn(|| 7).join().expect("join a thread");
    if (sum, back.len(), thread) == (2 << 20, 5000, 7) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
