//! What happens when an account is used up: an error that names it, and all of it back afterwards.

use handover_guest::{
    Boot, Error,
    abi::{Account, Call},
    hvc,
};

use crate::{
    calls::{granted, make, refused},
    failure::{Failure, ensure, fail},
};

/// More objects than a test partition's limits allow.
const MANY: usize = 4096;

/// Makes objects until a limit is reached; how many there are in `objects`.
fn exhaust(
    objects: &mut [u64; MANY],
    call: Call,
    arguments: &[u64],
    accounts: &[Account],
) -> Result<usize, Failure> {
    for (count, object) in objects.iter_mut().enumerate() {
        let [x0, x1, ..] = make(call, arguments);
        match Error::from_x0(x0) {
            None => *object = x1,
            Some(Error::Limit) => {
                let named = Account::try_from(x1).ok();
                ensure!(
                    named.is_some_and(|named| accounts.contains(&named)),
                    "the limit after {count} is that of {named:?}, not one of {accounts:?}"
                );
                return Ok(count);
            }
            Some(error) => fail!("{call:?} after {count}: {error} instead of a limit"),
        }
    }
    fail!("{call:?}: {MANY} and no limit; the case needs a partition with lower limits")
}

fn twice(call: Call, arguments: &[u64], accounts: &[Account], give_back: Call) -> Result<(), Failure> {
    let mut objects = [0; MANY];
    let first = exhaust(&mut objects, call, arguments, accounts)?;
    ensure!(first > 0, "{call:?}: not even one");
    // Full is full, again and again.
    for _ in 0..100 {
        refused(call, arguments, &[Error::Limit])?;
    }
    // One back, one more.
    granted(give_back, &[objects[first / 2]])?;
    objects[first / 2] = granted(call, arguments)?;
    refused(call, arguments, &[Error::Limit])?;
    for object in objects[..first].iter().rev() {
        granted(give_back, &[*object])?;
    }
    let second = exhaust(&mut objects, call, arguments, accounts)?;
    ensure!(second == first, "{call:?}: {first} fit at first, then {second}");
    objects[..second].iter().try_for_each(|object| granted(give_back, &[*object]).map(|_| ()))
}

pub(crate) fn memory(_: &Boot) -> Result<(), Failure> {
    let accounts = [Account::Memory, Account::ControlMemory];
    twice(Call::RegionCreate, &[2 << 20, 0], &accounts, Call::RegionDestroy)?;
    let charge = hvc::account_read(None, Account::Memory)?;
    ensure!(charge.used <= charge.limit, "{charge:?}");
    Ok(())
}

pub(crate) fn ports(_: &Boot) -> Result<(), Failure> {
    let own = u64::from(hvc::identify()?.partition.get());
    let accounts = [Account::Ports, Account::ControlMemory];
    twice(Call::Connect, &[own, 90], &accounts, Call::Disconnect)?;
    // All requests are withdrawn.
    refused(Call::SignalNext, &[], &[Error::WouldBlock])
}
