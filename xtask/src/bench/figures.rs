//! What was measured, as a table and as JSON.

use super::{
    counts::{ByName, Executed},
    variation::Variation,
};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// What starts a figure's line on a guest's console.
const RECORD: &str = "bench: ";
/// The unit of a figure that does not say.
pub(super) const INSTRUCTIONS: &str = "instructions";

/// What each figure is to be at most.
const GOALS: [(&str, u64); 16] = [
    ("null_call", 80),
    ("event_send", 300),
    ("event_send_2cpu", 300),
    ("event_round_trip", 2_000),
    ("event_round_trip_2cpu", 1_500),
    ("world_switch", 600),
    ("timer_interrupt", 700),
    ("sc_syscall", 150),
    ("short_round_trip", 2_500),
    ("direct_call", 700),
    ("send_receive", 400),
    ("echo_4k", 3_000),
    ("echo_64k", 3_000),
    ("echo_2m", 3_000),
    ("echo_64m", 3_000),
    ("direct_echo_2m", 1_200),
];
/// How many times the plain figure one with other channels or partitions may be.
const BYSTANDERS: f64 = 1.05;
/// Figures of which the largest is at most 1.05 times the smallest.
const SIZES: [&str; 4] = ["echo_4k", "echo_64k", "echo_2m", "echo_64m"];

/// A figure as a guest tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) value: u64,
    pub(super) unit: String,
}

impl Figure {
    /// The figure in a line `bench: NAME NUMBER`, behind which a unit may be.
    pub(super) fn parse(line: &str) -> Option<Figure> {
        let mut words = line.trim_end().strip_prefix(RECORD)?.split(' ');
        let (name, value) = (words.next()?, words.next()?.parse().ok()?);
        let unit = words.next().unwrap_or(INSTRUCTIONS);
        let whole = words.next().is_none() && !name.is_empty() && !unit.is_empty();
        whole.then(|| Figure { name: name.to_owned(), value, unit: unit.to_owned() })
    }
}

/// What was measured, in the order in which it was.
#[derive(Default)]
pub(super) struct Figures {
    rows: Vec<Row>,
    /// What they execute that costs more than it counts.
    executed: Executed,
}

struct Row {
    figure: Figure,
    /// How many times the bare machine's figure this is, where there is one.
    ratio: Option<f64>,
    /// The same in other circumstances.
    others: Vec<(Variation, u64)>,
}

impl Figures {
    pub(super) fn add(&mut self, figures: Vec<Figure>) {
        let row = |figure| Row { figure, ratio: None, others: Vec::new() };
        self.rows.extend(figures.into_iter().map(row));
    }

    pub(super) fn add_with_ratio(&mut self, figure: Figure, ratio: f64) {
        self.rows.push(Row { figure, ratio: Some(ratio), others: Vec::new() });
    }

    /// Puts them beside those of the same names.
    pub(super) fn vary(&mut self, variation: Variation, figures: Vec<Figure>) {
        for figure in figures {
            match self.rows.iter_mut().find(|row| row.figure.name == figure.name) {
                Some(row) => row.others.push((variation, figure.value)),
                None => {
                    let name = figure.name + variation.suffix();
                    self.add(vec![Figure { name, ..figure }]);
                }
            }
        }
    }

    /// Keeps what figures of these names execute.
    pub(super) fn count(&mut self, variation: Option<Variation>, counts: ByName) {
        self.executed.add(variation, counts);
    }

    /// All values by their flat names.
    fn flat(&self) -> impl Iterator<Item = (String, u64)> {
        self.rows.iter().flat_map(|row| {
            let plain = std::iter::once((row.figure.name.clone(), row.figure.value));
            let other = |(variation, value): &(Variation, u64)| {
                (row.figure.name.clone() + variation.suffix(), *value)
            };
            plain.chain(row.others.iter().map(other))
        })
    }

    fn value(&self, name: &str) -> Option<u64> {
        self.flat().find_map(|(found, value)| (found == name).then_some(value))
    }

