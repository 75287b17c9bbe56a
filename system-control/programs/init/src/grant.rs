//! Granting more of a resource, once that is decided.

use handover_control::{
    Account, Machine, Partition,
    abi::{Error, ProcessorClaim, resources::Outcome},
};
use handover_loader::devices::give_next;

/// The period of a processor that had no budget before, in nanoseconds.
const PERIOD: u64 = 10_000_000;
/// A processor's whole time, in the account's unit.
const WHOLE: u64 = 1_000_000;

/// Raises what a partition may have by an amount in the account's unit. Time of processors is promised at once, to its logical processors alike.
///
/// # Errors
///
/// Those of the calls; nothing has changed then.
pub fn raise(partition: &Partition, account: Account, amount: u64) -> Result<(), Error> {
    // The limit as it is now: another request may have been granted meanwhile.
    let charge = partition.account(account).map_err(plain)?;
    if account != Account::ProcessorTime {
        return partition.set_limit(account, charge.limit.saturating_add(amount)).map_err(plain);
    }
    let promised = charge.used.saturating_add(amount);
    if promised > charge.limit {
        partition.set_limit(account, promised).map_err(plain)?;
    }
    promise(partition, amount).inspect_err(|_| {
        // It was that before.
        let _as_before = partition.set_limit(account, charge.limit);
    })
}

/// Gives a partition the next so many of the devices that its manifest lets it ask for, as far as they are to be had.
#[must_use]
pub fn devices(
    machine: &Machine,
    partition: &Partition,
    manifest: &handover_manifest::Partition,
    amount: u64,
) -> Outcome {
    for given in 0..amount {
        let result = raise(partition, Account::Devices, 1).and_then(|()| {
            give_next(&mut &*machine, manifest, partition.id()).inspect_err(|_| {
                let charge = partition.account(Account::Devices);
                // It was that before.
                let _as_before =
                    charge.and_then(|charge| partition.set_limit(Account::Devices, charge.limit - 1));
            })
        });
        match result {
            Ok(()) => {}
            Err(error) if given == 0 => return Outcome::Failed(error),
            Err(_) => return Outcome::Changed(given),
        }
    }
    Outcome::Granted(amount)
}

/// Has the processors that are not alone share more time.
fn promise(partition: &Partition, amount: u64) -> Result<(), Error> {
    let mut before = Vec::new();
    for number in 0.. {
        match partition.claim(number).map_err(plain)? {
            Some(claim) if claim.alone => {}
            Some(claim) => before.push((number, claim)),
            None => break,
        }
    }
    let each = amount.checked_div(before.len() as u64).ok_or(Error::InvalidArgument)?;
    for (changed, &(number, claim)) in before.iter().enumerate() {
        let period = if claim.budget == 0 { PERIOD } else { claim.period };
        let more = u128::from(period) * u128::from(each.min(WHOLE)) / u128::from(WHOLE);
        let raised = ProcessorClaim { budget: period.min(claim.budget + more as u64), period, ..claim };
        if let Err(error) = partition.set_claim(number, raised) {
            for &(number, claim) in &before[..changed] {
                // Less than it has is always to be had.
                let _as_before = partition.set_claim(number, claim);
            }
            return Err(plain(error));
        }
    }
    Ok(())
}

fn plain(error: handover_control::Error) -> Error {
    error.control().unwrap_or(Error::NotSupported)
}

#[cfg(test)]
mod tests {
    use super::*;
    use handover_control::{Setup, model::Model};

    fn partition(model: &Model, processors: u32) -> Partition {
        let machine = model.machine();
        machine.create_empty(&Setup::new("guest", processors, 2 << 20)).unwrap()
    }

    fn budgets(partition: &Partition) -> Vec<(u64, u64)> {
        let claims = (0..).map_while(|number| partition.claim(number).unwrap());
        claims.map(|claim| (claim.budget, claim.period)).collect()
    }

    #[test]
    fn time_is_promised_to_all_processors_alike() {
        let model = Model::new(64 << 20);
        let partition = partition(&model, 2);
        partition.set_limit(Account::ProcessorTime, 100_000).unwrap();
        raise(&partition, Account::ProcessorTime, 200_000).unwrap();
        assert_eq!(budgets(&partition), [(1_000_000, PERIOD); 2]);
        let charge = partition.account(Account::ProcessorTime).unwrap();
        assert_eq!((charge.used, charge.limit), (200_000, 200_000));
        // What it has is what it starts from, and its period stays.
        partition.set_limit(Account::ProcessorTime, 400_000).unwrap();
        partition
            .set_claim(1, ProcessorClaim { budget: 2_000_000, period: 8_000_000, ..Default::default() })
            .unwrap();
        raise(&partition, Account::ProcessorTime, 50_000).unwrap();
        assert_eq!(budgets(&partition), [(1_250_000, PERIOD), (2_200_000, 8_000_000)]);
        assert_eq!(partition.account(Account::ProcessorTime).unwrap().limit, 400_000);
    }

    #[test]
    fn what_no_processor_can_give_changes_nothing() {
        let model = Model::new(64 << 20);
        let partition = partition(&model, 2);
        partition.set_limit(Account::ProcessorTime, 7).unwrap();
        // The model has one processor to give.
        assert_eq!(raise(&partition, Account::ProcessorTime, 2_000_000), Err(Error::NoCapacity));
        assert_eq!(budgets(&partition), [(0, 0); 2]);
        assert_eq!(partition.account(Account::ProcessorTime).unwrap().limit, 7);
    }
}
