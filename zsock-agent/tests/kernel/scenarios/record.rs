//! `zsock record`: what is kept, whatever happens to the recorder and its disk.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use zsock_agent::time::Time;

use super::{Client, echo_server};
use crate::net::{Forgotten, Ip, Net};
use crate::peer::Peer;
use crate::recorder::{Directory, Recorder, lines_of};
use crate::story::{Connection, Line};
use crate::zsock::{Filed, Zsock};
use crate::{await_some, now};

/// So often the recorder is killed.
const KILLS: u64 = 50;

/// A recorder that is killed loses no more than this.
const MAY_BE_LOST: Duration = Duration::from_secs(1);

/// Side by side with a trace, on the same packets.
pub(super) fn it_keeps_what_trace_tells() {
    let net = Net::nat(4, Forgotten::Dropped);
    let (_server, server_port) = echo_server(&net);
    let directory = Directory::new("trace");
    let netns = [net.client.inode(), net.server.inode()].map(|inode| inode.to_string());
    let zsock = Zsock::start_in(&net, &[], &[]);
    let recorder = Recorder::start(&directory, &["--netns", &netns[0], "--netns", &netns[1]]);
    let mut client = Client::connect(&net, "pool-client", &Ip::V4.server(server_port));
    client.peer.ask("user-timeout 4000").expect("set");
    sleep(Duration::from_secs(7));
    client.peer.ask("write 100");
    client.await_death();

    let (Some(recorder), Some(seen)) = (recorder, zsock.stop()) else { return };
    let (status, said) = recorder.stop();
    assert!(status.success(), "{status}: {said}");
    let seen = seen.complete();
    let traced = seen.of_local_port(&net.client, client.port).story();
    assert!(traced.contains(&"verdict silent_death closed".to_owned()), "{traced:#?}");
    let kept = directory.lines();
    assert_eq!(kept[0].text("type"), Some("start"));
    assert_eq!(kept.last().and_then(|line| line.text("type")), Some("end"));
    // Where sockets are known by their addresses, each zsock gives them numbers of its own.
    let port = format!(":{}", client.port);
    let of_client = |line: &&Line| line.text("socket.local").is_some_and(|local| local.ends_with(&port));
    let id = kept.iter().find(of_client).and_then(|line| line.text("socket.id"));
    let of_client = kept.iter().filter(|line| line.text("socket.id") == id).collect();
    assert_eq!(Connection { lines: of_client }.story(), traced);
}

/// A recorder is killed at moments all over, and started again in the same directory, while connections come and go. A trace that lives
/// all the time says what there was to keep.
pub(super) fn kill_9_costs_the_last_second_at_most() {
    let net = Net::routed();
    let (_server, port) = echo_server(&net);
    let netns = net.client.inode().to_string();
    let arguments = ["--events", "all", "--netns", &netns];
    let directory = Directory::new("kill");
    let reference = Filed::start(&arguments);
    let load = Load::start(&net, port);
    let mut runs = Vec::new();
    for number in 0..KILLS {
        let Some(mut recorder) = Recorder::start(&directory, &arguments) else { return };
        // From at once to long after a frame was closed; a step that shares no divisor with the frames'.
        sleep(Duration::from_millis(number * 397 % 2_300));
        let killed = now();
        recorder.kill();
        runs.push(killed);
    }
    load.stop();
    let Some(mut reference) = reference else { return };
    reference.stop();
    let mut told: BTreeMap<Time, Vec<String>> = BTreeMap::new();
    reference.read(|line| {
        let line = Line::new(line, now());
        if line.get("socket.id").is_some() {
            told.entry(line.ts()).or_default().push(key(&line));
        }
    });

    let segments = directory.segments();
    assert_eq!(segments.len(), runs.len(), "a segment for each run");
    let mut compared = 0;
    for (segment, killed) in segments.iter().zip(&runs) {
        let lines = lines_of(segment);
        assert_eq!(lines[0].text("type"), Some("start"), "{}", segment.display());
        let kept: HashSet<String> = lines.iter().map(key).collect();
        // What happened while it started is told of later, and from a look.
        let from = lines[0].ts().after(Duration::from_millis(200));
        let until = killed.before(MAY_BE_LOST);
        for (at, events) in told.range(from..until.max(from)) {
            for event in events {
                let is_kept = kept.contains(event);
                assert!(is_kept, "{event} of {at} is not in {}, killed at {killed}", segment.display());
                compared += 1;
            }
        }
    }
    assert!(compared > 1_000, "only {compared} events happened more than a second before a kill");
}

/// What tells one event of a socket from its others.
fn key(line: &Line) -> String {
    format!("{} {}", line.text("socket.id").unwrap_or_default(), line.told())
}

/// Connections that come and go until it is told to stop.
struct Load {
    stopped: &'static AtomicBool,
    thread: thread::JoinHandle<()>,
}

impl Load {
    fn start(net: &Net, port: u16) -> Self {
        let stopped: &AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        let mut client = Peer::start(&net.client, "load");
        let order = format!("churn {} 5", Ip::V4.server(port));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                client.ask(&order).expect("churned");
                sleep(Duration::from_millis(100));
            }
        });
        Self { stopped, thread }
    }

    fn stop(self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load does not fail");
    }
}

