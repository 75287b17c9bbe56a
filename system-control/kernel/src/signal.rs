//! Signals: sets of them, what each does, which one comes next.

use alloc::collections::BTreeMap;

use linux_raw_sys::general as linux;

/// A signal's number, 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(u8);

macro_rules! signals {
    ($($name:ident = $number:ident,)*) => {
        impl Signal {
            $(#[doc = stringify!($number)]
            pub const $name: Signal = Signal(linux::$number as u8);)*
        }
    };
}

signals! {
    INT = SIGINT, ILL = SIGILL, TRAP = SIGTRAP, BUS = SIGBUS, FPE = SIGFPE, KILL = SIGKILL, SEGV = SIGSEGV, PIPE = SIGPIPE,
    ALRM = SIGALRM, TERM = SIGTERM, CHLD = SIGCHLD, CONT = SIGCONT, STOP = SIGSTOP, TSTP = SIGTSTP, TTIN = SIGTTIN,
    TTOU = SIGTTOU, HUP = SIGHUP, QUIT = SIGQUIT, URG = SIGURG, WINCH = SIGWINCH, SYS = SIGSYS,
}

/// What a signal does where the program has said nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Ends the process.
    Terminate,
    /// Nothing.
    Ignore,
    /// Stops the process until SIGCONT.
    Stop,
    /// Lets it go on.
    Continue,
}

impl Signal {
    /// The signal of this number.
    #[must_use]
    pub fn new(number: u64) -> Option<Signal> {
        (1..=64).contains(&number).then_some(Signal(number as u8))
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// What it does by itself.
    #[must_use]
    pub fn default_action(self) -> Default {
        match self {
            Signal::CHLD | Signal::URG | Signal::WINCH => Default::Ignore,
            Signal::CONT => Default::Continue,
            Signal::STOP | Signal::TSTP | Signal::TTIN | Signal::TTOU => Default::Stop,
            _ => Default::Terminate,
        }
    }

    /// Whether the thread itself has caused it, so that it must be dealt with before the thread goes on.
    #[must_use]
    pub fn is_fault(self) -> bool {
        matches!(self, Signal::ILL | Signal::TRAP | Signal::BUS | Signal::FPE | Signal::SEGV | Signal::SYS)
    }
}

/// A set of signals, as Linux's `sigset_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// Signals that nobody can mask, ignore or handle.
    const UNSTOPPABLE: SignalSet = SignalSet(1 << (linux::SIGKILL - 1) | 1 << (linux::SIGSTOP - 1));

    /// Whether the signal is in it.
    #[must_use]
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & 1 << (signal.0 - 1) != 0
    }

    /// Puts a signal in.
    pub const fn insert(&mut self, signal: Signal) {
        self.0 |= 1 << (signal.0 - 1);
    }

    /// Takes a signal out.
    pub const fn remove(&mut self, signal: Signal) {
        self.0 &= !(1 << (signal.0 - 1));
    }

    /// As a mask: without what cannot be masked.
    #[must_use]
    pub const fn maskable(self) -> SignalSet {
        SignalSet(self.0 & !SignalSet::UNSTOPPABLE.0)
    }

    /// What is in this, and not in the other.
    #[must_use]
    pub const fn without(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 & !other.0)
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 | other.0)
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The one that is taken first: what the thread has caused itself, then by number.
    #[must_use]
    pub fn first(self) -> Option<Signal> {
        const FAULTS: u64 = 1 << (linux::SIGILL - 1)
            | 1 << (linux::SIGTRAP - 1)
            | 1 << (linux::SIGBUS - 1)
            | 1 << (linux::SIGFPE - 1)
            | 1 << (linux::SIGSEGV - 1)
            | 1 << (linux::SIGSYS - 1);
        let set = if self.0 & FAULTS != 0 { self.0 & FAULTS } else { self.0 };
        Signal::new(u64::from(set.trailing_zeros()) + 1)
    }
}

/// What a program has said about a signal: Linux's `kernel_sigaction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// SIG_DFL, SIG_IGN, or where the handler is.
    pub handler: u64,
    /// SA_*.
    pub flags: u64,
    /// Where the handler returns to, with SA_RESTORER.
    pub restorer: u64,
    /// What is masked while the handler runs.
    pub mask: SignalSet,
}

impl Action {
    /// SIG_DFL.
    pub const DEFAULT: u64 = 0;
    /// SIG_IGN.
    pub const IGNORE: u64 = 1;

    /// Whether a flag is set.
    #[must_use]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag as u64 != 0
    }
}

/// What becomes of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Nothing.
    Ignore,
    /// The process ends.
    Terminate,
    /// The process stops.
    Stop,
    /// The process goes on.
    Continue,
    /// The handler runs.
    Handle(Action),
}

/// What a process has said about all signals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    actions: BTreeMap<Signal, Action>,
}

