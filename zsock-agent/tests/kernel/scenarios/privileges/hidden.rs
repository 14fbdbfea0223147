//! A `/proc` that hides the processes of other users from zsock.

use std::thread::sleep;
use std::time::Duration;

use caps::{Capability, CapsHashSet};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::as_nobody;
use crate::net::{Ip, Net};
use crate::peer::Peer;
use crate::zsock::Zsock;

/// The server is root's and runs out of descriptors, which zsock cannot count: it tells what failed, and nothing of an exit.
pub(in super::super) fn a_process_that_proc_hides_has_not_exited() {
    use Capability::{CAP_BPF, CAP_DAC_READ_SEARCH, CAP_PERFMON, CAP_SYS_ADMIN};
    let net = Net::routed();
    let mut server = Peer::start(&net.server, "hidden-server");
    server.ask("nofile 20").expect("set");
    let port = server.listen();
    let held = CapsHashSet::from([CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH]);
    let zsock = net.server.enter(|| {
        hide_others();
        Zsock::start_by(as_nobody(&held), &[])
    });
    let mut clients = Peer::start(&net.client, "clients");
    clients.ask(&format!("dial {} 20", Ip::V4.server(port))).expect("dialled");
    assert_eq!(server.ask("accept-all").expect("error"), "EMFILE");
    let pid = Some(u64::from(server.pid()));
    zsock.wait_for("pressure", |line| {
        line.text("verdict") == Some("fd_pressure") && line.number("process.pid") == pid
    });
    // Two more counts of descriptors.
    sleep(Duration::from_secs(2));

    let Some((seen, said)) = zsock.stop_and_hear() else { return };
    let warnings = said.matches("/proc hides other users' processes (its mount option hidepid)").count();
    assert_eq!(warnings, 1, "{said}");
    let told = seen.of_process(server.pid()).of_type("sample");
    assert!(told.is_empty(), "{told:#?}");
    let pressure = seen.of_process(server.pid()).of_verdict("fd_pressure");
    pressure.assert_story(&["verdict fd_pressure opened"]);
    let opened = pressure.only("verdict fd_pressure opened");
    assert_eq!(opened.get("evidence.open_fds"), None, "in {}", opened.record);
}

/// For this thread, and the processes that it starts.
fn hide_others() {
    const NOTHING: Option<&str> = None;
    let proc = Some("proc");
    unshare(CloneFlags::CLONE_NEWNS).expect("root may have mounts of its own");
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).expect("they are its own");
    mount(proc, "/proc", proc, MsFlags::empty(), Some("hidepid=2")).expect("every Linux has it");
}
