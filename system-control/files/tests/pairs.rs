//! Random operations on pairs of sockets, each compared with what the host's kernel makes of it.

#![cfg(target_os = "linux")]

mod support;

use handover_files::{Errno, Fd, Readiness};
use linux_raw_sys::{
    general::{O_CLOEXEC, O_NONBLOCK, S_IFMT, S_IFSOCK},
    net::{AF_INET, AF_UNIX, SO_TYPE, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io,
    net::{
        AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown,
        socketpair,
    },
};
use std::os::fd::OwnedFd;
use support::World;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % end
    }
}

/// The same two sockets, here and on the host.
struct Both {
    world: World,
    here: [Option<Fd>; 2],
    host: [Option<OwnedFd>; 2],
    /// Bytes that wait at each, so that no queue is ever full: how much one takes differs.
    waiting: [usize; 2],
}

fn number<T>(result: Result<T, Errno>) -> Result<T, i32> {
    result.map_err(|errno| i32::from(errno.number()))
}

fn host<T>(result: io::Result<T>) -> Result<T, i32> {
    result.map_err(io::Errno::raw_os_error)
}

impl Both {
    fn new(kind: u32) -> Both {
        let mut world = World::new(&[]);
        let here = world.call().socketpair(AF_UNIX, kind | O_NONBLOCK, 0).unwrap();
        let kind = SocketType::from_raw(kind);
        let (one, two) = socketpair(AddressFamily::UNIX, kind, SocketFlags::NONBLOCK, None).unwrap();
        Both { world, here: here.map(Some), host: [Some(one), Some(two)], waiting: [0; 2] }
    }

    fn send(&mut self, end: usize, bytes: &[u8]) {
        let (Some(fd), Some(socket)) = (self.here[end], &self.host[end]) else { return };
        if self.waiting[1 - end] + bytes.len() > 8000 {
            return;
        }
        let there = host(send(socket, bytes, SendFlags::NOSIGNAL));
        assert_eq!(number(self.world.write(fd, bytes)), there, "{end} sends {} bytes", bytes.len());
        if there.is_ok() {
            self.waiting[1 - end] += bytes.len() + 80;
        }
    }

    fn receive(&mut self, end: usize, length: usize) {
        let (Some(fd), Some(socket)) = (self.here[end], &self.host[end]) else { return };
        let mut bytes = vec![0; length];
        let there = host(recv(socket, &mut bytes[..], RecvFlags::empty()).map(|(done, _)| done));
        let there = there.map(|done| bytes[..done].to_vec());
        assert_eq!(number(self.world.read(fd, length)), there, "{end} receives {length} bytes");
        if there.is_err() {
            self.waiting[end] = 0;
        }
    }

    fn poll(&mut self, end: usize) {
        let (Some(fd), Some(socket)) = (self.here[end], &self.host[end]) else { return };
        let flags = PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP;
        let mut entries = [PollFd::new(socket, flags)];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut entries, Some(&now)).unwrap();
        let told = Readiness::READ
            | Readiness::WRITE
            | Readiness::READ_HANG_UP
            | Readiness::HANG_UP
            | Readiness::ERROR;
        let here = self.world.call().readiness(fd) & told;
        assert_eq!(here.bits(), u32::from(entries[0].revents().bits()), "{end} is ready for {here:?}");
    }

    fn shut_down(&mut self, end: usize, how: u32) {
        let (Some(fd), Some(socket)) = (self.here[end], &self.host[end]) else { return };
        let what = [Shutdown::Read, Shutdown::Write, Shutdown::Both][how as usize];
        assert_eq!(
            number(self.world.call().shutdown(fd, how)),
            host(shutdown(socket, what)),
            "{end} shuts {how} down"
        );
    }

    fn close(&mut self, end: usize) {
        if let Some(fd) = self.here[end].take() {
            self.world.call().close(fd).unwrap();
            self.host[end] = None;
        }
    }
}

fn play(kind: u32, seed: u64) {
    let mut both = Both::new(kind);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for step in 0..200 {
        let end = random.below(2) as usize;
        match random.below(30) {
            0..12 => {
                let bytes: Vec<u8> = (0..random.below(300)).map(|at| (at + step) as u8).collect();
                both.send(end, &bytes);
            }
            12..22 => both.receive(end, 1 + random.below(400) as usize),
            22..28 => both.poll(end),
            28 if random.below(4) == 0 => both.shut_down(end, random.below(3) as u32),
            29 if random.below(6) == 0 => both.close(end),
            _ => {}
        }
    }
    both.close(0);
    both.close(1);
    assert_eq!(both.world.call().socketpair(AF_UNIX, kind, 0), Ok([0, 1]), "nothing is left");
}

#[test]
fn streams_are_the_hosts() {
    (0..400).for_each(|seed| play(SOCK_STREAM, seed));
}

#[test]
fn records_are_the_hosts() {
    (0..400).for_each(|seed| play(SOCK_SEQPACKET, seed));
}

#[test]
fn pairs() {
    let mut world = World::new(&[]);
    for (domain, kind, protocol, errno) in [
        (AF_INET, SOCK_STREAM, 0, Errno::AFNOSUPPORT),
        (63, SOCK_SEQPACKET, 0, Errno::OPNOTSUPP),
        (AF_UNIX, SOCK_RAW, 0, Errno::SOCKTNOSUPPORT),
        (AF_UNIX, SOCK_STREAM, 9, Errno::PROTONOSUPPORT),
    ] {
        assert_eq!(world.call().socketpair(domain, kind, protocol), Err(errno));
    }
    let [one, two] = world.call().socketpair(AF_UNIX, SOCK_DGRAM | O_CLOEXEC | O_NONBLOCK, 0).unwrap();
    assert!(world.call().is_socket(one).unwrap() && world.call().is_pair(two).unwrap());
    assert_eq!(world.call().getsockopt(one, SOL_SOCKET, SO_TYPE), Ok(SOCK_DGRAM));
    assert_eq!(world.call().fstat(one).unwrap().mode & S_IFMT, S_IFSOCK);
    assert_eq!(world.call().listen(one, 1), Err(Errno::OPNOTSUPP));
    // Who waits is woken by what comes, and by room.
    let key = world.call().wait_key(two).unwrap().unwrap();
    world.take_wakeups();
    assert_eq!(world.read(two, 9), Err(Errno::AGAIN));
    assert!(world.take_wakeups().is_empty());
    assert_eq!(world.write(one, b"a record"), Ok(8));
    assert_eq!(world.take_wakeups(), [key]);
    assert_eq!(world.read(two, 3).unwrap(), b"a r", "the rest of it is lost");
    assert_eq!(world.take_wakeups(), [key]);
    assert_eq!(world.write(one, &[0; 65_537]), Err(Errno::MSGSIZE));
    assert_eq!(world.write(one, &[1; 40_000]), Ok(40_000));
    assert_eq!(world.write(one, &[1; 40_000]), Err(Errno::AGAIN));
    world.call().close(two).unwrap();
    assert_eq!(world.write(one, b"x"), Err(Errno::CONNREFUSED));
    assert_eq!(world.read(one, 1), Err(Errno::AGAIN));
    world.call().close(one).unwrap();
    // A table of one descriptor has no room for two.
    world.descriptors.set_limit(1);
    assert_eq!(world.call().socketpair(AF_UNIX, SOCK_STREAM, 0), Err(Errno::MFILE));
    world.descriptors.set_limit(2);
    assert_eq!(world.call().socketpair(AF_UNIX, SOCK_STREAM, 0), Ok([0, 1]));
}
