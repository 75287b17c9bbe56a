//! Tries message channels as sockets, with both ends in this partition: messages as files and as mappings, and what goes wrong.

mod errors;
mod exchange;
mod faults;
mod files;
mod mappings;
mod waiting;

use std::{error::Error, thread};

use handover_control::{Channel, Listener, PartitionId, ServiceId};

type Outcome = Result<(), Box<dyn Error>>;

/// Services of this partition's own.
const FIRST: u32 = 100;

/// One that nobody has used yet.
fn service() -> ServiceId {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(FIRST);
    ServiceId::new(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// This partition, as an address has it.
fn here() -> PartitionId {
    PartitionId::new(0)
}

/// The two ends of a channel: who asked, and who accepted.
fn pair() -> Result<(Channel, Channel), Box<dyn Error>> {
    let service = service();
    let listener = Listener::listen_on(service)?;
    let client = thread::spawn(move || Channel::connect_to(here(), service));
    let (server, _) = listener.accept()?;
    let client = client.join().map_err(|_| "the client's thread has panicked")??;
    Ok((client, server))
}

/// Says whether something is as it should be; the test suite compares the lines.
fn check(what: &str, right: bool) {
    println!("sockets: {what}: {}", if right { "ok" } else { "WRONG" });
}

fn main() -> Outcome {
    match std::env::args().nth(1).as_deref() {
        Some(files::TOUCH) => return files::touch(),
        Some(faults::FAULTY) => return faults::serve(),
        Some(mappings::TOUCH) => return mappings::touch(),
        _ => {}
    }
    errors::run()?;
    waiting::run()?;
    files::run()?;
    mappings::run()?;
    exchange::run()?;
    faults::run()?;
    println!("sockets: all done");
    Ok(())
}
