//! One channel's messages.

use handover_guest::{Channel, Error, Message, Port, SendError};

/// A channel, and the answer that its peer has no room for yet.
pub(crate) struct Session {
    channel: Channel,
    waiting: Option<Message>,
}

impl Session {
    pub(crate) fn new(channel: Channel) -> Session {
        Session { channel, waiting: None }
    }

    pub(crate) fn port(&self) -> Port {
        self.channel.port()
    }

    /// Answers what has come until there is no more, or no room for an answer.
    pub(crate) fn serve(&mut self) -> Result<(), Error> {
        loop {
            let answer = match self.waiting.take() {
                Some(answer) => answer,
                None => match self.channel.receive()? {
                    Some(message) => transformed(message),
                    None => return Ok(()),
                },
            };
            let short = answer.short;
            match self.channel.send(answer) {
                Ok(()) => {}
                Err(SendError { error: Error::QueueFull, region }) => {
                    self.waiting = Some(Message { region, short });
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Changes a message in place: the bytes of a short one; of a region, as many as its short part counts (a little-endian `u64`), or
/// all if it counts none.
fn transformed(mut message: Message) -> Message {
    let Some(region) = &mut message.region else {
        crate::transform(message.short.as_mut_bytes());
        return message;
    };
    let size = region.len();
    let count = message.short.first_chunk().map_or(u64::MAX, |&count| u64::from_le_bytes(count));
    crate::transform(&mut region[..usize::try_from(count).unwrap_or(size).min(size)]);
    message
}
