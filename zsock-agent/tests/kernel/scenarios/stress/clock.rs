//! The wall clock is set while zsock runs.

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

use super::{Canary, Trial};
use crate::net::Net;
use crate::now;

const HOUR: Duration = Duration::from_hours(1);

/// An hour forth and then back: no time stamp moves, and the verdict comes.
pub(crate) fn the_clock_is_stepped() {
    let net = Net::routed();
    let of_client = net.client.inode().to_string();
    let mut trial = Trial::start("the clock is set", "128MiB", None, &["--netns", &of_client]);
    let canary = Canary::on(&net);
    let began = now();
    step(i64::try_from(HOUR.as_secs()).expect("an hour is short"));
    canary.get_stuck(&net);
    trial.late = canary.await_verdict(&net, trial.zsock());
    step(-i64::try_from(HOUR.as_secs()).expect("an hour is short"));
    let Some(seen) = trial.stop() else { return };
    let stamps: Vec<_> = seen.all().map(|line| line.ts()).collect();
    assert!(stamps.iter().all(|ts| *ts < began.after(HOUR / 2)), "a time stamp moved: {stamps:?}");
}

fn step(seconds: i64) {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("CLOCK_REALTIME is always readable");
    let then = TimeSpec::new(now.tv_sec() + seconds, now.tv_nsec());
    clock_settime(ClockId::CLOCK_REALTIME, then).expect("root sets the clock");
}
