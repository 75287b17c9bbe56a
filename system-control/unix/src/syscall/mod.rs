//! System calls: Linux's numbers, arguments in x0 to x5, the result or a negative error in x0.

mod control;
mod epoll;
mod file;
mod futex;
mod memory;
pub mod process;
pub mod signal;
mod socket;
mod system;
mod time;
mod wait;

use handover_guest::heap;
use handover_unix::Errno;
use linux_raw_sys::general as linux;

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
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    if takes_memory(number) && heap::free() < kernel.limits.reserve {
        return Err(Errno::NOMEM.into());
    }
    let [a, b, c, d, e, f] = arguments;
    match number {
        linux::__NR_openat => file::open(kernel, a, b, c, d),
        linux::__NR_close => file::close(kernel, a),
        linux::__NR_close_range => file::close_range(kernel, a, b, c),
        linux::__NR_pipe2 => file::pipe(kernel, a, b),
        linux::__NR_dup => file::dup(kernel, a),
        linux::__NR_dup3 => file::dup3(kernel, a, b, c),
        linux::__NR_fcntl => file::control(kernel, a, b, c),
        linux::__NR_ioctl => file::request(kernel, a, b, c),
        linux::__NR_read => file::read(kernel, a, b, c),
        linux::__NR_readv => file::read_vector(kernel, a, b, c),
        linux::__NR_write => file::write(kernel, a, b, c),
        linux::__NR_writev => file::write_vector(kernel, a, b, c),
        linux::__NR_pread64 => file::read_at(kernel, a, b, c, d),
        linux::__NR_pwrite64 => file::write_at(kernel, a, b, c, d),
        linux::__NR_lseek => file::seek(kernel, a, b, c),
        linux::__NR_ftruncate => file::truncate(kernel, a, b),
        linux::__NR_truncate => file::truncate_path(kernel, a, b),
        linux::__NR_fallocate => file::allocate(kernel, a, b, c, d),
        linux::__NR_fsync | linux::__NR_fdatasync => file::synchronize(kernel, a),
        linux::__NR_sync => Ok(0),
        linux::__NR_getdents64 => file::list(kernel, a, b, c),
        linux::__NR_fstat => file::status(kernel, a, b),
        linux::__NR_newfstatat => file::status_at(kernel, a, b, c, d),
        linux::__NR_statx => file::extended_status(kernel, [a, b, c, d, e]),
        linux::__NR_statfs => file::system_status(kernel, a, b),
        linux::__NR_fstatfs => file::system_status_of(kernel, a, b),
        linux::__NR_faccessat => file::access(kernel, a, b, c, 0),
        linux::__NR_faccessat2 => file::access(kernel, a, b, c, d),
        linux::__NR_fchmod => file::change_mode(kernel, a, b),
        linux::__NR_fchmodat => file::change_mode_at(kernel, a, b, c),
        linux::__NR_fchown => file::change_owner(kernel, a, b, c),
        linux::__NR_fchownat => file::change_owner_at(kernel, [a, b, c, d, e]),
        linux::__NR_utimensat => file::set_times(kernel, a, b, c, d),
        linux::__NR_mkdirat => file::make_directory(kernel, a, b, c),
        linux::__NR_mknodat => file::make_node(kernel, a, b, c, d),
        linux::__NR_unlinkat => file::remove(kernel, a, b, c),
        linux::__NR_symlinkat => file::make_symbolic_link(kernel, a, b, c),
        linux::__NR_linkat => file::make_link(kernel, [a, b, c, d, e]),
        linux::__NR_renameat => file::rename(kernel, [a, b, c, d, 0]),
        linux::__NR_renameat2 => file::rename(kernel, [a, b, c, d, e]),
        linux::__NR_readlinkat => file::read_link(kernel, a, b, c, d),
        linux::__NR_chdir => file::change_directory(kernel, a),
        linux::__NR_fchdir => file::change_directory_to(kernel, a),
        linux::__NR_getcwd => file::directory(kernel, a, b),
        linux::__NR_umask => file::mask(kernel, a),
        linux::__NR_ppoll => file::poll(kernel, [a, b, c, d, e]),
        linux::__NR_epoll_create1 => epoll::create(kernel, a),
        linux::__NR_epoll_ctl => epoll::control(kernel, a, b, c, d),
        linux::__NR_epoll_pwait => epoll::wait(kernel, [a, b, c, d, e, f]),
        linux::__NR_eventfd2 => epoll::event_counter(kernel, a, b),
        linux::__NR_pselect6 => file::select(kernel, arguments),

        linux::__NR_socket => socket::make(kernel, a, b, c),
        linux::__NR_bind => socket::bind(kernel, a, b, c),
        linux::__NR_listen => socket::listen(kernel, a, b),
        linux::__NR_accept => socket::accept(kernel, a, b, c, 0),
        linux::__NR_accept4 => socket::accept(kernel, a, b, c, d),
        linux::__NR_connect => socket::connect(kernel, a, b, c),
        linux::__NR_getsockname => socket::name(kernel, a, b, c),
        linux::__NR_getpeername => socket::peer_name(kernel, a, b, c),
        linux::__NR_getsockopt => socket::option(kernel, [a, b, c, d, e]),
        linux::__NR_setsockopt => socket::set_option(kernel, [a, b, c, d, e]),
        linux::__NR_shutdown => socket::shut_down(kernel, a, b),
        linux::__NR_sendto => socket::send(kernel, arguments),
        linux::__NR_recvfrom => socket::receive(kernel, arguments),

        linux::__NR_mmap => memory::map(kernel, [a, b, c, d, e, f]),
        linux::__NR_munmap => memory::unmap(kernel, a, b),
        linux::__NR_mprotect => memory::protect(kernel, a, b, c),
        linux::__NR_mremap => memory::remap(kernel, a, b, c, d),
        linux::__NR_madvise => memory::advise(kernel, a, b, c),
        linux::__NR_brk => memory::set_break(kernel, a),
        linux::__NR_membarrier => memory::barrier(a),

        linux::__NR_getpid => Ok(u64::from(kernel.pid())),
        linux::__NR_gettid => Ok(u64::from(kernel.current)),
        linux::__NR_getppid => process::parent(kernel),
        linux::__NR_getuid | linux::__NR_geteuid | linux::__NR_getgid | linux::__NR_getegid => Ok(0),
        linux::__NR_setuid | linux::__NR_setgid => process::set_user(a),
        linux::__NR_getgroups => Ok(0),
        linux::__NR_set_tid_address => process::set_tid_address(kernel, a),
        linux::__NR_clone => process::clone(kernel, [a, b, c, d, e]),
        linux::__NR_execve => process::execute(kernel, a, b, c),
        linux::__NR_exit => process::exit_thread(kernel, a),
        linux::__NR_exit_group => process::exit(kernel, a),
        linux::__NR_wait4 => wait::wait4(kernel, a, b, c, d),
        linux::__NR_waitid => wait::waitid(kernel, a, b, c, d, e),
        linux::__NR_setpgid => process::set_group(kernel, a, b),
        linux::__NR_getpgid => process::group(kernel, a),
        linux::__NR_setsid => process::set_session(kernel),
        linux::__NR_getsid => process::session(kernel, a),
        linux::__NR_prctl => process::control(kernel, a, b),
        linux::__NR_prlimit64 => process::limit(kernel, a, b, c, d),
        linux::__NR_getrusage => process::usage(kernel, a, b),
        linux::__NR_times => process::times(kernel, a),

        linux::__NR_rt_sigaction => signal::action(kernel, a, b, c, d),
        linux::__NR_rt_sigprocmask => signal::mask(kernel, a, b, c, d),
        linux::__NR_rt_sigpending => signal::pending(kernel, a, b),
        linux::__NR_rt_sigsuspend => signal::suspend(kernel, a, b),
        linux::__NR_rt_sigtimedwait => signal::wait(kernel, a, b, c, d),
        linux::__NR_rt_sigreturn => signal::return_from_handler(kernel),
        linux::__NR_sigaltstack => signal::alternative_stack(kernel, a, b),
        linux::__NR_kill => signal::kill(kernel, a, b),
        linux::__NR_tkill => signal::kill_thread(kernel, None, a, b),
        linux::__NR_tgkill => signal::kill_thread(kernel, Some(a), b, c),

        linux::__NR_futex => futex::futex(kernel, arguments),
        // The list is looked at by nobody: a thread that dies with a robust lock leaves it locked.
        linux::__NR_set_robust_list => Ok(0),

        linux::__NR_clock_gettime => time::read(kernel, a, b),
        linux::__NR_clock_getres => time::resolution(kernel, a, b),
        linux::__NR_clock_settime => time::set(kernel, a, b),
        linux::__NR_gettimeofday => time::of_day(kernel, a),
        linux::__NR_nanosleep => time::sleep(kernel, a, b),
        linux::__NR_clock_nanosleep => time::sleep_on(kernel, a, b, c, d),

        linux::__NR_getrandom => system::random(kernel, a, b, c),
        linux::__NR_uname => system::name(kernel, a),
        linux::__NR_sysinfo => system::information(kernel, a),
        linux::__NR_sched_yield => system::give_way(kernel),
        linux::__NR_sched_getaffinity => system::processors(kernel, a, b, c),
        linux::__NR_getcpu => system::processor(kernel, a, b),

        _ => {
            *kernel.statistics.unknown.entry(u64::from(number)).or_default() += 1;
            Err(Errno::NOSYS.into())
        }
    }
}

/// Whether a system call may make the kernel keep something. The others work when its heap is nearly full: they give back.
fn takes_memory(number: u32) -> bool {
    !matches!(
        number,
        linux::__NR_exit
            | linux::__NR_exit_group
            | linux::__NR_munmap
            | linux::__NR_close
            | linux::__NR_wait4
            | linux::__NR_waitid
            | linux::__NR_rt_sigreturn
            | linux::__NR_rt_sigprocmask
            | linux::__NR_futex
            | linux::__NR_kill
            | linux::__NR_getpid
            | linux::__NR_gettid
            | linux::__NR_clock_gettime
            | linux::__NR_sched_yield
    )
}
