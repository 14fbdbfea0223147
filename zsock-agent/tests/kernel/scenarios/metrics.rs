//! What `--metrics` serves: numbers that are those of the records and of the kernel, whoever asks and however.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::redis::Killed;
use super::{Pair, echo_server};
use crate::await_some;
use crate::net::{Ip, Net};
use crate::peer::Peer;
use crate::proc::{await_state, sockets_by_state};
use crate::story::{Line, Recording};
use crate::zsock::{Zsock, directory};

/// How long anything may take before a test gives up on it. No claim: the machine may be slow.
const LIMIT: Duration = Duration::from_secs(30);
const CLOSE_WAIT: u8 = 8;
const TIME_WAIT: u8 = 6;
/// Connections that idle.
const IDLE: usize = 5;

/// What cannot be done here for want of a program.
pub(super) fn lacking(name: &str) -> Option<String> {
    let needed: &[&str] = match name {
        "metrics::promtool_finds_no_fault" => &["promtool"],
        "metrics::prometheus_reads_them" => &["prometheus"],
        _ => &[],
    };
    let lacks = |program: &&&str| {
        let found =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_err()
    };
    needed
        .iter()
        .find(lacks)
        .map(|program| format!("needs `{program}` in PATH (Debian's package prometheus)"))
}

/// Sockets in many states, two verdicts: every count is one of the records or of the kernel.
pub(super) fn numbers_are_those_of_the_records_and_of_the_kernel() {
    let net = Net::routed();
    let thresholds = ["connect_blackhole=1", "close_wait_leak=1s"];
    let zsock = Zsock::start_in(&net, &thresholds, &["--metrics", "0", "--events", "all"]);
    let _played = Played::play(&net);
    for verdict in ["close_wait_leak", "connect_blackhole"] {
        zsock.wait_for(verdict, |line| line.text("verdict") == Some(verdict));
    }

    let Some(page) = Page::of(&zsock) else { return };
    // A pass counts once a second, and the kernel shows its own tables at another moment.
    let states = await_some("the sockets that the kernel has", LIMIT, || {
        let counted = page.get().by("zsock_sockets", "state");
        let expected = [&net.client, &net.server].map(sockets_by_state);
        let total = |state: &str| expected.iter().filter_map(|states| states.get(state)).sum::<u64>();
        counted.iter().all(|(state, count)| *count == total(state)).then_some(counted)
    });
    for (state, least) in [
        ("ESTABLISHED", 2 * IDLE as u64),
        ("LISTEN", 2),
        ("CLOSE_WAIT", 1),
        ("FIN_WAIT2", 1),
        ("TIME_WAIT", 1),
    ] {
        assert!(states[state] >= least, "{state} in {states:?}");
    }
    assert!(states.contains_key("NEW_SYN_RECV"), "{states:?}");
    let last = page.get();
    // Each connection has two ends here.
    assert_eq!(last.value("zsock_connections_established_total"), Some(2 * (IDLE as u64 + 2)));

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    assert_counts(&last, &seen);
}

/// Checks what was counted, last of all, against the lines that were written until then and after.
fn assert_counts(last: &Numbers, seen: &Recording) {
    let lines = |is_it: &dyn Fn(&Line) -> bool| seen.all().filter(|line| is_it(line)).count() as u64;
    for (kind, count) in last.by("zsock_events_total", "type") {
        let told = lines(&|line| line.text("type") == Some(&*kind) && line.get("socket").is_some());
        // More may have come until zsock ended; what is told there is bounded by what the sockets do then, which is resend.
        let slack = if ["retransmit", "sample"].contains(&&*kind) { 4 } else { 0 };
        assert!(count <= told && told - count <= slack, "{kind}: {count} counted, {told} told");
    }
    assert!(last.by("zsock_events_total", "type")["state"] > 20);
    for (name, count) in last.by("zsock_verdicts_opened_total", "verdict") {
        let of = |phase: &str| {
            lines(&|line| line.text("verdict") == Some(&*name) && line.text("phase") == Some(phase))
        };
        assert_eq!(count, of("opened"), "{name} opened");
        assert_eq!(
            last.by("zsock_verdicts_open", "verdict")[&name],
            of("opened") - of("closed"),
            "{name} open"
        );
    }
    assert_eq!(last.by("zsock_verdicts_open", "verdict")["close_wait_leak"], 1);
    assert_eq!(last.by("zsock_verdicts_open", "verdict")["connect_blackhole"], 1);
    assert_eq!(last.by("zsock_lost_records_total", "where").values().sum::<u64>(), 0);
    assert_eq!(last.by("zsock_retransmits_total", "cause").values().sum::<u64>(), {
        last.by("zsock_events_total", "type")["retransmit"]
    });
}

/// What goes on in `net`, as long as this value.
struct Played {
    _peers: Vec<Peer>,
    _pairs: Vec<Pair>,
}

