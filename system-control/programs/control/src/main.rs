//! A command line for partitions: `control help` tells what it can do.

use std::{env, fs, io, process::ExitCode};

use handover_control::{Account, EndReason, Listed, Machine, Order, Partition, PartitionState, abi::Counter};

/// What init has said.
const MESSAGES: [&str; 2] = ["/run/messages.old", "/run/messages"];
/// What guests have sent to the log.
const LOG: [&str; 2] = ["/run/log.old", "/run/log"];

const HELP: &str = "\
control list              partitions, and how they are
control accounts NAME     what a partition uses, and may use
control counters NAME     what the control OS has counted of it
control limit NAME ACCOUNT AMOUNT    sets what it may use
control pause NAME        it does not run, until
control resume NAME       it goes on
control shutdown NAME [MILLISECONDS] asks it to end by itself, within so long
control stop NAME         it ends now
control start NAME        what has ended begins anew, as in the manifest
control end [STATUS]      ends all, in order, and the machine
control messages          what init has said
control log [NAME]        what guests have sent to the log, or one of them";

/// How long a partition has to end when it is asked to and nobody says.
const SHUTDOWN: u64 = 10_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match carry_out(&arguments) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("control: {wrong}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(arguments: &[&str]) -> Result<String, String> {
    match arguments {
        [] | ["help" | "--help"] => Ok(format!("{HELP}\n")),
        ["start", name] => order(&Order::Start((*name).to_owned())),
        ["end"] => order(&Order::End(0)),
        ["end", status] => order(&Order::End(number(status)?)),
        ["messages"] => kept(MESSAGES, None),
        ["log"] => kept(LOG, None),
        ["log", name] => kept(LOG, Some(name)),
        _ => {
            let machine = Machine::open().map_err(|error| error.to_string())?;
            let listed = Listed::all().map_err(|error| format!("init's list cannot be read: {error}"))?;
            ask(&machine, &listed, arguments)
        }
    }
}

