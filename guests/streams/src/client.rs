//! The side that checks.

use core::pin::pin;

use handover_guest::{
    Boot, Channel, Listener, Service, Status, Stream, block_on, hvc, println,
    task::{Tasks, join},
};

use crate::{
    bytes::{self, Failure, expect},
    cancel, ports,
};

/// Channels that are used at once.
const CHANNELS: u64 = 4;
/// Bytes each way on each of them.
const BYTES: u64 = 1 << 20;
/// Bytes each way on the channel to itself.
const BYTES_SELF: u64 = 2 << 20;

pub(crate) fn run(boot: &Boot) -> Status {
    match checks(boot) {
        Ok(()) => {
            println!("streams: all ok");
            Status::SUCCESS
        }
        Err((check, failure)) => {
            println!("streams: {check} FAILED: {failure}");
            Status::FAILURE
        }
    }
}

fn checks(boot: &Boot) -> Result<(), (&'static str, Failure)> {
    let missing = |_| ("services", Failure::Unexpected("the manifest names no \"streams\" or \"mirror\""));
    let server = boot.service("streams").ok_or(()).map_err(missing)?;
    let service = boot.provided("mirror").ok_or(()).map_err(missing)?;
    let own = hvc::identify().map_err(|error| ("identify", error.into()))?.partition;
    let mut mirror =
        Mirror { service: Service { partition: own, service }, listener: Listener::new(service) };

    let check = |name: &'static str, result: Result<(), Failure>| match result {
        Ok(()) => {
            println!("streams: {name} ok");
            Ok(())
        }
        Err(failure) => Err((name, failure)),
    };
    check("several channels at once", block_on(several(server)))?;
    check("a channel to itself", block_on(to_itself(&mut mirror)))?;
    check("blocking", blocking(server))?;
    check("a question", block_on(cancel::question(server)))?;
    check("dropped futures", block_on(cancel::receiving(&mut mirror)))?;
    check("a full queue", block_on(cancel::sending(&mut mirror)))?;
    check("signals", block_on(cancel::signals(&mut mirror)))?;
    check("sleeping", block_on(cancel::sleeping()))?;
    check("requests that time out", ports::timeouts(own))?;
    check("one-way channels", ports::one_way(own))?;
    check("port sets", ports::sets(own))?;
    check("event ports", ports::event_ports(own))
}

/// The service that this partition provides to itself.
pub(crate) struct Mirror {
    service: Service,
    listener: Listener,
}

impl Mirror {
    /// Both ends of a channel.
    pub(crate) async fn pair(&mut self) -> Result<(Channel, Channel), Failure> {
        let (client, request) = join(Channel::connect_async(self.service), async {
            self.listener.request_async().await?.accept()
        })
        .await;
        Ok((client?, request?))
    }
}

async fn several(server: Service) -> Result<(), Failure> {
    let mut tasks = pin!(Tasks::<_, { CHANNELS as usize }>::new());
    for seed in 0..CHANNELS {
        let task = async move {
            let mut stream = Stream::connect_async(server).await?;
            bytes::exchange(&mut stream, seed, seed, BYTES).await
        };
        expect(tasks.as_mut().push(task).is_ok(), "no room for a task")?;
    }
    while !tasks.is_empty() {
        tasks.as_mut().next().await?;
    }
    println!("streams: {CHANNELS} channels, {BYTES} bytes each way on each");
    Ok(())
}

async fn to_itself(mirror: &mut Mirror) -> Result<(), Failure> {
    let (client, server) = mirror.pair().await?;
    let mut client = Stream::new(client);
    // Regions of another size than the peer's.
    let mut server = Stream::with_region_size(server, 4096)?;
    let (there, back) =
        join(bytes::exchange(&mut client, 5, 6, BYTES_SELF), bytes::exchange(&mut server, 6, 5, BYTES_SELF))
            .await;
    there.and(back)?;
    println!("streams: to itself, {BYTES_SELF} bytes each way");

    // What was written before the end can still be read.
    let (_, writer) = client.split();
    bytes::write_all(writer, 7, 1000).await?;
    drop(client);
    let (mut reader, _) = server.split();
    bytes::check_all(&mut reader, 7, 1000).await?;
    match bytes::check_all(&mut reader, 7, 1).await {
        Err(Failure::Short { at: 0 }) => Ok(()),
        _ => Err(Failure::Unexpected("no end of the stream after the peer has closed")),
    }
}

/// The same traits for programs that block.
fn blocking(server: Service) -> Result<(), Failure> {
    use embedded_io::{BufRead, Error, ErrorKind, Read, ReadReady, Write, WriteReady};

    let mut stream = Stream::connect(server)?;
    expect(!stream.read_ready()?, "ready to read before anything was written")?;
    expect(stream.write_ready()?, "not ready to write")?;
    write!(stream, "{} and {}", 12, 34).map_err(|_| Failure::Unexpected("formatting failed"))?;
    let mut text = [0; 9];
    let exact = |_| Failure::Unexpected("the stream ended");
    stream.read_exact(&mut text).map_err(exact)?;
    expect(&text == b"12 and 34", "another text than was written")?;

    for (seed, size) in [1, 128, 129, 4096, 20_000].into_iter().enumerate() {
        let mut buffer = [0; 20_000];
        buffer[..size].iter_mut().zip(0..).for_each(|(slot, at)| *slot = bytes::byte(seed as u64, at));
        stream.write_all(&buffer[..size])?;
        stream.flush()?;
        let first = stream.fill_buf()?[0];
        expect(first == bytes::byte(seed as u64, 0), "another first byte than was written")?;
        expect(stream.read_ready()?, "not ready to read what is there")?;
        buffer.fill(0);
        stream.read_exact(&mut buffer[..size]).map_err(exact)?;
        let right = buffer[..size].iter().zip(0..).all(|(&found, at)| found == bytes::byte(seed as u64, at));
        expect(right, "other bytes than were written")?;
    }

    // Not a stream's message: the server's end closes.
    let channel = Channel::connect(server)?;
    channel.send(b"").map_err(|failure| failure.error)?;
    let mut broken = Stream::new(channel);
    expect(broken.read(&mut [0; 1]) == Ok(0), "the server goes on with what is no stream")?;
    let refused = broken.write(b"x").map_err(|error| error.kind());
    expect(refused == Err(ErrorKind::BrokenPipe), "a write to a peer that has closed")
}