    /// A row for each figure, and what does not reach its goal.
    pub(super) fn table(&self) -> String {
        let width =
            self.rows.iter().map(|row| row.figure.name.len()).max().unwrap_or(0).max("measured".len());
        let mut head = format!("{:width$}  {:>13}", "measured", INSTRUCTIONS);
        let varied = |variation: &Variation| {
            self.rows.iter().any(|row| row.others.iter().any(|(other, _)| other == variation))
        };
        let variations: Vec<Variation> = Variation::ALL.into_iter().filter(varied).collect();
        for variation in &variations {
            head += &format!("  {:>16}", variation.title());
        }
        let mut table = head + "\n";
        for row in &self.rows {
            table += row.line(width, &variations).trim_end();
            table.push('\n');
        }
        for shortcoming in self.shortcomings() {
            table += &format!("{shortcoming}\n");
        }
        table + &self.executed.table()
    }

    /// What is larger than it should be.
    fn shortcomings(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (name, goal) in GOALS {
            if let Some(value) = self.value(name).filter(|value| *value > goal) {
                all.push(format!("{name} is {}, and should be at most {}", grouped(value), grouped(goal)));
            }
        }
        for row in &self.rows {
            for (variation, value) in row.others.iter().filter(|(variation, _)| variation.is_bystanders()) {
                let times = *value as f64 / row.figure.value as f64;
                if row.figure.unit == INSTRUCTIONS && times > BYSTANDERS {
                    let name = row.figure.name.clone() + variation.suffix();
                    all.push(format!(
                        "{name} is {times:.3} times the plain figure, and should be at most {BYSTANDERS}"
                    ));
                }
            }
        }
        let sizes: Vec<u64> = SIZES.iter().filter_map(|name| self.value(name)).collect();
        if let (Some(least), Some(most)) = (sizes.iter().min(), sizes.iter().max()) {
            let times = *most as f64 / *least as f64;
            if times > BYSTANDERS {
                all.push(format!("the largest of {} is {times:.3} times the smallest", SIZES.join(", ")));
            }
        }
        all
    }

    pub(super) fn json(&self) -> Value {
        let mut map = Map::new();
        for row in &self.rows {
            let mut value = json!({ (row.figure.unit.clone()): row.figure.value });
            if let Some(ratio) = row.ratio {
                value["ratio"] = json!(ratio);
            }
            map.insert(row.figure.name.clone(), value);
            for (variation, other) in &row.others {
                let name = row.figure.name.clone() + variation.suffix();
                let mut value = json!({ (row.figure.unit.clone()): other });
                if row.figure.unit == INSTRUCTIONS {
                    value["ratio"] = json!(*other as f64 / row.figure.value as f64);
                }
                map.insert(name, value);
            }
        }
        for (name, counts) in self.executed.flat() {
            if let Some(figure) = map.get_mut(&name) {
                for (key, number) in counts.named() {
                    figure[key] = json!(number);
                }
            }
        }
        Value::Object(map)
    }
}

