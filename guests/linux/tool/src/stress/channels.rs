//! Channels of this partition with itself: both ends are here, so that everything can be seen.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    thread,
};

use anyhow::{Context, Result, ensure};
use handover_linux::{
    Channel, ConnectError, Handover, Listener, PartitionId, REGION_MIN, Region, ServiceId, Short, uapi,
};

use super::{Stage, expect_error};

/// A service id that no manifest gives out.
const SERVICE: ServiceId = ServiceId::new(0xfeed_0001);
/// Messages that wait at a port at most, and some more.
const MANY: usize = 1000;

fn own_partition(handover: &Handover) -> Result<PartitionId> {
    Ok(handover.info().context("cannot ask the driver")?.partition)
}

/// Connects, and answers the request as `answer` does.
fn ask<T: Send>(
    stage: &Stage<'_>,
    listener: &Listener,
    answer: impl FnOnce(&Listener) -> Result<T> + Send,
) -> Result<(Result<Channel, ConnectError>, T)> {
    let own = own_partition(stage.handover)?;
    thread::scope(|scope| {
        let server = scope.spawn(|| answer(listener));
        let client = Channel::connect_to(stage.handover, own, SERVICE);
        let server = server.join().unwrap_or_else(|_| anyhow::bail!("the serving thread panicked"))?;
        Ok((client, server))
    })
}

/// Both ends of a new channel.
fn pair(stage: &Stage<'_>) -> Result<[Channel; 2]> {
    let listener = Listener::for_service(stage.handover, SERVICE).context("cannot listen")?;
    let (client, server) = ask(stage, &listener, |listener| {
        listener.request_wait().context("no request")?.accept().context("cannot accept")
    })?;
    Ok([client.context("cannot connect")?, server])
}

/// What poll(2) reports now.
fn poll(descriptor: impl AsFd) -> Result<i16> {
    let mut entry = libc::pollfd {
        fd: descriptor.as_fd().as_raw_fd(),
        events: libc::POLLIN | libc::POLLOUT | libc::POLLPRI | libc::POLLRDHUP,
        revents: 0,
    };
    // SAFETY: one entry, alive during the call.
    let result = unsafe { libc::poll(&mut entry, 1, 0) };
    ensure!(result >= 0, "poll: {}", io::Error::last_os_error());
    Ok(entry.revents)
}

fn expect_poll(descriptor: impl AsFd, expected: i16, when: &str) -> Result<()> {
    let found = poll(descriptor)?;
    ensure!(found == expected, "{when}, poll reports {found:#x}, not {expected:#x}");
    Ok(())
}

pub(super) fn requests(stage: &Stage<'_>) -> Result<()> {
    let own = own_partition(stage.handover)?;
    match Channel::connect_to(stage.handover, own, SERVICE) {
        Err(ConnectError::Refused(uapi::REASON_NO_LISTENER)) => {}
        other => anyhow::bail!("a request that nobody listens for ended with {other:?}"),
    }
    match Channel::connect_to(stage.handover, PartitionId::new(u32::MAX), SERVICE) {
        Err(ConnectError::Failed(error)) => {
            expect_error::<()>(Err(error), libc::ENXIO, "connecting to nobody")?
        }
        other => anyhow::bail!("connecting to nobody ended with {other:?}"),
    }

    let listener = Listener::for_service(stage.handover, SERVICE).context("cannot listen")?;
    let second = Listener::for_service(stage.handover, SERVICE).map(drop);
    expect_error(second, libc::EADDRINUSE, "listening twice")?;
    ensure!(listener.request().context("cannot look")?.is_none(), "a request nobody made");
    expect_poll(&listener, 0, "without a request")?;

    let (client, ()) = ask(stage, &listener, |listener| {
        let request = listener.request_wait().context("no request")?;
        ensure!(request.partition == own && request.service == SERVICE, "somebody else asks: {request:?}");
        request.refuse(77).context("cannot refuse")
    })?;
    ensure!(matches!(client, Err(ConnectError::Refused(77))), "a refused request ended with {client:?}");

    // Who listens goes while somebody waits.
    let client = thread::scope(|scope| {
        let client = scope.spawn(|| Channel::connect_to(stage.handover, own, SERVICE));
        let request = listener.request_wait().context("no request")?;
        drop(listener);
        ensure!(request.partition == own, "somebody else asks");
        Ok(client.join().unwrap_or(Err(ConnectError::Refused(0))))
    })?;
    let closed = matches!(client, Err(ConnectError::Refused(uapi::REASON_CLOSED)));
    ensure!(closed, "a request whose listener was closed ended with {client:?}");
    Ok(())
}