/// A file system of its own, so small that it is soon full.
struct Disk(PathBuf);

impl Disk {
    fn mount(directory: &Directory, size: &str) -> Self {
        let path = directory.path().to_owned();
        fs::create_dir_all(&path).expect("cargo's directory for tests can be written");
        let options = format!("size={size}");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .expect("root mounts");
        Self(path)
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let mut size = 1 << 20;
        while size > 0 {
            let filler = self.0.join(format!("filler-{size}"));
            // Less each time, until nothing fits any more.
            if fs::write(&filler, vec![b'z'; size]).is_err() {
                let _ = fs::remove_file(&filler);
            }
            size /= 2;
        }
        fs::write(self.0.join("filler"), [b'z'; 4096]).expect_err("it is full");
    }

    fn empty(&self) {
        for entry in fs::read_dir(&self.0).expect("it is mounted").map_while(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with("filler") {
                fs::remove_file(entry.path()).expect("it is root's");
            }
        }
    }

    /// Puts another one over it that nobody can write to.
    fn cover(&self) {
        let tmpfs = Some("tmpfs");
        mount(tmpfs, &self.0, tmpfs, MsFlags::MS_RDONLY, Some("size=1m")).expect("root mounts");
    }

    fn uncover(&self) {
        umount2(&self.0, MntFlags::MNT_DETACH).expect("it was mounted");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A recorder may still have a file open there.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A disk that gets full, has room again, is covered by a read-only one and uncovered again: each time the recorder goes on, and what it could not write
/// is counted to the record.
pub(super) fn a_disk_that_fails_is_told_and_recording_goes_on_after_it() {
    let net = Net::routed();
    let (_server, port) = echo_server(&net);
    let directory = Directory::new("disk");
    let disk = Disk::mount(&directory, "2m");
    let netns = net.client.inode().to_string();
    let Some(recorder) = Recorder::start(&directory, &["--events", "all", "--netns", &netns]) else { return };
    let mut client = Peer::start(&net.client, "load");
    let mut churn = || client.ask(&format!("churn {} 20", Ip::V4.server(port))).expect("churned").to_owned();
    let lost = |directory: &Directory| -> u64 {
        let lines = directory.lines();
        let lost = lines.iter().filter(|line| line.text("where") == Some("recording"));
        lost.map(|line| line.figure("count")).sum()
    };
    churn();
    let mut before = 0;
    for trouble in ["full", "read-only"] {
        if trouble == "full" {
            disk.fill();
        } else {
            disk.cover();
        }
        churn();
        // The next frame is tried, in vain.
        sleep(Duration::from_millis(1_500));
        if trouble == "full" {
            disk.empty();
        } else {
            disk.uncover();
        }
        churn();
        before = await_some("the loss to be told", Duration::from_secs(30), || {
            churn();
            Some(lost(&directory)).filter(|lost| *lost > before)
        });
    }
    let (status, said) = recorder.stop();
    assert!(status.success(), "{status}: {said}");
    assert!(said.contains("No space left on device") && said.contains("Read-only file system"), "{said}");
    assert_eq!(said.matches("records are written again").count(), 2, "{said}");
    let lines = directory.lines();
    let end = lines.last().expect("there are records");
    assert_eq!(end.text("type"), Some("end"));
    assert_eq!(end.figure("lost_events"), lost(&directory));
    // Each record is kept or counted; the start record stands in every segment.
    let starts = lines.iter().filter(|line| line.text("type") == Some("start")).count() as u64;
    let kept = lines.len() as u64 + 1 - starts;
    assert_eq!(kept + lost(&directory), end.figure("records"), "{}", end.record);
}

/// The directory goes, with all that is in it, and comes back by itself.
pub(super) fn a_directory_that_is_removed_is_made_again_within_its_bounds() {
    let net = Net::routed();
    let (_server, port) = echo_server(&net);
    let directory = Directory::new("removed");
    let netns = net.client.inode().to_string();
    let arguments = ["--events", "all", "--netns", &netns, "--max-size", "1MiB"];
    let Some(recorder) = Recorder::start(&directory, &arguments) else { return };
    let mut client = Peer::start(&net.client, "load");
    let mut churn = |count: u32| {
        client.ask(&format!("churn {} {count}", Ip::V4.server(port))).expect("churned").to_owned()
    };
    churn(5);
    fs::remove_dir_all(directory.path()).expect("it is root's");
    await_some("a new segment", Duration::from_secs(30), || {
        churn(5);
        (directory.bytes() > 0).then_some(())
    });
    // So much that the oldest has to go.
    await_some("the first segment to go", Duration::from_mins(2), || {
        churn(300);
        assert!(directory.bytes() <= 1 << 20, "{} bytes", directory.bytes());
        (directory.segments().len() >= 10).then_some(())
    });
    let first = directory.segments().remove(0);
    await_some("the first segment to go", Duration::from_mins(2), || {
        churn(300);
        assert!(directory.bytes() <= 1 << 20, "{} bytes", directory.bytes());
        (!first.exists()).then_some(())
    });
    let (status, said) = recorder.stop();
    assert!(status.success(), "{status}: {said}");
    for segment in directory.segments() {
        let lines = lines_of(&segment);
        assert_eq!(lines[0].text("type"), Some("start"), "{}", segment.display());
    }
}
