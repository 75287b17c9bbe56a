//! What this program does as a child of itself.

use std::{
    env,
    io::{Read, Write},
    process::{self, ExitCode},
    thread,
    time::Duration,
};

pub(crate) fn be(arguments: &[String]) -> ExitCode {
    match arguments.first().map(String::as_str) {
        Some("echo") => println!("{}", arguments[1..].join(" ")),
        Some("variable") => {
            println!("{:?} {}", env::var("CONFORMANCE"), env::current_dir().unwrap().display())
        }
        Some("upper") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).unwrap();
            std::io::stdout().write_all(text.to_uppercase().as_bytes()).unwrap();
        }
        Some("status") => return ExitCode::from(arguments[1].parse::<u8>().unwrap()),
        Some("threads") => {
            // The process ends while its other thread goes on.
            thread::spawn(|| thread::sleep(Duration::from_secs(1000)));
            process::exit(6);
        }
        Some("abort") => process::abort(),
        Some("fault") => {
            // SAFETY: it is not, which is what is tested: nothing is mapped there, and the process ends.
            unsafe { std::ptr::without_provenance_mut::<u8>(0x10).write_volatile(1) };
        }
        Some("wait") => thread::sleep(Duration::from_secs(1000)),
        Some("many") => (0..20_000).for_each(|n| println!("line {n}")),
        _ => return ExitCode::from(99),
    }
    ExitCode::SUCCESS
}
