//! The options of the commands that follow live sockets.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{ArgAction, Args};

use super::{Events, SelectorArgs, buffer_size_bytes, values};
use crate::budget::Budget;
use crate::source::kernel::hooks::Choice;
use crate::time::parse_duration;

/// What is followed, and how: the same for `trace` and `record`.
#[derive(Debug, Args)]
pub struct FollowArgs {
    /// Which socket events to print beside the verdicts
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = Events::Trouble)]
    pub events: Events,

    /// When a verdict opens, in place of its default: a count, a duration or a percentage; repeatable
    ///
    /// When a verdict opens, in place of its default: a count, a duration or a percentage, whichever the verdict
    /// measures. The defaults are `connect_blackhole=3`, `stuck_retransmission=4`, `keepalive_unanswered=2` (the least that it
    /// takes), `orphan_stuck=3`, `zero_window_stall=3`, `idle_timeout_inferred=2` (the least), `stale_reset=30s`,
    /// `receiver_stall=30s`, `app_silence=30s`, `close_wait_leak=60s`, `unguarded_idle=300s` and `fd_pressure=80%`;
    /// `silent_death` and `accept_queue_full` have none. Repeatable.
    #[arg(long = "threshold", value_name = "VERDICT=VALUE", value_parser = values::threshold)]
    pub thresholds: Vec<String>,

    /// How often all sockets are looked at for what no hook tells, at least 100ms
    ///
    /// How often all sockets are looked at for what no hook tells, at least 100ms. A socket that is looked at and found
    /// healthy costs a fraction of a microsecond. Where one pass takes more than a tenth of this, the next ones come later,
    /// and a warning says so.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = values::scan_interval)]
    pub scan_interval: Duration,

    /// After how long without a segment something on the path is taken to forget a connection
    ///
    /// After how long without a segment something on the path is taken to forget a connection: what `unguarded_idle` judges
    /// keepalive by. The default is what AWS network load balancers and NAT gateways document; Azure's load balancer
    /// forgets after 4m, Google Cloud's firewall after 10m.
    #[arg(long, value_name = "DURATION", default_value = "350s", value_parser = parse_duration)]
    pub assume_idle_timeout: Duration,

    /// End after this long, such as 500ms, 30s, 5m or 2h [default: go on until interrupted]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Size of the ring buffer from the kernel to zsock: a power of two, 64KiB to 1GiB [default: 8MiB]
    ///
    /// Size of the ring buffer from the kernel to zsock: a power of two, 64KiB to 1GiB. Events that find it full
    /// are lost; `lost` records count them. It is locked memory. [default: 8MiB, or less where --max-memory is below 256MiB]
    #[arg(long = "buffer-size", value_name = "SIZE", value_parser = buffer_size_bytes)]
    pub buffer_size_bytes: Option<u32>,

    /// The most memory that zsock takes, the kernel's share included
    ///
    /// The most memory that zsock takes: its own and what the kernel keeps for it, as a control group counts it. Where sockets
    /// need more, those least in trouble are let go first; `end` counts them, and a warning says so.
    #[arg(long = "max-memory", value_name = "SIZE", default_value = "1GiB", value_parser = values::size_bytes)]
    pub max_memory_bytes: u64,

    /// The most of one processor that zsock is to use, in percent; where it uses more, it does without something [default: no limit]
    ///
    /// The most of one processor that zsock is to use, in percent of one, 1 to 100: by the time of its process and, while the kernel counts
    /// that (`sysctl kernel.bpf_stats_enabled=1`), of its programs, which are not counted otherwise. Where it uses more for 5
    /// seconds, it has its programs counted as well, if it may, and then does without one thing every 5 seconds, the costliest first: hooks
    /// that can be spared, half of the passes over all sockets, and last, with --events all, events. Where the kernel does not
    /// count, hooks come first that run for more than TCP. Each thing is told by a `shed` record and on stderr, with the verdicts that get
    /// poorer, and stays away until zsock ends. No verdict gets wrong by it. [default: no limit]
    #[arg(long = "max-cpu", value_name = "PERCENT", value_parser = values::cpu_percent)]
    pub max_cpu_percent: Option<u32>,

    /// How a hook is attached, such as keepalive=kprobe [default: the best way that this kernel offers]
    ///
    /// How a hook is attached, such as keepalive=kprobe, instead of the best way that this kernel offers; may be repeated. For
    /// `keepalive` and `persist` there are fentry, kprobe and timer, for `accept_failed` fexit, kretprobe, tracepoint and `sys_exit`; sockets
    /// are known by `sockets=cookie` or `sockets=address`. Where the kernel does not offer it, zsock fails and says why. The `start` record
    /// tells how each hook is attached.
    #[arg(long = "hooks", value_name = "HOOK=WAY")]
    pub hooks: Vec<Choice>,

    /// Serve metrics for Prometheus, at /metrics, on this port of the loopback address or where an address says
    ///
    /// Serve metrics for Prometheus, at /metrics, on this port: `9464` or `:9464` are the port of 127.0.0.1, `0.0.0.0:9464` that of every
    /// address, which anybody can read who reaches it. With port 0 the kernel chooses one, and the `start` record tells it.
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::listening_address)]
    pub metrics: Option<SocketAddr>,

    /// Say on stderr what zsock itself does; repeat for more
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Which sockets and verdicts.
    #[command(flatten)]
    pub selectors: SelectorArgs,
}

impl FollowArgs {
    /// How the memory is divided that it may take.
    ///
    /// # Errors
    /// Too little to start, with a sentence that says what is enough.
    pub fn budget(&self) -> Result<Budget, String> {
        Budget::divide(self.max_memory_bytes, self.buffer_size_bytes)
    }
}
