//! Cache colours: what is refused, partitions that run in theirs, and a channel whose regions have others.

use alloc::{format, string::String};

use handover_guest::{
    Channel, PartitionId, Region, ServiceId,
    abi::{Account, EndReason, Error, Name, layout::MEMORY_BASE},
    hvc, println,
};
use subject::Order;

use crate::{
    lifecycle::held,
    stage::{Stage, Verdict, ensure},
    subject::Subject,
};

const MIB: u64 = 1 << 20;

pub(crate) fn run(stage: &mut Stage) -> Verdict {
    let count = hvc::cache_info().map_err(|error| format!("the cache tells nothing: {error}"))?;
    println!("examiner: {count} cache colours");
    ensure!(count >= 8 && count.is_power_of_two(), "{count} colours are too few for this case");
    refusals(count)?;
    // The records of this side's channels are there from the first round on.
    round(stage)?;
    let before = held()?;
    for _ in 0..3 {
        round(stage)?;
    }
    let after = held()?;
    ensure!(before == after, "held before {before:?}, after {after:?}");
    Ok(())
}

fn round(stage: &Stage) -> Verdict {
    confined(stage)?;
    channel(stage)
}

fn used(id: PartitionId, account: Account) -> Result<u64, String> {
    let charge = hvc::account_read(Some(id), account);
    charge.map(|charge| charge.used).map_err(|error| format!("{account} of {id} cannot be read: {error}"))
}

fn refusals(count: u32) -> Verdict {
    let wrong = |error| format!("the partition to refuse things to: {error}");
    let name = Name::new("refused").ok_or("a name")?;
    let id = hvc::partition_create(name, 1).map_err(wrong)?;
    let set = |own, channels| hvc::partition_set_colours(id, own, channels);
    ensure!(set(1, 0) == Err(Error::Limit), "it has a colour without a right to one");
    for (account, limit) in [
        (Account::CacheColours, 2),
        (Account::Memory, 8 * MIB),
        (Account::AddressSpace, 8 * MIB),
        (Account::ControlMemory, MIB),
    ] {
        hvc::partition_set_limit(id, account, limit).map_err(wrong)?;
    }
    if count < 64 {
        ensure!(
            set(1 << count, 0) == Err(Error::InvalidArgument),
            "it has a colour that the machine has not"
        );
        ensure!(set(0, 1 << 63) == Err(Error::InvalidArgument), "its channels have");
    }
    ensure!(set(0b111, 0) == Err(Error::Limit), "three colours, with a limit of two");
    ensure!(set(0b11, 0b110) == Err(Error::Limit), "three colours, one of them its channels'");
    ensure!(used(id, Account::CacheColours)? == 0, "what was refused is charged");
    set(0b11, 0b10).map_err(wrong)?;
    ensure!(
        used(id, Account::CacheColours)? == 2,
        "{} colours are charged",
        used(id, Account::CacheColours)?
    );
    let add = |size| hvc::partition_add_memory(id, MEMORY_BASE, size);
    ensure!(add(4 * MIB) == Err(Error::TooLarge), "4 MiB at once, page by page");
    add(2 * MIB).map_err(wrong)?;
    // A table for the GiB, and one for these 2 MiB.
    ensure!(used(id, Account::ControlMemory)? == 2 * 4096, "{} of tables", used(id, Account::ControlMemory)?);
    ensure!(set(1, 0) == Err(Error::WrongState), "its colours change under its memory");
    hvc::partition_destroy(id).map_err(wrong)?;
    ensure!(hvc::partition_set_colours(id, 1, 0) == Err(Error::BadHandle), "nobody has colours");
    Ok(())
}

/// A partition in its colours does what others do, but for large regions.
fn confined(stage: &Stage) -> Verdict {
    let mut subject = Subject::run(stage)?;
    let (_, template) = stage.manifest.partition("subject").ok_or("no subject")?;
    let colours = template.colours.len() as u64;
    ensure!(used(subject.id, Account::CacheColours)? == colours, "not {colours} colours are charged");
    let tables = used(subject.id, Account::ControlMemory)?;
    ensure!(tables >= template.memory.0 / 512, "{tables} bytes of tables map {}", template.memory);
    subject.ask(Order::Stamp, 0, 0)?;
    for size in [4096, 64 << 10, 2 * MIB] {
        subject.ask(Order::Region, size, 0)?;
    }
    subject.ask(Order::Sleep, 1_000_000, 0)?;
    // It gives up over a region of blocks.
    subject.tell(Order::Region, 4 * MIB, 0)?;
    let (reason, status) = stage.reap(subject.id)?;
    ensure!((reason, status) == (EndReason::Exited, 1), "it ended by {reason:?} with status {status}");
    Ok(())
}

/// A channel takes regions of its colours alone.
fn channel(stage: &Stage) -> Verdict {
    let failed = |what: &'static str| move |error: Error| format!("{what}: {error}");
    let echo = stage.run("echo")?;
    let service = stage.manifest.service("echo").ok_or("no service echo")?;
    let request = Channel::request(echo, ServiceId::new(service.id)).map_err(failed("the request"))?;
    let mut channel = request.wait().map_err(|error| format!("echo does not answer: {error:?}"))?;
    let own = Region::create(2 << 20).map_err(failed("a region"))?;
    match channel.send(own) {
        Ok(()) => return Err("a region of other colours went through".into()),
        Err(refused) => ensure!(refused.error == Error::Limit, "it was refused by {}", refused.error),
    }
    let mut region = Region::create_for(&channel, 16 << 10).map_err(failed("a region for the channel"))?;
    region.fill(0x5a);
    channel.send(region).map_err(|refused| format!("it does not go through: {}", refused.error))?;
    let answer = channel.receive_wait().map_err(failed("the answer"))?;
    let region = answer.region.ok_or("an answer without the region")?;
    ensure!(region.iter().all(|byte| *byte == 0xa5), "the answer is another");
    let large = Region::create_for(&channel, 4 << 20).err();
    ensure!(large == Some(Error::TooLarge), "a region of blocks for the channel: {large:?}");
    drop((region, channel));
    hvc::partition_stop(echo).map_err(failed("echo's end"))?;
    stage.reap(echo).map(|_| ())
}
