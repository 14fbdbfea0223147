//! Passes over all sockets, step by step.

use tokio::time::Instant;

use super::Trace;
use crate::source::{clock, namespaces};

impl Trace {
    /// Begins a pass over all sockets, or goes on with it by a step.
    pub(super) fn pass(&mut self) {
        if !self.schedule.begins() {
            if self.schedule.step(&mut self.kernel) {
                self.end_pass();
            }
            return;
        }
        // Other network namespaces are entered on another thread.
        let cpu = || clock::process_cpu().unwrap_or_default();
        let (began, before) = (Instant::now(), cpu());
        let now_ns = self.clock.monotonic_ns();
        let mut namespaces = namespaces::all();
        namespaces.retain(|inode, _| {
            self.netns.is_empty() || u32::try_from(*inode).is_ok_and(|inode| self.netns.contains(&inode))
        });
        match self.kernel.begin_pass(&namespaces, now_ns) {
            Ok(pass) => self.schedule.begun(pass, began, cpu().saturating_sub(before)),
            Err(error) => {
                log::warn!("{error:#}");
                self.schedule.failed();
            }
        }
    }

    /// Takes over what a pass that is over has counted.
    fn end_pass(&mut self) {
        if let Err(error) = self.kernel.end_pass() {
            log::warn!("{error:#}");
        }
        self.tell_standing();
    }
}
