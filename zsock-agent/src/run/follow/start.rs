//! What is said first.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;

use crate::detect::Thresholds;
use crate::record::{Body, Start};
use crate::run::facts;
use crate::source::assemble::known;
use crate::source::kernel::Kernel;

/// The `start` record's content. Warns of what will be missed.
pub(super) fn body(kernel: &Kernel, thresholds: &Thresholds, metrics: Option<SocketAddr>) -> Result<Body> {
    let hooks = kernel.hooks();
    for (hook, how) in &hooks {
        if let Some(reason) = how.strip_prefix("no: ") {
            log::warn!("hook {hook}: {reason}");
        }
    }
    let losses = known::losses(kernel.offsets(), kernel.missing_fields());
    for loss in &losses {
        log::warn!("{loss}");
    }
    let missed: BTreeSet<_> = losses.iter().flat_map(|loss| &loss.fields).copied().collect();
    Ok(Body::Start(Box::new(Start {
        version: Arc::from(env!("CARGO_PKG_VERSION")),
        kernel: facts::kernel_release()?,
        boot_id: facts::boot_id(),
        hooks,
        missing_fields: missed.into_iter().map(Arc::from).collect(),
        sockets: kernel.counters()?.existed,
        settings: thresholds.settings(),
        sysctl: facts::sysctl(),
        metrics,
    })))
}

/// Gives the memory back that only the start needed, some 8 MB of the kernel's types: the allocator keeps what is free.
pub(super) fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and can be called at any time.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
