//! The signals that end a trace in order.

use std::fs;
use std::future::poll_fn;
use std::task::Poll;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Number of SIGHUP, on every architecture.
const SIGHUP: u32 = 1;

/// SIGINT and SIGTERM; SIGHUP too, where whoever started zsock left it to end the process (`nohup` does not).
pub(super) struct Signals(Vec<Signal>);

impl Signals {
    pub(super) fn listen() -> Result<Self> {
        let status = fs::read("/proc/self/status").unwrap_or_default();
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        if !is_ignored(SIGHUP, &String::from_utf8_lossy(&status)) {
            kinds.push(SignalKind::hangup());
        }
        let listen = |kind| signal(kind).with_context(|| format!("listen for signal {kind:?}"));
        kinds.into_iter().map(listen).collect::<Result<_>>().map(Self)
    }

    /// Waits for any of them.
    pub(super) async fn received(&mut self) {
        poll_fn(|context| {
            let is_any = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if is_any { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Whether a process of this `/proc/PID/status` ignores the signal.
pub(super) fn is_ignored(signal: u32, status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_ignores_is_known_from_the_status() {
        let status = |mask: &str| format!("Name:\tzsock\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert!(is_ignored(SIGHUP, &status("0000000000001001")));
        assert!(!is_ignored(SIGHUP, &status("0000000000001000")));
        assert!(!is_ignored(SIGHUP, ""));
    }
}