impl Row {
    fn line(&self, width: usize, variations: &[Variation]) -> String {
        let mut line = format!("{:width$}  {:>13}", self.figure.name, grouped(self.figure.value));
        // Writing to a string cannot fail.
        for variation in variations {
            let other = self.others.iter().find(|(other, _)| other == variation);
            let _ = match other {
                Some((_, value)) if self.figure.unit == INSTRUCTIONS => {
                    let times = *value as f64 / self.figure.value as f64;
                    write!(line, "  {:>9} {times:.3}x", grouped(*value))
                }
                Some((_, value)) => write!(line, "  {:>16}", grouped(*value)),
                None => write!(line, "  {:16}", ""),
            };
        }
        if self.figure.unit != INSTRUCTIONS {
            let _ = write!(line, "  {}", self.figure.unit);
        }
        if let Some(ratio) = self.ratio {
            let _ = write!(line, "  {ratio:.4} times the bare machine's");
        }
        line
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::{super::counts::Counts, *};

    fn figure(name: &str, value: u64) -> Figure {
        Figure { name: name.to_owned(), value, unit: INSTRUCTIONS.to_owned() }
    }

    fn figures() -> Figures {
        let mut figures = Figures::default();
        let bytes = Figure { unit: "bytes".to_owned(), ..figure("crossover", 1_600) };
        figures.add(vec![figure("null_call", 59), figure("echo_2m", 1_234_567), bytes.clone()]);
        figures.vary(Variation::Channels, vec![figure("null_call", 62), Figure { value: 1_632, ..bytes }]);
        figures.vary(Variation::Processors, vec![figure("null_call", 118), figure("other", 7)]);
        figures.add_with_ratio(figure("linux_boot", 100), 1.25);
        figures
    }

    #[test]
    fn reads_figures_and_nothing_else() {
        assert_eq!(Figure::parse("bench: echo_4k 1234\r"), Some(figure("echo_4k", 1234)));
        let bytes = Figure { unit: "bytes".to_owned(), ..figure("crossover", 1_600) };
        assert_eq!(Figure::parse("bench: crossover 1600 bytes\r"), Some(bytes));
        for line in [
            "bench: echo_4k",
            "bench: role=x is neither client nor server",
            " bench: a 1",
            "bench: a -1",
            "bench: a 1 b c",
        ] {
            assert_eq!(Figure::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_row_for_each_figure() {
        let table = figures().table();
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["null_call", "59", "62", "1.051x", "118", "2.000x"]);
        assert_eq!(lines[2], ["echo_2m", "1,234,567"]);
        assert_eq!(lines[3], ["crossover", "1,600", "1,632", "bytes"]);
        assert_eq!(lines[4], ["other_2cpu", "7"]);
        assert_eq!(lines[5], ["linux_boot", "100", "1.2500", "times", "the", "bare", "machine's"]);
        assert_eq!(lines[6].join(" "), "echo_2m is 1,234,567, and should be at most 3,000");
        assert_eq!(
            lines[7].join(" "),
            "null_call_1000_channels is 1.051 times the plain figure, and should be at most 1.05"
        );
        assert_eq!(lines.len(), 8);
    }

    #[test]
    fn sizes_may_differ_little() {
        let mut figures = Figures::default();
        figures.add(vec![figure("echo_4k", 1000), figure("echo_2m", 1050)]);
        assert_eq!(figures.shortcomings(), [] as [String; 0]);
        figures.add(vec![figure("echo_64m", 1051)]);
        assert_eq!(
            figures.shortcomings(),
            ["the largest of echo_4k, echo_64k, echo_2m, echo_64m is 1.051 times the smallest"]
        );
    }

    #[test]
    fn json_has_what_is_executed() {
        let mut figures = figures();
        let counts = |exits| vec![("null_call".to_owned(), Counts { exits, ..Counts::default() })];
        figures.count(None, counts(1));
        figures.count(Some(Variation::Processors), counts(2));
        let json = figures.json();
        let has = |name: &str| (json[name]["instructions"].as_u64(), json[name]["exits"].as_u64());
        assert_eq!(has("null_call"), (Some(59), Some(1)));
        assert_eq!(has("null_call_2cpu"), (Some(118), Some(2)));
        assert_eq!(has("null_call_1000_channels"), (Some(62), None));
        assert_eq!(json["null_call"]["gic_accesses"], json!(0));
        assert!(figures.table().contains("executed in it"));
    }

    #[test]
    fn json_has_flat_names() {
        let json = json!({
            "null_call": { "instructions": 59 },
            "null_call_1000_channels": { "instructions": 62, "ratio": 62.0 / 59.0 },
            "null_call_2cpu": { "instructions": 118, "ratio": 2.0 },
            "echo_2m": { "instructions": 1_234_567 },
            "crossover": { "bytes": 1_600 },
            "crossover_1000_channels": { "bytes": 1_632 },
            "other_2cpu": { "instructions": 7 },
            "linux_boot": { "instructions": 100, "ratio": 1.25 },
        });
        assert_eq!(figures().json(), json);
    }
}
