//! One look at every TCP socket of the host, with its owner, its settings and what its timers will do.

use std::sync::Arc;

use anyhow::Result;
use zsock_common::settings::Filter;

use crate::detect::Thresholds;
use crate::record::Found;
use crate::source::process::Process;
use crate::time::Time;

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What the kernel side lets through; at least what is selected.
    pub filter: Filter,
    /// By which verdicts are given.
    pub thresholds: Thresholds,
}

/// Through which descriptor of which process a socket is held.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The process, of several the one that started first: the others inherited it.
    pub process: Arc<Process>,
    /// Its descriptor.
    pub fd: u32,
}

/// A socket and its holder; an orphan, one in the accept queue and one whose holder cannot be told have none.
#[derive(Clone, Debug)]
pub struct Counted {
    /// When it was looked at.
    pub at: Time,
    /// What was found.
    pub found: Found,
    /// Who holds it.
    pub holder: Option<Holder>,
}

/// What a look covered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Network namespaces looked into.
    pub namespaces: u64,
    /// Those that could not be looked into, and why.
    pub failed: Vec<(u64, String)>,
    /// How: `iterators` or `sock_diag`.
    pub source: &'static str,
    /// What cannot be told of sockets found in this way, in words.
    pub not_told: Vec<String>,
}

/// Looks at every socket once and hands each to `each`, in no order, as it is found.
///
/// # Errors
/// When not even the sockets of the own network namespace can be listed, with what to do about it.
pub fn take(wanted: &Wanted, each: impl FnMut(Counted)) -> Result<Coverage> {
    let _ = (wanted, each);
    anyhow::bail!("not built yet")
}
