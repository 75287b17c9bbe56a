//! Lists of descriptors to wait for (`epoll`).

use alloc::{collections::BTreeMap, vec::Vec};
use core::mem::{offset_of, size_of};

use linux_raw_sys::general::{EPOLLET, EPOLLONESHOT, epoll_event};

use crate::{
    Errno, Readiness,
    files::{Files, WaitKey, Waitable},
    open::Object,
    system::System,
};

/// Lists that may watch one another in a chain.
const DEPTH_MAX: u32 = 5;

/// What became of a descriptor that is waited for: `struct epoll_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpollEvent {
    /// What is waited for, or has come, and how: `EPOLLIN`, `EPOLLET`…
    pub events: u32,
    /// The program's own.
    pub data: u64,
}

impl EpollEvent {
    /// Bytes of the structure.
    pub const SIZE: usize = size_of::<epoll_event>();
    const DATA: usize = offset_of!(epoll_event, data);

    /// The structure, as the target has it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; EpollEvent::SIZE] {
        let mut bytes = [0; EpollEvent::SIZE];
        bytes[..4].copy_from_slice(&self.events.to_le_bytes());
        bytes[EpollEvent::DATA..EpollEvent::DATA + 8].copy_from_slice(&self.data.to_le_bytes());
        bytes
    }

    /// From the structure.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; EpollEvent::SIZE]) -> EpollEvent {
        let mut events = [0; 4];
        let mut data = [0; 8];
        events.copy_from_slice(&bytes[..4]);
        data.copy_from_slice(&bytes[EpollEvent::DATA..EpollEvent::DATA + 8]);
        EpollEvent { events: u32::from_le_bytes(events), data: u64::from_le_bytes(data) }
    }
}

/// A descriptor that is waited for: the open description, and the descriptor that it was named by.
pub(crate) type Watched = (u32, i32);

/// How it is waited for.
#[derive(Debug)]
pub(crate) struct Interest {
    pub(crate) event: EpollEvent,
    /// Whether it still is, though it was to be told of once only.
    pub(crate) armed: bool,
    /// How often the thing had changed when it was told of last; `None` if it never was.
    pub(crate) seen: Option<u64>,
    key: Option<Waitable>,
}

/// A list of descriptors to wait for.
#[derive(Debug, Default)]
pub(crate) struct Epoll {
    interests: BTreeMap<Watched, Interest>,
    /// What can become ready, with how many entries wait for it.
    watched: BTreeMap<Waitable, u32>,
    /// Who was told of last: the next ones come first.
    last: Option<Watched>,
    pub(crate) changes: u64,
}

impl Epoll {
    pub(crate) fn add(
        &mut self,
        watched: Watched,
        event: EpollEvent,
        key: Option<WaitKey>,
    ) -> Result<(), Errno> {
        if self.interests.contains_key(&watched) {
            return Err(Errno::EXIST);
        }
        let key = key.map(|key| key.0);
        if let Some(key) = key {
            *self.watched.entry(key).or_default() += 1;
        }
        self.interests.insert(watched, Interest { event, armed: true, seen: None, key });
        Ok(())
    }

    pub(crate) fn modify(&mut self, watched: Watched, event: EpollEvent) -> Result<(), Errno> {
        let interest = self.interests.get_mut(&watched).ok_or(Errno::NOENT)?;
        interest.event = event;
        interest.armed = true;
        interest.seen = None;
        Ok(())
    }

    pub(crate) fn remove(&mut self, watched: Watched) -> Result<(), Errno> {
        let interest = self.interests.remove(&watched).ok_or(Errno::NOENT)?;
        if let Some(key) = interest.key
            && let Some(count) = self.watched.get_mut(&key)
        {
            *count -= 1;
            if *count == 0 {
                self.watched.remove(&key);
            }
        }
        Ok(())
    }

    /// Forgets an open description that was closed.
    fn forget(&mut self, open: u32) {
        while let Some((&watched, _)) = self.interests.range((open, i32::MIN)..=(open, i32::MAX)).next() {
            // It is there.
            _ = self.remove(watched);
        }
    }

