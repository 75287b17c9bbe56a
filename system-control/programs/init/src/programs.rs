//! The other programs: starting them, starting them again, and talking to the one that decides.

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, ExitStatus, Stdio},
};

use handover_control::{
    READY,
    requests::{Query, VARIABLE},
};
use handover_manifest::{Program, Restart};

use crate::shares::Account;

/// A program that runs, and init's ends of what joins them.
#[derive(Debug)]
pub struct Started {
    /// The process, to be waited for.
    pub child: Child,
    /// A byte comes when it is ready; the end, when it has ended.
    pub ready: File,
    /// Its verdicts, if it decides.
    pub decisions: Option<File>,
    /// Queries to it, if it decides. Never waits.
    pub queries: Option<Queries>,
}

/// Queries to the program that decides.
#[derive(Debug)]
pub struct Queries(File);

impl Queries {
    /// Asks.
    ///
    /// # Errors
    ///
    /// The program has ended, or it does not read: so much waits for it already that no more fits.
    pub fn ask(&mut self, query: &Query) -> io::Result<()> {
        // A query is smaller than what a pipe takes at once, whole or not at all.
        self.0.write(&query.to_bytes()).map(drop)
    }
}

/// Bytes of memory that there are for programs.
///
/// # Errors
///
/// Those of `getrlimit`.
pub fn memory() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes the structure.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_RSS, &raw mut limit) };
    if result == 0 { Ok(limit.rlim_cur) } else { Err(io::Error::last_os_error()) }
}

