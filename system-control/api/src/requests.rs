//! Guests' requests for resources, for the one program that decides them.
//!
//! Init takes guests' messages, asks the program whose manifest entry says `decides = true`, and only then acts. A program that does not
//! answer in the manifest's time, or has died, is passed over: the request gets the manifest's default answer.

use std::{
    env, fmt,
    fs::File,
    io::{self, ErrorKind, Read, Write},
    os::fd::{FromRawFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use handover_abi::{Account, PartitionId};

/// The environment variable with the numbers of two descriptors, as `READ,WRITE`: requests come by the first, verdicts go by the second.
pub const VARIABLE: &str = "HANDOVER_REQUESTS";
/// Bytes of a [`Query`] on its way to the program: little-endian words.
pub const QUERY: usize = 72;
/// Bytes of a [`Decision`] on its way back.
pub const DECISION: usize = 24;

/// A guest wants more of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Which request it is; init's own number.
    pub ticket: u64,
    /// Who wants it.
    pub partition: PartitionId,
    /// Its name.
    pub name: String,
    /// What it wants more of.
    pub account: Account,
    /// How much more, in the account's unit.
    pub amount: u64,
    /// What it uses of that now.
    pub account_used: u64,
    /// What it may use of that now.
    pub account_limit: u64,
}

/// What a program makes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let it pass.
    Grant,
    /// Grant so much instead.
    Change(u64),
    /// No.
    Refuse,
}

/// A verdict, and on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The query's.
    pub ticket: u64,
    /// What it is.
    pub verdict: Verdict,
}

impl Query {
    /// On its way.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; QUERY] {
        let mut name = [0; 16];
        let length = self.name.len().min(name.len());
        name[..length].copy_from_slice(&self.name.as_bytes()[..length]);
        let partition = u64::from(self.partition.get());
        let words = [
            self.ticket,
            partition,
            self.account as u64,
            self.amount,
            self.account_used,
            self.account_limit,
            0,
        ];
        let mut bytes = [0; QUERY];
        put(&mut bytes, &words);
        bytes[QUERY - name.len()..].copy_from_slice(&name);
        bytes
    }

    /// Arrived.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; QUERY]) -> Option<Query> {
        let [ticket, partition, account, amount, account_used, account_limit, _] = take(bytes);
        let name = &bytes[QUERY - 16..];
        let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        Some(Query {
            ticket,
            partition: PartitionId::new(partition as u32),
            name: str::from_utf8(&name[..length]).ok()?.to_owned(),
            account: Account::try_from(account).ok()?,
            amount,
            account_used,
            account_limit,
        })
    }
}

impl Decision {
    /// On its way.
    #[must_use]
    pub fn to_bytes(self) -> [u8; DECISION] {
        let (verdict, amount) = match self.verdict {
            Verdict::Grant => (0, 0),
            Verdict::Change(amount) => (1, amount),
            Verdict::Refuse => (2, 0),
        };
        let mut bytes = [0; DECISION];
        put(&mut bytes, &[self.ticket, verdict, amount]);
        bytes
    }

    /// Arrived.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; DECISION]) -> Option<Decision> {
        let [ticket, verdict, amount] = take(bytes);
        let verdict = match verdict {
            0 => Verdict::Grant,
            1 => Verdict::Change(amount),
            2 => Verdict::Refuse,
            _ => return None,
        };
        Some(Decision { ticket, verdict })
    }
}

fn put(bytes: &mut [u8], words: &[u64]) {
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
}

fn take<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
    }
    words
}

/// The requests, in the order in which guests made them. The iterator waits for the next, and ends when init has ended.
#[derive(Debug)]
pub struct Requests {
    queries: File,
    decisions: File,
}

/// A request that waits for its verdict. Dropping it unanswered leaves it to init's default.
#[derive(Debug)]
pub struct Request<'a> {
    query: Query,
    decisions: &'a File,
}

impl Requests {
    /// The requests that this program decides.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]: init did not start it for that. It can be opened once.
    pub fn open() -> io::Result<Requests> {
        let given = env::var(VARIABLE).ok();
        let (queries, decisions) = given.as_deref().and_then(descriptors).ok_or_else(|| {
            let what =
                "this program decides no requests: write `decides = true` in its entry of the manifest";
            io::Error::new(ErrorKind::NotFound, what)
        })?;
        static OPENED: AtomicBool = AtomicBool::new(false);
        if OPENED.swap(true, Ordering::Relaxed) {
            let what = "this program has opened its requests already";
            return Err(io::Error::new(ErrorKind::AlreadyExists, what));
        }
        // SAFETY: init has opened these two for this program, nothing else in it knows them, and they are taken once.
        Ok(unsafe {
            Requests { queries: File::from_raw_fd(queries), decisions: File::from_raw_fd(decisions) }
        })
    }

