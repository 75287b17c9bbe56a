//! More requests, on more connections, than system-control serves at once.

use handover_guest::{
    Boot, Channel, ConnectError, Error, Short,
    abi::{
        Account,
        resources::{Answer, Ask, Request, SERVICE_NAME},
    },
    println,
};

/// Connections that it asks for.
const CONNECTIONS: usize = 8;
/// Requests on each, none of which waits for the answer to the one before.
const REQUESTS: u64 = 100;

/// Asks for a port more, many times.
pub fn run(boot: &Boot) -> Result<(), Error> {
    let service = boot.service(SERVICE_NAME).ok_or(Error::BadHandle)?;
    let mut channels = [const { None }; CONNECTIONS];
    for slot in &mut channels {
        *slot = match Channel::connect(service) {
            Ok(channel) => Some(channel),
            // System-control closes what it does not serve.
            Err(ConnectError::Refused(_) | ConnectError::Failed(Error::PeerClosed)) => None,
            Err(ConnectError::Failed(error)) => return Err(error),
        };
    }
    let (mut served, mut answers) = (0, 0);
    for channel in channels.iter_mut().flatten() {
        let Ok(()) = send(channel) else { continue };
        let received = receive(channel)?;
        served += usize::from(received > 0);
        answers += received;
    }
    println!("petitioner: {served} of {CONNECTIONS} connections were served, with {answers} answers");
    Ok(())
}

fn send(channel: &Channel) -> Result<(), Error> {
    for tag in 1..=REQUESTS {
        let request = Request { tag, ask: Ask::More { account: Account::Ports, amount: 1 } };
        channel.send_wait(Short::new(&request.to_bytes())?)?;
    }
    Ok(())
}

fn receive(channel: &mut Channel) -> Result<u64, Error> {
    for expected in 1..=REQUESTS {
        let message = match channel.receive_wait() {
            Err(Error::PeerClosed) => return Ok(expected - 1),
            message => message?,
        };
        let answer = Answer::from_bytes(&message.short).ok_or(Error::InvalidArgument)?;
        if answer.tag != expected {
            println!("petitioner: answer {} came instead of {expected}", answer.tag);
            return Err(Error::InvalidArgument);
        }
    }
    Ok(REQUESTS)
}