/// A full queue stops the sender, who keeps the message, until there is room.
pub(super) fn full_queue(stage: &Stage<'_>) -> Result<()> {
    let [client, server] = pair(stage)?;
    expect_poll(&client, libc::POLLOUT, "with an empty queue")?;
    let mut sent = 0;
    let mut kept = loop {
        ensure!(sent < MANY, "{sent} messages found room");
        let mut region = Region::create(stage.handover, REGION_MIN).context("cannot create a region")?;
        region[0] = sent as u8;
        match client.send((region, [sent as u8])) {
            Ok(()) => sent += 1,
            Err(failed) => {
                expect_error::<()>(Err(failed.error), libc::EAGAIN, "sending to a full queue")?;
                break failed.region;
            }
        }
    };
    ensure!(kept.as_ref().is_some_and(|region| region[0] == sent as u8), "the region kept holds other bytes");
    expect_poll(&client, 0, "with a full queue")?;
    expect_poll(&server, libc::POLLIN | libc::POLLOUT, "with messages")?;

    // One thread waits for room, the other makes it.
    thread::scope(|scope| -> Result<()> {
        let sender = scope.spawn(|| {
            client
                .send_wait((kept.take().ok_or(io::ErrorKind::NotFound)?, [sent as u8]))
                .map_err(|failed| failed.error)
        });
        for number in 0..=sent {
            let message = server.receive_wait().context("cannot receive")?;
            let region = message.region.context("no region came")?;
            ensure!(
                region[0] == number as u8 && *message.short == [number as u8],
                "messages came out of order"
            );
        }
        sender.join().unwrap_or_else(|_| Err(io::Error::other("panicked"))).context("cannot send")
    })?;
    ensure!(server.receive().context("cannot look")?.is_none(), "a message nobody sent");
    expect_poll(&client, libc::POLLOUT, "with an empty queue again")
}

/// What was sent before the end can be received after it; then both directions say so.
pub(super) fn closed_peer(stage: &Stage<'_>) -> Result<()> {
    let [client, server] = pair(stage)?;
    client.send_wait(Short::from(*b"last words")).context("cannot send")?;
    client.disconnect();
    let ended = libc::POLLIN | libc::POLLHUP | libc::POLLRDHUP;
    expect_poll(&server, ended, "after the peer has gone")?;
    ensure!(
        *server.receive_wait().context("cannot receive")?.short == *b"last words",
        "another message came"
    );
    let end = server.receive_wait().map(drop).map_err(|error| error.kind());
    ensure!(end == Err(io::ErrorKind::UnexpectedEof), "after the last message: {end:?}");

    let region = Region::create(stage.handover, REGION_MIN).context("cannot create a region")?;
    let failed = match server.send_wait(region) {
        Ok(()) => anyhow::bail!("sending to nobody succeeded"),
        Err(failed) => failed,
    };
    expect_error::<()>(Err(failed.error), libc::EPIPE, "sending to who has gone")?;
    let mut region = failed.region.context("the region was lost with the message")?;
    region.fill(1);
    expect_poll(&server, ended, "after the end")
}

/// Signals do not add up, and stay until they are taken.
pub(super) fn signals(stage: &Stage<'_>) -> Result<()> {
    let [client, server] = pair(stage)?;
    ensure!(!server.take_signal().context("cannot take a signal")?, "a signal nobody sent");
    for _ in 0..3 {
        client.signal().context("cannot signal")?;
    }
    let mut entry = libc::pollfd { fd: server.as_fd().as_raw_fd(), events: libc::POLLPRI, revents: 0 };
    // SAFETY: one entry, alive during the call.
    let ready = unsafe { libc::poll(&mut entry, 1, 60_000) };
    ensure!(ready == 1 && entry.revents == libc::POLLPRI, "the signal does not arrive: {:#x}", entry.revents);
    ensure!(server.status().context("no status")?.signal, "the status tells of no signal");
    ensure!(server.take_signal().context("cannot take a signal")?, "the signal was lost");
    ensure!(!client.take_signal().context("cannot take a signal")?, "the signal came back");
    ensure!(!client.status().context("no status")?.signal, "the status tells of another signal");
    Ok(())
}

/// read(2) and write(2) carry short messages, and leave others where they are.
pub(super) fn read_and_write(stage: &Stage<'_>) -> Result<()> {
    let [client, server] = pair(stage)?;
    let (writer, reader) = (client.as_fd().as_raw_fd(), server.as_fd().as_raw_fd());
    let write = |bytes: &[u8]| {
        // SAFETY: the bytes are alive during the call.
        result(unsafe { libc::write(writer, bytes.as_ptr().cast(), bytes.len()) })
    };
    let read = |bytes: &mut [u8]| {
        // SAFETY: the bytes are alive and exclusively ours during the call.
        result(unsafe { libc::read(reader, bytes.as_mut_ptr().cast(), bytes.len()) })
    };
    let mut buffer = [0; 200];
    expect_error(write(&[0; 129]), libc::EMSGSIZE, "writing 129 bytes")?;
    ensure!(write(&[7; 128])? == 128 && write(b"second")? == 6);
    expect_error(read(&mut buffer[..127]), libc::EMSGSIZE, "reading 128 bytes into 127")?;
    ensure!(read(&mut buffer)? == 128 && buffer[..128] == [7; 128], "another message was read");
    ensure!(read(&mut buffer)? == 6 && buffer[..6] == *b"second", "another message was read");

    let region = Region::create(stage.handover, REGION_MIN).context("cannot create a region")?;
    client.send_wait(region).context("cannot send")?;
    expect_error(read(&mut buffer), libc::EOPNOTSUPP, "reading a message with a region")?;
    ensure!(poll(&server)? & libc::POLLIN != 0, "the message that was not read is gone");
    ensure!(server.receive_wait().context("cannot receive")?.region.is_some(), "the region is gone");
    client.disconnect();
    ensure!(read(&mut buffer)? == 0, "the end is not the end of the file");
    Ok(())
}

fn result(value: isize) -> io::Result<isize> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
