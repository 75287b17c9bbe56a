//! Programs that crash, leak, flood or never answer, and what those at the other end see; beside each an honest exchange goes on.

use std::{
    env,
    io::{self, ErrorKind},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, Stdio},
};

use handover_control::{Account, Channel, Delivery, Listener, Machine, Message, ServiceId};

use crate::{Outcome, check, here, pair, service};

/// The first argument of a program that does such a thing; the second says what, the third its service.
pub const FAULTY: &str = "faulty";

const SIZE: usize = 64 << 10;

/// A child that serves so, and a channel to it.
fn start(how: &str) -> Result<(Child, Channel), Box<dyn std::error::Error>> {
    let service = service();
    let mut child = Command::new(env::current_exe()?)
        .args([FAULTY, how, &service.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // What it holds is on an account of its own.
        .uid(1)
        .spawn()?;
    // It says a line once it listens.
    let mut line = [0; 1];
    io::Read::read_exact(child.stdout.as_mut().ok_or("no output")?, &mut line)?;
    let channel = Channel::connect_to(here(), service)?;
    Ok((child, channel))
}

fn send(channel: &Channel, bytes: usize) -> io::Result<()> {
    channel.send(channel.region(bytes)?).map_err(io::Error::from)
}

/// A message there and back on a channel of its own.
fn honest() -> Result<bool, Box<dyn std::error::Error>> {
    let (client, server) = pair()?;
    send(&client, SIZE)?;
    server.send(server.receive()?.ok_or("nothing came")?).map_err(io::Error::from)?;
    Ok(client.receive()?.is_some_and(|message| message.region.is_some()))
}

/// What this partition holds of the machine's memory.
fn held(machine: &Machine) -> Result<u64, Box<dyn std::error::Error>> {
    Ok(machine.own()?.account(Account::Memory)?.used)
}

pub fn run() -> Outcome {
    let machine = Machine::open()?;
    let before = held(&machine)?;

    // It has a message when it dies: the message goes with it, and the channel.
    for how in ["crash", "crash-mapped"] {
        let (mut child, channel) = start(how)?;
        send(&channel, SIZE)?;
        let status = child.wait()?;
        let ended = channel.receive()?.is_none();
        let broken = send(&channel, SIZE).unwrap_err().kind() == ErrorKind::BrokenPipe;
        check(how, status.signal() == Some(libc::SIGSEGV) && ended && broken && honest()?);
    }

    // It never reads: its queue is full, and who does not wait learns it. What waits there comes back when it is ended.
    let (mut child, channel) = start("silent")?;
    channel.set_nonblocking(true)?;
    let mut sent = 0;
    let full = loop {
        match send(&channel, SIZE) {
            Ok(()) => sent += 1,
            Err(error) => break error.kind() == ErrorKind::WouldBlock,
        }
    };
    let beside = honest()?;
    child.kill()?;
    child.wait()?;
    channel.set_nonblocking(false)?;
    check("silent", full && sent == 64 && beside && channel.receive()?.is_none());

    // It takes all regions there are, and leaves others enough.
    let (mut child, channel) = start("leak")?;
    let told = channel.receive()?.is_some_and(|message| message.short == b"no more");
    let beside = honest()?;
    child.kill()?;
    child.wait()?;
    check("leak", told && beside);

    // It sends and sends.
    let (mut child, channel) = start("flood")?;
    let beside = honest()?;
    let mut received = 0;
    for _ in 0..1000 {
        received += usize::from(channel.receive()?.is_some());
    }
    child.kill()?;
    child.wait()?;
    let mut rest = 0;
    while channel.receive()?.is_some() {
        rest += 1;
    }
    check("flood", beside && received == 1000 && rest <= 64);
    drop(channel);

    // A child's files are its parent's when it exits.
    let (mut child, channel) = start("leave")?;
    child.wait()?;
    drop(channel);
    let left = std::fs::read("/msg/left")?;
    std::fs::remove_file("/msg/left")?;
    check("left", left == b"for my parent");

    check("all has come back", held(&machine)? == before);
    Ok(())
}

/// In a process of its own.
pub fn serve() -> Outcome {
    let mut arguments = env::args().skip(2);
    let how = arguments.next().unwrap_or_default();
    let service = ServiceId::new(arguments.next().ok_or("no service")?.parse()?);
    let listener = Listener::listen_on(service)?;
    println!("listening");
    let (mut channel, _) = listener.accept()?;
    match how.as_str() {
        "crash" => crash(channel.receive()?),
        "crash-mapped" => {
            channel.set_delivery(Delivery::Mapping)?;
            crash(channel.receive()?);
        }
        "leak" => {
            channel.set_delivery(Delivery::Mapping)?;
            let mut kept = Vec::new();
            while let Ok(region) = channel.region(1 << 20) {
                kept.push(region);
            }
            channel.send(&b"no more"[..]).map_err(io::Error::from)?;
            std::thread::sleep(std::time::Duration::from_secs(3600));
        }
        "flood" => while send(&channel, 4096).is_ok() {},
        "leave" => std::fs::write("/msg/left", b"for my parent")?,
        _ => std::thread::sleep(std::time::Duration::from_secs(3600)),
    }
    Ok(())
}

fn crash(message: Option<Message>) {
    let region = message.and_then(|message| message.region);
    // SAFETY: nothing is there, which is what is tried.
    let value = unsafe { std::ptr::read_volatile(std::ptr::dangling::<u8>()) };
    println!("still there: {value} {region:?}");
}
