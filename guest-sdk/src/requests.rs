//! Asking system-control for resources.

use handover_abi::{
    Account, Error,
    resources::{Answer, Ask, Outcome, Request, SERVICE_NAME},
};

use crate::{Boot, Channel, ConnectError, Short};

/// A connection to the service that the manifest calls `requests`. Each request waits for its answer: system-control gives it when a policy
/// program has decided, or the time for that is up.
#[derive(Debug)]
pub struct Requests {
    channel: Channel,
    tag: u64,
}

impl Requests {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`Error::BadHandle`] when the manifest does not let this partition use `requests`; those of connecting.
    pub fn connect(boot: &Boot) -> Result<Requests, ConnectError> {
        let service = boot.service(SERVICE_NAME).ok_or(Error::BadHandle)?;
        Ok(Requests { channel: Channel::connect(service)?, tag: 0 })
    }

    /// Asks, and waits for what comes of it.
    ///
    /// # Errors
    ///
    /// Those of sending and receiving; [`Error::InvalidArgument`] for an answer that is none.
    pub fn ask(&mut self, ask: Ask) -> Result<Outcome, Error> {
        self.tag += 1;
        let request = Request { tag: self.tag, ask };
        self.channel.send_wait(Short::new(&request.to_bytes())?)?;
        let message = self.channel.receive_wait()?;
        let answer = Answer::from_bytes(&message.short).filter(|answer| answer.tag == self.tag);
        answer.map(|answer| answer.outcome).ok_or(Error::InvalidArgument)
    }

    /// Asks for a higher limit: so much more of a resource, in the account's unit. How much was granted, 0 if it was refused.
    ///
    /// # Errors
    ///
    /// As for [`ask`](Requests::ask), and the control OS's.
    pub fn more(&mut self, account: Account, amount: u64) -> Result<u64, Error> {
        match self.ask(Ask::More { account, amount })? {
            Outcome::Failed(error) => Err(error),
            outcome => Ok(outcome.amount()),
        }
    }

    /// Says that this partition's services can be used: a manifest can have the next partition wait for it (`ready = "told"`).
    ///
    /// # Errors
    ///
    /// As for [`ask`](Requests::ask).
    pub fn ready(&mut self) -> Result<(), Error> {
        self.ask(Ask::Ready).map(drop)
    }
}
