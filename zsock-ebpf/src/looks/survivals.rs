//! How long connections idle and live on, by destination: the other half of what tells an idle time-out on the path.

use core::ffi::c_void;

use zsock_common::wire::{Control, Watch};

use crate::looks::pass::Now;
use crate::looks::quiet;
use crate::maps::SURVIVED;
use crate::read;

/// Notes that the connection, which this end opened, idled before what happened since the last pass, where it lived on.
#[inline(always)]
pub(super) fn note(tp: *const c_void, now: &Now, watch: &Watch, control: &Control) {
    let active = now.active();
    if active == watch.active {
        return;
    }
    let idled = idled(now, watch);
    if idled < control.survival || idled > i32::MAX as u32 {
        return;
    }
    let remote = read::remote(tp);
    // SAFETY: a value of the map, and an integer.
    let longest = SURVIVED.get_ptr_mut(remote).map(|longest| unsafe { &mut *longest });
    match longest {
        Some(longest) if *longest >= idled => {}
        Some(longest) => *longest = idled,
        None => {
            let _ = SURVIVED.insert(remote, idled, 0);
        }
    }
}

/// For how long nothing had been sent or received, at least; 0 where what was sent has not been answered yet.
#[inline(always)]
fn idled(now: &Now, watch: &Watch) -> u32 {
    if now.snd_una != now.write_seq {
        return 0;
    }
    let sent = now.segs_out.wrapping_sub(watch.segs_out);
    let received = now.segs_in.wrapping_sub(watch.segs_in);
    // One segment of ours ended the idle time, or none did but a keepalive probe's answer: its moment is known. What was received with
    // it came after it, or may have come before.
    let is_answer = received == 1 && now.received.wrapping_sub(now.sent) < i32::MAX as u32;
    if sent == 1 && (received == 0 || is_answer) {
        return now.sent.wrapping_sub(watch.active);
    }
    if sent == 0 && received == 0 {
        return now.heard.wrapping_sub(watch.active);
    }
    quiet::known_until(watch).wrapping_sub(watch.active)
}
