//! The control OS's privileged calls as far as programs can tell: for tests of programs on any host.

use std::{
    collections::BTreeMap,
    io, ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use handover_abi::{
    Account, COUNTERS_AT_ONCE, Call, Counter, EndReason, Error, Name, PartitionId, PartitionState,
    ProcessorClaim,
    layout::{ADD_MEMORY_MAX, MEMORY_BASE, MEMORY_GRANULE, WRITE_MAX},
};

use crate::{Calls, Machine, REGISTERS};

/// System-control's own id.
const OWN: u32 = 1;

/// A partition of the model's.
#[derive(Clone, Debug)]
pub struct Modelled {
    /// Its name.
    pub name: String,
    /// Its limits, by account.
    pub limits: [u64; Account::ALL.len()],
    /// Its memory, from [`MEMORY_BASE`] on.
    pub memory: Vec<u8>,
    /// Where its guest was started, and with what in `x0`.
    pub started: Option<(u64, u64)>,
    /// Whether it stands still.
    pub paused: bool,
    /// Whether it was asked to shut down.
    pub asked: bool,
    /// How it ended.
    pub end: Option<(EndReason, u64)>,
    /// Nanoseconds of its watchdog.
    pub watchdog: u64,
    /// What its logical processors are promised.
    pub claims: Vec<ProcessorClaim>,
    /// Their times: run, and waited.
    pub times: Vec<(u64, u64)>,
    /// Its named counters.
    pub counters: [u64; Counter::ALL.len()],
}

#[derive(Debug)]
struct State {
    partitions: BTreeMap<u32, Modelled>,
    last: u32,
    free: u64,
    off: Option<u64>,
}

/// The model. Clones are of the same machine.
#[derive(Clone, Debug)]
pub struct Model(Arc<Mutex<State>>);

impl Model {
    /// A machine with so many bytes of free memory.
    #[must_use]
    pub fn new(free: u64) -> Model {
        Model(Arc::new(Mutex::new(State { partitions: BTreeMap::new(), last: OWN, free, off: None })))
    }

    /// The machine, as a program sees it.
    #[must_use]
    pub fn machine(&self) -> Machine {
        Machine::with(Arc::new(self.clone()))
    }

    /// The partitions there are, and their names.
    #[must_use]
    pub fn names(&self) -> Vec<(u32, String)> {
        self.state().partitions.iter().map(|(id, partition)| (*id, partition.name.clone())).collect()
    }

    /// A partition as it is now.
    ///
    /// # Panics
    ///
    /// There is none of this id.
    #[must_use]
    pub fn partition(&self, id: u32) -> Modelled {
        self.state().partitions[&id].clone()
    }

    /// Bytes of memory that nobody has.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.state().free
    }

    /// Lets so many bytes be free.
    pub fn set_free(&self, bytes: u64) {
        self.state().free = bytes;
    }

    /// The status that the machine was ended with.
    #[must_use]
    pub fn off(&self) -> Option<u64> {
        self.state().off
    }

    /// A partition runs, and is counted: `change` says what.
    ///
    /// # Panics
    ///
    /// There is none of this id.
    pub fn count(&self, id: u32, change: impl FnOnce(&mut Modelled)) {
        change(self.state().partitions.get_mut(&id).expect("there is such a partition"));
    }

    /// A partition ends by itself.
    ///
    /// # Panics
    ///
    /// There is none of this id.
    pub fn end(&self, id: u32, reason: EndReason, status: u64) {
        let mut state = self.state();
        state.end(id.into(), (reason, status)).expect("there is such a partition");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls for Model {
    fn call(&self, registers: &mut [u64; REGISTERS]) -> io::Result<()> {
        let [x0, arguments @ ..] = *registers;
        let results = Call::try_from(x0)
            .map_err(|error| (error, 0))
            .and_then(|call| self.state().carry_out(call, &arguments));
        match results {
            Ok(results) => {
                registers[0] = 0;
                registers[1..=COUNTERS_AT_ONCE].copy_from_slice(&results);
            }
            Err((error, x1)) => (registers[0], registers[1]) = (error.to_x0(), x1),
        }
        Ok(())
    }
}

/// `x1` to `x16`.
type Registers = [u64; COUNTERS_AT_ONCE];
type Results = Result<Registers, (Error, u64)>;

fn registers<const N: usize>(values: [u64; N]) -> Registers {
    let mut registers = [0; _];
    registers[..N].copy_from_slice(&values);
    registers
}

impl State {
    fn carry_out(&mut self, call: Call, &[x1, x2, x3, x4, x5, ..]: &[u64; REGISTERS - 1]) -> Results {
        let plain = |result: Result<(), Error>| result.map(|()| [0; _]).map_err(|error| (error, 0));
        match call {
            Call::Identify => Ok(registers([OWN.into(), 1])),
            Call::MachineInfo => Ok(registers([1, self.free])),
            Call::MachineOff => {
                self.off = Some(x1);
                // It would not return.
                Err((Error::NotSupported, 0))
            }
            Call::AccountRead => self.account(x1, x2),
            Call::PartitionCreate => self.create([x1, x2], x3),
            Call::PartitionSetLimit => plain(self.set_limit(x1, x2, x3)),
            Call::PartitionAddMemory => self.add_memory(x1, x2, x3).map(|()| [0; _]),
            Call::PartitionWrite => plain(self.write(x1, x2, x3, x4)),
            Call::PartitionStart => {
                plain(self.new_one(x1).map(|partition| partition.started = Some((x2, x3))))
            }
            Call::PartitionStop => plain(match self.one(x1) {
                Ok(partition) if partition.end.is_some() => Ok(()),
                _ => self.end(x1, (EndReason::Stopped, 0)),
            }),
            Call::PartitionPause => plain(self.one(x1).map(|partition| partition.paused = true)),
            Call::PartitionResume => plain(self.one(x1).map(|partition| partition.paused = false)),
            Call::PartitionReset => plain(self.reset(x1)),
            Call::ProcessorSet => self.promise(x1, x2, [x3, x4, x5]).map(|()| [0; _]),
            Call::PartitionSetWatchdog => plain(self.one(x1).map(|partition| partition.watchdog = x2)),
            Call::PartitionShutdown => plain(self.one(x1).map(|partition| partition.asked = true)),
            Call::PartitionDestroy => plain(self.destroy(x1)),
            Call::PartitionStatus => {
                let partition = self.one(x1).map_err(|error| (error, 0))?;
                let (reason, status) = partition.end.unwrap_or((EndReason::None, 0));
                let state = match (partition.started, partition.end) {
                    (_, Some(_)) => PartitionState::Terminated,
                    (Some(_), None) => PartitionState::Active,
                    (None, None) => PartitionState::Created,
                };
                Ok(registers([state as u64, reason as u64, status]))
            }
            Call::ProcessorRead => {
                let partition = self.one(x1).map_err(|error| (error, 0))?;
                let time = usize::try_from(x2).ok().and_then(|number| partition.times.get(number));
                let &(ran, waited) = time.ok_or((Error::InvalidArgument, 0))?;
                let [budget, period, how] = partition.claims[x2 as usize].to_registers();
                Ok(registers([budget, period, how, ran, waited]))
            }
            Call::CountersRead => {
                let partition = self.one(x1).map_err(|error| (error, 0))?;
                let named = partition.counters.iter().skip(x3 as usize).take(COUNTERS_AT_ONCE);
                let mut read = [0; _];
                read.iter_mut().zip(named).for_each(|(to, from)| *to = *from);
                Ok(read)
            }
            _ => Err((Error::NotSupported, 0)),
        }
    }

    fn one(&mut self, id: u64) -> Result<&mut Modelled, Error> {
        let id = PartitionId::from_register(id).ok_or(Error::BadHandle)?;
        self.partitions.get_mut(&id.get()).ok_or(Error::BadHandle)
    }

    fn new_one(&mut self, id: u64) -> Result<&mut Modelled, Error> {
        Some(self.one(id)?).filter(|partition| partition.started.is_none()).ok_or(Error::WrongState)
    }

    fn account(&mut self, id: u64, account: u64) -> Results {
        let account = Account::try_from(account).map_err(|error| (error, 0))?;
        if id == 0 || id == u64::from(OWN) {
            return Ok(registers([0, u64::MAX]));
        }
        let partition = self.one(id).map_err(|error| (error, 0))?;
        let used = match account {
            Account::Memory => partition.memory.len() as u64,
            Account::ProcessorTime => partition.claims.iter().map(ProcessorClaim::bandwidth).sum(),
            _ => 0,
        };
        Ok(registers([used, partition.limits[account as usize]]))
    }

    fn create(&mut self, name: [u64; 2], processors: u64) -> Results {
        let name = Name::from_registers(name).filter(|_| (1..=8).contains(&processors));
        let name = name.ok_or((Error::InvalidArgument, 0))?.to_string();
        self.last += 1;
        let limits = [0; Account::ALL.len()];
        let made = Modelled {
            name,
            limits,
            memory: Vec::new(),
            started: None,
            paused: false,
            asked: false,
            end: None,
            watchdog: 0,
            claims: vec![ProcessorClaim::default(); processors as usize],
            times: vec![(0, 0); processors as usize],
            counters: [0; _],
        };
        self.partitions.insert(self.last, made);
        Ok(registers([self.last.into()]))
    }

    fn set_limit(&mut self, id: u64, account: u64, limit: u64) -> Result<(), Error> {
        let account = Account::try_from(account)?;
        self.one(id)?.limits[account as usize] = limit;
        Ok(())
    }

    /// There is one physical processor.
    fn promise(&mut self, id: u64, number: u64, claim: [u64; 3]) -> Result<(), (Error, u64)> {
        const WHOLE: u64 = 1_000_000;
        let plain = |error| (error, 0);
        let claim = ProcessorClaim::from_registers(claim).ok_or(plain(Error::InvalidArgument))?;
        let others = self.partitions.iter().filter(|(other, _)| u64::from(**other) != id);
        let others: u64 = others.flat_map(|(_, other)| &other.claims).map(ProcessorClaim::bandwidth).sum();
        let partition = self.one(id).map_err(plain)?;
        let mut claims = partition.claims.clone();
        *claims.get_mut(number as usize).ok_or(plain(Error::InvalidArgument))? = claim;
        let own: u64 = claims.iter().map(ProcessorClaim::bandwidth).sum();
        if own > partition.limits[Account::ProcessorTime as usize] {
            return Err((Error::Limit, Account::ProcessorTime as u64));
        }
        if claim.alone || own + others > WHOLE / 100 * 95 {
            return Err(plain(Error::NoCapacity));
        }
        partition.claims = claims;
        Ok(())
    }

    fn add_memory(&mut self, id: u64, address: u64, size: u64) -> Result<(), (Error, u64)> {
        let plain = |error| (error, 0);
        if size > ADD_MEMORY_MAX || !size.is_multiple_of(MEMORY_GRANULE) {
            return Err(plain(Error::InvalidArgument));
        }
        let free = self.free.checked_sub(size);
        let partition = self.new_one(id).map_err(plain)?;
        let length = partition.memory.len() as u64 + size;
        if address != MEMORY_BASE + partition.memory.len() as u64 {
            return Err(plain(Error::BadAddress));
        }
        if length > partition.limits[Account::Memory as usize] {
            return Err((Error::Limit, Account::Memory as u64));
        }
        let free = free.ok_or(plain(Error::NoMemory))?;
        partition.memory.resize(length as usize, 0);
        self.free = free;
        Ok(())
    }

    fn write(&mut self, id: u64, address: u64, source: u64, size: u64) -> Result<(), Error> {
        if size > WRITE_MAX {
            return Err(Error::InvalidArgument);
        }
        let at = address.checked_sub(MEMORY_BASE).ok_or(Error::BadAddress)? as usize;
        let memory = &mut self.new_one(id)?.memory;
        let there = memory.get_mut(at..at.saturating_add(size as usize)).ok_or(Error::BadAddress)?;
        // SAFETY: the caller of the device borrows that many bytes there for as long as the call takes, and exposed their address.
        let bytes = unsafe {
            std::slice::from_raw_parts(ptr::with_exposed_provenance(source as usize), size as usize)
        };
        there.copy_from_slice(bytes);
        Ok(())
    }

    /// What it held comes back with its end.
    fn end(&mut self, id: u64, end: (EndReason, u64)) -> Result<(), Error> {
        let partition = self.one(id)?;
        partition.end = Some(end);
        let held = std::mem::take(&mut partition.memory).len() as u64;
        self.free += held;
        Ok(())
    }

    fn reset(&mut self, id: u64) -> Result<(), Error> {
        let partition = self.one(id)?;
        if partition.end.is_none() {
            return Err(Error::WrongState);
        }
        (partition.started, partition.end, partition.asked) = (None, None, false);
        Ok(())
    }

    fn destroy(&mut self, id: u64) -> Result<(), Error> {
        let partition = self.one(id)?;
        if partition.started.is_some() && partition.end.is_none() {
            return Err(Error::WrongState);
        }
        self.free += partition.memory.len() as u64;
        self.partitions.remove(&(id as u32));
        Ok(())
    }
}
