//! Whose a socket is.

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use zsock_common::wire;

use crate::source::cgroup;
use crate::source::process::{Cgroup, Process};

/// So many processes, and the control groups of as many, are remembered at once.
const MAX_PROCESSES: usize = 4096;

/// Of more processes that hold a socket, those that started last are left out: none of them would be its owner.
const MAX_HOLDERS: usize = 8;

/// What is known of the processes around one socket.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    /// Connected it, or was found holding it first.
    opener: Option<Arc<Process>>,
    /// Shut it down or closed it.
    closer: Option<Arc<Process>>,
    /// Held it at the last look.
    holders: Option<Vec<Arc<Process>>>,
    /// The owner that was told last.
    last: Option<Arc<Process>>,
}

impl Owners {
    /// Takes in the process that connected it.
    pub(super) fn opened_by(&mut self, opener: Option<&Arc<Process>>) {
        keep(opener, &mut self.opener);
    }

    /// Takes in the process that shut it down or closed it.
    pub(super) fn closed_by(&mut self, closer: Option<&Arc<Process>>) {
        keep(closer, &mut self.closer);
    }

    /// Whether a process is known at all.
    #[must_use]
    pub(super) fn is_known(&self) -> bool {
        self.opener.is_some()
            || self.closer.is_some()
            || self.holders.as_ref().is_some_and(|holders| !holders.is_empty())
    }

    /// Forgets who held it, for a new look.
    pub(super) fn begin_look(&mut self) {
        self.holders = Some(Vec::new());
    }

    /// Takes in a process that holds it now.
    pub(super) fn held_by(&mut self, holder: Option<&Arc<Process>>) {
        let Some(holder) = holder else { return };
        let holders = self.holders.get_or_insert_default();
        holders.push(Arc::clone(holder));
        if holders.len() > MAX_HOLDERS {
            let is_opener = |holder: &Process| self.opener.as_deref().is_some_and(|opener| opener.is(holder));
            let latest = (0..holders.len()).max_by_key(|&place| {
                let holder = &holders[place];
                (!is_opener(holder), holder.start_ns, holder.pid)
            });
            latest.map(|place| holders.swap_remove(place));
        }
    }

    /// The owner, of a socket that is an orphan or not, and that belongs to a `struct socket` or not.
    pub(super) fn decide(&mut self, is_orphan: bool, has_socket: bool) -> Option<&Process> {
        let owner = if is_orphan {
            self.closer.as_ref().or(self.last.as_ref()).or(self.opener.as_ref())
        } else if has_socket {
            self.holder()
        } else {
            // Accepted by nobody yet.
            None
        };
        let other = owner.filter(|owner| !is_same(owner, self.last.as_ref())).cloned();
        self.last = other.or_else(|| self.last.take());
        // What was held once keeps its owner: a connection in the accept queue has never had one.
        self.last.as_deref()
    }

    /// Of those who hold it the one that opened it, else the one that started first: the others inherited it from that one.
    fn holder(&self) -> Option<&Arc<Process>> {
        match &self.holders {
            Some(holders) if !holders.is_empty() => {
                let opener = self.opener.as_ref();
                holders
                    .iter()
                    .find(|holder| opener.is_some_and(|opener| opener.is(holder)))
                    .or_else(|| holders.iter().min_by_key(|holder| (holder.start_ns, holder.pid)))
            }
            // Nobody found: whoever held it has let go of it since the event.
            Some(_) => self.closer.as_ref().or(self.last.as_ref()).or(self.opener.as_ref()),
            None => self.opener.as_ref().or(self.closer.as_ref()),
        }
    }
}

/// Puts a process that is known in the place of `kept`. Mostly it is there already, and not to count it anew is quicker.
fn keep(process: Option<&Arc<Process>>, kept: &mut Option<Arc<Process>>) {
    if let Some(process) = process.filter(|process| !is_same(process, kept.as_ref())) {
        *kept = Some(Arc::clone(process));
    }
}

fn is_same(process: &Arc<Process>, kept: Option<&Arc<Process>>) -> bool {
    kept.is_some_and(|kept| Arc::ptr_eq(process, kept))
}

/// The id of a process and its start, both chosen by the kernel: a hash without a key is good enough for them.
type ByProcess<T> = FxHashMap<(u32, u64), T>;

/// The processes that the kernel side names, each kept once for all its sockets.
#[derive(Debug)]
pub(super) struct Processes {
    /// As they were named last: a process may change its name.
    known: ByProcess<(wire::Process, Arc<Process>)>,
    /// Whether the kernel side can tell them at all.
    can_be_told: bool,
}

impl Processes {
    pub(super) fn new(can_be_told: bool) -> Self {
        Self { known: ByProcess::default(), can_be_told }
    }

