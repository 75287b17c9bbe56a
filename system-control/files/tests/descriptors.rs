//! Descriptor tables against a naive model of them.

mod support;

use handover_files::{Descriptors, Errno, Fd, Limits};
use linux_raw_sys::general::{AT_FDCWD, F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, O_CLOEXEC};
use std::collections::BTreeMap;
use support::World;

/// What a descriptor stands for, and whether it is closed when another program is executed.
type Model = BTreeMap<Fd, (u64, bool)>;

const LIMIT: Fd = 12;

struct Tables {
    world: World,
    model: Model,
    others: Vec<(Descriptors, Model)>,
    /// The next open description's mark: how far it was read.
    next: u64,
    state: u64,
}

impl Tables {
    fn below(&mut self, end: u64) -> u64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % end
    }

    fn fd(&mut self) -> Fd {
        self.below(LIMIT as u64 + 2) as Fd - 1
    }

    fn lowest(&self, first: Fd) -> Result<Fd, Errno> {
        (first..LIMIT).find(|fd| !self.model.contains_key(fd)).ok_or(Errno::MFILE)
    }

    fn mark(&self, fd: Fd) -> Result<u64, Errno> {
        self.model.get(&fd).map(|&(mark, _)| mark).ok_or(Errno::BADF)
    }

    fn step(&mut self) {
        let (fd, other, on) = (self.fd(), self.fd(), self.below(2) == 0);
        let cloexec = if on { O_CLOEXEC } else { 0 };
        match self.below(12) {
            0..3 => {
                let expected = self.lowest(0);
                let made = self.world.call().openat(AT_FDCWD, b"/file", cloexec, 0);
                assert_eq!(made, expected);
                if let Ok(fd) = made {
                    // A position of its own tells which description it is.
                    self.next += 1;
                    self.world.call().lseek(fd, self.next as i64, handover_files::Seek::Start).unwrap();
                    self.model.insert(fd, (self.next, on));
                }
            }
            3 | 4 => {
                let expected = self.model.remove(&fd).map(|_| ()).ok_or(Errno::BADF);
                assert_eq!(self.world.call().close(fd), expected);
            }
            5 => {
                let expected = self.mark(fd).and_then(|mark| Ok((self.lowest(0)?, mark)));
                assert_eq!(self.world.call().dup(fd), expected.map(|(new, _)| new));
                self.model.extend(expected.map(|(new, mark)| (new, (mark, false))));
            }
            6 => {
                let expected = match (fd == other, (0..LIMIT).contains(&other)) {
                    (true, _) => Err(Errno::INVAL),
                    (_, false) => Err(Errno::BADF),
                    _ => self.mark(fd),
                };
                assert_eq!(self.world.call().dup3(fd, other, cloexec), expected.map(|_| other));
                self.model.extend(expected.map(|mark| (other, (mark, on))));
            }
            7 => {
                let first = other.max(0);
                let expected = self.mark(fd).and_then(|mark| {
                    let range = if first < LIMIT { Ok(()) } else { Err(Errno::INVAL) };
                    range.and_then(|()| Ok((self.lowest(first)?, mark)))
                });
                let command = if on { F_DUPFD_CLOEXEC } else { F_DUPFD };
                let made = self.world.call().fcntl(fd, command, first as u64);
                assert_eq!(made, expected.map(|(new, _)| new as u64));
                self.model.extend(expected.map(|(new, mark)| (new, (mark, on))));
            }
            8 => {
                let expected = self.mark(fd).map(|_| 0);
                assert_eq!(self.world.call().fcntl(fd, F_SETFD, on.into()), expected);
                self.model.entry(fd).and_modify(|entry| entry.1 = on);
            }
            9 => {
                let (first, last) = (fd.min(other).max(0), fd.max(other).max(0));
                let flags = if on { 4 } else { 0 };
                assert_eq!(self.world.call().close_range(first as u32, last as u32, flags), Ok(()));
                self.model
                    .iter_mut()
                    .filter(|(fd, _)| (first..=last).contains(fd))
                    .for_each(|(_, entry)| entry.1 |= on);
                self.model.retain(|fd, _| on || !(first..=last).contains(fd));
            }
            10 => self.processes(),
            _ => {
                self.world.descriptors.exec(&mut self.world.files, &mut self.world.kernel);
                self.model.retain(|_, &mut (_, closes)| !closes);
            }
        }
    }

    /// Makes a child, lets another process go on, or ends one.
    fn processes(&mut self) {
        let others = self.others.len();
        match self.below(3) {
            0 if others < 3 => {
                let child = self.world.descriptors.fork(&mut self.world.files);
                self.others.push((child, self.model.clone()));
            }
            1 if others > 0 => {
                let place = self.below(others as u64) as usize;
                let (descriptors, model) = &mut self.others[place];
                std::mem::swap(&mut self.world.descriptors, descriptors);
                std::mem::swap(&mut self.model, model);
            }
            2 if others > 0 => {
                let (descriptors, _) = self.others.swap_remove(0);
                descriptors.close_all(&mut self.world.files, &mut self.world.kernel);
            }
            _ => {}
        }
    }

    fn check(&mut self) {
        assert_eq!(
            self.world.descriptors.open().collect::<Vec<_>>(),
            self.model.keys().copied().collect::<Vec<_>>()
        );
        for (fd, (mark, closes)) in self.model.clone() {
            let mut call = self.world.call();
            assert_eq!(call.lseek(fd, 0, handover_files::Seek::Current), Ok(mark));
            assert_eq!(call.fcntl(fd, F_GETFD, 0), Ok(closes.into()));
        }
    }
}

#[test]
fn tables_are_as_the_model_says() {
    for seed in 0..100 {
        let mut world = World::with(&[("file", b"x")], Limits { opens: 64, ..Limits::default() });
        world.descriptors.set_limit(LIMIT as usize);
        let mut tables = Tables { world, model: Model::new(), others: Vec::new(), next: 0, state: seed };
        for _ in 0..500 {
            tables.step();
            tables.check();
        }
        // All open descriptions come back when the last table that has them goes.
        let Tables { mut world, others, .. } = tables;
        let last = world.files.descriptors();
        let own = std::mem::replace(&mut world.descriptors, last);
        for descriptors in others.into_iter().map(|(descriptors, _)| descriptors).chain([own]) {
            descriptors.close_all(&mut world.files, &mut world.kernel);
        }
        world.descriptors.set_limit(100);
        let made = (0..).take_while(|_| world.open("/file", 0).is_ok()).count();
        assert_eq!(made, 64);
        assert_eq!(world.open("/file", 0), Err(Errno::NFILE));
    }
}
