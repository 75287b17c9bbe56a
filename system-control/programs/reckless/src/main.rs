//! Children that crash, leak, flood, loop and pass what makes no sense, each twice; after each, an honest child must work as ever, and after
//! the second, no memory may be missing that was there before it.

mod crashes;
mod floods;
mod fuzz;

use std::{
    env, fs,
    hint::black_box,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::Duration,
};

/// How a child misbehaves, and what it does.
type Way = (&'static str, fn() -> ExitCode);

const WAYS: [Way; 27] = [
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
    ("maps more and more", floods::maps),
    ("maps long files", floods::sparse_files),
    ("opens until it cannot", floods::descriptors),
    ("has others open until they cannot", floods::many_open),
    ("fills the file system", floods::files),
    ("makes names until it cannot", floods::names),
    ("makes folders in folders", floods::deep_folders),
    ("fills pipes until it cannot", floods::full_pipes),
    ("makes lists of lists to wait for", floods::lists_of_lists),
    ("makes messages until it cannot", floods::messages),
    ("passes too many arguments", floods::arguments),
    ("forks until it cannot", floods::forks),
    ("starts threads until it cannot", floods::threads),
    ("passes wild pointers", fuzz::pointers),
    ("makes random calls", fuzz::random_calls),
    ("loops", floods::loops),
    ("loops in many threads", floods::many_loops),
];

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    match arguments.next().as_deref() {
        Some("honest") => return honest(),
        Some("fuzz") => return fuzz::child(arguments.next().and_then(|seed| seed.parse().ok()).unwrap_or(1)),
        Some(way) => {
            return WAYS.iter().find(|(name, _)| *name == way).map_or(ExitCode::from(99), |(_, way)| way());
        }
        None => {}
    }
    let all_well = WAYS.iter().fold(true, |well, (name, _)| misbehave(name) && well);
    println!("reckless: {}", if all_well { "all others are well" } else { "somebody else was hurt" });
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Has a child misbehave twice, and says how it ended; whether others were well, and all came back.
fn misbehave(name: &str) -> bool {
    // The first time the kernel may get memory that it keeps for the next.
    once(name);
    let before = memory();
    let (status, honest) = once(name);
    let after = memory();
    println!(
        "reckless: who {name}: {:?}, signal {:?}; honest: {:?}",
        status.code(),
        status.signal(),
        honest.code()
    );
    if before != after {
        println!("reckless: who {name}: memory was {before:?}, and is {after:?}");
    }
    honest.success() && before == after
}

/// How the child and the honest one after it ended.
fn once(name: &str) -> (ExitStatus, ExitStatus) {
    let mut child = itself(name);
    if name.starts_with("loops") {
        thread::sleep(Duration::from_millis(50));
        child.kill().expect("kill the child");
    }
    let status = child.wait().expect("wait for the child");
    let honest = itself("honest").wait().expect("wait for the honest child");
    (status, honest)
}

fn itself(way: &str) -> std::process::Child {
    let program = env::current_exe().expect("the program's own path");
    Command::new(program).arg(way).stderr(Stdio::null()).spawn().expect("start a child")
}

/// KiB of programs' memory that are free, and that the kernel has for itself.
fn memory() -> [u64; 2] {
    let text = fs::read_to_string("/proc/meminfo").expect("read what memory there is");
    ["MemFree:", "Slab:"].map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the line");
        line.trim_end_matches("kB").trim().parse().expect("a number")
    })
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
