//! What is refused, and how.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use handover_control::{Channel, Delivery, Listener, Message, PartitionId};

use crate::{Outcome, check, here, pair, service};

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn socket(domain: i32, kind: i32) -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor and touches no memory.
    let fd = unsafe { libc::socket(domain, kind, 0) };
    // SAFETY: just made, and nobody else's.
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) }
}

pub fn run() -> Outcome {
    check("other domains", errno(socket(libc::AF_INET, libc::SOCK_STREAM)) == Some(libc::EAFNOSUPPORT));
    check("other types", errno(socket(63, libc::SOCK_STREAM)) == Some(libc::ESOCKTNOSUPPORT));
    // Nobody listens; somebody does; nobody does again.
    let id = service();
    let refused = Channel::connect_to(here(), id).unwrap_err();
    check(
        "nobody listens",
        refused.kind() == ErrorKind::ConnectionRefused && refused.to_string().contains("reason 1"),
    );
    let listener = Listener::listen_on(id)?;
    check("in use", Listener::listen_on(id).unwrap_err().kind() == ErrorKind::AddrInUse);
    check(
        "another service",
        Channel::connect_to(here(), service()).unwrap_err().kind() == ErrorKind::ConnectionRefused,
    );
    listener.set_nonblocking(true)?;
    check("nobody asks", listener.accept().unwrap_err().kind() == ErrorKind::WouldBlock);
    drop(listener);
    check(
        "forbidden again",
        Channel::connect_to(here(), id).unwrap_err().kind() == ErrorKind::ConnectionRefused,
    );
    check("freed", Listener::listen_on(id).is_ok());
    let nowhere = Channel::connect_to(PartitionId::new(999), id);
    check("no such partition", errno(nowhere) == Some(libc::EADDRNOTAVAIL));

    let (client, server) = pair()?;
    client.set_nonblocking(true)?;
    check("nothing yet", errno(client.receive()) == Some(libc::EAGAIN));
    check("too long", errno((&client).write(&[0; 130])) == Some(libc::EMSGSIZE));
    check("no such file", errno((&client).write(b"/msg/none\0")) == Some(libc::ENOENT));
    check("no message", errno((&client).write(b"/dev/null\0")) == Some(libc::EINVAL));
    server.send(&b"a longer one"[..])?;
    check("small buffer", errno((&client).read(&mut [0; 5])) == Some(libc::EMSGSIZE));
    let kept = client.receive()?.is_some_and(|message| message.short == b"a longer one");
    check("it stays", kept);
    let mut sent = 0;
    let full = loop {
        match client.send(&b"x"[..]) {
            Ok(()) => sent += 1,
            Err(failed) => break failed.error,
        }
    };
    check("full", full.kind() == ErrorKind::WouldBlock && sent == 64);
    drop(server);
    let broken = client.send(&b"late"[..]).unwrap_err();
    check("broken", broken.error.kind() == ErrorKind::BrokenPipe);
    client.set_nonblocking(false)?;
    check("end", client.receive()?.is_none());

    let (client, server) = pair()?;
    // SAFETY: touches no memory.
    let shut = unsafe { libc::shutdown(client.as_raw_fd(), libc::SHUT_RDWR) };
    check("shut down", shut == 0 && server.receive()?.is_none());
    check("by itself", client.send(&b""[..]).unwrap_err().error.kind() == ErrorKind::BrokenPipe);

    let (mut client, _server) = pair()?;
    client.set_delivery(Delivery::Mapping)?;
    check("wild address", errno((&client).write(&[[8u8; 8], [0; 8]].concat())) == Some(libc::EINVAL));
    let message: Message = client.region(4096)?.into();
    client.set_delivery(Delivery::Files)?;
    check("of the other kind", client.send(message).unwrap_err().error.kind() == ErrorKind::InvalidInput);
    descriptors()
}

/// Until there is no descriptor left.
fn descriptors() -> Outcome {
    let mut kept = Vec::new();
    let error = loop {
        match socket(63, libc::SOCK_SEQPACKET) {
            Ok(socket) => kept.push(socket),
            Err(error) => break error.raw_os_error(),
        }
    };
    check("too many", matches!(error, Some(libc::EMFILE | libc::ENFILE)) && kept.len() > 900);
    drop(kept);
    check("and back", socket(63, libc::SOCK_SEQPACKET).is_ok());
    Ok(())
}
