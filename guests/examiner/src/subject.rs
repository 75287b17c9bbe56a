//! A partition that does what it is told: the guest `subject`.

use alloc::{format, string::String};

use handover_guest::{Channel, PartitionId, Port, Short, events, hvc, signals, timer};
use subject::{Order, SERVICE};

use crate::stage::{Stage, Verdict};

/// The partition, and the channel that it takes orders from.
pub(crate) struct Subject {
    pub(crate) id: PartitionId,
    pub(crate) channel: Channel,
}

impl Subject {
    /// Makes and starts one, and waits until it has connected.
    pub(crate) fn run(stage: &Stage) -> Result<Subject, String> {
        let id = stage.run("subject")?;
        Subject::meet(id)
    }

    /// Waits until a partition that has been started connects.
    pub(crate) fn meet(id: PartitionId) -> Result<Subject, String> {
        let failed = |error| format!("the subject does not come: {error}");
        loop {
            match signals::next().map_err(failed)? {
                Some(signals::Signal::Connect(request))
                    if request.partition == id && request.service.get() == SERVICE =>
                {
                    let channel = request.accept().map_err(failed)?;
                    return Ok(Subject { id, channel });
                }
                Some(signals::Signal::PartitionEnded { partition, reason }) => {
                    return Err(format!("partition {partition} has ended: {reason}"));
                }
                // Somebody else's request is refused by dropping it.
                Some(_) => {}
                None => events::wait_for(Port::CONTROL).map(|_| ()).map_err(failed)?,
            }
        }
    }

    /// Tells it something, and does not wait.
    pub(crate) fn tell(&self, order: Order, a: u64, b: u64) -> Verdict {
        let mut words = [0; 16];
        (words[0], words[1], words[2]) = (order as u64, a, b);
        self.say(words)
    }

    /// Tells it these words.
    pub(crate) fn say(&self, words: [u64; 16]) -> Verdict {
        let sent = self.channel.send(Short::from_words(words));
        sent.map_err(|error| format!("{} cannot be told: {error}", self.id))
    }

    /// Its next answer, if it is there.
    pub(crate) fn answer(&mut self) -> Result<Option<[u64; 16]>, String> {
        let message = self.channel.receive().map_err(|error| format!("no answer: {error}"))?;
        Ok(message.map(|message| *message.short.words()))
    }

    /// Waits for its next answer.
    pub(crate) fn wait(&mut self) -> Result<[u64; 16], String> {
        let message = self.channel.receive_wait().map_err(|error| format!("no answer: {error}"))?;
        Ok(*message.short.words())
    }

    /// Tells it something and waits for the answer.
    pub(crate) fn ask(&mut self, order: Order, a: u64, b: u64) -> Result<[u64; 16], String> {
        self.tell(order, a, b)?;
        self.wait()
    }

    /// How far the examiner's count is ahead of its: at least, and at most.
    pub(crate) fn lag(&mut self) -> Result<(u64, u64), String> {
        let sent = timer::now();
        let its = self.ask(Order::Stamp, 0, 0)?[0];
        Ok((sent.wrapping_sub(its), timer::now().wrapping_sub(its)))
    }

    /// Ends and forgets it.
    pub(crate) fn end(self, stage: &Stage) -> Verdict {
        hvc::partition_stop(self.id).map_err(|error| format!("{} cannot be stopped: {error}", self.id))?;
        stage.reap(self.id).map(|_| ())
    }
}
