//! Selectors: which records are printed.
//!
//! Values of one kind are OR-ed, kinds are AND-ed, and a kind without values selects everything. A fact that is not
//! known is never selected by a selector of its kind.

use std::net::SocketAddr;

use crate::record::{
    Body, Destination, Event, Found, Process, Record, Socket, State, Subject, VerdictName, What,
};

mod endpoint;
mod places;

pub use endpoint::{Endpoint, parse_port};
pub use places::{CgroupPath, NetnsArg};

/// What the user asked to see; empty means everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selectors {
    /// Process ids of owners.
    pub pids: Vec<u32>,
    /// Names of owners, whole.
    pub comms: Vec<String>,
    /// Ports, of either end.
    pub ports: Vec<u16>,
    /// Our ends.
    pub local: Vec<Endpoint>,
    /// The peers' ends.
    pub remote: Vec<Endpoint>,
    /// Network namespaces by inode number.
    pub netns: Vec<u32>,
    /// Control groups of owners, with all below them.
    pub cgroups: Vec<CgroupPath>,
    /// TCP states.
    pub states: Vec<State>,
    /// Verdicts; they say nothing about events.
    pub verdicts: Vec<VerdictName>,
}

impl Selectors {
    /// Whether `record` is to be printed. Records about the trace itself always are.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        match &record.body {
            Body::Start(_) | Body::End(_) | Body::Lost(_) | Body::Shed(_) | Body::Tick(_) => true,
            Body::Event(event) => self.matches_socket(&event.socket) && self.matches_state_of(event),
            Body::Verdict(verdict) => {
                self.matches_subject(&verdict.subject) && any(&self.verdicts, |name| verdict.verdict == *name)
            }
            Body::Process(sample) => self.matches_process(&sample.process),
            Body::Destination(sample) => self.matches_destination(sample.destination),
        }
    }

    /// Whether a socket that one look found is selected; a verdict is the one that its facts alone give.
    #[must_use]
    pub fn matches_found(&self, found: &Found) -> bool {
        self.matches_socket(&found.socket)
            && any(&self.states, |state| found.tcp.state == Some(*state))
            && any(&self.verdicts, |verdict| found.verdict == Some(*verdict))
    }

    fn matches_subject(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Socket { socket, tcp } => {
                self.matches_socket(socket) && any(&self.states, |state| tcp.state == Some(*state))
            }
            Subject::Process { process } => self.matches_process(process),
            Subject::Destination { destination } => self.matches_destination(*destination),
        }
    }

    /// A process has no address, port, namespace or state: with a selector of these it is not selected.
    fn matches_process(&self, process: &Process) -> bool {
        any(&self.pids, |pid| process.pid == *pid)
            && any(&self.comms, |comm| process.comm.as_deref() == Some(comm))
            && any(&self.cgroups, |path| {
                process.cgroup.as_deref().is_some_and(|cgroup| path.contains(cgroup))
            })
            && self.ports.is_empty()
            && self.local.is_empty()
            && self.remote.is_empty()
            && self.netns.is_empty()
            && self.states.is_empty()
    }

    /// A destination has an address and a port and belongs to nobody.
    fn matches_destination(&self, destination: Destination) -> bool {
        let address = SocketAddr::new(destination.net.addr(), destination.port);
        any(&self.ports, |port| destination.port == *port)
            && any(&self.remote, |end| end.contains(address))
            && self.pids.is_empty()
            && self.comms.is_empty()
            && self.cgroups.is_empty()
            && self.local.is_empty()
            && self.netns.is_empty()
            && self.states.is_empty()
    }

    fn matches_socket(&self, socket: &Socket) -> bool {
        let has_port = |end: Option<SocketAddr>, port: u16| end.is_some_and(|end| end.port() == port);
        any(&self.pids, |pid| socket.pid == Some(*pid))
            && any(&self.comms, |comm| socket.comm.as_deref() == Some(comm))
            && any(&self.ports, |port| has_port(socket.local, *port) || has_port(socket.remote, *port))
            && any(&self.local, |end| socket.local.is_some_and(|local| end.contains(local)))
            && any(&self.remote, |end| socket.remote.is_some_and(|remote| end.contains(remote)))
            && any(&self.netns, |netns| socket.netns == Some(*netns))
            && any(&self.cgroups, |path| socket.cgroup.as_deref().is_some_and(|cgroup| path.contains(cgroup)))
    }

    /// A state change belongs to both of its states, every other event to the state after it.
    fn matches_state_of(&self, event: &Event) -> bool {
        any(&self.states, |state| {
            if let What::State(change) = &event.what {
                change.from == *state || change.to == *state
            } else {
                event.tcp.state == Some(*state)
            }
        })
    }
}