/// Has a program run as a user, who may have so much.
fn on_account(command: &mut Command, Account { user, memory }: Account) {
    let limit = libc::rlimit { rlim_cur: memory, rlim_max: memory };
    command.uid(user);
    // SAFETY: a system call, which the new process makes as the user, and nothing else.
    unsafe {
        command.pre_exec(move || {
            let result = libc::setrlimit(libc::RLIMIT_RSS, &raw const limit);
            if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
    }
}

/// Starts a program, on an account of its own if one is given.
///
/// # Errors
///
/// Those of making pipes and a process.
pub fn start(program: &Program, account: Option<Account>) -> io::Result<Started> {
    let mut command = Command::new(&program.path);
    command.args(&program.arguments);
    if let Some(account) = account {
        on_account(&mut command, account);
    }
    if program.console {
        command.process_group(0);
    } else {
        command.stdin(Stdio::null());
    }
    let (ready, theirs) = io::pipe()?;
    // What is inherited has no close-on-exec flag, until it is closed here.
    let theirs = inherited(theirs.into())?;
    command.env(READY, theirs.as_raw_fd().to_string());
    if !program.decides {
        let child = spawn(&mut command, program)?;
        return Ok(Started { child, ready: OwnedFd::from(ready).into(), decisions: None, queries: None });
    }
    let (their_queries, queries) = io::pipe()?;
    let (decisions, their_decisions) = io::pipe()?;
    let their_queries = inherited(their_queries.into())?;
    let their_decisions = inherited(their_decisions.into())?;
    command.env(VARIABLE, format!("{},{}", their_queries.as_raw_fd(), their_decisions.as_raw_fd()));
    let queries = File::from(OwnedFd::from(queries));
    set_nonblocking(&queries)?;
    let child = spawn(&mut command, program)?;
    let (ready, decisions) = (OwnedFd::from(ready).into(), OwnedFd::from(decisions).into());
    Ok(Started { child, ready, decisions: Some(decisions), queries: Some(Queries(queries)) })
}

/// Starts it. If it reads the console and that is a terminal, it has it.
fn spawn(command: &mut Command, program: &Program) -> io::Result<Child> {
    let child = command.spawn()?;
    // SAFETY: touches no memory.
    if program.console && unsafe { libc::isatty(0) } == 1 {
        let group = child.id() as libc::pid_t;
        // SAFETY: as above. A shell that looked before it had the terminal has stopped itself.
        unsafe {
            libc::tcsetpgrp(0, group);
            libc::kill(-group, libc::SIGCONT);
        }
    }
    Ok(child)
}

/// The same, but for programs that are started while it is open.
fn inherited(end: OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor and touches no memory. A number above those of the standard streams.
    let copy = unsafe { libc::fcntl(end.as_raw_fd(), libc::F_DUPFD, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn set_nonblocking(file: &File) -> io::Result<()> {
    // SAFETY: touches no memory.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether a program that has ended is started again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restarts(u32);

impl Restarts {
    /// After this end; if so, it counts.
    pub fn again(&mut self, program: &Program, status: ExitStatus) -> bool {
        let wanted = match program.restart {
            Restart::Never => false,
            Restart::OnFailure => !status.success(),
            Restart::Always => true,
        };
        let again = wanted && self.0 < program.restart_limit;
        self.0 += u32::from(again);
        again
    }
}

/// One line for people: how a program has ended.
#[must_use]
pub fn end_line(name: &str, status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("program {name} has exited with status {code}"),
        (None, Some(signal)) => format!("program {name} was ended by signal {signal}"),
        (None, None) => format!("program {name} has ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use handover_control::{
        Account, PartitionId,
        requests::{DECISION, Decision, QUERY, Verdict},
    };
    use std::{
        io::Read,
        sync::{Mutex, MutexGuard, PoisonError},
    };

    fn start(program: &Program) -> io::Result<Started> {
        super::start(program, None)
    }

    /// What one test's programs inherit, another's must not keep open.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn program(script: &str, decides: bool, restart: Restart) -> Program {
        Program {
            path: "/bin/sh".into(),
            name: Some("test".into()),
            arguments: vec!["-c".into(), script.into()],
            restart,
            restart_limit: 2,
            provides: vec![],
            uses: vec![],
            memory: None,
            decides,
            console: false,
        }
    }

    fn query(ticket: u64) -> Query {
        Query {
            ticket,
            partition: PartitionId::new(2),
            name: "guest".into(),
            account: Account::Memory,
            amount: 5,
            account_used: 1,
            account_limit: 2,
        }
    }

    #[test]
    fn readiness_and_ends() {
        let _alone = alone();
        let mut started =
            start(&program(&format!("echo > /dev/fd/${READY}; exit 3"), false, Restart::Never)).unwrap();
        let mut told = String::new();
        started.ready.read_to_string(&mut told).unwrap();
        assert_eq!(told, "\n");
        let status = started.child.wait().unwrap();
        assert_eq!(end_line("test", status), "program test has exited with status 3");
        // One that says nothing is at its end when it has ended.
        let mut started = start(&program("kill -9 $$", false, Restart::Never)).unwrap();
        assert_eq!(started.ready.read_to_string(&mut told).unwrap(), 0);
        assert_eq!(end_line("test", started.child.wait().unwrap()), "program test was ended by signal 9");
        assert!(start(&Program { path: "/nowhere".into(), ..program("", true, Restart::Never) }).is_err());
    }

    #[test]
    fn one_decides() {
        let _alone = alone();
        // It sends the query's first 24 bytes back: ticket, partition, account, which make a decision.
        let script = format!(
            "IFS=, read r w <<.\n${VARIABLE}\n.\nhead -c {QUERY} < /dev/fd/$r | head -c {DECISION} > /dev/fd/$w"
        );
        let mut started = start(&program(&script, true, Restart::Never)).unwrap();
        started.queries.as_mut().unwrap().ask(&query(9)).unwrap();
        let mut bytes = [0; DECISION];
        started.decisions.as_mut().unwrap().read_exact(&mut bytes).unwrap();
        assert_eq!(Decision::from_bytes(&bytes), Some(Decision { ticket: 9, verdict: Verdict::Refuse }));
        assert!(started.child.wait().unwrap().success());
        assert_eq!(started.decisions.unwrap().read(&mut bytes).unwrap(), 0);
        assert_eq!(started.queries.unwrap().ask(&query(9)).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn one_that_never_reads_keeps_nobody() {
        let _alone = alone();
        let mut started = start(&program("sleep 60", true, Restart::Never)).unwrap();
        let queries = started.queries.as_mut().unwrap();
        let full = (0..100_000).find_map(|ticket| queries.ask(&query(ticket)).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        started.child.kill().unwrap();
        started.child.wait().unwrap();
    }

    #[test]
    fn restarts() {
        let _alone = alone();
        let end =
            |script: &str| start(&program(script, false, Restart::Never)).unwrap().child.wait().unwrap();
        let (good, bad) = (end("exit 0"), end("exit 1"));
        let mut restarts = Restarts::default();
        assert!(!restarts.again(&program("", false, Restart::Never), bad));
        let on_failure = program("", false, Restart::OnFailure);
        assert!(!restarts.again(&on_failure, good));
        assert!(restarts.again(&on_failure, bad) && restarts.again(&on_failure, bad));
        assert!(!restarts.again(&on_failure, bad));
        assert!(Restarts::default().again(&program("", false, Restart::Always), good));
    }
}
