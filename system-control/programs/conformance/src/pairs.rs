//! Pairs of sockets.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::{
        net::{UnixDatagram, UnixStream},
        process::CommandExt,
    },
    process::Command,
    thread,
};

use crate::tell;

fn kind<T>(result: io::Result<T>) -> Result<T, io::ErrorKind> {
    result.map_err(|error| error.kind())
}

pub(crate) fn all() {
    let (mut one, mut two) = UnixStream::pair().unwrap();
    tell(
        "a pair has no names",
        (one.local_addr().unwrap().is_unnamed(), two.peer_addr().unwrap().is_unnamed()),
    );
    let echo = thread::spawn(move || {
        let mut bytes = [0; 5];
        two.read_exact(&mut bytes).unwrap();
        bytes.reverse();
        two.write_all(&bytes).unwrap();
        two
    });
    one.write_all(b"hello").unwrap();
    let mut bytes = [0; 5];
    one.read_exact(&mut bytes).unwrap();
    tell("reversed", String::from_utf8_lossy(&bytes));
    let mut two = echo.join().unwrap();
    one.set_nonblocking(true).unwrap();
    tell("nothing to read", kind(one.read(&mut bytes)));
    let large: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let sent = large.clone();
    let sender = thread::spawn(move || {
        two.write_all(&sent).unwrap();
        two.shutdown(Shutdown::Write).unwrap();
        two
    });
    one.set_nonblocking(false).unwrap();
    let mut received = Vec::new();
    one.read_to_end(&mut received).unwrap();
    tell("a million bytes through a pair", received == large);
    let two = sender.join().unwrap();
    tell("written after it was shut down", kind((&two).write(b"x")));
    drop(two);
    tell("written to nobody", kind(one.write(b"x")));
    tell("read from nobody", kind(one.read(&mut bytes)));

    let (one, two) = UnixDatagram::pair().unwrap();
    one.send(b"first").unwrap();
    one.send(b"").unwrap();
    one.send(b"third, and longer").unwrap();
    let mut bytes = [0; 8];
    let lengths: Vec<usize> = (0..3).map(|_| two.recv(&mut bytes).unwrap()).collect();
    tell("datagrams", lengths);
    drop(one);
    tell("a datagram to nobody", kind(two.send(b"x")));

    // Processes that are not made by `posix_spawn` use one.
    let child = Command::new("/nowhere").uid(0).status();
    tell("a program that is nowhere", kind(child.map(|_| ())));
    let status = crate::itself().args(["child", "status", "7"]).uid(3).status();
    tell("a child of another user's", status.map(|status| status.code()).map_err(|error| error.kind()));
}
