//! What a guest asks system-control for, by messages of a channel to its service [`SERVICE`]: the control OS carries them like any others.

use crate::{Account, Error, ServiceId};

/// The service's number; its name in device trees is [`SERVICE_NAME`].
pub const SERVICE: ServiceId = ServiceId::new(0xffff_ff01);
/// What a manifest's `uses` and a guest's device tree call it.
pub const SERVICE_NAME: &str = "requests";
/// Bytes of a [`Request`] and of an [`Answer`]: four little-endian words of a short message.
pub const SIZE: usize = 32;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// More of a resource: the account's limit is to be raised by so much, in the account's unit.
    More {
        /// Of what.
        account: Account,
        /// How much more.
        amount: u64,
    },
    /// Which partition provides this service now? A partition that was started anew has another id than before.
    Provider {
        /// The service.
        service: ServiceId,
    },
    /// The guest has started and serves: a manifest can have the next partition wait for that.
    Ready,
}

/// A guest's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whatever the guest likes; the answer repeats it.
    pub tag: u64,
    /// What it asks for.
    pub ask: Ask,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done as asked. For [`Ask::Provider`]: the partition's id, 0 where nobody provides the service now.
    Granted(u64),
    /// Less (or more) was granted than asked for: how much.
    Changed(u64),
    /// The policy says no.
    Refused,
    /// The policy did not say no, but the control OS does.
    Failed(Error),
}

impl Outcome {
    /// How much was granted.
    #[must_use]
    pub const fn amount(self) -> u64 {
        match self {
            Outcome::Granted(amount) | Outcome::Changed(amount) => amount,
            Outcome::Refused | Outcome::Failed(_) => 0,
        }
    }
}

/// The answer to a request. A connection's requests are answered one after the other, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request's.
    pub tag: u64,
    /// What became of it.
    pub outcome: Outcome,
}

const MORE: u64 = 1;
const PROVIDER: u64 = 2;
const READY: u64 = 3;

const GRANTED: u64 = 0;
const CHANGED: u64 = 1;
const REFUSED: u64 = 2;
const FAILED: u64 = 3;

impl Request {
    /// As a short message.
    #[must_use]
    pub fn to_bytes(self) -> [u8; SIZE] {
        bytes(match self.ask {
            Ask::More { account, amount } => [self.tag, MORE, account as u64, amount],
            Ask::Provider { service } => [self.tag, PROVIDER, service.get().into(), 0],
            Ask::Ready => [self.tag, READY, 0, 0],
        })
    }

    /// From a short message.
    ///
    /// # Errors
    ///
    /// The tag, as far as there is one, of what is no request.
    pub fn from_bytes(message: &[u8]) -> Result<Request, u64> {
        let [tag, kind, subject, amount] = words(message).ok_or(0u64)?;
        let ask = match kind {
            MORE => Account::try_from(subject).ok().map(|account| Ask::More { account, amount }),
            PROVIDER => ServiceId::from_register(subject).map(|service| Ask::Provider { service }),
            READY => Some(Ask::Ready),
            _ => None,
        };
        ask.map(|ask| Request { tag, ask }).ok_or(tag)
    }
}

impl Answer {
    /// As a short message.
    #[must_use]
    pub fn to_bytes(self) -> [u8; SIZE] {
        let (outcome, detail) = match self.outcome {
            Outcome::Granted(amount) => (GRANTED, amount),
            Outcome::Changed(amount) => (CHANGED, amount),
            Outcome::Refused => (REFUSED, 0),
            Outcome::Failed(error) => (FAILED, error.to_x0()),
        };
        bytes([self.tag, outcome, detail, 0])
    }

    /// From a short message; `None` if it is no answer.
    #[must_use]
    pub fn from_bytes(message: &[u8]) -> Option<Answer> {
        let [tag, outcome, detail, _] = words(message)?;
        let outcome = match outcome {
            GRANTED => Outcome::Granted(detail),
            CHANGED => Outcome::Changed(detail),
            REFUSED => Outcome::Refused,
            FAILED => Outcome::Failed(Error::from_x0(detail)?),
            _ => return None,
        };
        Some(Answer { tag, outcome })
    }
}

fn bytes(words: [u64; 4]) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn words(message: &[u8]) -> Option<[u64; 4]> {
    let mut words = [0; 4];
    if message.len() != SIZE {
        return None;
    }
    for (word, chunk) in words.iter_mut().zip(message.chunks_exact(8)) {
        *word = u64::from_le_bytes(chunk.try_into().ok()?);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_trip() {
        let service = ServiceId::new(u32::MAX);
        for ask in [
            Ask::More { account: Account::Memory, amount: u64::MAX },
            Ask::More { account: Account::Bus, amount: 0 },
            Ask::Provider { service },
            Ask::Ready,
        ] {
            let request = Request { tag: 0x0123_4567_89ab_cdef, ask };
            assert_eq!(Request::from_bytes(&request.to_bytes()), Ok(request));
        }
    }

    #[test]
    fn what_is_no_request_keeps_its_tag() {
        assert_eq!(Request::from_bytes(b""), Err(0));
        assert_eq!(Request::from_bytes(&[0; SIZE + 1]), Err(0));
        assert_eq!(Request::from_bytes(&bytes([7, 0, 0, 0])), Err(7));
        assert_eq!(Request::from_bytes(&bytes([7, 4, 0, 0])), Err(7));
        assert_eq!(Request::from_bytes(&bytes([7, MORE, 8, 1])), Err(7));
        assert_eq!(Request::from_bytes(&bytes([7, PROVIDER, 1 << 32, 1])), Err(7));
    }

    #[test]
    fn answers_round_trip() {
        let outcomes = [Outcome::Granted(3), Outcome::Changed(u64::MAX), Outcome::Refused];
        for outcome in outcomes.into_iter().chain(Error::ALL.iter().map(|&error| Outcome::Failed(error))) {
            let answer = Answer { tag: 5, outcome };
            assert_eq!(Answer::from_bytes(&answer.to_bytes()), Some(answer));
        }
        assert_eq!(Answer::from_bytes(&bytes([0, 4, 0, 0])), None);
        assert_eq!(Answer::from_bytes(&bytes([0, FAILED, 0, 0])), None);
        assert_eq!(Answer::from_bytes(&[0; 31]), None);
    }
}
