//! Signals, and waiting for descriptors.

use std::{
    io::{self, Write},
    mem,
    os::fd::AsRawFd,
    ptr,
    sync::atomic::{AtomicI32, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::tell;

static LAST: AtomicI32 = AtomicI32::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static SENDER: AtomicI32 = AtomicI32::new(0);

extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    LAST.store(signal, Ordering::Relaxed);
    COUNT.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the kernel passes a valid one.
    SENDER.store(unsafe { (*info).si_pid() }, Ordering::Relaxed);
}

fn handle(signal: i32, flags: i32) {
    // SAFETY: the handler only stores to atomics.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | flags;
        assert_eq!(libc::sigaction(signal, &raw const action, ptr::null_mut()), 0);
    }
}

fn set(signal: i32) -> libc::sigset_t {
    // SAFETY: a set is plain data.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        set
    }
}

pub(crate) fn all() {
    handle(libc::SIGUSR1, 0);
    // SAFETY: sends a signal that is handled.
    unsafe { libc::kill(libc::getpid(), libc::SIGUSR1) };
    let sender = SENDER.load(Ordering::Relaxed);
    tell("handled", (LAST.load(Ordering::Relaxed), sender == std::process::id() as i32));
    masked();
    interrupted();
    polled();
    // SAFETY: the child raises a signal whose default ends it.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::raise(libc::SIGTERM);
            libc::_exit(0);
        }
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0);
        tell("ended by a signal", (libc::WIFSIGNALED(status), libc::WTERMSIG(status)));
    }
    stopped();
}

fn masked() {
    let set = set(libc::SIGUSR2);
    handle(libc::SIGUSR2, 0);
    let before = COUNT.load(Ordering::Relaxed);
    // SAFETY: masks, sends and unmasks a signal that is handled.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        libc::raise(libc::SIGUSR2);
        libc::raise(libc::SIGUSR2);
        let while_masked = COUNT.load(Ordering::Relaxed) - before;
        let mut pending = mem::zeroed();
        libc::sigpending(&raw mut pending);
        let is_pending = libc::sigismember(&raw const pending, libc::SIGUSR2);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
        tell("masked", (while_masked, is_pending, COUNT.load(Ordering::Relaxed) - before));
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        libc::raise(libc::SIGUSR2);
        let mut taken = 0;
        libc::sigwait(&raw const set, &raw mut taken);
        tell("waited for", taken);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
    }
}

/// A signal ends a read, or with SA_RESTART does not.
fn interrupted() {
    for flags in [0, libc::SA_RESTART] {
        handle(libc::SIGUSR1, flags);
        let (reader, mut writer) = io::pipe().unwrap();
        // SAFETY: the thread that runs this.
        let target = unsafe { libc::pthread_self() } as usize;
        let other = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            // SAFETY: the target waits for this thread before it ends.
            unsafe { libc::pthread_kill(target as libc::pthread_t, libc::SIGUSR1) };
            thread::sleep(Duration::from_millis(30));
            writer.write_all(b"x").unwrap();
        });
        let mut byte = 0u8;
        // SAFETY: reads one byte into one.
        let read = unsafe { libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1) };
        let error = if read < 0 { io::Error::last_os_error().raw_os_error() } else { None };
        other.join().unwrap();
        tell("a read and a signal", (read, error));
    }
}

fn polled() {
    let (reader, mut writer) = io::pipe().unwrap();
    let mut entry = libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let start = Instant::now();
    // SAFETY: one entry.
    let count = unsafe { libc::poll(&raw mut entry, 1, 20) };
    tell("poll without anything", (count, start.elapsed() >= Duration::from_millis(20)));
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(10));
        writer.write_all(b"x").unwrap();
        writer
    });
    // SAFETY: as above.
    let count = unsafe { libc::poll(&raw mut entry, 1, -1) };
    tell("poll with a byte", (count, entry.revents));
    drop(other.join().unwrap());
    // SAFETY: as above.
    let count = unsafe { libc::poll(&raw mut entry, 1, -1) };
    tell("poll with a byte and nobody to write", (count, entry.revents));
    entry.fd = 999;
    // SAFETY: as above.
    let count = unsafe { libc::poll(&raw mut entry, 1, -1) };
    tell("poll of no descriptor", (count, entry.revents));
}

fn stopped() {
    // SAFETY: the child stops itself and ends when it goes on.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::raise(libc::SIGSTOP);
            libc::_exit(3);
        }
        let mut status = 0;
        libc::waitpid(child, &raw mut status, libc::WUNTRACED);
        tell("stopped", (libc::WIFSTOPPED(status), libc::WSTOPSIG(status)));
        libc::kill(child, libc::SIGCONT);
        libc::waitpid(child, &raw mut status, libc::WCONTINUED);
        tell("goes on", libc::WIFCONTINUED(status) || libc::WIFEXITED(status));
        if !libc::WIFEXITED(status) {
            libc::waitpid(child, &raw mut status, 0);
        }
        tell("and ends", libc::WEXITSTATUS(status));
    }
}
