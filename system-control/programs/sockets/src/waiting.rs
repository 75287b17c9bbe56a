//! Waiting: `poll` beside other descriptors, and many channels at once.

use std::{
    io,
    io::Write,
    os::fd::{AsRawFd, RawFd},
    thread,
};

use handover_control::{Channel, Listener};

use crate::{Outcome, check, here, pair, service};

/// Waits for one of the descriptors to be readable; which are.
fn poll(fds: &[RawFd], milliseconds: i32) -> io::Result<Vec<RawFd>> {
    let mut watched: Vec<libc::pollfd> =
        fds.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    // SAFETY: as many entries as it is told, which live as long as the call.
    let ready = unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, milliseconds) };
    if ready < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(watched.iter().filter(|entry| entry.revents != 0).map(|entry| entry.fd).collect())
}

const MANY: usize = 64;

pub fn run() -> Outcome {
    let (client, server) = pair()?;
    let (reader, mut writer) = io::pipe()?;
    let both = [client.as_raw_fd(), reader.as_raw_fd()];
    check("neither", poll(&both, 0)?.is_empty());
    server.send(&b"now"[..])?;
    check("the socket", poll(&both, -1)? == [client.as_raw_fd()]);
    client.receive()?;
    writer.write_all(b"x")?;
    check("the pipe", poll(&both, -1)? == [reader.as_raw_fd()]);
    drop(server);
    check("both", poll(&both, -1)? == both);

    // One listener and all its connections, by one `poll`.
    let id = service();
    let listener = Listener::listen_on(id)?;
    let clients = thread::spawn(move || -> io::Result<usize> {
        let channels: Vec<Channel> =
            (0..MANY).map(|_| Channel::connect_to(here(), id)).collect::<io::Result<_>>()?;
        for (number, channel) in channels.iter().enumerate().rev() {
            channel.send(&[number as u8][..]).map_err(|failed| failed.error)?;
        }
        let mut right = 0;
        for (number, channel) in channels.iter().enumerate() {
            let answer = channel.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            right += usize::from(answer.short == [number as u8, 1]);
        }
        Ok(right)
    });
    let mut channels: Vec<Channel> = Vec::new();
    let mut served = 0;
    while served < MANY {
        let mut fds = vec![listener.as_raw_fd()];
        fds.extend(channels.iter().map(Channel::as_raw_fd));
        for fd in poll(&fds, -1)? {
            if fd == listener.as_raw_fd() {
                channels.push(listener.accept()?.0);
            } else if let Some(channel) = channels.iter().find(|channel| channel.as_raw_fd() == fd)
                && let Some(message) = channel.receive()?
            {
                channel.send(&[message.short[0], 1][..]).map_err(|failed| failed.error)?;
                served += 1;
            }
        }
    }
    let right = clients.join().map_err(|_| "the clients' thread has panicked")??;
    check("64 at once", right == MANY);
    Ok(())
}