    /// The process of a wire record; `None` where it names none.
    pub(super) fn of(&mut self, wire: &wire::Process) -> Option<&Arc<Process>> {
        if wire.tgid == 0 || !self.can_be_told {
            return None;
        }
        let id = (wire.tgid, wire.start_ns);
        if self.known.len() >= MAX_PROCESSES && !self.known.contains_key(&id) {
            self.known.clear();
        }
        let (named, process) = match self.known.entry(id) {
            Occupied(known) => known.into_mut(),
            Vacant(place) => place.insert((*wire, Arc::new(Process::from_wire(wire)?))),
        };
        if named != wire {
            *process = Arc::new(Process::from_wire(wire)?);
            *named = *wire;
        }
        Some(process)
    }
}

/// The control groups of processes, each looked up once: of the process while it is there to ask, else by the group's id.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    of_processes: ByProcess<Option<Cgroup>>,
    by_id: cgroup::Paths,
}

impl Cgroups {
    /// The control group of `process`; `None` where it could not be told.
    pub(super) fn of(&mut self, process: &Process) -> Option<&Cgroup> {
        if self.of_processes.len() >= MAX_PROCESSES {
            self.of_processes.clear();
        }
        let by_id = &mut self.by_id;
        let look_up = || process.cgroup().or_else(|| by_id.of(process.cgroup_id).map(Cgroup::of_path));
        self.of_processes.entry((process.pid, process.start_ns)).or_insert_with(look_up).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(tgid: u32, start_ns: u64) -> Option<Arc<Process>> {
        Processes::new(true).of(&wire::Process { tgid, start_ns, ..wire::Process::NONE }).cloned()
    }

    fn pid(owner: Option<&Process>) -> Option<u32> {
        owner.map(|owner| owner.pid)
    }

    #[test]
    fn a_process_is_kept_once_until_it_is_called_otherwise_and_the_memory_is_bounded() {
        let named = |tgid, comm: &str| {
            let mut wire = wire::Process { tgid, ..wire::Process::NONE };
            wire.comm[..comm.len()].copy_from_slice(comm.as_bytes());
            wire
        };
        let mut processes = Processes::new(true);
        let [first, again, renamed] =
            ["first", "first", "second"].map(|comm| Arc::clone(processes.of(&named(20, comm)).unwrap()));
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!((&*first.comm, &*renamed.comm, renamed.pid), ("first", "second", 20));
        for tgid in (1..).take(3 * MAX_PROCESSES) {
            processes.of(&named(tgid, "worker"));
            assert!(processes.known.len() <= MAX_PROCESSES);
        }
        assert_eq!(Processes::new(false).of(&named(20, "first")), None);
    }

    #[test]
    fn the_one_that_opened_it_owns_it_as_long_as_it_holds_it() {
        let mut owners = Owners::default();
        owners.opened_by(process(20, 2).as_ref());
        assert_eq!(pid(owners.decide(false, true)), Some(20));
        owners.begin_look();
        owners.held_by(process(10, 1).as_ref());
        owners.held_by(process(20, 2).as_ref());
        assert_eq!(pid(owners.decide(false, true)), Some(20));
        owners.begin_look();
        owners.held_by(process(40, 4).as_ref());
        owners.held_by(process(30, 3).as_ref());
        assert_eq!(pid(owners.decide(false, true)), Some(30));
    }

    #[test]
    fn of_many_holders_those_are_kept_that_may_own_it() {
        let mut owners = Owners::default();
        owners.opened_by(process(500, 500).as_ref());
        owners.begin_look();
        for start in (1..=1000).rev() {
            owners.held_by(process(start, start.into()).as_ref());
        }
        assert_eq!(owners.holders.as_ref().map(Vec::len), Some(MAX_HOLDERS));
        assert_eq!(pid(owners.decide(false, true)), Some(500));
        owners.opener = None;
        assert_eq!(pid(owners.decide(false, true)), Some(1));
    }

    #[test]
    fn a_later_process_of_the_same_id_is_not_the_opener() {
        let mut owners = Owners::default();
        owners.opened_by(process(20, 2).as_ref());
        owners.held_by(process(20, 9).as_ref());
        owners.held_by(process(10, 5).as_ref());
        assert_eq!(pid(owners.decide(false, true)), Some(10));
    }

    #[test]
    fn nobody_owns_a_connection_in_the_accept_queue() {
        let mut owners = Owners::default();
        owners.begin_look();
        assert_eq!(pid(owners.decide(false, false)), None);
        owners.held_by(process(20, 2).as_ref());
        assert_eq!(pid(owners.decide(false, true)), Some(20));
    }

    #[test]
    fn an_orphan_keeps_its_last_owner() {
        let mut owners = Owners::default();
        owners.held_by(process(20, 2).as_ref());
        assert_eq!(pid(owners.decide(false, true)), Some(20));
        assert_eq!(pid(owners.decide(true, false)), Some(20));
        owners.closed_by(process(30, 3).as_ref());
        assert_eq!(pid(owners.decide(true, false)), Some(30));
    }

    #[test]
    fn without_any_trace_of_a_process_there_is_no_owner() {
        let mut owners = Owners::default();
        owners.opened_by(process(0, 0).as_ref());
        owners.closed_by(process(0, 0).as_ref());
        assert_eq!(pid(owners.decide(false, true)), None);
        assert_eq!(pid(owners.decide(true, false)), None);
    }
}
