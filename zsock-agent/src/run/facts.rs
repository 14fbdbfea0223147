//! What the host says of itself.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result};

/// The settings that the verdicts use.
const SYSCTLS: [&str; 12] = [
    "tcp_fin_timeout",
    "tcp_keepalive_intvl",
    "tcp_keepalive_probes",
    "tcp_keepalive_time",
    "tcp_orphan_retries",
    "tcp_retries1",
    "tcp_retries2",
    "tcp_rto_max_ms",
    "tcp_rto_min_us",
    "tcp_syn_linear_timeouts",
    "tcp_syn_retries",
    "tcp_synack_retries",
];

/// The host's name.
pub(super) fn host() -> Arc<str> {
    let name = nix::unistd::gethostname().unwrap_or_default();
    Arc::from(name.to_string_lossy())
}

/// The kernel's release, as `uname -r` says.
pub(super) fn kernel_release() -> Result<Arc<str>> {
    let name = nix::sys::utsname::uname().context("ask the kernel for its release (uname)")?;
    Ok(Arc::from(name.release().to_string_lossy()))
}

/// The id of this boot, within which socket ids are unique.
pub(super) fn boot_id() -> Option<Arc<str>> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|text| Arc::from(text.trim()))
}

/// Settings of zsock's own network namespace, by their full names, in the units of `/proc/sys`.
pub(super) fn sysctl() -> BTreeMap<String, u64> {
    let value = |name: &&str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?;
        Some((format!("net.ipv4.{name}"), text.trim().parse().ok()?))
    };
    SYSCTLS.iter().filter_map(value).collect()
}
