//! The echo test: every byte of every message comes back inverted.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use handover_linux::{Channel, Handover, Message, REGION_MAX, Region, SHORT_MAX, Short, region_size};

use crate::pattern::{self, Sizes};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The service's name
    #[arg(long, default_value = "echo")]
    service: String,
    /// How many messages
    #[arg(long, default_value_t = 1000)]
    count: u64,
    /// What contents and sizes are made from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The longest message in bytes
    #[arg(long, default_value_t = 2 << 20, value_parser = clap::value_parser!(u64).range(1..=REGION_MAX as u64))]
    max: u64,
    /// A region for each message, instead of those that came back
    #[arg(long)]
    fresh: bool,
    /// How long to wait for an answer, in seconds
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    /// How long to try again if nobody listens for the service yet, in seconds
    #[arg(long, default_value_t = 0)]
    wait: u64,
    /// No progress on the terminal
    #[arg(long)]
    quiet: bool,
}

#[derive(Default)]
struct Totals {
    messages: u64,
    bytes: u64,
    regions: u64,
    sizes: BTreeSet<usize>,
}

/// Messages go to the service one at a time.
struct Exchange<'a> {
    handover: &'a Handover,
    channel: Channel,
    /// Regions that came back, by size.
    kept: BTreeMap<usize, Region>,
    fresh: bool,
    timeout: Duration,
}

pub(crate) fn run(handover: &Handover, arguments: &Arguments) -> Result<()> {
    let service = handover.service(&arguments.service)?;
    let patience = Duration::from_secs(arguments.wait);
    let channel = Channel::connect_within(handover, &service, patience).with_context(|| {
        format!(
            "cannot connect to `{}` (service {} of partition {})",
            service.name, service.service, service.partition
        )
    })?;
    let timeout = Duration::from_secs(arguments.timeout);
    let mut exchange = Exchange { handover, channel, kept: BTreeMap::new(), fresh: arguments.fresh, timeout };
    let mut totals = Totals::default();
    let mut progress = Progress::new(arguments.count, arguments.quiet);
    let start = Instant::now();
    let max = usize::try_from(arguments.max)?;
    for (index, size) in (0..arguments.count).zip(Sizes::new(arguments.seed, max)) {
        let seed = arguments.seed.wrapping_mul(0x1_0000_0001).wrapping_add(index);
        let moved = exchange.message(seed, size).with_context(|| {
            format!(
                "message {index} of {size} bytes (seed {}); {} messages before it were right",
                arguments.seed, totals.messages
            )
        });
        progress.clear_on_error(&moved);
        totals.regions += u64::from(moved?);
        totals.messages += 1;
        totals.bytes += size as u64;
        totals.sizes.insert(size);
        progress.show(&totals);
    }
    let time = start.elapsed();
    drop(progress);
    print_summary(&totals, time);
    Ok(())
}

fn print_summary(totals: &Totals, time: Duration) {
    let [smallest, largest] =
        [totals.sizes.first(), totals.sizes.last()].map(|size| size.copied().unwrap_or(0));
    // Each byte goes there and comes back.
    let rate = totals.bytes as f64 * 2.0 / time.as_secs_f64() / 1e6;
    println!(
        "echo: {} messages, {} bytes each way, {} sizes from {smallest} to {largest} bytes, {} regions moved each way, \
         0 errors, {:.2} s, {rate:.1} MB/s",
        totals.messages,
        totals.bytes,
        totals.sizes.len(),
        totals.regions,
        time.as_secs_f64()
    );
}

impl Exchange<'_> {
    /// One message there and back; tells whether a region went.
    fn message(&mut self, seed: u64, size: usize) -> Result<bool> {
        if size <= SHORT_MAX {
            self.short(seed, size)?;
            return Ok(false);
        }
        self.region(seed, size)?;
        Ok(true)
    }

    fn short(&mut self, seed: u64, size: usize) -> Result<()> {
        let mut bytes = [0; SHORT_MAX];
        pattern::fill(seed, &mut bytes[..size]);
        self.channel.send_wait(Short::new(&bytes[..size])?).context("cannot send")?;
        let answer = self.answer()?;
        ensure!(answer.region.is_none(), "a region came back, none went");
        ensure!(answer.short.len() == size, "{} bytes came back", answer.short.len());
        check(seed, &answer.short)
    }

    fn region(&mut self, seed: u64, size: usize) -> Result<()> {
        let region_size = region_size(size).with_context(|| format!("no region holds {size} bytes"))?;
        let mut region = match self.kept.remove(&region_size) {
            Some(region) => region,
            None => Region::create(self.handover, region_size)
                .with_context(|| format!("cannot create a region of {region_size} bytes"))?,
        };
        pattern::fill(seed, &mut region[..size]);
        region[size..].fill(0xa5);
        self.channel.send_wait((region, (size as u64).to_le_bytes())).context("cannot send")?;
        let answer = self.answer()?;
        let Some(region) = answer.region else { bail!("the region did not come back") };
        ensure!(
            region.len() == region_size,
            "a region of {} bytes came back, not {region_size}",
            region.len()
        );
        check(seed, &region[..size])?;
        // Beyond the message, the service may leave the region as it was, or treat it like the rest.
        let rest = &region[size..];
        if let Some(at) = rest.iter().position(|&byte| byte != rest[0] || ![0xa5, 0x5a].contains(&byte)) {
            bail!("byte {} beyond the message came back wrong: {:#04x}", size + at, rest[at]);
        }
        if !self.fresh {
            self.kept.insert(region_size, region);
        }
        Ok(())
    }

    fn answer(&self) -> Result<Message> {
        self.channel.receive_timeout(self.timeout).context("no answer")
    }
}

fn check(seed: u64, bytes: &[u8]) -> Result<()> {
    match pattern::mismatch(seed, bytes) {
        None => Ok(()),
        Some(at) => bail!("byte {at} came back wrong: {:#04x}", bytes[at]),
    }
}

/// A line on the terminal that is written again at each tenth of the way.
struct Progress {
    terminal: bool,
    count: u64,
    tenths: u64,
}

impl Progress {
    fn new(count: u64, quiet: bool) -> Progress {
        Progress { terminal: !quiet && io::stderr().is_terminal(), count, tenths: 0 }
    }

    fn show(&mut self, totals: &Totals) {
        let tenths = totals.messages * 10 / self.count;
        if self.terminal && tenths > self.tenths {
            self.tenths = tenths;
            eprint!("\recho: {} of {} messages, {} MiB", totals.messages, self.count, totals.bytes >> 20);
        }
    }

    fn clear_on_error<T>(&mut self, result: &Result<T>) {
        if result.is_err() {
            self.clear();
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.tenths) > 0 {
            eprint!("\r\x1b[K");
            // A terminal that is gone does not matter to the test.
            io::stderr().flush().ok();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
