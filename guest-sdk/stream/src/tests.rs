//! Two ends in one process.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use super::*;

/// The bytes of a short message.
#[derive(Clone, Debug, Default, PartialEq)]
struct Short(Vec<u8>);

impl Deref for Short {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8; 8]> for Short {
    fn from(bytes: &[u8; 8]) -> Short {
        Short(bytes.to_vec())
    }
}

const DEPTH: usize = 4;
const SIZE: usize = 4096;

type Message = (Option<Vec<u8>>, Short);

#[derive(Default)]
struct Queue {
    messages: RefCell<VecDeque<Message>>,
    closed: Cell<bool>,
}

/// One end of a pair of queues.
struct Fake {
    outgoing: Rc<Queue>,
    incoming: Rc<Queue>,
    /// Regions that may still be made.
    budget: Cell<usize>,
    made: Cell<usize>,
    announced: Cell<usize>,
}

impl Carrier for Fake {
    type Region = Vec<u8>;
    type Short = Short;
    type Error = Failure;

    const EMPTY: Short = Short(Vec::new());

    fn failure(error: &Failure) -> Failure {
        *error
    }

    fn malformed() -> Failure {
        Failure::Malformed
    }

    fn short(bytes: &[u8]) -> Result<Short, Failure> {
        if bytes.len() <= SHORT_MAX { Ok(Short(bytes.to_vec())) } else { Err(Failure::Other) }
    }

    fn create(&self, size: usize) -> Result<Vec<u8>, Failure> {
        let left = self.budget.get().checked_sub(1).ok_or(Failure::NoRoom)?;
        self.budget.set(left);
        self.made.set(self.made.get() + 1);
        Ok(vec![0; size])
    }

    fn send(&self, region: Option<Vec<u8>>, short: &Short) -> Result<(), (Failure, Option<Vec<u8>>)> {
        let mut messages = self.outgoing.messages.borrow_mut();
        if self.incoming.closed.get() {
            Err((Failure::Closed, region))
        } else if messages.len() == DEPTH {
            Err((Failure::Early, region))
        } else {
            messages.push_back((region, short.clone()));
            Ok(())
        }
    }

    fn receive(&mut self, short: &mut Short) -> Result<Option<Vec<u8>>, Failure> {
        match self.incoming.messages.borrow_mut().pop_front() {
            Some((region, bytes)) => {
                *short = bytes;
                Ok(region)
            }
            None if self.incoming.closed.get() => Err(Failure::Closed),
            None => Err(Failure::Early),
        }
    }

    fn has_room(&self) -> Result<bool, Failure> {
        Ok(self.incoming.closed.get() || self.outgoing.messages.borrow().len() < DEPTH)
    }

    fn announce(&self) {
        self.announced.set(self.announced.get() + 1);
    }
}

struct End {
    shared: RefCell<Shared<Fake>>,
    incoming: Incoming<Fake>,
}

impl End {
    fn write(&self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        self.shared.borrow_mut().write(bytes)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Failure> {
        read(self.shared.get_mut(), &mut self.incoming, buffer)
    }

    /// Reads all there is.
    fn drain(&mut self) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), [0; 1000]);
        while let Some(count) = self.read(&mut buffer).unwrap().filter(|&count| count != 0) {
            all.extend_from_slice(&buffer[..count]);
        }
        all
    }

    fn made(&self) -> usize {
        self.shared.borrow().carrier.made.get()
    }

    fn close(&self) {
        self.shared.borrow().carrier.outgoing.closed.set(true);
    }

    /// Sends a message past the framing.
    fn inject(&self, region: Option<Vec<u8>>, short: &[u8]) {
        let sent = self.shared.borrow().carrier.send(region, &Short(short.to_vec()));
        assert_eq!(sent, Ok(()));
    }
}