    /// Requests from and verdicts to elsewhere: for tests.
    #[must_use]
    pub fn from_files(queries: File, decisions: File) -> Requests {
        Requests { queries, decisions }
    }

    /// Waits for the next request; `None` when init has ended.
    ///
    /// # Errors
    ///
    /// Those of reading; [`ErrorKind::InvalidData`] for what is no request.
    pub fn next(&self) -> Option<io::Result<Request<'_>>> {
        let mut bytes = [0; QUERY];
        match (&self.queries).read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
            Err(error) => return Some(Err(error)),
        }
        let query = Query::from_bytes(&bytes).ok_or_else(|| io::Error::from(ErrorKind::InvalidData));
        Some(query.map(|query| Request { query, decisions: &self.decisions }))
    }
}

/// The requests, for a `for` loop.
#[derive(Debug)]
pub struct Iter<'a>(&'a Requests);

impl<'a> Iterator for Iter<'a> {
    type Item = io::Result<Request<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl<'a> IntoIterator for &'a Requests {
    type Item = io::Result<Request<'a>>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter(self)
    }
}

impl Request<'_> {
    /// Decides it. Init acts on it, and the guest gets its answer; too late a verdict changes nothing any more.
    ///
    /// # Errors
    ///
    /// Those of writing: init has ended.
    pub fn answer(self, verdict: Verdict) -> io::Result<()> {
        let mut decisions = self.decisions;
        decisions.write_all(&Decision { ticket: self.query.ticket, verdict }.to_bytes())
    }
}

impl std::ops::Deref for Request<'_> {
    type Target = Query;

    fn deref(&self) -> &Query {
        &self.query
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Query { name, account, amount, account_used, account_limit, .. } = self;
        write!(f, "{name} asks for {amount} more of {account} (uses {account_used} of {account_limit})")
    }
}

fn descriptors(text: &str) -> Option<(RawFd, RawFd)> {
    let (queries, decisions) = text.split_once(',')?;
    let number = |text: &str| text.parse().ok().filter(|&number: &RawFd| number > 2);
    Some((number(queries)?, number(decisions)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    fn query(ticket: u64) -> Query {
        Query {
            ticket,
            partition: PartitionId::new(3),
            name: "fifteen-letters".into(),
            account: Account::Ports,
            amount: 100,
            account_used: 7,
            account_limit: 1024,
        }
    }

    #[test]
    fn they_round_trip() {
        assert_eq!(Query::from_bytes(&query(9).to_bytes()), Some(query(9)));
        for verdict in [Verdict::Grant, Verdict::Change(u64::MAX), Verdict::Refuse] {
            let decision = Decision { ticket: 5, verdict };
            assert_eq!(Decision::from_bytes(&decision.to_bytes()), Some(decision));
        }
        let mut bytes = [0; DECISION];
        bytes[8] = 3;
        assert_eq!(Decision::from_bytes(&bytes), None);
        let mut bytes = query(9).to_bytes();
        bytes[16] = 200;
        assert_eq!(Query::from_bytes(&bytes), None);
    }

    #[test]
    fn a_program_decides() {
        let file = |end: OwnedFd| File::from(end);
        let (ours, theirs) = io::pipe().unwrap();
        let (back, answers) = io::pipe().unwrap();
        let requests = Requests::from_files(file(ours.into()), file(answers.into()));
        let mut theirs = theirs;
        for ticket in 1..=3 {
            theirs.write_all(&query(ticket).to_bytes()).unwrap();
        }
        drop(theirs);
        let mut seen = 0;
        for request in &requests {
            let request = request.unwrap();
            seen += 1;
            assert_eq!(*request, query(seen));
            if seen == 2 {
                continue;
            }
            request.answer(Verdict::Change(seen)).unwrap();
        }
        assert_eq!(seen, 3);
        drop(requests);
        let mut bytes = Vec::new();
        { back }.read_to_end(&mut bytes).unwrap();
        let decisions: Vec<_> = bytes
            .chunks(DECISION)
            .map(|bytes| Decision::from_bytes(bytes.try_into().unwrap()).unwrap())
            .collect();
        let decision = |ticket| Decision { ticket, verdict: Verdict::Change(ticket) };
        assert_eq!(decisions, [decision(1), decision(3)]);
    }

    #[test]
    fn descriptors_in_the_environment() {
        assert_eq!(descriptors("3,4"), Some((3, 4)));
        for wrong in ["", "3", "0,4", "3,x", "3,4,5", "-1,4"] {
            assert_eq!(descriptors(wrong), None, "{wrong}");
        }
        assert_eq!(Requests::open().unwrap_err().kind(), ErrorKind::NotFound);
    }
}