fn order(order: &Order) -> Result<String, String> {
    order.give().map(|()| String::new()).map_err(|error| error.to_string())
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

/// Lines of files; with a name, those of that partition alone.
fn kept(files: [&str; 2], name: Option<&str>) -> Result<String, String> {
    let mut text = String::new();
    for file in files {
        match fs::read_to_string(file) {
            Ok(lines) => text += &lines,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{file}: {error}")),
        }
    }
    let Some(name) = name else { return Ok(text) };
    let said = format!("] {name}: ");
    // The time before the name has a fixed form, so that what a guest says cannot look like another one's.
    let of = |line: &&str| line.find(']').is_some_and(|end| line[end..].starts_with(&said));
    Ok(text.lines().filter(of).map(|line| format!("{line}\n")).collect())
}

/// What the control OS itself is asked.
fn ask(machine: &Machine, listed: &[Listed], arguments: &[&str]) -> Result<String, String> {
    if arguments == ["list"] {
        return Ok(list(machine, listed));
    }
    let [verb, name, rest @ ..] = arguments else { return Err(not_so(arguments)) };
    let partition = || find(machine, listed, name);
    let done = |result: Result<(), handover_control::Error>| {
        result.map(|()| String::new()).map_err(|error| error.to_string())
    };
    match (*verb, rest) {
        ("accounts", []) => accounts(&partition()?),
        ("counters", []) => counters(&partition()?),
        ("limit", [account, amount]) => done(partition()?.set_limit(account_of(account)?, number(amount)?)),
        ("pause", []) => done(partition()?.pause()),
        ("resume", []) => done(partition()?.resume()),
        ("stop", []) => done(partition()?.stop()),
        ("shutdown", []) => done(partition()?.shutdown(SHUTDOWN * 1_000_000)),
        ("shutdown", [within]) => done(partition()?.shutdown(number(within)?.saturating_mul(1_000_000))),
        _ => Err(not_so(arguments)),
    }
}

fn not_so(arguments: &[&str]) -> String {
    format!("`{}` is no command; `control help` tells what there is", arguments.join(" "))
}

fn find(machine: &Machine, listed: &[Listed], name: &str) -> Result<Partition, String> {
    let found = listed.iter().find(|listed| listed.name == name);
    let found = found.ok_or_else(|| {
        let names: Vec<&str> = listed.iter().map(|listed| listed.name.as_str()).collect();
        format!("no partition is called `{name}`; there are: {}", names.join(", "))
    })?;
    let id = found.id.ok_or_else(|| format!("{name} could not be made, and is not there"))?;
    Ok(machine.partition(id))
}

fn list(machine: &Machine, listed: &[Listed]) -> String {
    let mut text =
        format!("{:>4} {:<15} {:>11} {:>8}  {}\n", "ID", "NAME", "MEMORY/MiB", "RESTARTS", "STATE");
    for one in listed {
        let (id, state, memory) = one.id.map_or(("-".to_owned(), "none".to_owned(), 0), |id| {
            let partition = machine.partition(id);
            let memory = partition.account(Account::Memory).map_or(0, |charge| charge.used >> 20);
            (id.to_string(), state(&partition), memory)
        });
        text += &format!("{id:>4} {:<15} {memory:>11} {:>8}  {state}\n", one.name, one.restarts);
    }
    text
}

fn state(partition: &Partition) -> String {
    match partition.state() {
        Ok((PartitionState::Terminated, Some(ended))) => match ended.reason {
            EndReason::Exited => format!("exited with status {}", ended.status),
            reason => reason.to_string(),
        },
        Ok((state, _)) => state.to_string(),
        Err(error) => error.to_string(),
    }
}

fn accounts(partition: &Partition) -> Result<String, String> {
    let mut text = format!("{:<16} {:>16} {:>20}\n", "ACCOUNT", "USED", "LIMIT");
    for &account in Account::ALL {
        let charge = partition.account(account).map_err(|error| error.to_string())?;
        text += &format!("{:<16} {:>16} {:>20}\n", word(account), charge.used, charge.limit);
    }
    Ok(text)
}

fn counters(partition: &Partition) -> Result<String, String> {
    let counters = partition.counters().map_err(|error| error.to_string())?;
    let line = |&counter: &Counter| format!("{:<24} {:>20}\n", format!("{counter:?}"), counters.get(counter));
    Ok(Counter::ALL.iter().map(line).collect())
}

/// An account in one word.
fn word(account: Account) -> String {
    account.to_string().replace(' ', "-")
}

fn account_of(name: &str) -> Result<Account, String> {
    let found = Account::ALL.iter().copied().find(|&account| word(account) == name);
    found.ok_or_else(|| {
        let names: Vec<String> = Account::ALL.iter().copied().map(word).collect();
        format!("no account is called `{name}`; there are: {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use handover_control::{PartitionId, Setup, model::Model};

    fn listed(name: &str, id: Option<u32>) -> Listed {
        Listed { name: name.into(), id: id.map(PartitionId::new), restarts: 2, ended: id.is_none() }
    }

    #[test]
    fn partitions_are_shown_and_changed() {
        let model = Model::new(64 << 20);
        let machine = model.machine();
        for name in ["busy", "over"] {
            machine.create_empty(&Setup::new(name, 1, 4 << 20)).unwrap().start_at(0x4000_0000, 0).unwrap();
        }
        model.end(3, EndReason::Watchdog, 0);
        let listed = [listed("busy", Some(2)), listed("over", Some(3)), listed("none", None)];
        let ask = |line: &str| ask(&machine, &listed, &line.split(' ').collect::<Vec<_>>());
        let lines = ask("list").unwrap();
        let words: Vec<Vec<&str>> = lines.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1], ["2", "busy", "4", "2", "active"]);
        assert_eq!(words[2][..], ["3", "over", "0", "2", "watchdog"]);
        assert_eq!(words[3][..], ["-", "none", "0", "2", "none"]);
        ask("pause busy").unwrap();
        assert!(model.partition(2).paused);
        ask("resume busy").unwrap();
        assert!(!model.partition(2).paused);
        ask("shutdown busy 5").unwrap();
        assert!(model.partition(2).asked);
        ask("limit busy ports 77").unwrap();
        let shown = ask("accounts busy").unwrap();
        let ports: Vec<&str> =
            shown.lines().find(|line| line.starts_with("ports ")).unwrap().split_whitespace().collect();
        assert_eq!(ports, ["ports", "0", "77"]);
        assert!(ask("counters busy").unwrap().lines().count() == Counter::ALL.len());
        ask("stop busy").unwrap();
        assert_eq!(model.partition(2).end, Some((EndReason::Stopped, 0)));
        for (line, wrong) in [
            ("pause nobody", "no partition is called `nobody`; there are: busy, over, none"),
            ("pause none", "none could not be made, and is not there"),
            ("limit busy purse 1", "no account is called `purse`; there are: "),
            ("limit busy ports many", "`many` is no number"),
            ("dance busy", "`dance busy` is no command"),
            ("pause", "`pause` is no command"),
            ("pause busy now", "`pause busy now` is no command"),
        ] {
            let said = ask(line).unwrap_err();
            assert!(said.starts_with(wrong), "{said}");
        }
    }

    #[test]
    fn lines_of_one_guest() {
        let folder = env::temp_dir().join(format!("handover-control-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("log");
        fs::write(&file, "[    0.001] a: one\n[    0.002] b: ] a: two\n[    0.003] a: three\n").unwrap();
        let (missing, file) = (folder.join("old"), file.to_str().unwrap().to_owned());
        let files = [missing.to_str().unwrap(), &file];
        assert_eq!(kept(files, Some("a")).unwrap(), "[    0.001] a: one\n[    0.003] a: three\n");
        assert_eq!(kept(files, None).unwrap().lines().count(), 3);
        fs::remove_dir_all(folder).unwrap();
    }
}
