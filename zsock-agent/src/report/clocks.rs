//! How the clocks of two hosts stand to each other, by what both saw of the connections that they share.

use std::time::Duration;

use super::Story;
use crate::record::{State, StateChange, Subject, What};
use crate::time::{Time, nanoseconds};

/// The same thing, seen from both ends: when it left one and when it reached the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    /// By so much the second host's clock is ahead of the first one's, as this one thing tells.
    pub(super) ahead_ns: i128,
    /// Half of the connection's round trip: what that may be off by.
    pub(super) half_trip_ns: u64,
}

/// An offset of clocks, from many sightings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offset {
    pub(super) ahead_ns: i64,
    pub(super) uncertainty_ns: u64,
    pub(super) changes: u64,
}

/// What both ends saw of a connection. What one sends the other has half a round trip later: the last word of the handshake, which brings
/// the client to ESTABLISHED before the server, and the FIN of either side. The half is the smoothed round trip's, or that of the
/// handshake where it was not told.
pub(super) fn sightings(first: &Story, second: &Story) -> Vec<Sighting> {
    let Some(half_trip_ns) = half_trip(first, second) else { return Vec::new() };
    let seen = |from: &Story, sent: Change, to: &Story, came: Change| {
        Some((change(from, sent)?.as_unix_ns(), change(to, came)?.as_unix_ns()))
    };
    let made = (State::SYN_SENT, State::ESTABLISHED);
    let accepted = (State::SYN_RECV, State::ESTABLISHED);
    let closed = (State::ESTABLISHED, State::FIN_WAIT1);
    let told = (State::ESTABLISHED, State::CLOSE_WAIT);
    let mut all = Vec::new();
    for (sent, came) in [(made, accepted), (closed, told)] {
        if let Some((sent_ns, came_ns)) = seen(first, sent, second, came) {
            let ahead_ns = i128::from(came_ns) - i128::from(sent_ns) - i128::from(half_trip_ns);
            all.push(Sighting { ahead_ns, half_trip_ns });
        }
        if let Some((sent_ns, came_ns)) = seen(second, sent, first, came) {
            let ahead_ns = i128::from(sent_ns) - i128::from(came_ns) + i128::from(half_trip_ns);
            all.push(Sighting { ahead_ns, half_trip_ns });
        }
    }
    all
}

/// The median of the sightings; it may be off by half of how far they are apart, and by half a round trip.
pub(super) fn offset(mut sightings: Vec<Sighting>) -> Option<Offset> {
    sightings.sort_by_key(|sighting| sighting.ahead_ns);
    let median = sightings.get(sightings.len() / 2)?.ahead_ns;
    let spread = sightings.last()?.ahead_ns.abs_diff(sightings.first()?.ahead_ns) / 2;
    let half_trip_ns = sightings.iter().map(|sighting| sighting.half_trip_ns).max()?;
    Some(Offset {
        ahead_ns: i64::try_from(median).ok()?,
        uncertainty_ns: u64::try_from(spread).unwrap_or(u64::MAX).saturating_add(half_trip_ns),
        changes: sightings.len() as u64,
    })
}

/// A time by a clock that is ahead, by the other clock.
pub(crate) fn corrected(at: Time, ahead_ns: i64) -> Time {
    let duration = Duration::from_nanos(ahead_ns.unsigned_abs());
    if ahead_ns >= 0 { at.before(duration) } else { at.after(duration) }
}

/// A state before and after.
type Change = (State, State);

/// When a socket first made this change.
fn change(story: &Story, (from, to): Change) -> Option<Time> {
    let (first, _, last) = story.timeline.parts();
    let made = first.iter().chain(last).find(|entry| entry.what == What::State(StateChange { from, to }));
    made.map(|entry| entry.at)
}

fn half_trip(first: &Story, second: &Story) -> Option<u64> {
    let smoothed = |story: &Story| match &story.subject {
        Subject::Socket { tcp, .. } => tcp.srtt_us.map(|us| nanoseconds(Duration::from_micros(us))),
        Subject::Process { .. } | Subject::Destination { .. } => None,
    };
    let of_handshake = |story: &Story| {
        let asked = change(story, (State::CLOSE, State::SYN_SENT))?;
        Some(nanoseconds(change(story, (State::SYN_SENT, State::ESTABLISHED))?.since(asked)))
    };
    let known = [smoothed(first), smoothed(second), of_handshake(first), of_handshake(second)];
    known.into_iter().flatten().next().map(|trip_ns| trip_ns / 2)
}