impl Played {
    /// Connections that idle, one that the client has left and the server not, one that ended in order, an attempt into a black hole.
    fn play(net: &Net) -> Self {
        let mut server = Peer::start(&net.server, "host");
        let port = server.listen();
        let mut guests = Peer::start(&net.client, "guests");
        guests.ask(&format!("dial {} {IDLE}", Ip::V4.server(port))).expect("dialled");
        assert_eq!(server.ask("accept-all").expect("accepted"), IDLE.to_string());

        let mut left = Pair::connect(net, "leaver", "keeper");
        left.client.ask("close");
        await_state(&net.server, left.server_port, CLOSE_WAIT);
        let mut ended = Pair::connect(net, "first", "second");
        ended.server.ask("close").expect("closed");
        ended.client.ask("close").expect("closed");
        await_state(&net.server, ended.server_port, TIME_WAIT);

        let (echo, echo_port) = echo_server(net);
        net.block_answers();
        let mut dialler = Peer::start(&net.client, "dialler");
        dialler.ask(&format!("start-connect {}", Ip::V4.server(echo_port)));
        Self { _peers: vec![server, guests, echo, dialler], _pairs: vec![left, ended] }
    }
}

/// A thousand connections, half a request and a huge one, a reader that takes nothing: metrics are served, and the trace goes on.
pub(super) fn whoever_asks_badly_is_in_nobodys_way() {
    // Each costs this process a descriptor, of which an emulated machine has fewer.
    let all = 1_000 / crate::slowness();
    let net = Net::routed();
    let zsock = Zsock::start_in(&net, &[], &["--metrics", "0", "--events", "all"]);
    let Some(page) = Page::of(&zsock) else { return };
    let crowd: Vec<TcpStream> = (0..all).filter_map(|_| page.connect().ok()).collect();
    // One that was let go at once may have seen that before it was connected.
    assert!(crowd.len() > all as usize * 9 / 10, "{} of {all} connected", crowd.len());
    assert!(page.get().value("zsock_passes_total").is_some(), "served beside those that say nothing");
    drop(crowd);

    let mut half = page.connect().expect("it listens");
    half.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").expect("it takes what comes");
    let mut huge = page.connect().expect("it listens");
    let header = [b"GET /metrics HTTP/1.1\r\nX: ".as_slice(), &vec![b'x'; 200_000], b"\r\n\r\n"].concat();
    // It is closed before it has all come.
    let _ = huge.write_all(&header);
    let mut idle = page.connect().expect("it listens");
    idle.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("it takes what comes");
    assert!(page.get().value("zsock_passes_total").is_some());

    // What is traced meanwhile is told as ever.
    let (_server, port) = echo_server(&net);
    let mut client = Peer::start(&net.client, "client");
    let local = client.connect(&Ip::V4.server(port));
    client.exchange();
    let local = format!(":{local}");
    zsock.wait_for("a connection", |line| {
        line.text("to") == Some("ESTABLISHED")
            && line.text("socket.local").is_some_and(|address| address.ends_with(&local))
    });

    let mut answer = Vec::new();
    let begun = crate::now();
    half.set_read_timeout(Some(crate::patience(LIMIT))).expect("a socket has one");
    match half.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    let waited = crate::now().since(begun);
    assert!(waited < crate::patience(Duration::from_secs(8)), "half a request was waited for {waited:?}");
    let Some(seen) = zsock.stop() else { return };
    seen.complete();
}

/// What else can be asked for is refused in words.
pub(super) fn only_metrics_are_served_and_only_read() {
    let zsock = Zsock::start(&["--metrics", "127.0.0.1:0"]);
    let Some(page) = Page::of(&zsock) else { return };
    let first_line = |request: &str| {
        let answer = page.ask(&format!("{request}\r\nHost: x\r\n\r\n"));
        answer.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(first_line("GET /metrics HTTP/1.1"), "HTTP/1.1 200 OK");
    assert_eq!(first_line("GET /metrics?name[]=up HTTP/1.0"), "HTTP/1.0 200 OK");
    assert_eq!(first_line("GET / HTTP/1.1"), "HTTP/1.1 404 Not Found");
    assert_eq!(first_line("POST /metrics HTTP/1.1"), "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(first_line("nonsense"), "HTTP/1.1 400 Bad Request");
    let head = page.ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");

    let Some((status, said)) =
        crate::zsock::fail_by(Command::new(crate::zsock::program()), &["--metrics", &page.address])
    else {
        return;
    };
    let expected = format!("error: listen on {} for --metrics: another program has this port", page.address);
    assert!(status.code() == Some(1) && said.starts_with(&expected), "{status}: {said}");
}

pub(super) fn promtool_finds_no_fault() {
    let zsock = Zsock::start(&["--metrics", "0"]);
    let Some(page) = Page::of(&zsock) else { return };
    let text = await_some("the first pass", LIMIT, || {
        Some(page.text()).filter(|text| text.contains("zsock_sockets{"))
    });
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = promtool.spawn().expect("promtool was found");
    check.stdin.take().expect("stdin is piped").write_all(text.as_bytes()).expect("it reads");
    let output = check.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(output.status.success() && said == ["", ""], "{}: {said:?}", output.status);

    let packaging = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/prometheus");
    let tested = Command::new("promtool")
        .args(["test", "rules", "zsock.rules.test.yml"])
        .current_dir(packaging)
        .output()
        .expect("promtool was found");
    let said = String::from_utf8_lossy(&tested.stdout);
    assert!(
        tested.status.success() && said.contains("SUCCESS"),
        "{said}{}",
        String::from_utf8_lossy(&tested.stderr)
    );
    assert_rules_name_what_there_is(&text, &format!("{packaging}/zsock.rules.yml"));
}

/// Checks that every metric of zsock that a rule names is served, and every verdict has a rule.
fn assert_rules_name_what_there_is(text: &str, rules: &str) {
    let rules = std::fs::read_to_string(rules).expect("it is part of the repository");
    let expressions =
        rules.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    let words = expressions.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)));
    let served = |name: &str| text.lines().any(|line| line.starts_with(&format!("# TYPE {name} ")));
    let mut named = 0;
    for word in words.filter(|word| word.starts_with("zsock_")) {
        assert!(served(word), "the rules name {word}, which is not served");
        named += 1;
    }
    assert!(named > 20, "{named} names in the rules");
    for verdict in zsock_agent::record::VerdictName::ALL {
        assert!(rules.contains(&format!("verdict=\"{verdict}\"")), "no rule for {verdict}");
    }
}

