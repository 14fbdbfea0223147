//! What the commands share that act on sockets: which sockets, how many at most, and the account of what was done.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::cli::ActArgs;
use crate::record::{Action, Deed, Done, Found, State};
use crate::run::filter;
use crate::select::Selectors;
use crate::source::census::{Counted, Coverage, Looks, Wanted};
use crate::source::process;

mod account;

pub(super) use account::Account;

/// States whose sockets are left alone unless `--state` names them: a listener is a whole service, the others are none that a process
/// could hold.
const ONLY_IF_NAMED: [State; 4] = [State::LISTEN, State::TIME_WAIT, State::SYN_RECV, State::NEW_SYN_RECV];

/// Finds the sockets to act on.
pub(super) struct Finder {
    selection: Selection,
    looks: Looks,
    /// The most sockets of a run.
    max: u64,
    /// What was not looked at, as it was said.
    gaps: HashSet<String>,
}

impl Finder {
    /// One for the sockets that these options select.
    ///
    /// # Errors
    /// Where selectors cannot be resolved, or sockets not be looked at.
    pub(super) fn new(arguments: &ActArgs) -> Result<Self> {
        let selection = Selection::new(arguments.selectors.clone().resolve()?);
        let wanted = Wanted { filter: filter::of(&selection.selectors), thresholds: arguments.thresholds()? };
        Ok(Self { selection, looks: Looks::load(wanted), max: arguments.max, gaps: HashSet::new() })
    }

    /// Looks at all sockets, and takes those that are selected and `is_new` says so of; `before` is how many were taken in earlier looks.
    ///
    /// # Errors
    /// When sockets cannot be looked at, and when more are selected than `--max` allows.
    pub(super) fn take(
        &mut self,
        deed: Deed,
        before: u64,
        is_new: impl Fn(&Counted) -> bool,
    ) -> Result<Vec<Counted>> {
        let Self { selection, looks, max, gaps } = self;
        let mut taken = BTreeMap::new();
        let mut surplus = HashSet::new();
        let room = usize::try_from(max.saturating_sub(before)).unwrap_or(usize::MAX);
        let coverage = looks.take(|counted| {
            let id = counted.found.socket.id;
            if !selection.takes(&counted.found) || !is_new(&counted) {
                return;
            }
            if taken.len() < room || taken.contains_key(&id) {
                taken.insert(id, counted);
            } else {
                surplus.insert(id);
            }
        })?;
        for gap in gaps_of(&coverage).filter(|gap| gaps.insert(gap.clone())) {
            log::warn!("{gap}");
        }
        if !surplus.is_empty() {
            bail!("{}", too_many(deed, taken.len() + surplus.len(), *max, before));
        }
        let mut taken: Vec<Counted> = taken.into_values().collect();
        taken.sort_by_cached_key(|counted| place(&counted.found));
        Ok(taken)
    }
}

/// Which sockets to act on.
struct Selection {
    selectors: Selectors,
    /// Inode numbers of the sockets that this process has open, whoever gave them to it.
    own: HashSet<u64>,
}

impl Selection {
    fn new(selectors: Selectors) -> Self {
        Self { selectors, own: own_sockets() }
    }

    fn takes(&self, found: &Found) -> bool {
        let is_own = found.socket.inode.is_some_and(|inode| self.own.contains(&inode));
        let is_named = found
            .tcp
            .state
            .is_some_and(|state| !ONLY_IF_NAMED.contains(&state) || self.selectors.states.contains(&state));
        !is_own && is_named && self.selectors.matches_found(found)
    }
}

/// What a list of sockets is ordered by.
fn place(found: &Found) -> impl Ord + use<> {
    let socket = &found.socket;
    (socket.comm.clone(), socket.pid, socket.remote, socket.local, socket.id)
}

fn too_many(deed: Deed, selected: usize, max: u64, before: u64) -> String {
    let (done, earlier) = match (deed, before) {
        (Deed::Keepalive, 0) => ("nothing was set", String::new()),
        (Deed::Keepalive, _) => ("none of these was set", format!(" after {before} before")),
        (Deed::Kill, _) => ("nothing was destroyed", String::new()),
    };
    let selected = if selected == 1 { "1 socket is".to_owned() } else { format!("{selected} sockets are") };
    format!(
        "{selected} selected{earlier}, more than --max {max} allows: {done}; select fewer, or raise --max"
    )
}

