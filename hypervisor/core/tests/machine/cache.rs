//! A write-back cache that is as unhelpful as the architecture allows. All memory is mapped write-back at EL2, so any line may come in at any time; any may go, and
//! be written back if it is dirty; guests that map memory non-cacheable look past it; and its maintenance is certain to have happened only after a barrier.
//! What may have happened by now is kept as a set, for each page, which stands for its lines.

use std::collections::{BTreeMap, BTreeSet};

use handover_core::maintenance::CacheStep;
use handover_core::{PAGE, Pa};

/// How a guest maps what it touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    WriteBack,
    NonCacheable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    memory: u64,
    /// With whether it is dirty.
    line: Option<(u64, bool)>,
}

impl State {
    fn cleaned(self) -> State {
        match self.line {
            Some((value, true)) => State { memory: value, line: None },
            _ => State { line: None, ..self },
        }
    }

    /// What the cache may make of it by itself.
    fn by_itself(self) -> Vec<State> {
        let evicted = self.cleaned();
        vec![self, evicted, State { line: Some((evicted.memory, false)), ..evicted }]
    }
}

#[derive(Default)]
pub struct Cache {
    pages: BTreeMap<u64, BTreeSet<State>>,
    /// By which processor.
    issued: Vec<(usize, Pa)>,
    /// Which one is at work.
    pub processor: usize,
}

impl Cache {
    fn states(&self, pa: Pa) -> BTreeSet<State> {
        let fresh = || State { memory: 0, line: None }.by_itself().into_iter().collect();
        self.pages.get(&(pa.get() & !(PAGE - 1))).cloned().unwrap_or_else(fresh)
    }

    fn change(&mut self, pa: Pa, change: impl Fn(State) -> State) {
        let states = self.states(pa).into_iter().map(change).flat_map(State::by_itself).collect();
        self.pages.insert(pa.get() & !(PAGE - 1), states);
    }

    pub fn store(&mut self, pa: Pa, value: u64, view: View) {
        self.change(pa, |state| match view {
            View::WriteBack => State { line: Some((value, true)), ..state },
            View::NonCacheable => State { memory: value, ..state },
        });
    }

    /// All values that a load may find.
    pub fn loads(&self, pa: Pa, view: View) -> BTreeSet<u64> {
        let found = |state: State| match (view, state.line) {
            (View::WriteBack, Some((value, _))) => value,
            _ => state.memory,
        };
        self.states(pa).into_iter().map(found).collect()
    }

    pub fn execute(&mut self, step: CacheStep) {
        match step {
            CacheStep::CleanInvalidate { at } => self.issued.push((self.processor, at)),
            // For this processor's own.
            CacheStep::DsbSy => {
                let (own, others) =
                    std::mem::take(&mut self.issued).into_iter().partition(|(by, _)| *by == self.processor);
                self.issued = others;
                let own: Vec<(usize, Pa)> = own;
                own.into_iter().for_each(|(_, at)| self.change(at, State::cleaned));
            }
        }
    }

    /// Whether maintenance of some of it has begun and may not be done.
    pub fn is_pending(&self, pa: Pa, size: u64) -> bool {
        self.issued.iter().any(|(_, at)| (pa.get()..pa.get() + size).contains(&at.get()))
    }
}