fn pair() -> [End; 2] {
    let queues = [Rc::<Queue>::default(), Rc::<Queue>::default()];
    [0, 1].map(|index| {
        let carrier = Fake {
            outgoing: queues[index].clone(),
            incoming: queues[1 - index].clone(),
            budget: Cell::new(usize::MAX),
            made: Cell::new(0),
            announced: Cell::new(0),
        };
        End { shared: RefCell::new(Shared::new(carrier, SIZE)), incoming: Incoming::NOTHING }
    })
}

fn pattern(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|index| (index * 31 + index / 256) as u8).collect()
}

#[test]
fn every_byte_arrives_in_order_whatever_the_sizes() {
    let [writer, mut reader] = pair();
    let (mut sent, mut received) = (0, Vec::new());
    let sizes = [1, 127, 128, 129, 255, 256, 257, 4095, 4096, 4097, 10_000];
    for (round, &size) in sizes.iter().cycle().take(500).enumerate() {
        let bytes = pattern(sent, size);
        let mut at = 0;
        while at < size {
            match writer.write(&bytes[at..]).unwrap() {
                Some(0) => panic!("nothing written of {}", size - at),
                Some(count) => at += count,
                None => received.extend(reader.drain()),
            }
        }
        sent += size;
        if round % 7 == 0 {
            let mut small = [0; 3];
            if let Some(count) = reader.read(&mut small).unwrap() {
                received.extend_from_slice(&small[..count]);
            }
        }
    }
    received.extend(reader.drain());
    assert_eq!(received.len(), sent);
    assert_eq!(received, pattern(0, sent));
    assert!(writer.made() <= DEPTH + 2, "{} regions made: those that were read come back", writer.made());
    assert_eq!(reader.made(), 0);
}

#[test]
fn an_echo_makes_no_new_regions() {
    let [mut client, mut server] = pair();
    for round in 0..100 {
        let bytes = pattern(round, 3000);
        assert_eq!(client.write(&bytes), Ok(Some(3000)));
        let request = server.drain();
        assert_eq!(server.write(&request), Ok(Some(3000)));
        assert_eq!(client.drain(), bytes);
    }
    assert_eq!((client.made(), server.made()), (1, 0));
}

#[test]
fn the_end_comes_after_everything_else() {
    let [mut writer, mut reader] = pair();
    assert_eq!(writer.write(b"last"), Ok(Some(4)));
    assert_eq!(writer.write(&[5; 1000]), Ok(Some(1000)));
    writer.close();
    let mut buffer = [0; 2000];
    assert_eq!(reader.read(&mut buffer), Ok(Some(4)));
    assert_eq!(reader.read(&mut buffer), Ok(Some(1000)));
    assert_eq!(reader.read(&mut buffer), Ok(Some(0)));
    assert_eq!(reader.read(&mut buffer), Ok(Some(0)), "and stays the end");
    assert_eq!(reader.write(b"nobody"), Err(Failure::Closed));
    assert_eq!(reader.write(&[0; 1000]), Err(Failure::Closed));
    assert_eq!(writer.read(&mut buffer), Ok(None), "the other direction is a channel of its own");
}

#[test]
fn a_full_queue_takes_nothing_and_loses_nothing() {
    let [writer, mut reader] = pair();
    for index in 0..DEPTH {
        assert_eq!(writer.write(&pattern(index * 1000, 1000)), Ok(Some(1000)));
    }
    for bytes in [&[1][..], &[1; 1000]] {
        assert_eq!(writer.write(bytes), Ok(None));
    }
    assert_eq!(writer.made(), DEPTH, "no region is made for nothing");
    assert_eq!(reader.drain(), pattern(0, DEPTH * 1000));
    assert_eq!(writer.write(&[1; 1000]), Ok(Some(1000)));
}

#[test]
fn without_memory_bytes_go_in_short_messages() {
    let [writer, mut reader] = pair();
    writer.shared.borrow().carrier.budget.set(0);
    assert_eq!(writer.write(&pattern(0, 1000)), Ok(Some(128)));
    assert_eq!(reader.drain(), pattern(0, 128));
}