/// What was not looked at, so that nobody takes it for not being there.
fn gaps_of(coverage: &Coverage) -> impl Iterator<Item = String> {
    let namespaces = coverage
        .failed
        .iter()
        .map(|(netns, why)| format!("the sockets of network namespace {netns} were not looked at: {why}"));
    let facts = coverage.not_told.iter();
    namespaces.chain(facts.map(|fact| format!("{fact}: nothing is selected by what is not known of it")))
}

/// The sockets that this process has open.
fn own_sockets() -> HashSet<u64> {
    let links = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
    targets.filter_map(|target: PathBuf| process::socket_inode(&target)).collect()
}

/// The record of a socket to which nothing was done yet.
pub(super) fn action(deed: Deed, outcome: Done, counted: &Counted) -> Action {
    let Found { socket, tcp, verdict, .. } = &counted.found;
    Action {
        action: deed,
        outcome,
        socket: socket.clone(),
        tcp: tcp.clone(),
        verdict: *verdict,
        before: None,
        after: None,
        warnings: Vec::new(),
        error: None,
    }
}

/// The record of a socket that cannot be told from others with certainty, so that nothing is done to it.
pub(super) fn nameless(deed: Deed, counted: &Counted) -> Action {
    let why = "this kernel has given it no cookie, without which another socket could be hit: run zsock as root, with the kernel's module \
               tcp_diag loaded";
    Action { error: Some(why.to_owned()), ..action(deed, Done::Failed, counted) }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::record::{Family, Socket, SocketId, Tcp};

    fn selection(arguments: &str) -> Selection {
        let arguments = ["zsock", "kill"].into_iter().chain(arguments.split_whitespace());
        let Command::Kill(kill) = Cli::try_parse_from(arguments).unwrap().command else {
            panic!("another command")
        };
        Selection { selectors: kill.act.selectors.resolve().unwrap(), own: [7].into() }
    }

    fn found(inode: u64, state: State) -> Found {
        Found {
            socket: Socket {
                id: SocketId(1),
                family: Family::Ipv4,
                local: Some("10.0.1.4:443".parse().unwrap()),
                remote: None,
                v4mapped: false,
                netns: None,
                pid: Some(812),
                comm: Some("nginx".into()),
                comm_hex: None,
                uid: None,
                inode: Some(inode),
                cgroup: None,
                container: None,
                orphan: false,
                owner_exited: None,
                listener: None,
            },
            tcp: Tcp { state: Some(state), ..Tcp::default() },
            idle_ms: None,
            timer: None,
            unaccepted: false,
            accepted: false,
            accept_queue: None,
            verdict: None,
            noticed: None,
            noticed_in_ms: None,
        }
    }

    #[test]
    fn listeners_and_what_no_process_could_hold_are_left_alone_unless_named() {
        let (by_port, by_state) =
            (selection("--port 443"), selection("--port 443 --state listen --state time_wait"));
        assert!(
            by_port.takes(&found(1, State::ESTABLISHED)) && !by_state.takes(&found(1, State::ESTABLISHED))
        );
        for (state, is_named) in [(State::LISTEN, true), (State::TIME_WAIT, true), (State::SYN_RECV, false)] {
            assert!(!by_port.takes(&found(1, state)), "{state}");
            assert_eq!(by_state.takes(&found(1, state)), is_named, "{state}");
        }
        let unknown = Found { tcp: Tcp::default(), ..found(1, State::LISTEN) };
        assert!(!by_port.takes(&unknown), "it may be a listener");
    }

    #[test]
    fn the_own_sockets_are_never_selected() {
        for arguments in ["--port 443", "--pid 812", "--state listen"] {
            let selection = selection(arguments);
            let state = if arguments.contains("listen") { State::LISTEN } else { State::ESTABLISHED };
            assert!(selection.takes(&found(8, state)) && !selection.takes(&found(7, state)), "{arguments}");
        }
    }

    #[test]
    fn what_this_process_has_open_is_its_own() {
        use std::os::fd::AsRawFd as _;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        assert!(own_sockets().contains(&process::socket_inode(&link).unwrap()));
    }

    #[test]
    fn too_many_are_refused_with_their_number() {
        assert_eq!(
            too_many(Deed::Kill, 101, 100, 0),
            "101 sockets are selected, more than --max 100 allows: nothing was destroyed; select fewer, or raise --max"
        );
        assert_eq!(
            too_many(Deed::Keepalive, 3, 100, 98),
            "3 sockets are selected after 98 before, more than --max 100 allows: none of these was set; select fewer, or raise --max"
        );
    }
}