impl Actions {
    /// What was said about a signal.
    #[must_use]
    pub fn get(&self, signal: Signal) -> Action {
        self.actions.get(&signal).copied().unwrap_or_default()
    }

    /// Says something about a signal.
    pub fn set(&mut self, signal: Signal, action: Action) {
        self.actions.insert(signal, Action { mask: action.mask.maskable(), ..action });
    }

    /// What becomes of a signal.
    #[must_use]
    pub fn disposition(&self, signal: Signal) -> Disposition {
        let action = self.get(signal);
        match action.handler {
            Action::DEFAULT => match signal.default_action() {
                Default::Terminate => Disposition::Terminate,
                Default::Ignore => Disposition::Ignore,
                Default::Stop => Disposition::Stop,
                Default::Continue => Disposition::Continue,
            },
            Action::IGNORE => Disposition::Ignore,
            _ => Disposition::Handle(action),
        }
    }

    /// A new program begins: what had a handler gets its default again, what was ignored stays so.
    pub fn begin_program(&mut self) {
        self.actions.retain(|_, action| action.handler == Action::IGNORE);
    }
}

/// Where a signal comes from: what its handler finds in `siginfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// SI_USER, SEGV_MAPERR, CLD_EXITED…
    pub code: i32,
    /// An address for faults, else the sender's process id.
    pub value: u64,
    /// For SIGCHLD, the exit status or the signal.
    pub status: i32,
}

/// Signals that have come and were not taken yet. One of a kind is enough, as with Linux's standard signals.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    set: SignalSet,
    infos: BTreeMap<Signal, Info>,
}

impl Pending {
    /// A signal comes.
    pub fn add(&mut self, signal: Signal, info: Info) {
        if !self.set.contains(signal) {
            self.set.insert(signal);
            self.infos.insert(signal, info);
        }
    }

    /// All that are there.
    #[must_use]
    pub fn set(&self) -> SignalSet {
        self.set
    }

    /// Takes one.
    pub fn take(&mut self, signal: Signal) -> Option<Info> {
        if !self.set.contains(signal) {
            return None;
        }
        self.set.remove(signal);
        Some(self.infos.remove(&signal).unwrap_or_default())
    }

    /// Takes the first that is not masked.
    pub fn take_next(&mut self, mask: SignalSet) -> Option<(Signal, Info)> {
        let signal = self.set.without(mask.maskable()).first()?;
        Some((signal, self.take(signal)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(Signal::new(0), None);
        assert_eq!(Signal::new(65), None);
        assert_eq!(Signal::new(9), Some(Signal::KILL));
        assert_eq!(Signal::new(64).map(Signal::number), Some(64));
    }

    #[test]
    fn what_the_thread_caused_comes_first() {
        let mut pending = Pending::default();
        pending.add(Signal::INT, Info { code: 1, ..Info::default() });
        pending.add(Signal::SEGV, Info::default());
        pending.add(Signal::INT, Info { code: 2, ..Info::default() });
        pending.add(Signal::KILL, Info::default());
        assert_eq!(pending.take_next(SignalSet::default()).unwrap().0, Signal::SEGV);
        assert_eq!(
            pending.take_next(SignalSet::default()),
            Some((Signal::INT, Info { code: 1, ..Info::default() }))
        );
        assert_eq!(pending.take_next(SignalSet(u64::MAX)).unwrap().0, Signal::KILL);
        assert_eq!(pending.take_next(SignalSet::default()), None);
    }

    #[test]
    fn masks() {
        let mut pending = Pending::default();
        pending.add(Signal::TERM, Info::default());
        let mut mask = SignalSet::default();
        mask.insert(Signal::TERM);
        assert_eq!(pending.take_next(mask), None);
        assert!(pending.set().contains(Signal::TERM));
        assert!(!SignalSet(u64::MAX).maskable().contains(Signal::KILL));
        mask.remove(Signal::TERM);
        assert!(mask.is_empty());
    }

    #[test]
    fn a_new_program_keeps_what_is_ignored() {
        let mut actions = Actions::default();
        assert_eq!(actions.disposition(Signal::TERM), Disposition::Terminate);
        assert_eq!(actions.disposition(Signal::CHLD), Disposition::Ignore);
        assert_eq!(actions.disposition(Signal::TSTP), Disposition::Stop);
        assert_eq!(actions.disposition(Signal::CONT), Disposition::Continue);
        actions.set(Signal::PIPE, Action { handler: Action::IGNORE, ..Action::default() });
        actions.set(Signal::TERM, Action { handler: 0x1000, mask: SignalSet(u64::MAX), ..Action::default() });
        let Disposition::Handle(action) = actions.disposition(Signal::TERM) else {
            panic!("it has a handler")
        };
        assert!(!action.mask.contains(Signal::STOP));
        actions.begin_program();
        assert_eq!(actions.disposition(Signal::PIPE), Disposition::Ignore);
        assert_eq!(actions.disposition(Signal::TERM), Disposition::Terminate);
    }
}