    fn watches(&self, what: Waitable) -> bool {
        self.watched.contains_key(&what)
    }

    /// Everything that is waited for, beginning behind what was told of last.
    fn in_turn(&self) -> Vec<Watched> {
        let split = self.last;
        let later = self.interests.keys().filter(|&&watched| Some(watched) > split);
        let earlier = self.interests.keys().filter(|&&watched| Some(watched) <= split);
        later.chain(earlier).copied().collect()
    }
}

impl Files {
    /// Wakes those who wait for a list on which the thing is.
    pub(crate) fn wake_epolls(&mut self, what: Waitable) {
        let watching: Vec<u32> =
            self.epolls.iter().filter(|(_, epoll)| epoll.watches(what)).map(|(number, _)| number).collect();
        for number in watching {
            // Lists do not watch each other in a circle, so this ends.
            self.wake_list(number);
        }
    }

    /// Wakes those who wait for a list.
    pub(crate) fn wake_list(&mut self, number: u32) {
        if let Some(epoll) = self.epolls.get_mut(number) {
            epoll.changes += 1;
        }
        self.wake(Waitable::Epoll(number));
    }

    pub(crate) fn forget_in_epolls(&mut self, open: u32) {
        self.epolls.iter_mut().for_each(|(_, epoll)| epoll.forget(open));
    }

    /// Whether a list watches another one, itself or through others; an error if the chain would be too long.
    pub(crate) fn epoll_reaches(&self, from: u32, to: u32, depth: u32) -> Result<bool, Errno> {
        if from == to {
            return Ok(true);
        }
        if depth >= DEPTH_MAX {
            return Err(Errno::LOOP);
        }
        let Some(epoll) = self.epolls.get(from) else { return Ok(false) };
        for &(open, _) in epoll.interests.keys() {
            if let Ok(open) = self.open(open)
                && let Object::Epoll(next) = open.object
                && self.epoll_reaches(next, to, depth + 1)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What an entry of a list has to tell now.
    fn interest_ready(
        &mut self,
        number: u32,
        watched: Watched,
        system: &mut dyn System,
    ) -> Option<(EpollEvent, u64)> {
        let ready = self.readiness_of(watched.0, system);
        let changes = self.changes_of(watched.0);
        let interest = self.epolls.get(number)?.interests.get(&watched)?;
        let wanted = Readiness::from_bits_retain(interest.event.events) | Readiness::ALWAYS;
        let ready = ready & wanted;
        let edge = interest.event.events & EPOLLET != 0;
        if ready.is_empty() || !interest.armed || edge && interest.seen == Some(changes) {
            return None;
        }
        Some((EpollEvent { events: ready.bits(), data: interest.event.data }, changes))
    }

    /// What a list has to tell now, at most so much.
    pub(crate) fn epoll_ready(
        &mut self,
        number: u32,
        most: usize,
        system: &mut dyn System,
    ) -> Result<Vec<EpollEvent>, Errno> {
        let turn = self.epolls.get(number).ok_or(Errno::BADF)?.in_turn();
        let mut events = Vec::new();
        for watched in turn {
            if events.len() == most {
                break;
            }
            let Some((event, changes)) = self.interest_ready(number, watched, system) else { continue };
            events.push(event);
            let Some(epoll) = self.epolls.get_mut(number) else { break };
            epoll.last = Some(watched);
            if let Some(interest) = epoll.interests.get_mut(&watched) {
                interest.seen = Some(changes);
                interest.armed = interest.event.events & EPOLLONESHOT == 0;
            }
        }
        Ok(events)
    }

    /// Whether a list has something to tell.
    pub(crate) fn epoll_has_ready(&mut self, number: u32, system: &mut dyn System) -> bool {
        let Some(epoll) = self.epolls.get(number) else { return false };
        epoll.in_turn().into_iter().any(|watched| self.interest_ready(number, watched, system).is_some())
    }
}