fn any<T>(wanted: &[T], is: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(is)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::record::{Family, Phase, Progress, Severity, SocketId, StateChange, Tcp, Verdict};
    use crate::time::Time;

    /// A socket of nginx, IPv4 seen through an IPv6 socket.
    fn nginx() -> Socket {
        Socket {
            id: SocketId(1),
            family: Family::Ipv4,
            local: Some("10.0.1.4:443".parse().unwrap()),
            remote: Some("192.0.2.7:50000".parse().unwrap()),
            v4mapped: true,
            netns: Some(4_026_531_840),
            pid: Some(812),
            comm: Some("nginx".into()),
            comm_hex: None,
            uid: Some(33),
            inode: Some(99_120),
            cgroup: Some("/system.slice/nginx.service".into()),
            container: None,
            orphan: false,
            owner_exited: None,
            listener: None,
        }
    }

    /// A socket of which only the id is known.
    fn stranger() -> Socket {
        Socket {
            local: None,
            remote: None,
            v4mapped: false,
            netns: None,
            pid: None,
            comm: None,
            uid: None,
            inode: None,
            cgroup: None,
            ..nginx()
        }
    }

    fn record(body: Body) -> Record {
        Record::new(Time::from_unix_ns(0), &Arc::from("h"), body)
    }

    fn event(socket: Socket, what: What, state: Option<State>) -> Record {
        let tcp = Tcp { state, ..Tcp::default() };
        record(Body::Event(Box::new(Event {
            what,
            socket: Arc::new(socket),
            tcp,
            replayed: false,
            inferred: false,
        })))
    }

    fn progress(socket: Socket) -> Record {
        let what = What::Progress(Progress { stalled_ms: Some(3000), attempts: 4 });
        event(socket, what, Some(State::ESTABLISHED))
    }

    fn verdict(name: VerdictName) -> Record {
        record(Body::Verdict(Box::new(Verdict {
            verdict: name,
            phase: Phase::Opened,
            outcome: None,
            severity: Severity::Critical,
            subject: Subject::Socket {
                socket: Arc::new(nginx()),
                tcp: Box::new(Tcp { state: Some(State::ESTABLISHED), ..Tcp::default() }),
            },
            since: Time::from_unix_ns(0),
            evidence: serde_json::Map::new(),
            summary: String::new(),
            advice: Vec::new(),
        })))
    }

    /// The selectors that a command line gives.
    fn selectors(arguments: &str) -> Selectors {
        use clap::Parser as _;
        let arguments = ["zsock", "trace"].into_iter().chain(arguments.split_whitespace());
        let command = crate::cli::Cli::try_parse_from(arguments).unwrap().command;
        let crate::cli::Command::Trace(trace) = command else { panic!("it is a trace") };
        trace.follow.selectors.resolve().unwrap()
    }

    /// Those of `arguments` that select the record.
    fn selecting<'a>(arguments: &[&'a str], record: &Record) -> Vec<&'a str> {
        arguments.iter().copied().filter(|arguments| selectors(arguments).matches(record)).collect()
    }

    /// One selector of each kind about sockets that [`nginx`] answers to.
    const ONE_OF_EACH_KIND: [&str; 9] = [
        "--pid 812",
        "--comm nginx",
        "--port 443",
        "--port 50000",
        "--local 10.0.0.0/8:443",
        "--remote 192.0.2.7",
        "--netns 4026531840",
        "--cgroup /system.slice",
        "--state ESTABLISHED",
    ];

    #[test]
    fn each_kind_selects_by_its_fact() {
        assert_eq!(selecting(&ONE_OF_EACH_KIND, &progress(nginx())), ONE_OF_EACH_KIND);
        let others = [
            "--pid 813",
            "--comm ngin",
            "--comm nginx:",
            "--port 444",
            "--local 192.0.2.7",
            "--local 10.0.1.4:50000",
            "--remote 10.0.1.4",
            "--remote ::/0",
            "--netns 4026531841",
            "--cgroup /system.slice/nginx",
            "--state CLOSE_WAIT",
        ];
        assert_eq!(selecting(&others, &progress(nginx())), Vec::<&str>::new());
    }

    #[test]
    fn a_fact_that_is_not_known_is_never_selected() {
        let what = What::Progress(Progress { stalled_ms: None, attempts: 4 });
        let unknown = event(stranger(), what, None);
        assert_eq!(selecting(&ONE_OF_EACH_KIND, &unknown), Vec::<&str>::new());
        assert_eq!(
            selecting(&["--local 0.0.0.0/0", "--remote ::/0", "--cgroup /"], &unknown),
            Vec::<&str>::new()
        );
        assert!(Selectors::default().matches(&unknown));
    }

    #[test]
    fn values_of_a_kind_widen_and_kinds_narrow() {
        let record = progress(nginx());
        assert!(selectors("--pid 1 --pid 812 --port 443").matches(&record));
        assert!(!selectors("--pid 812 --port 22").matches(&record));
    }

    #[test]
    fn ipv4_seen_through_an_ipv6_socket_is_selected_as_ipv4_however_it_is_written() {
        let arguments =
            ["--remote 192.0.2.0/24", "--remote ::ffff:192.0.2.7", "--remote [::ffff:192.0.2.0]/120:50000"];
        assert_eq!(selecting(&arguments, &progress(nginx())), arguments);
    }

    #[test]
    fn a_state_change_belongs_to_both_states() {
        let what = What::State(StateChange { from: State::ESTABLISHED, to: State::CLOSE_WAIT });
        let change = event(nginx(), what, None);
        let arguments = ["--state established", "--state CLOSE_WAIT", "--state LISTEN"];
        assert_eq!(selecting(&arguments, &change), arguments[..2]);
    }

    #[test]
    fn a_verdict_selector_leaves_events_alone() {
        let selectors = selectors("--verdict silent_death --verdict stale_reset");
        assert!(selectors.matches(&verdict(VerdictName::SilentDeath)));
        assert!(!selectors.matches(&verdict(VerdictName::OrphanStuck)));
        assert!(selectors.matches(&progress(nginx())));
    }

    #[test]
    fn a_verdict_is_selected_by_its_socket_as_well() {
        let record = verdict(VerdictName::StuckRetransmission);
        assert_eq!(selecting(&ONE_OF_EACH_KIND, &record), ONE_OF_EACH_KIND);
        assert_eq!(selecting(&["--pid 1", "--state LISTEN"], &record), Vec::<&str>::new());
    }

    #[test]
    fn records_about_the_trace_itself_always_pass() {
        assert!(selectors("--pid 1 --verdict silent_death").matches(&record(Body::End(Box::default()))));
    }
}
