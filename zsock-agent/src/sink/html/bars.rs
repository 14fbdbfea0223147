//! In which state a socket was from when until when, as far as its timeline tells.

use crate::engine::{Timeline, TimelineEntry};
use crate::record::{State, StateChange, What};
use crate::report::Story;
use crate::time::Time;

/// A time spent in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) from: Time,
    pub(super) until: Time,
    pub(super) state: State,
}

/// The states of a story's socket, in the order of time. What is not known is left out: a state that is followed by a change from
/// another one lasts until it was seen last, for nobody saw it end.
pub(super) fn bars(story: &Story) -> Vec<Bar> {
    let (begin, end) = story.span;
    let mut bars = Bars { done: Vec::new(), current: None };
    let (first, _, last) = Timeline::parts(&story.timeline);
    for entry in first.iter().chain(last) {
        bars.take(begin, entry);
    }
    bars.finish(end)
}

struct Bars {
    done: Vec<Bar>,
    /// The state that lasts, from its beginning until it was seen last.
    current: Option<Bar>,
}

impl Bars {
    fn take(&mut self, begin: Time, entry: &TimelineEntry) {
        if let What::State(StateChange { from, to }) = entry.what {
            match self.current.take() {
                Some(bar) if bar.state == from => self.push(Bar { until: entry.at, ..bar }),
                Some(bar) => self.push(bar),
                None if self.done.is_empty() => self.push(Bar { from: begin, until: entry.at, state: from }),
                None => {}
            }
            self.current = Some(Bar { from: entry.at, until: entry.at, state: to });
        } else if let Some(state) = entry.standing.state {
            match &mut self.current {
                Some(bar) if bar.state == state => bar.until = entry.at,
                // The record of a connection's end says how TCP stood after it; its state change is told beside it.
                _ => {
                    self.forget();
                    self.current = Some(Bar { from: entry.at, until: entry.at, state });
                }
            }
        }
    }

    fn forget(&mut self) {
        if let Some(bar) = self.current.take() {
            self.push(bar);
        }
    }

    /// A closed socket has no bar: it is no more.
    fn push(&mut self, bar: Bar) {
        if bar.state != State::CLOSE && bar.from < bar.until {
            self.done.push(bar);
        }
    }

    fn finish(mut self, end: Time) -> Vec<Bar> {
        if let Some(bar) = self.current.take() {
            self.push(Bar { until: bar.until.max(end), ..bar });
        }
        self.done
    }
}
