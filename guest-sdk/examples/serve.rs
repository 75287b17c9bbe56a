use core::pin::pin;
use handover_guest::task::{Either, Tasks, select};
use handover_guest::{Error, Listener, ServiceId, Stream, println};

/// Echoes the streams of up to 8 clients at a time.
async fn serve(service: ServiceId) -> Result<(), Error> {
    let mut listener = Listener::new(service);
    let mut clients = pin!(Tasks::<_, 8>::new());
    loop {
        match select(listener.request_async(), clients.as_mut().next()).await {
            // Dropping a request refuses it.
            Either::First(request) if clients.is_full() => drop(request?),
            Either::First(request) => match request?.accept() {
                Ok(channel) => _ = clients.as_mut().push(echo(Stream::new(channel))),
                Err(error) => println!("a client that has gone: {error}"),
            },
            Either::Second(end) => println!("a client has closed: {end:?} bytes"),
        }
    }
}
