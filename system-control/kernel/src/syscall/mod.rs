//! System calls: Linux's numbers, arguments in x0 to x5, the result or a negative error in x0.

mod clone;
mod control;
mod deliver;
mod epoll;
mod execute;
mod exit;
mod file;
mod futex;
mod memory;
mod poll;
pub mod process;
pub mod signal;
mod socket;
mod system;
mod time;
mod transfer;
mod wait;

use handover_kernel::{Errno, calls::SystemCall, limits::COUNTED_MAX};

use crate::{kernel::Kernel, task::Call};

/// Why a system call has no result.
#[derive(Debug)]
pub enum Stop {
    /// It fails.
    Failed(Errno),
    /// It has to wait and is tried again, with the same arguments and this.
    Wait(Call),
    /// The thread's registers were replaced, or the thread has ended.
    Replaced,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        Stop::Failed(errno)
    }
}

/// What a system call returns.
pub type Outcome = Result<u64, Stop>;

/// Carries a system call out.
pub fn carry_out(kernel: &mut Kernel, number: u64, arguments: [u64; 6]) -> Outcome {
    let Some(call) = u32::try_from(number).ok().and_then(SystemCall::of) else {
        *kernel.statistics.unknown.entry(number.min(COUNTED_MAX)).or_default() += 1;
        return Err(Errno::NOSYS.into());
    };
    if call.takes_memory() && !kernel.has_heap() {
        return Err(Errno::NOMEM.into());
    }
    let [a, b, c, d, e, f] = arguments;
    match call {
        SystemCall::Openat => file::open(kernel, a, b, c, d),
        SystemCall::Close => file::close(kernel, a),
        SystemCall::CloseRange => file::close_range(kernel, a, b, c),
        SystemCall::Pipe2 => file::pipe(kernel, a, b),
        SystemCall::Dup => file::dup(kernel, a),
        SystemCall::Dup3 => file::dup3(kernel, a, b, c),
        SystemCall::Fcntl => file::control(kernel, a, b, c),
        SystemCall::Ioctl => file::request(kernel, a, b, c),
        SystemCall::Read => transfer::read(kernel, a, b, c),
        SystemCall::Readv => transfer::read_vector(kernel, a, b, c),
        SystemCall::Write => transfer::write(kernel, a, b, c),
        SystemCall::Writev => transfer::write_vector(kernel, a, b, c),
        SystemCall::Pread64 => transfer::read_at(kernel, a, b, c, d),
        SystemCall::Pwrite64 => transfer::write_at(kernel, a, b, c, d),
        SystemCall::Lseek => transfer::seek(kernel, a, b, c),
        SystemCall::Ftruncate => transfer::truncate(kernel, a, b),
        SystemCall::Truncate => transfer::truncate_path(kernel, a, b),
        SystemCall::Fallocate => transfer::allocate(kernel, a, b, c, d),
        SystemCall::Fsync | SystemCall::Fdatasync => transfer::synchronize(kernel, a),
        SystemCall::Sync => Ok(0),
        SystemCall::Getdents64 => transfer::list(kernel, a, b, c),
        SystemCall::Fstat => file::status(kernel, a, b),
        SystemCall::Newfstatat => file::status_at(kernel, a, b, c, d),
        SystemCall::Statx => file::extended_status(kernel, [a, b, c, d, e]),
        SystemCall::Statfs => file::system_status(kernel, a, b),
        SystemCall::Fstatfs => file::system_status_of(kernel, a, b),
        SystemCall::Faccessat => file::access(kernel, a, b, c, 0),
        SystemCall::Faccessat2 => file::access(kernel, a, b, c, d),
        SystemCall::Fchmod => file::change_mode(kernel, a, b),
        SystemCall::Fchmodat => file::change_mode_at(kernel, a, b, c),
        SystemCall::Fchown => file::change_owner(kernel, a, b, c),
        SystemCall::Fchownat => file::change_owner_at(kernel, [a, b, c, d, e]),
        SystemCall::Utimensat => file::set_times(kernel, a, b, c, d),
        SystemCall::Mkdirat => file::make_directory(kernel, a, b, c),
        SystemCall::Mknodat => file::make_node(kernel, a, b, c, d),
        SystemCall::Unlinkat => file::remove(kernel, a, b, c),
        SystemCall::Symlinkat => file::make_symbolic_link(kernel, a, b, c),
        SystemCall::Linkat => file::make_link(kernel, [a, b, c, d, e]),
        SystemCall::Renameat => file::rename(kernel, [a, b, c, d, 0]),
        SystemCall::Renameat2 => file::rename(kernel, [a, b, c, d, e]),
        SystemCall::Readlinkat => file::read_link(kernel, a, b, c, d),
        SystemCall::Chdir => file::change_directory(kernel, a),
        SystemCall::Fchdir => file::change_directory_to(kernel, a),
        SystemCall::Getcwd => file::directory(kernel, a, b),
        SystemCall::Umask => file::mask(kernel, a),
        SystemCall::Ppoll => poll::poll(kernel, [a, b, c, d, e]),
        SystemCall::EpollCreate1 => epoll::create(kernel, a),
        SystemCall::EpollCtl => epoll::control(kernel, a, b, c, d),
        SystemCall::EpollPwait => epoll::wait(kernel, [a, b, c, d, e, f]),
        SystemCall::Eventfd2 => epoll::event_counter(kernel, a, b),
        SystemCall::Pselect6 => poll::select(kernel, arguments),

        SystemCall::Socket => socket::make(kernel, a, b, c),
        SystemCall::Socketpair => socket::pair(kernel, [a, b, c, d]),
        SystemCall::Bind => socket::bind(kernel, a, b, c),
        SystemCall::Listen => socket::listen(kernel, a, b),
        SystemCall::Accept => socket::accept(kernel, a, b, c, 0),
        SystemCall::Accept4 => socket::accept(kernel, a, b, c, d),
        SystemCall::Connect => socket::connect(kernel, a, b, c),
        SystemCall::Getsockname => socket::name(kernel, a, b, c),
        SystemCall::Getpeername => socket::peer_name(kernel, a, b, c),
        SystemCall::Getsockopt => socket::option(kernel, [a, b, c, d, e]),
        SystemCall::Setsockopt => socket::set_option(kernel, [a, b, c, d, e]),
        SystemCall::Shutdown => socket::shut_down(kernel, a, b),
        SystemCall::Sendto => socket::send(kernel, arguments),
        SystemCall::Recvfrom => socket::receive(kernel, arguments),

        SystemCall::Mmap => memory::map(kernel, [a, b, c, d, e, f]),
        SystemCall::Munmap => memory::unmap(kernel, a, b),
        SystemCall::Mprotect => memory::protect(kernel, a, b, c),
        SystemCall::Mremap => memory::remap(kernel, a, b, c, d),
        SystemCall::Madvise => memory::advise(kernel, a, b, c),
        SystemCall::Brk => memory::set_break(kernel, a),
        SystemCall::Membarrier => memory::barrier(a),

        SystemCall::Getpid => Ok(u64::from(kernel.pid())),
        SystemCall::Gettid => Ok(u64::from(kernel.current)),
        SystemCall::Getppid => process::parent(kernel),
        SystemCall::Getuid | SystemCall::Geteuid => process::user(kernel),
        SystemCall::Getgid | SystemCall::Getegid => Ok(0),
        SystemCall::Setuid => process::set_user(kernel, a),
        SystemCall::Setgid => process::set_user_group(a),
        SystemCall::Getgroups => Ok(0),
        SystemCall::Setgroups => process::set_groups(a),
        SystemCall::SetTidAddress => process::set_tid_address(kernel, a),
        SystemCall::Clone => clone::clone(kernel, [a, b, c, d, e]),
        SystemCall::Execve => execute::execute(kernel, a, b, c),
        SystemCall::Exit => exit::exit_thread(kernel, a),
        SystemCall::ExitGroup => exit::exit(kernel, a),
        SystemCall::Wait4 => wait::wait4(kernel, a, b, c, d),
        SystemCall::Waitid => wait::waitid(kernel, a, b, c, d, e),
        SystemCall::Setpgid => process::set_group(kernel, a, b),
        SystemCall::Getpgid => process::group(kernel, a),
        SystemCall::Setsid => process::set_session(kernel),
        SystemCall::Getsid => process::session(kernel, a),
        SystemCall::Prctl => process::control(kernel, a, b),
        SystemCall::Prlimit64 => process::limit(kernel, a, b, c, d),
        SystemCall::Getrusage => process::usage(kernel, a, b),
        SystemCall::Times => process::times(kernel, a),

        SystemCall::RtSigaction => signal::action(kernel, a, b, c, d),
        SystemCall::RtSigprocmask => signal::mask(kernel, a, b, c, d),
        SystemCall::RtSigpending => signal::pending(kernel, a, b),
        SystemCall::RtSigsuspend => signal::suspend(kernel, a, b),
        SystemCall::RtSigtimedwait => signal::wait(kernel, a, b, c, d),
        SystemCall::RtSigreturn => signal::return_from_handler(kernel),
        SystemCall::Sigaltstack => signal::alternative_stack(kernel, a, b),
        SystemCall::Kill => signal::kill(kernel, a, b),
        SystemCall::Tkill => signal::kill_thread(kernel, None, a, b),
        SystemCall::Tgkill => signal::kill_thread(kernel, Some(a), b, c),

        SystemCall::Futex => futex::futex(kernel, arguments),
        // The list is looked at by nobody: a thread that dies with a robust lock leaves it locked.
        SystemCall::SetRobustList => Ok(0),

        SystemCall::ClockGettime => time::read(kernel, a, b),
        SystemCall::ClockGetres => time::resolution(kernel, a, b),
        SystemCall::ClockSettime => time::set(kernel, a, b),
        SystemCall::Gettimeofday => time::of_day(kernel, a),
        SystemCall::Nanosleep => time::sleep(kernel, a, b),
        SystemCall::ClockNanosleep => time::sleep_on(kernel, a, b, c, d),

        SystemCall::Getrandom => system::random(kernel, a, b, c),
        SystemCall::Uname => system::name(kernel, a),
        SystemCall::Sysinfo => system::information(kernel, a),
        SystemCall::SchedYield => system::give_way(kernel),
        SystemCall::SchedGetaffinity => system::processors(kernel, a, b, c),
        SystemCall::Getcpu => system::processor(kernel, a, b),
    }
}
