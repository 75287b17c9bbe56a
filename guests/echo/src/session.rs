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

fn transformed(mut message: Message) -> Message {
    crate::transform(message.short.as_mut_bytes());
    if let Some(region) = &mut message.region {
        crate::transform(region);
    }
    message
}
