//! Messages for shell scripts.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use handover_linux::{
    Channel, Handover, Listener, Message, Region, SHORT_MAX, ServiceId, Short, region_size,
};

#[derive(clap::Args)]
pub(crate) struct Send {
    /// The service's name
    service: String,
    /// Write the answer to standard output
    #[arg(long)]
    answer: bool,
}

#[derive(clap::Args)]
pub(crate) struct Receive {
    /// The service's name
    service: String,
    /// How many messages; otherwise all until the peer closes
    #[arg(long)]
    count: Option<u64>,
    /// Give up when nothing comes for so many seconds
    #[arg(long)]
    timeout: Option<u64>,
}

#[derive(clap::Args)]
pub(crate) struct Listen {
    /// The service's name, or its number
    service: String,
    /// How many channels to accept, one after the other; otherwise any number
    #[arg(long)]
    channels: Option<u64>,
    /// Send each message back, every byte inverted, instead of writing it
    #[arg(long)]
    echo: bool,
    /// Refuse every request, for this reason
    #[arg(long)]
    refuse: Option<u32>,
}

impl Send {
    pub(crate) fn run(&self, handover: &Handover) -> Result<()> {
        let channel = connect(handover, &self.service)?;
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
        channel.send_wait(message(handover, &bytes)?).context("cannot send")?;
        if self.answer {
            write(&channel.receive_wait().context("no answer")?)?;
        }
        Ok(())
    }
}

impl Receive {
    pub(crate) fn run(&self, handover: &Handover) -> Result<()> {
        let channel = connect(handover, &self.service)?;
        write_all(&channel, self.count, self.timeout)
    }
}

impl Listen {
    pub(crate) fn run(&self, handover: &Handover) -> Result<()> {
        let listener = match self.service.parse().map(ServiceId::new) {
            Ok(number) => Listener::for_service(handover, number),
            Err(_) => Listener::new(handover, &handover.provided(&self.service)?),
        }
        .with_context(|| format!("cannot listen for `{}`", self.service))?;
        let mut left = self.channels;
        while left != Some(0) {
            let request = listener.request_wait().context("cannot wait for requests")?;
            left = left.map(|left| left - 1);
            if let Some(reason) = self.refuse {
                request.refuse(reason).context("cannot refuse a request")?;
                continue;
            }
            let channel = match request.accept() {
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                channel => channel.context("cannot accept a request")?,
            };
            if self.echo { echo(&channel)? } else { write_all(&channel, None, None)? }
        }
        Ok(())
    }
}

fn connect(handover: &Handover, service: &str) -> Result<Channel> {
    let service = handover.service(service)?;
    Channel::connect(handover, &service).with_context(|| format!("cannot connect to `{}`", service.name))
}

/// Short if it can be, else a region, with the length in the short part.
fn message(handover: &Handover, bytes: &[u8]) -> Result<Message> {
    if bytes.len() <= SHORT_MAX {
        return Ok(Short::new(bytes)?.into());
    }
    let Some(size) = region_size(bytes.len()) else { bail!("{} bytes do not fit in a region", bytes.len()) };
    let mut region =
        Region::create(handover, size).with_context(|| format!("cannot create a region of {size} bytes"))?;
    region[..bytes.len()].copy_from_slice(bytes);
    Ok((region, (bytes.len() as u64).to_le_bytes()).into())
}

/// How many bytes of its region a message uses: the number in its short part, or all.
fn length(message: &Message, region: &Region) -> usize {
    let length = message.short.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    length
        .and_then(|length| usize::try_from(length).ok())
        .filter(|&length| length <= region.len())
        .unwrap_or(region.len())
}

fn write(message: &Message) -> Result<()> {
    let bytes = match &message.region {
        Some(region) => &region[..length(message, region)],
        None => &message.short[..],
    };
    let mut output = io::stdout();
    output.write_all(bytes).and_then(|()| output.flush()).context("cannot write to standard output")
}

fn write_all(channel: &Channel, count: Option<u64>, timeout: Option<u64>) -> Result<()> {
    let mut left = count;
    while left != Some(0) {
        let next = match timeout {
            Some(seconds) => channel.receive_timeout(Duration::from_secs(seconds)),
            None => channel.receive_wait(),
        };
        match next {
            Ok(message) => write(&message)?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && count.is_none() => break,
            Err(error) => return Err(error).context("cannot receive"),
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}

fn echo(channel: &Channel) -> Result<()> {
    loop {
        let mut message = match channel.receive_wait() {
            Ok(message) => message,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error).context("cannot receive"),
        };
        let region = message.region.take().map(|mut region| {
            let length = length(&message, &region);
            region[..length].iter_mut().for_each(|byte| *byte ^= 0xff);
            region
        });
        let answer = match region {
            Some(region) => Message { region: Some(region), short: message.short },
            None => Short::new(&message.short.iter().map(|byte| byte ^ 0xff).collect::<Vec<_>>())?.into(),
        };
        match channel.send_wait(answer) {
            Ok(()) => {}
            Err(failed) if failed.error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(failed) => return Err(failed).context("cannot send"),
        }
    }
}
