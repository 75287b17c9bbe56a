//! Orders for init, which looks after the partitions.

use std::{
    ffi::CString,
    fmt,
    fs::{self, File},
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    process,
    str::FromStr,
    time::{Duration, Instant},
};

use crate::wire::check;

/// The named pipe on which init takes orders: a line with the path of a named pipe for the answer, and the order.
pub const ORDERS: &str = "/run/orders";
/// How long an order may take. Starting the largest partition takes less.
const ANSWER: Duration = Duration::from_secs(30);
/// Bytes of a line at most: so many go into a pipe at once, whole.
const LINE: usize = 256;

/// Something that only init does, since it follows the manifest. A partition is paused, resumed, asked to shut down or stopped by
/// [`Partition`](crate::Partition) itself; init learns that it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start a partition of the manifest that has ended, as it was at first; under its id, so that its clients find it again.
    Start(String),
    /// End the machine with this status: partitions are asked to shut down as the manifest says, the last one first, and stopped.
    End(u64),
}

impl Order {
    /// Gives the order, and waits until it was carried out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Other`] with init's own words; [`ErrorKind::TimedOut`]: init does not answer; those of making and opening pipes.
    pub fn give(&self) -> io::Result<()> {
        let answer = Answer(format!("/run/order.{}", process::id()).into());
        self.give_at(Path::new(ORDERS), &answer)
    }

    fn give_at(&self, orders: &Path, answer: &Answer) -> io::Result<()> {
        make_pipe(&answer.0)?;
        let from = both_ways(&answer.0)?;
        let line = format!("{} {self}\n", answer.0.display());
        if line.len() > LINE {
            return Err(io::Error::new(ErrorKind::InvalidInput, "no partition has so long a name"));
        }
        // Init has it open all the time.
        File::options().write(true).open(orders)?.write_all(line.as_bytes())?;
        let said = read_line(&from, Instant::now() + ANSWER)?;
        match said.trim_end() {
            "" => Ok(()),
            wrong => Err(io::Error::other(wrong.to_owned())),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Start(name) => write!(f, "start {name}"),
            Order::End(status) => write!(f, "end {status}"),
        }
    }
}

impl FromStr for Order {
    /// Why it is none.
    type Err = String;

    fn from_str(text: &str) -> Result<Order, String> {
        let order = match text.split_once(' ') {
            Some(("start", name)) if !name.is_empty() => Some(Order::Start(name.to_owned())),
            Some(("end", status)) => status.parse().ok().map(Order::End),
            _ => None,
        };
        order.ok_or_else(|| format!("`{}` is no order", text.escape_debug()))
    }
}

/// A named pipe for one answer.
struct Answer(PathBuf);

impl Drop for Answer {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}

/// Orders, for init.
#[derive(Debug)]
pub struct Orders(BufReader<File>);

/// An order, and where its answer goes.
#[derive(Debug)]
pub struct Given {
    /// What is to be done, or why that is no order.
    pub order: Result<Order, String>,
    answer: PathBuf,
}

impl Orders {
    /// On [`ORDERS`], which stays when this ends: the next init goes on there.
    ///
    /// # Errors
    ///
    /// Those of making and opening a named pipe.
    pub fn open() -> io::Result<Orders> {
        Orders::open_at(Path::new(ORDERS))
    }

    fn open_at(path: &Path) -> io::Result<Orders> {
        match make_pipe(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Both ways: with a writer there is no end of the file.
        both_ways(path).map(|file| Orders(BufReader::new(file)))
    }

    /// Waits for the next.
    ///
    /// # Errors
    ///
    /// Those of reading.
    #[expect(clippy::should_implement_trait, reason = "an iterator ends, these do not")]
    pub fn next(&mut self) -> io::Result<Given> {
        loop {
            let mut line = Vec::new();
            // Longer lines are nobody's: the rest is no order either.
            if (&mut self.0).take(LINE as u64).read_until(b'\n', &mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let line = String::from_utf8_lossy(&line);
            if let Some((answer, order)) = line.trim_end().split_once(' ') {
                return Ok(Given { order: order.parse(), answer: answer.into() });
            }
        }
    }
}

impl Given {
    /// Says that it was carried out, or why not.
    ///
    /// # Errors
    ///
    /// Nobody waits for that any more.
    pub fn answer(self, result: Result<(), &str>) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let said = result.err().unwrap_or_default().replace('\n', " ");
        // A named pipe that nobody reads must not keep init waiting.
        let mut answer = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(self.answer)?;
        answer.write_all(format!("{said}\n").as_bytes())
    }
}

fn make_pipe(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a zero byte and lives as long as the call.
    check(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }).map(drop)
}

fn both_ways(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

fn read_line(mut from: &File, until: Instant) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let left = until.saturating_duration_since(Instant::now()).as_millis();
        let mut wanted = libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which lives as long as the call.
        if check(unsafe { libc::poll(&raw mut wanted, 1, left.try_into().unwrap_or(i32::MAX)) })? == 0 {
            return Err(io::Error::new(ErrorKind::TimedOut, "init does not answer"));
        }
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        line.extend(byte);
    }
    String::from_utf8(line).map_err(|_| ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn orders_as_text() {
        for order in [Order::Start("linux".into()), Order::End(7)] {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        for wrong in ["", "start", "start ", "end", "end x", "end -1", "stop linux"] {
            assert!(wrong.parse::<Order>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn given_and_answered() {
        let folder = std::env::temp_dir().join(format!("handover-orders-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("orders");
        let mut orders = Orders::open_at(&path).unwrap();
        // A second one goes on where the first was.
        drop(orders);
        orders = Orders::open_at(&path).unwrap();
        File::options().write(true).open(&path).unwrap().write_all(b"nothing\n").unwrap();
        let give = |order: Order, name: &str| {
            let (path, answer) = (path.clone(), Answer(folder.join(name)));
            thread::spawn(move || order.give_at(&path, &answer).map_err(|error| error.to_string()))
        };
        let first = give(Order::Start("a".into()), "1");
        let given = orders.next().unwrap();
        assert_eq!(given.order, Ok(Order::Start("a".into())));
        let second = give(Order::End(3), "2");
        let other = orders.next().unwrap();
        assert_eq!(other.order, Ok(Order::End(3)));
        given.answer(Err("there is\nno a")).unwrap();
        other.answer(Ok(())).unwrap();
        assert_eq!(first.join().unwrap(), Err("there is no a".to_owned()));
        assert_eq!(second.join().unwrap(), Ok(()));
        // Who asked is gone: that is an error, and no wait.
        let gone = Given { order: Err(String::new()), answer: folder.join("1") };
        assert_eq!(gone.answer(Ok(())).unwrap_err().kind(), ErrorKind::NotFound);
        let long = give(Order::Start("x".repeat(300)), "3").join().unwrap();
        assert_eq!(long, Err("no partition has so long a name".to_owned()));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
