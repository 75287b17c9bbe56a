//! Futures that are dropped lose nothing.

use core::time::Duration;

use handover_guest::{
    Causes, Channel, Error, Message, Region, Service, Short, events,
    task::{Either, join, select, yield_now},
    timer,
};

use crate::{
    bytes::{Failure, expect},
    client::Mirror,
};

mod example {
    include!("../../../guest-sdk/examples/client.rs");

    pub(super) async fn run(service: Service) -> Result<Option<u8>, Error> {
        ask(service, b"hello").await
    }
}

/// The documentation's example, with a stream's end as its peer.
pub(crate) async fn question(server: Service) -> Result<(), Failure> {
    loop {
        // On a slow machine patience may end first.
        if let Some(answer) = example::run(server).await? {
            return expect(answer == b'h', "another answer than the question");
        }
    }
}

/// Numbers that are sent.
const NUMBERS: u64 = 500;
/// Messages that fit a queue.
const QUEUE: u64 = 64;

/// A receiver that gives up again and again gets all messages all the same, each once and in order.
pub(crate) async fn receiving(mirror: &mut Mirror) -> Result<(), Failure> {
    let (sender, mut receiver) = mirror.pair().await?;
    let send = async {
        for number in 0..NUMBERS {
            sender.send_async(Short::from(&number.to_le_bytes())).await.map_err(|failure| failure.error)?;
            // Long enough for the receiver to give up, whatever the time.
            for _ in 0..number % 7 {
                yield_now().await;
            }
        }
        Ok::<_, Error>(())
    };
    let receive = async {
        let (mut expected, mut gave_up) = (0u64, 0);
        while expected < NUMBERS {
            match select(receiver.receive_async(), yield_now()).await {
                Either::First(message) => {
                    expect(*message?.short == expected.to_le_bytes(), "a message is missing")?;
                    expected += 1;
                }
                Either::Second(()) => gave_up += 1,
            }
        }
        expect(gave_up > 0, "the receiver never gave up")
    };
    let (sent, received) = join(send, receive).await;
    sent?;
    received
}

/// A message that finds no room comes back with its region, and can be sent later.
pub(crate) async fn sending(mirror: &mut Mirror) -> Result<(), Failure> {
    let (sender, mut receiver) = mirror.pair().await?;
    for number in 0..QUEUE {
        sender.send_async(Short::from(&number.to_le_bytes())).await.map_err(|failure| failure.error)?;
    }
    let mut region = Region::create(4096)?;
    region[4000] = 99;
    let mut sending = sender.send_async((region, Short::from(b"last")));
    let deadline = timer::after(Duration::from_millis(1));
    let sent = select(&mut sending, timer::sleep_until(deadline)).await;
    expect(matches!(sent, Either::Second(Ok(()))), "a full queue took a message")?;
    let message = sending.into_message();
    let kept = message.region.as_ref().is_some_and(|region| region[4000] == 99) && *message.short == *b"last";
    expect(kept, "a message that was not sent is not what it was")?;

    let send = async {
        sender.room_async().await?;
        sender.send(message).map_err(Error::from)
    };
    let receive = async {
        for number in 0..QUEUE {
            let got = receiver.receive_async().await?;
            expect(*got.short == number.to_le_bytes(), "a message is missing")?;
        }
        last(receiver.receive_async().await?)
    };
    let (sent, received) = join(send, receive).await;
    sent?;
    received?;
    drop(receiver);
    let Err(failure) = sender.send_async((Region::create(4096)?, Short::EMPTY)).await else {
        return Err(Failure::Unexpected("a message to nobody"));
    };
    expect(failure.error == Error::PeerClosed && failure.region.is_some(), "the region did not come back")
}

fn last(message: Message) -> Result<(), Failure> {
    let region = message.region.ok_or(Failure::Unexpected("the region is missing"))?;
    expect(region[4000] == 99 && *message.short == *b"last", "the region is not what it was")
}

/// An event that comes while nobody waits is there later.
pub(crate) async fn signals(mirror: &mut Mirror) -> Result<(), Failure> {
    let (mut one, mut other) = mirror.pair().await?;
    for round in 0..3 {
        one.signal()?;
        if round > 0 {
            // Meanwhile the executor takes all events.
            timer::sleep_until(timer::after(Duration::from_micros(100))).await?;
        }
        signal(&other).await?;
        other.signal()?;
        signal(&one).await?;
    }
    expect(one.receive()?.is_none() && other.receive()?.is_none(), "an event is no message")
}

async fn signal(channel: &Channel) -> Result<(), Error> {
    while !events::wait_for_async(channel.port()).await?.contains(Causes::SIGNAL) {}
    Ok(())
}

/// Nobody wakes early, and who sleeps shorter is not kept by who sleeps longer.
pub(crate) async fn sleeping() -> Result<(), Failure> {
    let start = timer::now();
    let [short, long] = [1, 3].map(|milliseconds| timer::after(Duration::from_millis(milliseconds)));
    let mut longer = timer::sleep_until(long);
    let first = select(timer::sleep_until(short), &mut longer).await;
    let early = timer::now();
    expect(matches!(first, Either::First(Ok(()))), "the longer sleep ended first")?;
    expect(early >= short && early - start >= timer::frequency() / 1000, "woken too early")?;
    longer.await?;
    expect(timer::now() >= long, "woken too early")
}
