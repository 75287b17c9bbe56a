//! Byte streams: with a bare-metal guest that writes everything back (`guests/streams`, `role=server`), and with this partition itself.

use std::{
    io::{self, BufRead, Read, Write},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use handover_linux::{
    Channel, ConnectError, Connecting, Handover, Listener, Region, RequestFlags, RequestWord, Service, Short,
    Stream, block_on,
};

#[derive(Args)]
pub struct Arguments {
    /// The service that writes everything back
    #[arg(long, default_value = "streams")]
    service: String,
    /// A service of this partition's
    #[arg(long, default_value = "mirror")]
    provided: String,
    /// Bytes there and back
    #[arg(long, default_value_t = 4 << 20)]
    bytes: usize,
    /// Seconds until the service must be there
    #[arg(long, default_value_t = 60)]
    wait: u64,
}

pub fn run(handover: &Handover, arguments: &Arguments) -> Result<()> {
    let server = handover.service(&arguments.service)?;
    let patience = Duration::from_secs(arguments.wait);
    let channel = Channel::connect_within(handover, &server, patience).context("cannot connect")?;
    there_and_back(Stream::new(channel)?, arguments.bytes).context("there and back")?;
    println!("streams: {} bytes there and back: ok", arguments.bytes);
    embedded(Stream::connect(handover, &server)?).context("as embedded-io has it")?;
    println!("streams: as embedded-io has it: ok");
    block_on(embedded_async(handover, &server)).context("as embedded-io-async has it")?;
    println!("streams: as embedded-io-async has it: ok");
    no_stream_for_the_peer(handover, &server).context("what is no stream")?;
    println!("streams: what is no stream, to the peer: ok");
    let own = handover.provided(&arguments.provided)?;
    let listener = Listener::new(handover, &own).context("cannot listen")?;
    futures(handover, &listener, &own).context("futures")?;
    println!("streams: futures: ok");
    the_end(handover, &listener, &own).context("the end")?;
    println!("streams: the end: ok");
    no_stream(handover, &listener, &own).context("what is no stream")?;
    println!("streams: what is no stream: ok");
    Ok(())
}

/// The byte at a place of a stream.
fn byte(at: usize) -> u8 {
    (at.wrapping_mul(167) ^ (at >> 8).wrapping_mul(29) ^ (at >> 16)) as u8
}

/// Sizes of writes, of every kind: from a byte to several regions.
const SIZES: [usize; 11] = [1, 127, 128, 129, 256, 257, 4095, 4096, 65_536, 65_537, 200_000];

/// One thread writes, another reads and checks.
fn there_and_back(mut stream: Stream, total: usize) -> Result<()> {
    let (mut reader, mut writer) = Stream::split(&mut stream);
    thread::scope(|scope| {
        let writing = scope.spawn(move || -> io::Result<()> {
            let (mut at, mut sizes) = (0, SIZES.iter().cycle());
            while at < total {
                let size = sizes.next().map_or(1, |size| *size).min(total - at);
                let bytes: Vec<u8> = (at..at + size).map(byte).collect();
                writer.write_all(&bytes)?;
                at += size;
            }
            writer.flush()
        });
        let (mut at, mut buffer) = (0, [0; 3000]);
        while at < total {
            // By `read` and by `fill_buf` in turn.
            let count = if at % 2 == 0 {
                let count = reader.read(&mut buffer)?;
                is_right(&buffer[..count], at)?;
                count
            } else {
                let bytes = reader.fill_buf()?;
                is_right(bytes, at)?;
                let count = bytes.len();
                reader.consume(count);
                count
            };
            ensure!(count > 0, "it ends after {at} bytes");
            at += count;
        }
        writing.join().map_err(|_| anyhow::anyhow!("the thread that writes is gone"))??;
        Ok(())
    })
}

fn is_right(bytes: &[u8], from: usize) -> Result<()> {
    let wrong = bytes.iter().zip(from..).find(|(found, at)| **found != byte(*at));
    ensure!(wrong.is_none(), "byte {:?} is not the one that was written", wrong.map(|(_, at)| at));
    Ok(())
}

/// What a program for bare metal does with any such stream.
fn ask<S: embedded_io::Read + embedded_io::Write>(
    stream: &mut S,
    question: &[u8],
) -> Result<Vec<u8>, S::Error> {
    stream.write_all(question)?;
    stream.flush()?;
    let mut answer = vec![0; question.len()];
    let mut at = 0;
    while at < answer.len() {
        match stream.read(&mut answer[at..])? {
            0 => answer.truncate(at),
            count => at += count,
        }
    }
    Ok(answer)
}

fn embedded(mut stream: Stream) -> Result<()> {
    use embedded_io::{ReadReady, WriteReady};

    ensure!(!ReadReady::read_ready(&mut stream)?, "ready to read before anything was written");
    ensure!(WriteReady::write_ready(&mut stream)?, "not ready to write");
    for size in SIZES {
        let question: Vec<u8> = (0..size).map(byte).collect();
        let answer = ask(&mut stream, &question)?;
        ensure!(answer == question, "{size} bytes came back as {}", answer.len());
    }
    Ok(())
}

/// What an asynchronous program for bare metal does with any such stream.
async fn ask_async<S>(stream: &mut S, question: &[u8]) -> Result<bool, S::Error>
where
    S: embedded_io_async::BufRead + embedded_io_async::Write,
{
    stream.write_all(question).await?;
    stream.flush().await?;
    let mut at = 0;
    while at < question.len() {
        let bytes = stream.fill_buf().await?;
        let count = bytes.len();
        if count == 0 || !question[at..].starts_with(bytes) {
            return Ok(false);
        }
        stream.consume(count);
        at += count;
    }
    Ok(true)
}

async fn embedded_async(handover: &Handover, server: &Service) -> Result<()> {
    let mut stream = Stream::connect_async(handover, server).await?;
    for size in SIZES {
        let question: Vec<u8> = (0..size).map(byte).collect();
        ensure!(ask_async(&mut stream, &question).await?, "other than the {size} bytes came back");
    }
    Ok(())
}

/// Both ends of a channel of this partition's, each by futures on a thread of its own: more messages than a queue holds, and some of them dropped.
fn futures(handover: &Handover, listener: &Listener, own: &Service) -> Result<()> {
    const MESSAGES: u32 = 1000;
    let serve = async || -> Result<u32> {
        let channel = listener.request_async().await?.accept()?;
        let mut count = 0u32;
        while let Some(message) = or_end(channel.receive_async().await)? {
            ensure!(message.short[..] == count.to_le_bytes(), "message {count} is {:?}", message.short);
            count += 1;
        }
        Ok(count)
    };
    let ask = async || -> Result<()> {
        let channel = Channel::connect_async(handover, own).await?;
        for number in 0..MESSAGES {
            let message = Short::from(number.to_le_bytes());
            // One that has not been asked whether it is done has sent nothing.
            let kept = channel.send_async(message).into_message();
            channel.send_async(kept).await?;
            if number % 100 == 0 {
                channel.room_async().await?;
            }
        }
        Ok(())
    };
    let count = thread::scope(|scope| {
        let serving = scope.spawn(|| block_on(serve()));
        block_on(ask())?;
        serving.join().map_err(|_| anyhow::anyhow!("the thread that serves is gone"))?
    })?;
    ensure!(count == MESSAGES, "{count} messages of {MESSAGES}");

    // Nobody answers.
    let word = RequestWord::new(own.service, RequestFlags::empty());
    let brief = Some(Duration::from_millis(20));
    let connecting = Connecting::request(handover, own.partition, word, brief)?;
    let _unanswered = listener.request_wait()?;
    match block_on(connecting.wait_async()) {
        Err(ConnectError::Failed(error)) if error.kind() == io::ErrorKind::TimedOut => {}
        other => anyhow::bail!("nobody answers: {other:?}"),
    }
    Ok(())
}

/// What has come; `None` at the end.
fn or_end<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// The server closes its end when it is sent what is no stream.
fn no_stream_for_the_peer(handover: &Handover, server: &Service) -> Result<()> {
    let channel = Channel::connect(handover, server)?;
    channel.send(b"")?;
    let mut broken = Stream::new(channel)?;
    ensure!(broken.read(&mut [0; 1])? == 0, "the server goes on");
    ends(broken.write(b"x"), io::ErrorKind::BrokenPipe, "writing to who has closed")
}

/// Both ends of a channel of this partition's.
fn pair(handover: &Handover, listener: &Listener, own: &Service) -> Result<(Channel, Channel)> {
    let connecting = Channel::request(handover, own)?;
    let server = listener.request_wait()?.accept()?;
    Ok((connecting.wait()?, server))
}

/// Everything that was written is read before the end; a writer learns it, and a full queue is no error.
fn the_end(handover: &Handover, listener: &Listener, own: &Service) -> Result<()> {
    let (client, server) = pair(handover, listener, own)?;
    let (mut writer, mut reader) = (Stream::with_region_size(client, 4096)?, Stream::new(server)?);
    ensure!(!reader.read_ready()?, "ready before anything was written");
    let mut written = 0;
    while writer.write_ready()? {
        let bytes: Vec<u8> = (written..written + 1000).map(byte).collect();
        written += writer.write(&bytes)?;
    }
    ensure!(written >= 10_000, "full after {written} bytes");
    drop(writer);
    let mut all = Vec::new();
    reader.read_to_end(&mut all)?;
    ensure!(all.len() == written, "{} of {written} bytes", all.len());
    is_right(&all, 0)?;
    ensure!(reader.read_ready()? && reader.read(&mut [0])? == 0, "and no end");
    ends(reader.write(b"x"), io::ErrorKind::BrokenPipe, "writing to who has closed")?;
    ends(reader.write(&[0; 1000]), io::ErrorKind::BrokenPipe, "writing a region to who has closed")
}

/// A peer that breaks the rules.
fn no_stream(handover: &Handover, listener: &Listener, own: &Service) -> Result<()> {
    for breaks in [
        |_: &Handover, channel: &Channel| Ok(channel.send(b"")?),
        |handover: &Handover, channel: &Channel| Ok(channel.send(Region::create(handover, 4096)?)?),
        |handover: &Handover, channel: &Channel| {
            Ok(channel.send((Region::create(handover, 4096)?, 4097u64.to_le_bytes()))?)
        },
        |handover: &Handover, channel: &Channel| {
            Ok(channel.send((Region::create(handover, 4096)?, 0u64.to_le_bytes()))?)
        },
    ] as [fn(&Handover, &Channel) -> Result<()>; 4]
    {
        let (peer, end) = pair(handover, listener, own)?;
        let mut stream = Stream::new(end)?;
        breaks(handover, &peer)?;
        peer.send(b"more")?;
        for _ in 0..2 {
            ends(stream.read(&mut [0]), io::ErrorKind::InvalidData, "reading it")?;
        }
        ends(stream.write(b"x"), io::ErrorKind::InvalidData, "writing after it")?;
    }
    let (channel, _peer) = pair(handover, listener, own)?;
    ends(Stream::with_region_size(channel, 5000), io::ErrorKind::InvalidInput, "regions of 5000 bytes")
}

fn ends<T>(result: io::Result<T>, expected: io::ErrorKind, when: &str) -> Result<()> {
    let found = result.map(drop).map_err(|error| error.kind());
    ensure!(found == Err(expected), "{when}: {found:?}");
    Ok(())
}
