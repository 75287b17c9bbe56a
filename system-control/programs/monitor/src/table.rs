//! The table: a line for each partition.

use std::{collections::HashMap, fmt::Write, time::Duration};

use handover_control::{Account, Error, Listed, Machine, PartitionId, abi::Counter};

/// What it knows from the last time it looked.
#[derive(Debug, Default)]
pub struct Table {
    ran: HashMap<PartitionId, u64>,
    last: Duration,
}

/// A partition as it is now.
struct Row {
    state: String,
    /// Nanoseconds that its processors have run together, and have waited.
    ran: u64,
    waited: u64,
    charges: [(u64, u64); 3],
    counts: [u64; 4],
}

/// Accounts with a column: memory in MiB, control memory in KiB, ports.
const ACCOUNTS: [(Account, u32); 3] =
    [(Account::Memory, 20), (Account::ControlMemory, 10), (Account::Ports, 0)];
/// Counters with a column.
const COUNTERS: [Counter; 4] =
    [Counter::Calls, Counter::Switches, Counter::MessagesSent, Counter::MessagesReceived];

impl Table {
    /// Looks at all partitions; `now` is the time since any fixed moment. The share of processors is that since it looked before.
    pub fn look(&mut self, machine: &Machine, listed: &[Listed], now: Duration) -> String {
        let passed = now.saturating_sub(self.last).as_nanos().max(1);
        let mut lines = format!(
            "{:>4} {:<15} {:<10} {:>5} {:>8} {:>8} {:>11} {:>11} {:>9} {:>10} {:>9} {:>8} {:>8} {:>8}\n",
            "ID",
            "NAME",
            "STATE",
            "%CPU",
            "RAN/ms",
            "WAIT/ms",
            "MEM/MiB",
            "CTRL/KiB",
            "PORTS",
            "CALLS",
            "SWITCHES",
            "SENT",
            "RECEIVED",
            "RESTARTS"
        );
        let mut seen = HashMap::new();
        for one in listed {
            let id = one.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
            // Writing to a string cannot fail.
            let _ = write!(lines, "{id:>4} {:<15} ", one.name);
            let row = one.id.map(|id| row(machine, id));
            let _ = match (one.id, row) {
                (Some(id), Some(Ok(row))) => {
                    seen.insert(id, row.ran);
                    let ran = self.ran.get(&id).map(|&before| u128::from(row.ran.saturating_sub(before)));
                    let share = ran.map_or_else(|| "-".into(), |ran| (ran * 100 / passed).to_string());
                    writeln!(lines, "{}", shown(&row, &share, one.restarts))
                }
                (_, Some(Err(error))) => writeln!(lines, "{error}"),
                _ => writeln!(lines, "ended"),
            };
        }
        (self.ran, self.last) = (seen, now);
        lines
    }
}

fn row(machine: &Machine, id: PartitionId) -> Result<Row, Error> {
    let partition = machine.partition(id);
    let (state, _) = partition.state()?;
    let (mut ran, mut waited) = (0, 0);
    for number in 0.. {
        let Some(time) = partition.processor(number)? else { break };
        (ran, waited) = (ran + time.ran, waited + time.waited);
    }
    let mut charges = [(0, 0); _];
    for (charge, (account, unit)) in charges.iter_mut().zip(ACCOUNTS) {
        let read = partition.account(account)?;
        *charge = (read.used >> unit, read.limit >> unit);
    }
    let counters = partition.counters()?;
    Ok(Row {
        state: format!("{state:?}").to_lowercase(),
        ran,
        waited,
        charges,
        counts: COUNTERS.map(|counter| counters.get(counter)),
    })
}

fn shown(row: &Row, share: &str, restarts: u32) -> String {
    const MILLISECOND: u64 = 1_000_000;
    let [memory, control, ports] = row.charges.map(|(used, limit)| format!("{used}/{limit}"));
    let [calls, switches, sent, received] = row.counts;
    let (ran, waited) = (row.ran / MILLISECOND, row.waited / MILLISECOND);
    format!(
        "{:<10} {share:>5} {ran:>8} {waited:>8} {memory:>11} {control:>11} {ports:>9} {calls:>10} {switches:>9} {sent:>8} {received:>8} {restarts:>8}",
        row.state
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use handover_control::{Setup, model::Model};

    #[test]
    fn shows_use_and_shares() {
        let model = Model::new(64 << 20);
        let machine = model.machine();
        for name in ["busy", "lazy"] {
            machine.create_empty(&Setup::new(name, 2, 2 << 20)).unwrap().start_at(0x4000_0000, 0).unwrap();
        }
        let listed = |name: &str, id: Option<u32>| Listed {
            name: name.into(),
            id: id.map(PartitionId::new),
            restarts: 1,
            ended: id.is_none(),
        };
        let listed = [
            listed("busy", Some(2)),
            listed("lazy", Some(3)),
            listed("gone", None),
            listed("unknown", Some(9)),
        ];
        let ran = |milliseconds: u64| {
            move |partition: &mut handover_control::model::Modelled| {
                partition.times[1].0 += milliseconds * 1_000_000
            }
        };
        let mut table = Table::default();
        model.count(2, ran(500));
        let lines = table.look(&machine, &listed, Duration::from_secs(1));
        assert!(
            lines.contains(
                "   2 busy            active         -      500        0        2/34      0/4096    0/1024 "
            ),
            "{lines}"
        );
        assert!(lines.contains("   - gone            ended\n"), "{lines}");
        assert!(lines.contains("   9 unknown         cannot ask for its state"), "{lines}");
        model.count(2, ran(3000));
        model.count(3, |partition| {
            partition.times[0] = (10_000_000, 20_000_000);
            partition.counters[Counter::Calls as usize] = 77;
            partition.counters[Counter::MessagesReceived as usize] = 5;
        });
        let lines = table.look(&machine, &listed, Duration::from_secs(3));
        assert!(lines.contains("   2 busy            active       150     3500 "), "{lines}");
        let lazy = lines.lines().find(|line| line.contains(" lazy ")).unwrap();
        let words: Vec<_> = lazy.split_ascii_whitespace().collect();
        assert_eq!(
            words,
            ["3", "lazy", "active", "0", "10", "20", "2/34", "0/4096", "0/1024", "77", "0", "0", "5", "1"]
        );
    }
}
