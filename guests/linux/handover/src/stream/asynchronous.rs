//! The asynchronous traits. `read`, `fill_buf` and `write` are cancel-safe: a future that is dropped before it has ended has read nothing and written
//! nothing.

use std::{future::poll_fn, io, task::Poll};

use embedded_io_async::{BufRead, Read, Write};
use handover_stream::{fill, read};
use rustix::event::epoll::EventFlags;

use super::{ReadHalf, Stream, Waits, WriteHalf, lock};
use crate::task::{Waiter, poll_until, until};

impl Waits {
    /// Waits until `attempt` has something, looking again when a message has come, or the writer has found one.
    async fn reading<T>(&self, mut attempt: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
        let (mut message, mut found) = (None, None);
        let tried = poll_fn(|context| {
            // Before the attempt: what is found after it wakes again.
            if let Err(error) = self.forget_found() {
                return Poll::Ready(Err(error));
            }
            let tried = poll_until(&mut message, &*self.end, EventFlags::IN, context, &mut attempt);
            if tried.is_ready() {
                return tried;
            }
            let waits = match &mut found {
                Some(waits) => Ok(waits),
                None => Waiter::new(&self.found, EventFlags::IN).map(|waits| found.insert(waits)),
            };
            match waits.and_then(|waits| waits.wait(context.waker())) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        });
        tried.await
    }
}

impl Read for ReadHalf<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.waits.reading(|| read(&mut lock(self.shared), self.incoming, buffer)).await
    }
}

impl BufRead for ReadHalf<'_> {
    async fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.waits.reading(|| Ok(fill(&mut lock(self.shared), self.incoming)?.map(|_| ()))).await?;
        ReadHalf { shared: self.shared, incoming: self.incoming, waits: self.waits }.filled()
    }

    fn consume(&mut self, count: usize) {
        io::BufRead::consume(self, count);
    }
}

impl Write for WriteHalf<'_> {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        until(&*self.waits.end, EventFlags::OUT, || lock(self.shared).write(bytes)).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Stream {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut self.split().0, buffer).await
    }
}

impl BufRead for Stream {
    async fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let reader = self.split().0;
        reader.waits.reading(|| Ok(fill(&mut lock(reader.shared), reader.incoming)?.map(|_| ()))).await?;
        reader.filled()
    }

    fn consume(&mut self, count: usize) {
        io::BufRead::consume(self, count);
    }
}

impl Write for Stream {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut self.split().1, bytes).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
