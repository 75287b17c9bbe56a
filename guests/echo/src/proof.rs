//! The proof that a sent region is out of reach.

use core::{fmt, ptr};

use handover_guest::{
    Channel, Error, Port, Region, ServiceId, events,
    fault::{self, Fault},
    hvc, println, signals,
};

/// Bytes of the region.
const SIZE: usize = 4096;

/// Why the proof failed.
pub(crate) enum Failure {
    Call(&'static str, Error),
    NotConnected,
    NoFault(&'static str),
    WrongFault(Fault),
    Changed,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Call(what, error) => write!(f, "{what}: {error}"),
            Failure::NotConnected => f.write_str("no request arrived for the channel to itself"),
            Failure::NoFault(access) => write!(f, "a {access} of a sent region did not fault"),
            Failure::WrongFault(fault) => write!(f, "another fault than expected: {fault}"),
            Failure::Changed => f.write_str("the region's bytes are not those that were sent"),
        }
    }
}

fn call(what: &'static str) -> impl Fn(Error) -> Failure {
    move |error| Failure::Call(what, error)
}

/// Sends this partition a region, and touches it while it is under way and after it has come back.
pub(crate) fn prove(service: ServiceId) -> Result<(), Failure> {
    let (sender, mut receiver) = channel_to_self(service)?;
    let mut region = Region::create(SIZE).map_err(call("create a region"))?;
    fill(&mut region);
    let address = region.address();
    sender.send(region).map_err(|error| Failure::Call("send", error.error))?;

    expect_fault(address, false)?;
    expect_fault(address, true)?;

    let message = receiver.receive().map_err(call("receive"))?;
    let region = message.and_then(|message| message.region).ok_or(Failure::Changed)?;
    let mut expected = [0; SIZE];
    fill(&mut expected);
    if *region != expected {
        return Err(Failure::Changed);
    }
    println!("echo: received back, all {SIZE} bytes as they were sent");
    Ok(())
}

fn fill(bytes: &mut [u8]) {
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = (index * 7 + 1) as u8;
    }
}

fn channel_to_self(service: ServiceId) -> Result<(Channel, Channel), Failure> {
    let own = hvc::identify().map_err(call("identify"))?.partition;
    let connecting = Channel::request(own, service).map_err(call("connect to itself"))?;
    events::wait_for(Port::CONTROL).map_err(call("wait for the request"))?;
    match signals::next().map_err(call("take the request"))? {
        Some(signals::Signal::Connect(request)) => {
            let receiver = request.accept().map_err(call("accept"))?;
            let sender =
                connecting.wait().map_err(|error| Failure::Call("connect to itself", error.into()))?;
            Ok((sender, receiver))
        }
        _ => Err(Failure::NotConnected),
    }
}

/// Reads or writes where a region was, and expects a synchronous external abort there.
fn expect_fault(address: u64, write: bool) -> Result<(), Failure> {
    let pointer = ptr::with_exposed_provenance_mut::<u64>(address as usize);
    let touched = fault::catch(|| {
        // SAFETY: nothing refers to what was there, and a fault is caught.
        unsafe { if write { pointer.write_volatile(!0) } else { _ = pointer.read_volatile() } }
    });
    let Err(fault) = touched else {
        return Err(Failure::NoFault(if write { "write" } else { "read" }));
    };
    println!(
        "echo: touching a sent region faults: EC={:#04x} DFSC={:#04x} FAR={:#x} WnR={}",
        fault.class(),
        fault.status_code(),
        fault.far,
        u8::from(fault.is_write())
    );
    let expected = fault.class() == Fault::CLASS_DATA_ABORT
        && fault.status_code() == Fault::STATUS_EXTERNAL
        && fault.far == address
        && fault.is_write() == write;
    if expected { Ok(()) } else { Err(Failure::WrongFault(fault)) }
}
