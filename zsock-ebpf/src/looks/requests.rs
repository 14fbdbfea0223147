//! Requests and answers, told apart by counters alone: no hook runs per segment.
//!
//! Only the end that opened the connection asks. Between two passes the number of data segments tells how many short requests went
//! out, and whether the last data is ours tells how many were answered. A request that is sent while another has no answer
//! breaks the pattern: what streams is not accused.
//!
//! A connection may be opened to be asked: consumers acknowledge what is pushed to them, agents answer what their server wants. Between
//! two exchanges the last data is theirs there, and the peer's where we ask. So a pass that finds a connection at rest after the
//! peer's data speaks for requests, and data that comes unasked, or far later than usual, against them. Before a connection
//! has rested, only a strict turn of one segment each is taken for requests.

use zsock_common::wire::{Control, Past, Watch, condition, watch_flag};

use crate::emit;
use crate::looks::pass::{self, Now};
use crate::looks::quiet;
use crate::words::Hidden;

/// Fewer answered requests are no pattern.
const PATTERN: u32 = 3;

/// Segments of no more bytes are taken for a request each: below the segment size of every usual path.
const SHORT_BYTES: u32 = 1000;

/// Rests that make up for a stray.
const STRAYS: u32 = 4;

/// Notes what was asked and answered since the last pass, and whether a request has waited too long.
#[inline(always)]
pub(super) fn note_silence(now: &Now, past: &mut Past, control: &Control) {
    let begun = beginning(now, past, control);
    let watch = &mut past.watch;
    let sent = now.segs_out.wrapping_sub(watch.segs_out);
    let received = now.segs_in.wrapping_sub(watch.segs_in);
    if sent != 0 || received != 0 {
        note(now, watch, sent, received, begun, control);
    }
    // What was told lasts until the peer says something: to ask again is no answer.
    if watch.told & condition::SILENCE != 0 && received == 0 {
        pass::holds(watch, condition::SILENCE);
        return;
    }
    let is_acknowledged = now.snd_una == now.write_seq;
    let is_pattern = watch.answered >= PATTERN && watch.usual != 0 && asks(now, watch);
    if watch.flags & watch_flag::WAITING == 0 || !is_acknowledged || !is_pattern {
        return;
    }
    let waiting = now.since(now.sent);
    // `usual` is kept times 8.
    if waiting >= control.silence && u64::from(waiting) * 8 >= u64::from(watch.usual) * 10 {
        pass::holds(watch, condition::SILENCE);
    }
}

#[inline(always)]
fn note(now: &Now, watch: &mut Watch, sent: u32, received: u32, begun: u32, control: &Control) {
    let hidden = |condition: bool| Hidden::new(condition, now.jiffies);
    let was_waiting = hidden(watch.flags & watch_flag::WAITING != 0);
    let (has_sent, has_received) = (hidden(sent != 0), hidden(received != 0));
    // A single answer to what came unasked is no request.
    let is_last_ours = hidden(is_last_ours(now, control));
    let is_unasked =
        hidden(sent == 1 && has_received.holds() && !was_waiting.holds() && is_last_ours.holds());
    let is_waiting = hidden(is_last_ours.holds() && !is_unasked.holds());
    if was_waiting.holds() && has_sent.holds() && !has_received.holds() {
        watch.answered = 0;
    }
    let bytes = now.bytes_sent.wrapping_sub(watch.bytes_sent);
    let is_short = u64::from(bytes) <= u64::from(sent) * u64::from(SHORT_BYTES);
    let asked = u32::from(was_waiting.holds()) + if is_short { sent } else { u32::from(has_sent.holds()) };
    let open = u32::from(is_waiting.holds() && asked != 0);
    let answered = (asked - open).min(received);
    let waited = between(watch.active, quiet::known_until(watch));
    let is_late = waited >= control.late && u64::from(waited) * 8 >= u64::from(watch.usual) * 10;
    let is_far_too_late = was_waiting.holds() && has_received.holds() && is_late;
    if is_unasked.holds() || is_far_too_late {
        watch.strays = watch.strays.saturating_add(1);
    }
    if !is_waiting.holds() && now.since(now.active()) >= control.rest {
        watch.rests = watch.rests.saturating_add(1);
    }
    watch.answered = watch.answered.saturating_add(answered);
    let has_answered = hidden(answered != 0);
    if is_waiting.holds() {
        watch.flags |= watch_flag::WAITING;
        // The last answer was not seen by itself: all that were given between two moments took no longer than the time between.
        if has_answered.holds() && begun != 0 && watch.usual == 0 {
            learn(watch, between(begun, now.sent) / answered.max(1) + 1);
        }
    } else {
        watch.flags &= !watch_flag::WAITING;
        if has_answered.holds() {
            learn(watch, between(now.sent, now.received) + 1);
        }
    }
}

/// Whether this end asks and the other answers, as far as is known.
#[inline(always)]
fn asks(now: &Now, watch: &Watch) -> bool {
    if watch.rests == 0 {
        return watch.strays == 0 && now.segs_out.wrapping_sub(now.segs_in) == 1;
    }
    u32::from(watch.strays) * STRAYS <= u32::from(watch.rests)
}

/// Ticks from one moment to another; 0 where rounding has put the second before the first.
#[inline(always)]
fn between(from: u32, to: u32) -> u32 {
    let ticks = to.wrapping_sub(from);
    if ticks > i32::MAX as u32 { 0 } else { ticks }
}

/// Smooths by an eighth, as TCP does with its round-trip time. A tick is added to every answer: it is at most as long.
#[inline(always)]
fn learn(watch: &mut Watch, ticks: u32) {
    let ticks = ticks.min(u32::MAX / 16);
    watch.usual = if watch.usual == 0 { ticks * 8 } else { watch.usual - watch.usual / 8 + ticks };
}

/// Whether the last data is ours. Where both directions had theirs in one tick, the segment that moved the window last decides: an
/// acknowledgement that came alone begins where the peer's data ends.
#[inline(always)]
fn is_last_ours(now: &Now, control: &Control) -> bool {
    if now.sent != now.received {
        return now.sent.wrapping_sub(now.received) < i32::MAX as u32;
    }
    now.snd_wl1 == now.rcv_nxt && now.heard.wrapping_sub(now.sent) <= control.acknowledged
}

/// When what was counted since the last pass began, jiffies: with that pass, or with the connection; 0 where neither is known.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "compared with jiffies cut the same way")]
fn beginning(now: &Now, past: &Past, control: &Control) -> u32 {
    if past.watch.flags & watch_flag::SEEN != 0 {
        return quiet::known_until(&past.watch);
    }
    if past.birth_ns == 0 || control.tick_ns == 0 {
        return 0;
    }
    let age = emit::now_ns().wrapping_sub(past.birth_ns) / u64::from(control.tick_ns);
    now.jiffies.wrapping_sub(age as u32)
}
