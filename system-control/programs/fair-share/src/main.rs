//! Decides guests' requests for resources. All guests together get no more of a resource than there is to share, and no guest gets more
//! than half of that: who asks for more gets what is left for it, and then nothing.
//!
//! `fair-share ACCOUNT=AMOUNT…`: how much there is of each account, by its number and in its unit (`2=67108864`: 64 MiB of memory).

use std::{collections::HashMap, env, process::ExitCode};

use handover_control::{
    Account, PartitionId,
    requests::{Query, Requests, Verdict},
};

/// What there is to share, and what of it was granted.
#[derive(Default)]
struct Pool {
    total: u64,
    granted: HashMap<PartitionId, u64>,
}

impl Pool {
    fn decide(&mut self, query: &Query) -> Verdict {
        let together: u64 = self.granted.values().sum();
        let own = self.granted.entry(query.partition).or_default();
        let most = (self.total - together).min((self.total / 2).saturating_sub(*own));
        let amount = query.amount.min(most);
        *own += amount;
        match amount {
            0 => Verdict::Refuse,
            amount if amount == query.amount => Verdict::Grant,
            amount => Verdict::Change(amount),
        }
    }
}

fn pools(arguments: impl Iterator<Item = String>) -> Option<HashMap<u64, Pool>> {
    let pool = |argument: String| {
        let (account, total) = argument.split_once('=')?;
        let account = Account::try_from(account.parse::<u64>().ok()?).ok()?;
        Some((account as u64, Pool { total: total.parse().ok()?, ..Pool::default() }))
    };
    arguments.map(pool).collect()
}

fn main() -> ExitCode {
    let Some(mut pools) = pools(env::args().skip(1)) else {
        eprintln!("fair-share: the arguments are ACCOUNT=AMOUNT, as 2=67108864 for 64 MiB of memory");
        return ExitCode::FAILURE;
    };
    match Requests::open().and_then(|requests| {
        handover_control::ready()?;
        for request in &requests {
            let request = request?;
            let pool = pools.get_mut(&(request.account as u64));
            let verdict = pool.map_or(Verdict::Refuse, |pool| pool.decide(&request));
            println!("fair-share: {}: {verdict:?}", *request);
            request.answer(verdict)?;
        }
        Ok(())
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fair-share: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(partition: u32, amount: u64) -> Query {
        let (ticket, partition) = (1, PartitionId::new(partition));
        let name = "guest".into();
        Query { ticket, partition, name, account: Account::Ports, amount, account_used: 0, account_limit: 0 }
    }

    #[test]
    fn a_greedy_one_beside_a_modest_one() {
        let mut pools = pools(["4=100".to_owned()].into_iter()).unwrap();
        let ports = pools.get_mut(&4).unwrap();
        assert_eq!(ports.decide(&query(2, 1_000_000)), Verdict::Change(50));
        assert_eq!(ports.decide(&query(2, 1)), Verdict::Refuse);
        assert_eq!(ports.decide(&query(3, 10)), Verdict::Grant);
        assert_eq!(ports.decide(&query(4, 50)), Verdict::Change(40));
        assert_eq!(ports.decide(&query(5, u64::MAX)), Verdict::Refuse);
        for wrong in ["", "4", "9=1", "4=x"] {
            assert!(super::pools([wrong.to_owned()].into_iter()).is_none(), "{wrong}");
        }
    }
}