/// A real Prometheus scrapes a trace, and has the rules read.
pub(super) fn prometheus_reads_them() {
    let zsock = Zsock::start(&["--metrics", "0"]);
    let Some(page) = Page::of(&zsock) else { return };
    let home = directory().join(format!("zt-prometheus-{}", std::process::id()));
    std::fs::create_dir_all(&home).expect("cargo's directory for tests can be written");
    let config = home.join("prometheus.yml");
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/prometheus/zsock.rules.yml");
    let text = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [{rules:?}]\n\
         scrape_configs: [{{job_name: zsock, static_configs: [{{targets: [{:?}]}}]}}]\n",
        page.address
    );
    std::fs::write(&config, text).expect("it was just made");
    // Prometheus does not tell which port the kernel chose.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback device is up");
    let own = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    let server = Killed(
        Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", home.join("data").display()))
            .arg(format!("--web.listen-address={own}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus was found"),
    );
    let prometheus = Page { address: own };
    let value_of = |query: &str| {
        let answer = prometheus.try_ask(&format!("GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n")).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let body: serde_json::Value = serde_json::from_str(body).ok()?;
        body.pointer("/data/result/0/value/1")?.as_str().map(str::to_owned)
    };
    await_some("Prometheus to scrape", LIMIT, || value_of("up").filter(|up| up == "1"));
    await_some("the sockets", LIMIT, || {
        value_of("zsock_sockets%7Bstate=%22LISTEN%22%7D").filter(|count| count != "0")
    });
    await_some("a recording rule", LIMIT, || value_of("zsock_verdicts_open%7Bverdict=%22silent_death%22%7D"));
    let kernel = value_of("count(zsock_build_info%7Bversion=%220.1.0%22%7D)");
    assert_eq!(kernel.as_deref(), Some("1"));
    drop(server);
    // Where it cannot be removed it is in nobody's way.
    let _ = std::fs::remove_dir_all(&home);
    let Some(seen) = zsock.stop() else { return };
    seen.complete_beside_others();
}

/// Where metrics are served.
struct Page {
    address: String,
}

impl Page {
    /// Where the `start` record says; `None` in a dry run.
    fn of(zsock: &Zsock) -> Option<Self> {
        let mut address = None;
        zsock.wait_for("where metrics are", |line| {
            address = line.text("metrics").map(str::to_owned);
            address.is_some()
        });
        address.map(|address| Self { address })
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(crate::patience(LIMIT)))?;
        Ok(stream)
    }

    fn try_ask(&self, request: &str) -> std::io::Result<String> {
        let mut stream = self.connect()?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn ask(&self, request: &str) -> String {
        self.try_ask(request).unwrap_or_else(|error| panic!("{request:?}: {error}"))
    }

    fn text(&self) -> String {
        let answer = self.ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").expect("headers end");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        body.to_owned()
    }

    fn get(&self) -> Numbers {
        let text = self.text();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            (series.to_owned(), value.parse::<f64>().expect("a value is a number"))
        };
        Numbers(samples.map(sample).collect())
    }
}

/// Samples by their series.
struct Numbers(BTreeMap<String, f64>);

impl Numbers {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are small and whole")]
    fn value(&self, series: &str) -> Option<u64> {
        self.0.get(series).map(|value| *value as u64)
    }

    /// The samples of a metric by its one label.
    fn by(&self, metric: &str, label: &str) -> BTreeMap<String, u64> {
        let start = format!("{metric}{{{label}=\"");
        let series = self.0.keys().filter_map(|series| {
            let value = series.strip_prefix(&start)?.strip_suffix("\"}")?;
            Some((value.to_owned(), self.value(series)?))
        });
        series.collect()
    }
}
