//! Channels whose messages go one way, both ends of which are here.

use std::{io, time::Duration};

use anyhow::{Context, Result, ensure};
use handover_linux::{
    Causes, Channel, ConnectError, Connecting, Handover, Listener, PortSet, Region, RequestFlags,
    RequestWord, Service,
};

use crate::events::ends;

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(60);
const SIZE: usize = 8192;

/// Each direction, asked for here and accepted here.
pub(crate) fn check(handover: &Handover, own: &Service) -> Result<()> {
    let word = |flags| RequestWord::new(own.service, flags);
    let alone = Connecting::request(handover, own.partition, word(RequestFlags::SEND_ONLY), Some(PATIENCE))?;
    ensure!(matches!(alone.wait(), Err(ConnectError::Refused(_))), "nobody listens, and it is not refused");

    let listener = Listener::for_one_way(handover, own).context("cannot listen")?;
    ends(Listener::for_one_way(handover, own), io::ErrorKind::AddrInUse, "two listeners")?;
    let both = Connecting::request(handover, own.partition, word(RequestFlags::empty()), Some(PATIENCE))?;
    ensure!(
        matches!(both.wait(), Err(ConnectError::Refused(_))),
        "a channel both ways, with no listener for it"
    );
    for flags in [RequestFlags::SEND_ONLY, RequestFlags::RECEIVE_ONLY] {
        let connecting = Connecting::request(handover, own.partition, word(flags), Some(PATIENCE))?;
        let request = listener.request_wait()?;
        ensure!(request.flags == flags && request.memory == 0, "another request: {request:?}");
        let (accepted, asked) = (request.accept()?, connecting.wait()?);
        let (sender, receiver) =
            if flags == RequestFlags::SEND_ONLY { (asked, accepted) } else { (accepted, asked) };
        messages(handover, sender, receiver).with_context(|| format!("{flags:?}"))?;
    }
    Ok(())
}

/// What is sent arrives, and nothing goes the other way.
fn messages(handover: &Handover, sender: Channel, receiver: Channel) -> Result<()> {
    let back = receiver.send(b"back").map_err(|failed| failed.error);
    ends(back, io::ErrorKind::PermissionDenied, "sending from the wrong end")?;
    let mut region = Region::create(handover, SIZE)?;
    region.fill(0x5a);
    let back = receiver.send(region).map_err(|failed| (failed.error.kind(), failed.region));
    let Err((io::ErrorKind::PermissionDenied, Some(mut region))) = back else {
        anyhow::bail!("a region from the wrong end: {back:?}");
    };
    ends(sender.receive(), io::ErrorKind::PermissionDenied, "receiving at the wrong end")?;

    let set = PortSet::create()?;
    set.add(receiver.port())?;
    // Though there is never room for a message of its own.
    let event = set.wait_timeout(PATIENCE).context("the connection's event")?;
    ensure!(event.causes == Causes::CONNECTED, "another event: {event:?}");
    sender.send(b"there").map_err(|failed| failed.error)?;
    let event = set.wait_timeout(PATIENCE).context("the message's event")?;
    ensure!(event.causes.contains(Causes::MESSAGE), "another event: {event:?}");
    ensure!(*receiver.receive_wait()?.short == *b"there", "another message than was sent");
    region[SIZE - 1] = 0xa5;
    sender.send(region).map_err(|failed| failed.error)?;
    let region = receiver.receive_timeout(PATIENCE)?.region.context("no region came")?;
    ensure!(
        region[..SIZE - 1].iter().all(|byte| *byte == 0x5a) && region[SIZE - 1] == 0xa5,
        "other bytes than were sent"
    );
    drop(sender);
    ends(receiver.receive_wait(), io::ErrorKind::UnexpectedEof, "after the end")
}
