//! `zsock kill`: has the kernel destroy sockets, each in its own network namespace.

use std::collections::BTreeMap;

use anyhow::Result;
use nix::errno::Errno;

use crate::cli::KillArgs;
use crate::record::{Action, Deed, Done, Found, Standing, State};
use crate::run::act::{Account, Finder, action, nameless};
use crate::source::census::Counted;
use crate::source::diag::{self, Outcome, Target};
use crate::source::namespaces;

/// Destroys the sockets that are selected, or lists them.
pub(super) fn run(arguments: &KillArgs) -> Result<()> {
    let mut account = Account::open(Deed::Kill, &arguments.act)?;
    let mut finder = Finder::new(&arguments.act)?;
    let taken = finder.take(Deed::Kill, 0, |_| true)?;
    if arguments.act.yes {
        kill_all(&taken, &mut account);
    } else {
        for counted in &taken {
            account.tell(&plan(counted), Some(counted.at));
        }
    }
    account.close()
}

/// What would be done.
fn plan(counted: &Counted) -> Action {
    let (before, after) = (standing(counted.found.tcp.state), standing(Some(State::CLOSE)));
    Action { before, after, ..action(Deed::Kill, Done::Would, counted) }
}

fn standing(state: Option<State>) -> Option<Standing> {
    state.map(|state| Standing { state: Some(state), ..Standing::default() })
}

/// Destroys them, namespace after namespace, and tells of each as soon as that is done.
fn kill_all(taken: &[Counted], account: &mut Account) {
    let mut by_namespace: BTreeMap<Option<u64>, Vec<&Counted>> = BTreeMap::new();
    for counted in taken {
        by_namespace.entry(counted.found.socket.netns.map(u64::from)).or_default().push(counted);
    }
    let mut open = namespaces::all();
    open.retain(|inode, _| by_namespace.contains_key(&Some(*inode)));
    let entered = namespaces::in_each(&open, |inode| {
        for counted in by_namespace.get(&Some(inode)).into_iter().flatten() {
            account.tell(&kill(counted), None);
        }
    });
    let mut left: BTreeMap<Option<u64>, Option<Errno>> =
        by_namespace.keys().map(|netns| (*netns, None)).collect();
    for (inode, done) in entered {
        match done {
            Ok(()) => left.remove(&Some(inode)),
            Err(errno) => left.insert(Some(inode), Some(errno)),
        };
    }
    for (netns, errno) in left {
        let why = not_entered(netns, errno);
        for counted in by_namespace.get(&netns).into_iter().flatten() {
            account.tell(&refused(counted, Done::Failed, &why), None);
        }
    }
}

/// Why a network namespace was not entered.
fn not_entered(netns: Option<u64>, errno: Option<Errno>) -> String {
    match (netns, errno) {
        (None, _) => "its network namespace is not known".to_owned(),
        (Some(netns), None) => {
            format!(
                "its network namespace {netns} cannot be found by any process or mount: run zsock in the host's PID and mount namespaces"
            )
        }
        (Some(netns), Some(errno)) => {
            format!(
                "enter its network namespace {netns}: {}; run zsock as root, or with CAP_SYS_ADMIN",
                errno.desc()
            )
        }
    }
}

/// Destroys one of the calling thread's network namespace.
fn kill(counted: &Counted) -> Action {
    if !counted.has_cookie() {
        return nameless(Deed::Kill, counted);
    }
    let Some(target) = Target::of(&counted.found.socket) else {
        let why = "it has no address yet by which the kernel could find it";
        return refused(counted, Done::Skipped, why);
    };
    let why = match diag::destroy(&target) {
        Ok(Outcome::Destroyed) => return Action { outcome: Done::Done, ..plan(counted) },
        Ok(Outcome::Gone) => return refused(counted, Done::Gone, "it was gone already"),
        Ok(Outcome::Survived) => {
            "the kernel says that it was destroyed, and it is still there: before Linux 6.12 no socket is that no process holds"
        }
        Ok(Outcome::NotReached) => {
            "the kernel does not find it by its addresses: of listeners that share them by SO_REUSEPORT it finds one"
        }
        Ok(Outcome::NotPermitted) => {
            "the kernel does not permit it: run zsock as root, or with CAP_NET_ADMIN in the user namespace of its network namespace"
        }
        Ok(Outcome::NotBuiltIn) if is_small(&counted.found) => {
            "this kernel does not destroy what no process can hold: it is too old for that, or was built without CONFIG_INET_DIAG_DESTROY"
        }
        Ok(Outcome::NotBuiltIn) => {
            "this kernel was built without CONFIG_INET_DIAG_DESTROY and cannot destroy sockets: end the process, or have it close them"
        }
        Err(error) => return refused(counted, Done::Failed, &error.to_string()),
    };
    refused(counted, Done::Failed, why)
}

/// Whether the kernel keeps it in the small form, of which it has one answer for cannot and for can never.
fn is_small(found: &Found) -> bool {
    found.tcp.state == Some(State::TIME_WAIT)
        || found.tcp.state == Some(State::FIN_WAIT2) && found.socket.orphan
}

fn refused(counted: &Counted, outcome: Done, why: &str) -> Action {
    let before = standing(counted.found.tcp.state);
    Action { before, error: Some(why.to_owned()), ..action(Deed::Kill, outcome, counted) }
}
