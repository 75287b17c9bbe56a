//! Keeps the lines that guests send to its service: each message is one, as bytes or in a region, where it ends with the first zero byte.
//! Every line gets the time since the start and the guest's name before it, and goes to the console and to `/run/log`. A message with
//! nothing in it is answered by another one: by then all lines before it were written, and the guest can end without losing any.
//!
//! `log [SERVICE]`: the service, `log` by default.

mod record;

use std::{
    env,
    io::{self, Read},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use handover_control::{Channel, Listed, Listener, Message, PartitionId, Region};
use record::{LINE_MAX, Record};

/// Guests that it hears at a time.
const GUESTS: usize = 64;
/// Bytes of a hearing thread's stack.
const STACK: usize = 64 << 10;

static HEARD: AtomicUsize = AtomicUsize::new(0);

fn main() -> ExitCode {
    let service = env::args().nth(1).unwrap_or_else(|| "log".to_owned());
    match serve(&service) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("log: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(service: &str) -> io::Result<()> {
    let record: &'static Mutex<Record> = Box::leak(Box::new(Mutex::new(Record::create()?)));
    let listener = Listener::listen(service)?;
    handover_control::ready()?;
    loop {
        let (channel, partition) = listener.accept()?;
        if HEARD.load(Ordering::Relaxed) >= GUESTS {
            // Closed at once: it may try again.
            continue;
        }
        HEARD.fetch_add(1, Ordering::Relaxed);
        let hears = move || {
            if let Err(error) = hear(&channel, partition, record) {
                eprintln!("log: of partition {partition}: {error}");
            }
            HEARD.fetch_sub(1, Ordering::Relaxed);
        };
        if let Err(error) = thread::Builder::new().stack_size(STACK).spawn(hears) {
            HEARD.fetch_sub(1, Ordering::Relaxed);
            eprintln!("log: partition {partition} is not heard: {error}");
        }
    }
}

/// Takes one guest's lines until it closes. One that floods waits when its queue is full.
fn hear(channel: &Channel, partition: PartitionId, record: &Mutex<Record>) -> io::Result<()> {
    let name = name_of(partition);
    while let Some(message) = channel.receive()? {
        let bytes = bytes_of(message)?;
        if bytes.is_empty() {
            channel.send(Message::default())?;
            continue;
        }
        record.lock().unwrap_or_else(PoisonError::into_inner).write(&name, &bytes)?;
    }
    Ok(())
}

fn name_of(partition: PartitionId) -> String {
    let listed = Listed::all().unwrap_or_default();
    let found = listed.into_iter().find(|listed| listed.id == Some(partition));
    found.map_or_else(|| format!("partition {partition}"), |listed| listed.name)
}

fn bytes_of(Message { region, short }: Message) -> io::Result<Vec<u8>> {
    let Some(Region::File(file)) = region else { return Ok(short) };
    let mut bytes = vec![0; LINE_MAX];
    let length = (&*file).read(&mut bytes)?;
    bytes.truncate(length);
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(length);
    bytes.truncate(end);
    Ok(bytes)
}