#[test]
fn bytes_that_the_writer_finds_are_the_readers() {
    let [mut end, peer] = pair();
    assert_eq!(peer.write(b"first"), Ok(Some(5)));
    assert_eq!(peer.write(b"second"), Ok(Some(6)));
    assert_eq!(end.write(&[1; 1000]), Ok(Some(1000)), "it looks for regions that came back");
    assert_eq!(end.shared.borrow().carrier.announced.get(), 1);
    assert_eq!(end.write(&[1; 1000]), Ok(Some(1000)));
    assert_eq!(end.shared.borrow().carrier.announced.get(), 1, "it takes one message at most");
    assert_eq!(end.drain(), b"firstsecond");
}

#[test]
fn what_is_filled_is_consumed_in_parts() {
    let [writer, mut reader] = pair();
    assert_eq!(writer.write(&pattern(0, 1000)), Ok(Some(1000)));
    for (at, count) in [(0, 400), (400, 0), (400, 600)] {
        assert_eq!(
            fill(&mut reader.shared.borrow_mut(), &mut reader.incoming),
            Ok(Some(&pattern(at, 1000 - at)[..]))
        );
        consume(&mut reader.shared.borrow_mut(), &mut reader.incoming, count);
    }
    assert_eq!(fill(&mut reader.shared.borrow_mut(), &mut reader.incoming), Ok(None));
    consume(&mut reader.shared.borrow_mut(), &mut reader.incoming, 1);
    assert_eq!(fill(&mut reader.shared.borrow_mut(), &mut reader.incoming), Ok(None));
}

#[test]
fn a_peer_that_breaks_the_rules_is_told_apart_from_bytes() {
    let size = |count: u64| count.to_le_bytes();
    for (what, region, short) in [
        ("an empty message", None, &[][..]),
        ("a region without a count", Some(vec![0; SIZE]), &[]),
        ("a count of other than 8 bytes", Some(vec![0; SIZE]), &[1, 0, 0, 0]),
        ("a count beyond the region", Some(vec![0; SIZE]), &size(SIZE as u64 + 1)),
        ("the largest count", Some(vec![0; SIZE]), &size(u64::MAX)),
        ("a region that was never lent", Some(vec![0; SIZE]), &size(0)),
    ] {
        let [peer, mut end] = pair();
        peer.inject(region, short);
        peer.inject(None, b"more");
        let mut buffer = [0; 10];
        assert_eq!(end.read(&mut buffer), Err(Failure::Malformed), "{what}");
        assert_eq!(end.read(&mut buffer), Err(Failure::Malformed), "{what}: for good");
        assert_eq!(end.write(b"x"), Err(Failure::Malformed), "{what}");
    }
}

#[test]
fn regions_of_other_sizes_are_read_and_not_kept() {
    let [peer, mut end] = pair();
    peer.inject(Some(vec![7; 2 * SIZE]), &(2 * SIZE as u64).to_le_bytes());
    assert_eq!(end.drain(), vec![7; 2 * SIZE]);
    let back = peer.shared.borrow_mut().carrier.receive(&mut Short::default());
    assert_eq!(back.map(|region| region.map(|region| region.len())), Ok(Some(2 * SIZE)));
}

#[test]
fn a_region_goes_back_or_is_given_up_but_nobody_waits() {
    let [mut writer, mut reader] = pair();
    for _ in 0..DEPTH {
        assert_eq!(reader.write(b"full"), Ok(Some(4)));
    }
    for _ in 0..3 {
        assert_eq!(writer.write(&[1; 1000]), Ok(Some(1000)));
        assert_eq!(reader.drain(), [1; 1000]);
    }
    assert_eq!(writer.drain(), b"full".repeat(DEPTH));
    assert_eq!(writer.made(), 3);
}
