use core::time::Duration;
use handover_guest::task::{Either, select};
use handover_guest::{Channel, Error, Service, timer};

/// Sends a question, and waits half a second for the answer; its first byte.
async fn ask(service: Service, question: &[u8; 5]) -> Result<Option<u8>, Error> {
    let mut channel = Channel::connect_async(service).await?;
    channel.send_async(question).await?;
    let patience = timer::sleep_until(timer::after(Duration::from_millis(500)));
    match select(channel.receive_async(), patience).await {
        Either::First(answer) => Ok(answer?.short.first().copied()),
        Either::Second(_) => Ok(None),
    }
}
