//! The command line of `zsock kill`.

use clap::Args;

use super::ActArgs;

pub(super) const NOTES: &str = "\
Destroys each socket by the kernel's SOCK_DESTROY, in its own network namespace and
by its cookie, so that no other can be hit. The peer is sent a reset, a thread that
waits for the socket wakes up with ECONNABORTED, and the process keeps a descriptor
of a dead socket. zsock's own sockets are never touched, and those in LISTEN,
TIME_WAIT and SYN_RECV only where --state names them.

Needs:
  root, or CAP_NET_ADMIN to destroy, and to find the sockets what `zsock audit`
  needs; a kernel that was built with CONFIG_INET_DIAG_DESTROY.

Examples:
  # What would be destroyed
  zsock kill --comm api --remote 10.0.5.7:5432
  # Idle connections that nothing guards, and whose path may have forgotten them
  zsock kill --verdict unguarded_idle --remote 10.0.0.0/8 --yes
  # Connections that their process has forgotten to close
  zsock kill --comm worker --state CLOSE_WAIT --yes -o json

";

/// The options of `zsock kill`.
#[derive(Clone, Debug, Args)]
pub struct KillArgs {
    /// Which sockets, and whether at all.
    #[command(flatten)]
    pub act: ActArgs,
}
